//! Promotion: a temporary of one element becomes a local.
//!
//! Takes and gives a valid function. Row statistics of a region are such temporaries; as locals
//! they cost no memory traffic, and the loop around them shares no storage between its iterations.
//! Afterwards a parallel loop whose iterations still share much of it is made serial.

use super::ir::{BufferId, BufferKind, Kernel, Local, LoopFunc, LoopKind, Scalar, ScalarId, Stmt};
use super::private::{self, Uses};
use super::walk::{bodies, map_roots, roots};
use crate::dtype::DType;
use crate::graph::expr::Literal;
use std::collections::{BTreeMap, BTreeSet};

/// Promotes what can be promoted, and makes serial what must be.
pub fn promote(func: &mut LoopFunc) {
    let mut candidates: BTreeMap<BufferId, Local> = BTreeMap::new();
    let pointed = pointed_at(func);
    for (at, buffer) in func.buffers.iter().enumerate() {
        let id = BufferId(at as u32);
        if matches!(buffer.kind, BufferKind::Temp) && buffer.elems.is(1) && !pointed.contains(&id) {
            let local = Local(func.locals.len() as u32);
            func.locals.push((buffer.name.clone(), buffer.dtype));
            candidates.insert(id, local);
        }
    }
    let mut body = std::mem::take(&mut func.body);
    if !candidates.is_empty() {
        let mut promoter = Promoter { func, candidates, moved: BTreeMap::new() };
        promoter.replace(&mut body);
        let wanted: BTreeSet<Local> = promoter.candidates.values().copied().collect();
        promoter.declare(&mut body, &wanted);
    }
    serialise(func, &mut body);
    func.body = body;
}

/// Buffers that calls and kernels use by pointer, or that are not accessed at 0 only.
fn pointed_at(func: &LoopFunc) -> BTreeSet<BufferId> {
    let mut found = BTreeSet::new();
    let first = |id: ScalarId| matches!(func.scalars.get(id), Scalar::Const(Literal::Int(0)));
    for (_, scalar, _) in func.scalars.iter() {
        if let Scalar::Load(buffer, index) = scalar
            && !first(*index)
        {
            found.insert(*buffer);
        }
    }
    let mut pending: Vec<&Stmt> = func.body.iter().collect();
    while let Some(stmt) = pending.pop() {
        match stmt {
            Stmt::Store { buffer, index, .. } if !first(*index) => {
                found.insert(*buffer);
            }
            Stmt::Call { args, results, .. } => found.extend(args.iter().chain(results).map(|p| p.buffer)),
            Stmt::Kernel(kernel) => {
                let Kernel::Gemm(gemm) = kernel.as_ref();
                found.extend([gemm.lhs, gemm.rhs, gemm.out].map(|matrix| matrix.at.buffer));
            }
            _ => {}
        }
        pending.extend(bodies(stmt).flatten());
    }
    found
}

struct Promoter<'f> {
    func: &'f mut LoopFunc,
    candidates: BTreeMap<BufferId, Local>,
    moved: BTreeMap<ScalarId, ScalarId>,
}

impl Promoter<'_> {
    /// Makes loads and stores of candidates uses of their locals.
    fn replace(&mut self, stmts: &mut [Stmt]) {
        for stmt in stmts {
            map_roots(stmt, &mut |id| self.rewrite(id));
            match stmt {
                Stmt::Store { buffer, value, .. } => {
                    if let Some(local) = self.candidates.get(buffer) {
                        *stmt = Stmt::Set { local: *local, value: *value };
                    }
                }
                Stmt::For { body, .. } => self.replace(body),
                Stmt::If { then, otherwise, .. } => {
                    self.replace(then);
                    self.replace(otherwise);
                }
                Stmt::Kernel(kernel) => {
                    let Kernel::Gemm(gemm) = kernel.as_mut();
                    if let Some(epilogue) = &mut gemm.epilogue {
                        epilogue.value = self.rewrite(epilogue.value);
                    }
                }
                _ => {}
            }
        }
    }

    fn rewrite(&mut self, root: ScalarId) -> ScalarId {
        for id in self.func.scalars.unknown(root, |id| self.moved.contains_key(&id)) {
            let dtype = self.func.scalars.dtype(id);
            let scalar = self.func.scalars.get(id).clone();
            let local = match &scalar {
                Scalar::Load(buffer, _) => self.candidates.get(buffer),
                _ => None,
            };
            let scalar = match local {
                Some(local) => Scalar::Local(*local),
                None => scalar.map_operands(&mut |id| self.moved[&id]),
            };
            self.moved.insert(id, self.func.scalars.add(scalar, dtype));
        }
        self.moved[&root]
    }

    /// Declares each local in the innermost list that holds all its uses, before the first.
    fn declare(&mut self, stmts: &mut Vec<Stmt>, wanted: &BTreeSet<Local>) {
        let uses: Vec<BTreeSet<Local>> = stmts.iter().map(|stmt| self.uses(stmt, wanted)).collect();
        let mut here: BTreeMap<usize, Vec<Local>> = BTreeMap::new();
        let mut inside: Vec<BTreeSet<Local>> = vec![BTreeSet::new(); stmts.len()];
        for local in wanted {
            let at: Vec<usize> = (0..stmts.len()).filter(|k| uses[*k].contains(local)).collect();
            let Some(first) = at.first() else { continue };
            let own = self.own_uses(&stmts[*first], *local);
            let loops = matches!(&stmts[*first], Stmt::For { .. });
            if at.len() == 1 && loops && !own {
                inside[*first].insert(*local);
            } else {
                here.entry(*first).or_default().push(*local);
            }
        }
        for (stmt, wanted) in stmts.iter_mut().zip(inside) {
            if let (Stmt::For { body, .. }, false) = (stmt, wanted.is_empty()) {
                self.declare(body, &wanted);
            }
        }
        for (at, locals) in here.into_iter().rev() {
            for local in locals {
                let sets = matches!(&stmts[at], Stmt::Set { local: known, .. } if *known == local);
                if !sets {
                    let dtype = self.func.locals[local.0 as usize].1;
                    let value = zero(self.func, dtype);
                    stmts.insert(at, Stmt::Set { local, value });
                }
            }
        }
    }

    fn own_uses(&self, stmt: &Stmt, local: Local) -> bool {
        roots(stmt).iter().any(|root| {
            let reached = self.func.scalars.unknown(*root, |_| false);
            reached.iter().any(|id| matches!(self.func.scalars.get(*id), Scalar::Local(l) if *l == local))
        })
    }

    /// Which of some locals a statement uses or sets, at any depth.
    fn uses(&self, stmt: &Stmt, wanted: &BTreeSet<Local>) -> BTreeSet<Local> {
        let mut found = BTreeSet::new();
        let mut pending = vec![stmt];
        while let Some(stmt) = pending.pop() {
            for root in roots(stmt) {
                for id in self.func.scalars.unknown(root, |_| false) {
                    if let Scalar::Local(local) = self.func.scalars.get(id) {
                        found.insert(*local);
                    }
                }
            }
            if let Stmt::Set { local, .. } | Stmt::Reduce { local, .. } = stmt {
                found.insert(*local);
            }
            pending.extend(bodies(stmt).flatten());
        }
        found.intersection(wanted).copied().collect()
    }
}

fn zero(func: &mut LoopFunc, dtype: DType) -> ScalarId {
    let literal = match dtype {
        DType::Bool => Literal::Bool(false),
        DType::I32 | DType::I64 => Literal::Int(0),
        _ => Literal::Real(0f64.to_bits()),
    };
    func.scalars.add(Scalar::Const(literal), dtype)
}

/// Makes parallel loops serial whose iterations call, or use temporaries that nothing outside the loop
/// uses and that are too large for each task to have its own.
fn serialise(func: &LoopFunc, body: &mut [Stmt]) {
    let whole = Uses::of(func, body);
    serialise_list(func, body, &whole);
}

fn serialise_list(func: &LoopFunc, stmts: &mut [Stmt], whole: &Uses) {
    for stmt in stmts {
        match stmt {
            Stmt::For { kind, body, .. } => {
                if *kind == LoopKind::Parallel
                    && (calls(body) || !private::fit(func, &whole.only_in(func, body)))
                {
                    *kind = LoopKind::Serial;
                }
                serialise_list(func, body, whole);
            }
            Stmt::If { then, otherwise, .. } => {
                serialise_list(func, then, whole);
                serialise_list(func, otherwise, whole);
            }
            _ => {}
        }
    }
}

fn calls(stmts: &[Stmt]) -> bool {
    stmts.iter().any(|stmt| matches!(stmt, Stmt::Call { .. }) || bodies(stmt).any(|body| calls(body)))
}
