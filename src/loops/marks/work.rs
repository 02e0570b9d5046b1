//! What marked statements compute and move, in numbers, for given sizes.
//!
//! Counted is what the loops do, masks and tails included: each iteration's operations on floats as
//! [`crate::ops::cost`] rates them, and for each buffer the distinct elements that a run of the statement
//! touches, once. Extents that depend on an outer loop, as those of causal attention, are
//! evaluated at each of its iterations. Where the values of tensors decide, nothing is claimed.

use super::super::ir::{
    BufferId, Edge, Gemm, Kernel, Local, LoopFunc, LoopProgram, LoopVar, Scalar, ScalarId, Stmt,
};
use super::super::walk::{bodies, roots};
use super::values::{Dims, Values};
use crate::ops::cost::{binary_cost_flops, unary_cost_flops};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Statements that are looked at for one function; a piece that is not done by then is not known.
const MAX_STEPS: usize = 4_000_000;

/// An amount of work.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// # Units
    /// FLOPs, as [`crate::ops::cost`] counts them.
    pub flops: f64,
    /// Evaluations of functions that are computed by polynomials.
    pub transcendentals: f64,
    /// # Units
    /// Bytes of the elements that each run reads and writes, each once.
    pub size_bytes: f64,
}

impl Work {
    /// So often.
    pub fn times(self, times: f64) -> Work {
        Work {
            flops: self.flops * times,
            transcendentals: self.transcendentals * times,
            size_bytes: self.size_bytes * times,
        }
    }

    /// Both.
    pub fn plus(self, other: Work) -> Work {
        Work {
            flops: self.flops + other.flops,
            transcendentals: self.transcendentals + other.transcendentals,
            size_bytes: self.size_bytes + other.size_bytes,
        }
    }
}

/// What one call of a mark's function does at it, by mark; `None` where the values of tensors decide.
pub fn work(program: &LoopProgram, marks: usize, dims: Dims<'_>) -> Vec<Option<Work>> {
    let mut found = vec![Some(Work::default()); marks];
    for func in &program.functions {
        let mut counter = Counter {
            func,
            dims,
            values: Values::new(func, dims),
            around: Vec::new(),
            open: None,
            local_vars: vec![BTreeSet::new(); func.locals.len()],
            vars_of: HashMap::new(),
            own: HashMap::new(),
            steps: 0,
            found: &mut found,
        };
        counter.list(&func.body, 1.0);
    }
    found
}

struct Counter<'a, 'f> {
    func: &'a LoopFunc,
    dims: Dims<'a>,
    values: Values<'a>,
    /// Enclosing loops and their extents.
    around: Vec<(LoopVar, f64)>,
    open: Option<Open>,
    /// The loop variables that the value of each local depends on.
    local_vars: Vec<BTreeSet<LoopVar>>,
    vars_of: HashMap<ScalarId, BTreeSet<LoopVar>>,
    /// What statements evaluate themselves, by address.
    own: HashMap<usize, Own>,
    steps: usize,
    found: &'f mut [Option<Work>],
}

/// A marked statement that is being counted.
struct Open {
    mark: usize,
    /// How often it runs.
    times: f64,
    /// How many loops lie around it.
    depth: usize,
    work: Work,
    touched: BTreeMap<(BufferId, bool, ScalarId), Touched>,
    known: bool,
}

/// Accesses by one index expression, in one run.
#[derive(Clone, Copy, Default)]
struct Touched {
    count: f64,
    distinct: f64,
}

/// The scalar work of a statement.
#[derive(Clone, Default)]
struct Own {
    flops: f64,
    transcendentals: f64,
    loads: Vec<(BufferId, ScalarId)>,
}

impl<'a> Counter<'a, '_> {
    fn list(&mut self, stmts: &'a [Stmt], times: f64) {
        for stmt in stmts {
            self.steps += 1;
            self.stmt(stmt, times);
        }
    }

    fn stmt(&mut self, stmt: &'a Stmt, times: f64) {
        match stmt {
            Stmt::Mark { mark, edge: Edge::Begin } => {
                let (mark, depth) = (mark.0 as usize, self.around.len());
                let (work, touched) = (Work::default(), BTreeMap::new());
                self.open = Some(Open { mark, times, depth, work, touched, known: true });
            }
            Stmt::Mark { edge: Edge::End, .. } => self.close(),
            Stmt::For { var, extent, body, .. } => self.repeat(*var, *extent, body, times),
            Stmt::If { condition, then, otherwise } => match self.values.truth(*condition) {
                Some(true) => self.list(then, times),
                Some(false) => self.list(otherwise, times),
                None => [then, otherwise].into_iter().for_each(|body| self.unknown(body)),
            },
            Stmt::Kernel(kernel) => {
                let Kernel::Gemm(gemm) = kernel.as_ref();
                self.product(stmt, gemm, times);
            }
            Stmt::Set { local, value } => {
                self.evaluated(stmt, times);
                let vars = self.vars(*value);
                self.depends(local.0 as usize, vars);
                self.values.set_local(*local, *value);
            }
            Stmt::Reduce { local, op, value } => {
                self.evaluated(stmt, times);
                let cost = binary_cost_flops(*op, self.func.scalars.dtype(*value));
                self.add(times * cost.flops as f64, times * cost.transcendentals as f64);
                self.values.forget(*local);
            }
            Stmt::Store { buffer, index, .. } => {
                self.evaluated(stmt, times);
                self.touch(*buffer, true, *index, times, 1.0);
            }
            Stmt::Fail { .. } => self.evaluated(stmt, times),
            Stmt::Call { .. } => {}
        }
    }

    /// A loop: all iterations at once, or each by itself where the work of one depends on which it is.
    fn repeat(&mut self, var: LoopVar, extent: ScalarId, body: &'a [Stmt], times: f64) {
        let Some(extent) = self.values.int(extent) else { return self.unknown(body) };
        if extent <= 0 {
            return;
        }
        let mut tainted = BTreeSet::new();
        let varies = self.sizes_reach(body, var, &mut tainted);
        self.around.push((var, extent as f64));
        if varies {
            for at in 0..extent {
                if self.steps > MAX_STEPS {
                    self.unknown(body);
                    break;
                }
                self.values.set_var(var, at);
                self.list(body, times);
            }
        } else {
            self.values.set_var(var, 0);
            self.list(body, times * extent as f64);
        }
        self.around.pop();
    }

    /// Whether an extent or a condition among statements depends on a variable, or on a local that does.
    fn sizes_reach(&self, stmts: &[Stmt], var: LoopVar, tainted: &mut BTreeSet<Local>) -> bool {
        stmts.iter().any(|stmt| {
            let sizes: Vec<ScalarId> = match stmt {
                Stmt::Set { local, value } | Stmt::Reduce { local, value, .. } => {
                    if self.reaches(*value, var, tainted) {
                        tainted.insert(*local);
                    }
                    return false;
                }
                Stmt::For { extent, .. } => vec![*extent],
                Stmt::If { condition, .. } => vec![*condition],
                Stmt::Kernel(kernel) => {
                    let Kernel::Gemm(gemm) = kernel.as_ref();
                    let outer = gemm.outer.iter().map(|axis| axis.extent);
                    [gemm.m, gemm.n, gemm.k].into_iter().chain(outer).collect()
                }
                Stmt::Store { .. } | Stmt::Fail { .. } | Stmt::Call { .. } | Stmt::Mark { .. } => {
                    return false;
                }
            };
            sizes.into_iter().any(|size| self.reaches(size, var, tainted))
                || bodies(stmt).any(|body| self.sizes_reach(body, var, tainted))
        })
    }

    fn reaches(&self, root: ScalarId, var: LoopVar, tainted: &BTreeSet<Local>) -> bool {
        let scalars = &self.func.scalars;
        scalars.unknown(root, |_| false).into_iter().any(|id| match scalars.get(id) {
            Scalar::Var(found) => *found == var,
            Scalar::Local(local) => tainted.contains(local),
            _ => false,
        })
    }

    fn product(&mut self, stmt: &'a Stmt, gemm: &'a Gemm, times: f64) {
        let size = |id: ScalarId| self.values.int(id).map(|size| size.max(0) as f64);
        let outer: Option<Vec<f64>> = gemm.outer.iter().map(|axis| size(axis.extent)).collect();
        let (Some(m), Some(n), Some(k), Some(outer)) = (size(gemm.m), size(gemm.n), size(gemm.k), outer)
        else {
            return self.unknown(&[]);
        };
        let moves = |stride: ScalarId, points: f64| {
            if self.values.int(stride) == Some(0) { 1.0 } else { points }
        };
        let (mut lhs, mut rhs) = (
            moves(gemm.lhs.strides.0, m) * moves(gemm.lhs.strides.1, k),
            moves(gemm.rhs.strides.0, k) * moves(gemm.rhs.strides.1, n),
        );
        for (axis, points) in gemm.outer.iter().zip(&outer) {
            lhs *= moves(axis.lhs, *points);
            rhs *= moves(axis.rhs, *points);
        }
        self.add(times * 2.0 * m * n * k * outer.iter().product::<f64>(), 0.0);
        let (lhs_at, rhs_at, out_at) = (gemm.lhs.at, gemm.rhs.at, gemm.out.at);
        for (at, stored, points) in [(lhs_at, false, lhs), (rhs_at, false, rhs), (out_at, true, m * n)] {
            self.touch(at.buffer, stored, at.offset, times, points);
        }
        if let Some(epilogue) = &gemm.epilogue {
            self.around.extend([(epilogue.row, m), (epilogue.column, n)]);
            let own = self.own(stmt, &[epilogue.value]);
            self.scalar_work(&own, times * m * n);
            self.around.truncate(self.around.len() - 2);
        }
    }

    /// Counts the expressions of a statement, each once.
    fn evaluated(&mut self, stmt: &'a Stmt, times: f64) {
        let own = self.own(stmt, &roots(stmt));
        self.scalar_work(&own, times);
    }

    fn scalar_work(&mut self, own: &Own, times: f64) {
        self.add(times * own.flops, times * own.transcendentals);
        for (buffer, index) in &own.loads {
            self.touch(*buffer, false, *index, times, 1.0);
        }
    }

    fn own(&mut self, stmt: &'a Stmt, roots: &[ScalarId]) -> Own {
        let address = std::ptr::from_ref(stmt).addr();
        if let Some(own) = self.own.get(&address) {
            return own.clone();
        }
        let scalars = &self.func.scalars;
        let (mut own, mut seen) = (Own::default(), BTreeSet::new());
        for root in roots {
            seen.extend(scalars.unknown(*root, |id| seen.contains(&id)));
        }
        for id in seen {
            let cost = match scalars.get(id) {
                Scalar::Unary(op, a) => unary_cost_flops(*op, scalars.dtype(*a)),
                Scalar::Binary(op, a, _) => binary_cost_flops(*op, scalars.dtype(*a)),
                Scalar::Load(buffer, index) => {
                    own.loads.push((*buffer, *index));
                    continue;
                }
                _ => continue,
            };
            own.flops += cost.flops as f64;
            own.transcendentals += cost.transcendentals as f64;
        }
        self.own.insert(address, own.clone());
        own
    }

    /// Counts accesses: `points` of them at each of `times` executions, from `index` on.
    fn touch(&mut self, buffer: BufferId, stored: bool, index: ScalarId, times: f64, points: f64) {
        let vars = self.vars(index);
        let Some(open) = &mut self.open else { return };
        let inside = self.around[open.depth.min(self.around.len())..].iter();
        let turns: f64 = inside.filter(|(var, _)| vars.contains(var)).map(|(_, extent)| *extent).product();
        let touched = open.touched.entry((buffer, stored, index)).or_default();
        touched.count += times / open.times * points;
        touched.distinct = touched.distinct.max(turns * points);
    }

    /// The loop variables that an expression depends on.
    fn vars(&mut self, root: ScalarId) -> BTreeSet<LoopVar> {
        if let Some(known) = self.vars_of.get(&root) {
            return known.clone();
        }
        let scalars = &self.func.scalars;
        let mut found = BTreeSet::new();
        for id in scalars.unknown(root, |_| false) {
            match scalars.get(id) {
                Scalar::Var(var) => {
                    found.insert(*var);
                }
                Scalar::Local(local) => found.extend(&self.local_vars[local.0 as usize]),
                _ => {}
            }
        }
        self.vars_of.insert(root, found.clone());
        found
    }

    fn depends(&mut self, local: usize, vars: BTreeSet<LoopVar>) {
        if self.local_vars[local] != vars {
            self.local_vars[local] = vars;
            self.vars_of.clear();
        }
    }

    fn add(&mut self, flops: f64, transcendentals: f64) {
        if let Some(open) = &mut self.open {
            open.work.flops += flops;
            open.work.transcendentals += transcendentals;
        }
    }

    /// How often statements run depends on the values of tensors: nothing is known of the mark around
    /// them, or of those inside.
    fn unknown(&mut self, stmts: &[Stmt]) {
        if let Some(open) = &mut self.open {
            open.known = false;
            return;
        }
        for stmt in stmts {
            if let Stmt::Mark { mark, .. } = stmt {
                self.found[mark.0 as usize] = None;
            }
            bodies(stmt).for_each(|body| self.unknown(body));
        }
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let mut by_buffer: BTreeMap<(BufferId, bool), f64> = BTreeMap::new();
        for ((buffer, stored, _), touched) in &open.touched {
            *by_buffer.entry((*buffer, *stored)).or_default() += touched.count.min(touched.distinct);
        }
        let mut bytes = 0.0;
        for ((buffer, _), elems) in by_buffer {
            let buffer = &self.func.buffers[buffer.0 as usize];
            let all = buffer.elems.eval(self.dims).map_or(elems, |all| all.max(0) as f64);
            bytes += elems.min(all) * buffer.dtype.size_bytes() as f64;
        }
        let total = &mut self.found[open.mark];
        *total = match (open.known, total.take()) {
            (true, Some(sum)) => Some(sum.plus(Work { size_bytes: bytes * open.times, ..open.work })),
            _ => None,
        };
    }
}
