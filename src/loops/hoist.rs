//! Hoisting: what a loop does not change is computed before it, once.
//!
//! Takes and gives a valid function. From the outermost loop inwards, the largest expressions
//! that mention nothing the loop defines and load nothing it stores to become locals in front of
//! it. A load is only known to be inside where the loops around it run and the branches around it
//! are taken. So loads do not leave branches, and where a loop that is left may be empty the
//! address is predicated on its extent. Divisions stay unless the divisor is a constant.

use super::ir::{GemmEpilogue, Kernel, Local, LoopFunc, Scalar, ScalarId, Scalars, Stmt};
use super::walk::{Defined, map_roots};
use crate::dtype::DType;
use crate::graph::expr::Literal;
use crate::ops::scalar::BinaryOp;
use std::collections::{BTreeMap, BTreeSet};

/// Hoists in the whole function.
pub fn hoist(func: &mut LoopFunc) {
    let body = std::mem::take(&mut func.body);
    func.body = list(func, body);
}

fn list(func: &mut LoopFunc, stmts: Vec<Stmt>) -> Vec<Stmt> {
    let mut out = Vec::with_capacity(stmts.len());
    // What stands in front of an earlier loop of this list, for later ones to use again.
    let mut standing = BTreeMap::new();
    for stmt in stmts {
        match stmt {
            Stmt::For { var, extent, reverse, kind, mut body } => {
                let mut defined = Defined::default();
                defined.vars.insert(var);
                defined.add(&body);
                let mut site = Site::new(func, defined, &mut standing);
                let passed = site.passing(&Passed::default(), extent);
                site.stmts(&mut body, &passed);
                out.extend(site.sets);
                let body = list(func, body);
                out.push(Stmt::For { var, extent, reverse, kind, body });
            }
            Stmt::If { condition, then, otherwise } => {
                let (then, otherwise) = (list(func, then), list(func, otherwise));
                out.push(Stmt::If { condition, then, otherwise });
            }
            Stmt::Kernel(mut kernel) => {
                let Kernel::Gemm(gemm) = kernel.as_mut();
                if let Some(epilogue) = &mut gemm.epilogue {
                    let mut defined = Defined::default();
                    defined.vars.extend([epilogue.row, epilogue.column]);
                    defined.locals.insert(epilogue.acc);
                    defined.stored.insert(gemm.out.at.buffer);
                    let mut site = Site::new(func, defined, &mut standing);
                    let rows = site.passing(&Passed::default(), gemm.m);
                    let passed = site.passing(&rows, gemm.n);
                    site.epilogue(epilogue, &passed);
                    out.extend(site.sets);
                }
                out.push(Stmt::Kernel(kernel));
            }
            other => out.push(other),
        }
    }
    out
}

/// What lies between an expression and the place it may be hoisted to.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Passed {
    /// Extents of loops that may be empty.
    extents: Vec<ScalarId>,
    /// Whether loads must stay.
    pinned: bool,
}

/// A place in front of a loop, and what is hoisted to it.
struct Site<'f> {
    func: &'f mut LoopFunc,
    defined: Defined,
    invariant: BTreeMap<ScalarId, bool>,
    loads: BTreeMap<ScalarId, bool>,
    moved: BTreeMap<Passed, BTreeMap<ScalarId, ScalarId>>,
    /// Locals of values that nothing changes while the list runs.
    standing: &'f mut BTreeMap<ScalarId, Local>,
    sets: Vec<Stmt>,
}

impl<'f> Site<'f> {
    fn new(func: &'f mut LoopFunc, defined: Defined, standing: &'f mut BTreeMap<ScalarId, Local>) -> Self {
        Site {
            func,
            defined,
            invariant: BTreeMap::new(),
            loads: BTreeMap::new(),
            moved: BTreeMap::new(),
            standing,
            sets: Vec::new(),
        }
    }

    /// What is passed when a loop is left as well.
    fn passing(&mut self, passed: &Passed, extent: ScalarId) -> Passed {
        let mut passed = passed.clone();
        let runs = match self.func.scalars.get(extent) {
            Scalar::Const(Literal::Int(value)) => *value > 0,
            Scalar::Dim(dim) => dim.range().0.is_some_and(|low| low > 0),
            _ => false,
        };
        if runs || passed.extents.contains(&extent) {
            return passed;
        }
        if self.is_invariant(extent) && !self.has_load(extent) {
            passed.extents.push(extent);
        } else {
            passed.pinned = true;
        }
        passed
    }

    fn stmts(&mut self, stmts: &mut [Stmt], passed: &Passed) {
        for stmt in stmts {
            map_roots(stmt, &mut |id| self.rewrite(id, passed));
            match stmt {
                Stmt::For { extent, body, .. } => {
                    let inner = self.passing(passed, *extent);
                    self.stmts(body, &inner);
                }
                Stmt::If { then, otherwise, .. } => {
                    let inner = Passed { pinned: true, ..passed.clone() };
                    self.stmts(then, &inner);
                    self.stmts(otherwise, &inner);
                }
                Stmt::Kernel(kernel) => {
                    let Kernel::Gemm(gemm) = kernel.as_mut();
                    let rows = self.passing(passed, gemm.m);
                    let inner = self.passing(&rows, gemm.n);
                    if let Some(epilogue) = &mut gemm.epilogue {
                        self.epilogue(epilogue, &inner);
                    }
                }
                _ => {}
            }
        }
    }

    fn epilogue(&mut self, epilogue: &mut GemmEpilogue, passed: &Passed) {
        epilogue.value = self.rewrite(epilogue.value, passed);
    }

    /// The expression with its invariant parts replaced by locals.
    fn rewrite(&mut self, root: ScalarId, passed: &Passed) -> ScalarId {
        let mut moved = self.moved.remove(passed).unwrap_or_default();
        // What moves as a whole is not looked into: its operands need no place of their own.
        let mut wanted = BTreeSet::new();
        let mut pending = vec![root];
        while let Some(id) = pending.pop() {
            if !moved.contains_key(&id) && wanted.insert(id) && !self.moves(id, passed) {
                pending.extend(self.func.scalars.operands(id));
            }
        }
        for id in wanted {
            let new = match self.func.scalars.get(id).clone() {
                Scalar::Const(_) | Scalar::Dim(_) | Scalar::Var(_) | Scalar::Local(_) => id,
                _ if self.moves(id, passed) => self.hoisted(id, passed),
                scalar => {
                    let dtype = self.func.scalars.dtype(id);
                    let scalar = scalar.map_operands(&mut |id| moved[&id]);
                    self.func.scalars.add(scalar, dtype)
                }
            };
            moved.insert(id, new);
        }
        let new = moved[&root];
        self.moved.insert(passed.clone(), moved);
        new
    }

    fn moves(&mut self, id: ScalarId, passed: &Passed) -> bool {
        self.is_invariant(id) && (!passed.pinned || !self.has_load(id))
    }

    fn hoisted(&mut self, id: ScalarId, passed: &Passed) -> ScalarId {
        let dtype = self.func.scalars.dtype(id);
        let value = self.predicated(id, passed);
        let same = self.sets.iter().find_map(|set| match set {
            Stmt::Set { local, value: known } if *known == value => Some(*local),
            _ => None,
        });
        let local = same.or_else(|| self.standing.get(&value).copied()).unwrap_or_else(|| {
            let local = Local(self.func.locals.len() as u32);
            self.func.locals.push(("v".into(), dtype));
            self.sets.push(Stmt::Set { local, value });
            local
        });
        if self.stands(value) {
            self.standing.insert(value, local);
        }
        self.func.scalars.add(Scalar::Local(local), dtype)
    }

    /// Whether a value is made of sizes and loop variables only.
    fn stands(&self, root: ScalarId) -> bool {
        let scalars = &self.func.scalars;
        let changes = |id: &ScalarId| matches!(scalars.get(*id), Scalar::Load(..) | Scalar::Local(_));
        !scalars.unknown(root, |_| false).iter().any(changes)
    }

    /// The expression with its loads at 0 where a loop that is left is empty.
    fn predicated(&mut self, root: ScalarId, passed: &Passed) -> ScalarId {
        if passed.extents.is_empty() || !self.has_load(root) {
            return root;
        }
        let mut moved: BTreeMap<ScalarId, ScalarId> = BTreeMap::new();
        for id in self.func.scalars.unknown(root, |_| false) {
            let dtype = self.func.scalars.dtype(id);
            let scalar = self.func.scalars.get(id).clone();
            let mut scalar = scalar.map_operands(&mut |id| moved[&id]);
            if let Scalar::Load(_, index) = &mut scalar {
                let scalars = &mut self.func.scalars;
                let zero = scalars.add(Scalar::Const(Literal::Int(0)), DType::I64);
                let runs = all_positive(scalars, &passed.extents, zero);
                *index = scalars.add(Scalar::Select(runs, *index, zero), DType::I64);
            }
            moved.insert(id, self.func.scalars.add(scalar, dtype));
        }
        moved[&root]
    }

    fn is_invariant(&mut self, root: ScalarId) -> bool {
        let scalars = &self.func.scalars;
        let constant = |id: ScalarId| matches!(scalars.get(id), Scalar::Const(Literal::Int(v)) if *v != 0);
        for id in scalars.unknown(root, |id| self.invariant.contains_key(&id)) {
            let own = match scalars.get(id) {
                Scalar::Var(var) => !self.defined.vars.contains(var),
                Scalar::Local(local) => !self.defined.locals.contains(local),
                Scalar::Load(buffer, _) => !self.defined.stored.contains(buffer),
                Scalar::Binary(BinaryOp::FloorDiv | BinaryOp::Mod, _, b) => constant(*b),
                _ => true,
            };
            let invariant = own && scalars.operands(id).all(|id| self.invariant[&id]);
            self.invariant.insert(id, invariant);
        }
        self.invariant[&root]
    }

    fn has_load(&mut self, root: ScalarId) -> bool {
        let scalars = &self.func.scalars;
        for id in scalars.unknown(root, |id| self.loads.contains_key(&id)) {
            let loads =
                matches!(scalars.get(id), Scalar::Load(..)) || scalars.operands(id).any(|id| self.loads[&id]);
            self.loads.insert(id, loads);
        }
        self.loads[&root]
    }
}

fn all_positive(scalars: &mut Scalars, extents: &[ScalarId], zero: ScalarId) -> ScalarId {
    let mut all = None;
    for extent in extents {
        let positive = scalars.add(Scalar::Binary(BinaryOp::Gt, *extent, zero), DType::Bool);
        all = Some(match all {
            Some(so_far) => scalars.add(Scalar::Binary(BinaryOp::And, so_far, positive), DType::Bool),
            None => positive,
        });
    }
    all.unwrap_or_else(|| scalars.add(Scalar::Const(Literal::Bool(true)), DType::Bool))
}
