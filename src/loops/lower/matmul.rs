//! Matrix products: loops over whatever does not fit one product of matrices, around the kernel.
//!
//! Axes of one role that lie evenly behind each other in all that they walk are one axis. Of each
//! role one axis goes to the kernel, such that the result is contiguous along the kernel's columns
//! where possible; the others are loops. Contracted axes that do not become one axis are loops
//! inside the kernel, which wants one operand contiguous along its rows or columns for that; without
//! it the product is a plain nest.

use super::expr::{Env, Group};
use super::nest::Nest;
use super::place::{Place, dense_strides};
use super::{FuncCx, Lowered, Work};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::affine::{Affine, Leaf, build};
use crate::graph::expr::{Expr, ExprId, Exprs, Read};
use crate::graph::ir::{Axis, MatMul, Reduce, Role, View};
use crate::loops::ir::{
    Contracted, Gemm, GemmEpilogue, Kernel, LoopKind, LoopVar, Matrix, Pointer, ScalarId, Stmt,
};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::BinaryOp;

/// One or more adjacent axes that one index walks.
#[derive(Clone)]
pub(super) struct Walk {
    pub axes: std::ops::Range<usize>,
    pub extent: Dim,
    pub lhs: Dim,
    pub rhs: Dim,
    pub out: Dim,
}

/// An operand where it lies: the start, and strides over result axes and contracted axes.
pub(super) struct Operand {
    pub at: Pointer,
    pub iterate: Vec<Dim>,
    pub contract: Vec<Dim>,
}

/// How a product is split between loops and kernel.
pub(super) struct Split {
    pub m: Option<Walk>,
    /// How many rows there are, where only the running program knows.
    pub rows: Option<ScalarId>,
    n: Option<Walk>,
    k: Option<Walk>,
    /// Contracted axes around `k`, slowest first.
    outer: Vec<Walk>,
    loops: Vec<Walk>,
    /// Whether the right operand gives the rows.
    swapped: bool,
}

impl FuncCx<'_> {
    pub(super) fn matmul(
        &mut self,
        work: &Work<'_>,
        product: &MatMul,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Place> {
        let dest = self.dest(work, 0)?;
        let Some(strides) = dest.strides_over(&product.iterate)? else {
            let node = work.graph.node(work.node);
            let dense = self.temp(node.name.as_deref(), DType::F32, &dest.shape)?;
            self.product(work, product, &dense, &dense_over(&product.iterate)?, out)?;
            self.copy(&dense, &dest, out)?;
            return Ok(dest);
        };
        self.product(work, product, &dest, &strides, out)?;
        Ok(dest)
    }

    fn product(
        &mut self,
        work: &Work<'_>,
        product: &MatMul,
        dest: &Place,
        strides: &[Dim],
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let lhs = self.operand(&work.operands[0], &product.lhs, product, out)?;
        let rhs = self.operand(&work.operands[1], &product.rhs, product, out)?;
        if let Some(pick) = &product.pick {
            let picks = self.operand(&work.operands[2], &pick.at, product, out)?;
            if !self.picked(work, product, (&lhs, &rhs, &picks), (dest.pointer(), strides), out)? {
                self.as_nest(work, product, (&lhs, &rhs, Some(&picks)), dest, out)?;
            }
            return Ok(());
        }
        let Some(split) = split(product, &lhs, &rhs, strides)? else {
            return self.as_nest(work, product, (&lhs, &rhs, None), dest, out);
        };
        match self.kernel(work, product, (lhs.at, rhs.at, dest.pointer()), &split)? {
            Some(body) => out.extend(body),
            None => self.as_nest(work, product, (&lhs, &rhs, None), dest, out)?,
        }
        Ok(())
    }

    /// An operand of a product where it lies.
    pub(super) fn operand(
        &mut self,
        place: &Place,
        view: &View,
        product: &MatMul,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Operand> {
        self.operand_over(place, view, (&product.iterate, &product.contract), out)
    }

    /// An operand that is walked over result axes and contracted ones: where it lies if its view can be
    /// followed there, else in a dense copy.
    pub(super) fn operand_over(
        &mut self,
        place: &Place,
        view: &View,
        axes: (&[Axis], &[Axis]),
        out: &mut Vec<Stmt>,
    ) -> Lowered<Operand> {
        let place = match relocate(place, view, axes)? {
            Some((iterate, contract, vars)) => {
                let at = self.start(place, &Dim::ZERO, &vars, view)?;
                return Ok(Operand { at, iterate, contract });
            }
            None => self.densified(place, out)?,
        };
        let vars: Vec<Dim> = view.vars.iter().map(|(_, step)| step.clone()).collect();
        let at = self.start(&place, &view.offset, &vars, view)?;
        Ok(Operand { at, iterate: view.iterate.clone(), contract: view.contract.clone() })
    }

    fn start(&mut self, place: &Place, offset: &Dim, steps: &[Dim], view: &View) -> Lowered<Pointer> {
        let offset = self.dim(offset);
        let mut sum = self.add(place.offset, offset);
        for ((var, _), step) in view.vars.iter().zip(steps) {
            let step = self.dim(step);
            let term = self.mul(self.positions[var].scalar, step);
            sum = self.add(sum, term);
        }
        Ok(Pointer { buffer: place.buffer, offset: sum })
    }

    /// The loops around the kernel; `None` if the epilogue needs checks.
    pub(super) fn kernel(
        &mut self,
        work: &Work<'_>,
        product: &MatMul,
        (mut at_lhs, mut at_rhs, mut at_out): (Pointer, Pointer, Pointer),
        split: &Split,
    ) -> Lowered<Option<Vec<Stmt>>> {
        let zero = self.int(0);
        let mut index = vec![zero; product.iterate.len()];
        let mut groups = Vec::new();
        let mut loops: Vec<(LoopVar, ScalarId)> = Vec::new();
        for walk in &split.loops {
            let var = self.new_var(&product.iterate[walk.axes.start].name);
            let value = self.var(var);
            self.spell(product, walk, value, &mut index, &mut groups);
            for (pointer, stride) in
                [(&mut at_lhs, &walk.lhs), (&mut at_rhs, &walk.rhs), (&mut at_out, &walk.out)]
            {
                pointer.offset = self.stepped(pointer.offset, value, stride);
            }
            loops.push((var, self.dim(&walk.extent)));
        }
        let (row, column) = (self.new_var("row"), self.new_var("column"));
        for (walk, var) in [(&split.m, row), (&split.n, column)] {
            if let Some(walk) = walk {
                let value = self.var(var);
                self.spell(product, walk, value, &mut index, &mut groups);
            }
        }
        let Some(epilogue) = self.epilogue(work, product, index, groups, (row, column))? else {
            return Ok(None);
        };
        let gemm = self.gemm(split, at_lhs, at_rhs, at_out, epilogue);
        let mut body = vec![Stmt::Kernel(Box::new(Kernel::Gemm(gemm)))];
        for (var, extent) in loops.into_iter().rev() {
            body = vec![Stmt::For { var, extent, reverse: false, kind: LoopKind::Parallel, body }];
        }
        Ok(Some(body))
    }

    fn gemm(
        &mut self,
        split: &Split,
        lhs: Pointer,
        rhs: Pointer,
        out: Pointer,
        epilogue: Option<GemmEpilogue>,
    ) -> Gemm {
        let extent = |walk: &Option<Walk>| walk.as_ref().map_or(Dim::ONE, |w| w.extent.clone());
        let stride =
            |walk: &Option<Walk>, of: fn(&Walk) -> &Dim| walk.as_ref().map_or(Dim::ONE, |w| of(w).clone());
        let (left, right): (fn(&Walk) -> &Dim, fn(&Walk) -> &Dim) =
            if split.swapped { (|w| &w.rhs, |w| &w.lhs) } else { (|w| &w.lhs, |w| &w.rhs) };
        let (lhs, rhs) = if split.swapped { (rhs, lhs) } else { (lhs, rhs) };
        let mut matrix =
            |at: Pointer, slow: Dim, fast: Dim| Matrix { at, strides: (self.dim(&slow), self.dim(&fast)) };
        let lhs = matrix(lhs, stride(&split.m, left), stride(&split.k, left));
        let rhs = matrix(rhs, stride(&split.k, right), stride(&split.n, right));
        let out = matrix(out, stride(&split.m, |w| &w.out), stride(&split.n, |w| &w.out));
        let (m, n, k) = (extent(&split.m), extent(&split.n), extent(&split.k));
        let mut contracted = |walk: &Walk| Contracted {
            extent: self.dim(&walk.extent),
            lhs: self.dim(left(walk)),
            rhs: self.dim(right(walk)),
        };
        let outer = split.outer.iter().map(&mut contracted).collect();
        let m = split.rows.unwrap_or_else(|| self.dim(&m));
        Gemm { m, n: self.dim(&n), k: self.dim(&k), outer, lhs, rhs, out, epilogue }
    }

    /// The epilogue at row and column: `None` where it needs checks.
    #[expect(clippy::option_option, reason = "whether it can be had, and whether there is one")]
    fn epilogue(
        &mut self,
        work: &Work<'_>,
        product: &MatMul,
        index: Vec<ScalarId>,
        groups: Vec<Group>,
        (row, column): (LoopVar, LoopVar),
    ) -> Lowered<Option<Option<GemmEpilogue>>> {
        let Some(epilogue) = &product.epilogue else { return Ok(Some(None)) };
        let acc = self.new_local("acc", DType::F32);
        let extents = product.iterate.iter().map(|axis| axis.extent.clone()).collect();
        let mut env = Env::new(&epilogue.exprs, index, extents, &work.operands);
        env.accumulator = Some(self.local(acc));
        env.groups = groups;
        if !self.cannot_fail(&env, &[epilogue.body]) {
            return Ok(None);
        }
        let value = self.eval(&env, &[epilogue.body])?.values[0];
        Ok(Some(Some(GemmEpilogue { row, column, acc, value })))
    }

    /// Sets the indices of a walk's axes to the digits of its value.
    fn spell(
        &mut self,
        product: &MatMul,
        walk: &Walk,
        value: ScalarId,
        index: &mut [ScalarId],
        groups: &mut Vec<Group>,
    ) {
        if walk.axes.len() == 1 {
            index[walk.axes.start] = value;
            return;
        }
        groups.push(Group { axes: walk.axes.clone(), value });
        let mut rest = value;
        for k in walk.axes.clone().rev() {
            if k == walk.axes.start {
                index[k] = rest;
                break;
            }
            let extent = self.dim(&product.iterate[k].extent);
            index[k] = self.binary(BinaryOp::Mod, rest, extent);
            rest = self.binary(BinaryOp::FloorDiv, rest, extent);
        }
    }

    /// The product as a plain reduction; what rows pick has been checked.
    fn as_nest(
        &mut self,
        work: &Work<'_>,
        product: &MatMul,
        (lhs, rhs, picks): (&Operand, &Operand, Option<&Operand>),
        dest: &Place,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let mut exprs = Exprs::new();
        let mut ports = work.operands.clone();
        let mut factors = Vec::with_capacity(2);
        let picked = match (&product.pick, picks) {
            (Some(pick), Some(picks)) => {
                let at = self.flat(&mut exprs, &picks.iterate);
                let picked = self.element_of(&mut exprs, &mut ports, picks.at, at)?;
                let stride = exprs.dim(&pick.stride);
                Some(exprs.binary(BinaryOp::Mul, picked, stride))
            }
            _ => None,
        };
        for (operand, picked) in [(lhs, None), (rhs, picked)] {
            let at = self.flat(&mut exprs, operand.iterate.iter().chain(&operand.contract));
            let at = picked.map_or(at, |picked| exprs.binary(BinaryOp::Add, at, picked));
            factors.push(self.element_of(&mut exprs, &mut ports, operand.at, at)?);
        }
        let body = exprs.binary(BinaryOp::Mul, factors[0], factors[1]);
        let axes = product.contract.clone();
        let reduce = Reduce { reducer: Reducer::Sum, axes, filter: None, otherwise: None };
        let nest = Nest {
            iterate: &product.iterate,
            guard: None,
            reduce: Some(&reduce),
            exprs: &exprs,
            body,
            ports: &ports,
            finish: product.epilogue.as_ref(),
        };
        self.nest(&nest, dest, out)
    }

    /// An element of what lies at a pointer, which is known to be inside.
    fn element_of(
        &self,
        exprs: &mut Exprs,
        ports: &mut Vec<Place>,
        at: Pointer,
        index: ExprId,
    ) -> Lowered<ExprId> {
        let mut place = Place::dense(at.buffer, at.offset, &[Dim::ONE])?;
        place.trusted = true;
        let (port, index) = (ports.len() as u32, vec![index]);
        ports.push(place);
        let dtype = self.func.buffers[at.buffer.0 as usize].dtype;
        Ok(exprs.add(Expr::Read(Read { port, index, otherwise: None, span: self.span }), dtype))
    }

    /// How far indices are from the first element.
    pub(super) fn flat<'d>(&self, exprs: &mut Exprs, strides: impl IntoIterator<Item = &'d Dim>) -> ExprId {
        let mut flat = Affine::constant(Dim::ZERO);
        for (k, stride) in strides.into_iter().enumerate().filter(|(_, stride)| !stride.is(0)) {
            flat.terms.insert(Leaf::Index(k as u32), stride.clone());
        }
        build(exprs, &flat)
    }
}

pub(super) fn dense_over(iterate: &[Axis]) -> Lowered<Vec<Dim>> {
    dense_strides(iterate.iter().map(|axis| &axis.extent))
}

/// Strides of a view over a dense operand, taken over to where the operand really lies: each must
/// walk along exactly one of the operand's axes. Gives strides of result axes, contracted axes,
/// and enclosing positions.
fn relocate(
    place: &Place,
    view: &View,
    (axes, contracted): (&[Axis], &[Axis]),
) -> Lowered<Option<(Vec<Dim>, Vec<Dim>, Vec<Dim>)>> {
    if place.is_dense() || !view.offset.is(0) {
        return Ok(None);
    }
    let dense = dense_strides(place.shape.iter())?;
    let along = |stride: &Dim, extent: Option<&Dim>| -> Option<Dim> {
        if stride.is(0) || extent.is_some_and(|e| e.is(1)) {
            return Some(Dim::ZERO);
        }
        let axis = (0..dense.len()).find(|a| dense[*a] == *stride && !place.shape[*a].is(1))?;
        let fits = match extent {
            Some(extent) => place.shape[axis].sub(extent).is_ok_and(|room| room.is_non_negative()),
            None => true,
        };
        fits.then(|| place.strides[axis].clone())
    };
    let over = |strides: &[Dim], axes: &[Axis]| -> Option<Vec<Dim>> {
        strides.iter().zip(axes).map(|(stride, axis)| along(stride, Some(&axis.extent))).collect()
    };
    let (iterate, contract) = (over(&view.iterate, axes), over(&view.contract, contracted));
    let vars: Option<Vec<Dim>> = view.vars.iter().map(|(_, step)| along(step, None)).collect();
    Ok(match (iterate, contract, vars) {
        (Some(iterate), Some(contract), Some(vars)) => Some((iterate, contract, vars)),
        _ => None,
    })
}

/// Splits a product; `None` where it is better a plain nest.
pub(super) fn split(product: &MatMul, lhs: &Operand, rhs: &Operand, out: &[Dim]) -> Lowered<Option<Split>> {
    let walk = |k: usize| Walk {
        axes: k..k + 1,
        extent: product.iterate[k].extent.clone(),
        lhs: lhs.iterate[k].clone(),
        rhs: rhs.iterate[k].clone(),
        out: out[k].clone(),
    };
    let of_role = |role: Role| -> Lowered<Vec<Walk>> {
        let real = |k: &usize| product.roles[*k] == role && !product.iterate[*k].extent.is(1);
        merge((0..product.iterate.len()).filter(real).map(walk).collect())
    };
    let (mut m_walks, mut n_walks) = (of_role(Role::M)?, of_role(Role::N)?);
    let contracted = |k: usize| Walk {
        axes: k..k + 1,
        extent: product.contract[k].extent.clone(),
        lhs: lhs.contract[k].clone(),
        rhs: rhs.contract[k].clone(),
        out: Dim::ZERO,
    };
    let real = |k: &usize| !product.contract[*k].extent.is(1);
    let mut k_walks = merge((0..product.contract.len()).filter(real).map(contracted).collect())?;
    let k = k_walks.pop();
    let unit = |walks: &[Walk]| walks.iter().any(|w| w.out.is(1));
    let swapped = unit(&m_walks) && !unit(&n_walks);
    if swapped {
        std::mem::swap(&mut m_walks, &mut n_walks);
    }
    let n = take(&mut n_walks, |w| w.out.is(1));
    let largest = m_walks.iter().filter_map(|w| w.extent.as_const()).max();
    let m = take(&mut m_walks, |w| w.extent.as_const().is_none() || w.extent.as_const() == largest);
    let contiguous = |walk: &Option<Walk>| walk.as_ref().is_some_and(|w| w.lhs.is(1) || w.rhs.is(1));
    if !k_walks.is_empty() && !contiguous(&m) && !contiguous(&n) {
        return Ok(None);
    }
    let mut loops = of_role(Role::Batch)?;
    let lanes = |walk: &Walk| walk.lhs.is(1) && walk.rhs.is(1) && walk.out.is(1);
    if (m.is_none() || n.is_none()) && loops.iter().any(lanes) {
        return Ok(None);
    }
    loops.extend(m_walks);
    loops.extend(n_walks);
    Ok(Some(Split { m, rows: None, n, k, outer: k_walks, loops, swapped }))
}

/// Takes the last walk that is preferred, else the last.
fn take(walks: &mut Vec<Walk>, preferred: impl Fn(&Walk) -> bool) -> Option<Walk> {
    match walks.iter().rposition(preferred) {
        Some(at) => Some(walks.remove(at)),
        None => walks.pop(),
    }
}

/// Makes one walk of neighbours that lie evenly behind each other.
pub(super) fn merge(walks: Vec<Walk>) -> Lowered<Vec<Walk>> {
    let mut merged: Vec<Walk> = Vec::with_capacity(walks.len());
    for walk in walks {
        if let Some(last) = merged.last_mut()
            && last.axes.end == walk.axes.start
            && last.lhs == walk.lhs.mul(&walk.extent)?
            && last.rhs == walk.rhs.mul(&walk.extent)?
            && last.out == walk.out.mul(&walk.extent)?
        {
            let (axes, extent) = (last.axes.start..walk.axes.end, last.extent.mul(&walk.extent)?);
            *last = Walk { axes, extent, ..walk };
        } else {
            merged.push(walk);
        }
    }
    Ok(merged)
}
