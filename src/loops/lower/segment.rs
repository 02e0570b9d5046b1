//! Reductions by key: one pass over the reduced points, each adding to the element its key names.
//!
//! The pass is serial, so the order in which an element's terms are combined does not depend on
//! the machine. Result axes before the keyed one are outer loops, those after it are inner loops,
//! which run in lanes. With an `else`, a flag per element remembers whether any term came.

use super::expr::Env;
use super::nest::{Nest, Target};
use super::place::{Place, dense_strides};
use super::scalar::combiner;
use super::{FuncCx, Lowered, Work};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::graph::expr::{Expr, ExprId, Exprs, Literal};
use crate::graph::ir::{Axis, Index, Reduce, Segment};
use crate::loops::ir::{LoopVar, Stmt};
use crate::ops::scalar::BinaryOp;

/// The expressions with the key in place of the keyed index.
struct Keyed {
    exprs: Exprs,
    body: ExprId,
    key: ExprId,
    /// The key is inside, then the conjuncts of the filter.
    conditions: Vec<ExprId>,
}

impl FuncCx<'_> {
    pub(super) fn segment(
        &mut self,
        work: &Work<'_>,
        segment: &Segment,
        out: &mut Vec<Stmt>,
    ) -> Lowered<Place> {
        let dest = self.dest(work, 0)?;
        let index = &segment.index;
        let strides = dest.strides_over(&index.iterate)?;
        let op = index.reduce.as_ref().and_then(|r| combiner(r.reducer));
        let (Some(reduce), Some(op), Some(strides), None) = (&index.reduce, op, strides, index.guard) else {
            self.as_plain_nest(work, segment, &dest, out)?;
            return Ok(dest);
        };
        let target = Target { buffer: dest.buffer, offset: dest.offset, strides };
        let initial = Literal::over_nothing(reduce.reducer, index.exprs.dtype(index.body));
        self.fill(&index.iterate, initial, index.result_dtype(), &dest, out)?;
        let seen = match reduce.otherwise {
            Some(_) => Some(self.flags(work, &index.iterate, out)?),
            None => None,
        };
        self.keyed_pass(work, segment, reduce, op, &target, seen.as_ref(), out)?;
        if let (Some(otherwise), Some(seen)) = (reduce.otherwise, &seen) {
            self.fill_empty(work, index, otherwise, &target, seen, out)?;
        }
        Ok(dest)
    }

    /// The definition itself, key equality and all.
    fn as_plain_nest(
        &mut self,
        work: &Work<'_>,
        segment: &Segment,
        dest: &Place,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let mut index = segment.index.clone();
        let at = index.exprs.index(segment.axis);
        let equal = index.exprs.binary(BinaryOp::Eq, segment.key, at);
        if let Some(reduce) = &mut index.reduce {
            reduce.filter = Some(match reduce.filter {
                Some(rest) => {
                    let never = index.exprs.bool(false);
                    index.exprs.select(equal, rest, never)
                }
                None => equal,
            });
        }
        let nest = Nest {
            iterate: &index.iterate,
            guard: index.guard,
            reduce: index.reduce.as_ref(),
            exprs: &index.exprs,
            body: index.body,
            ports: &work.operands,
            finish: None,
        };
        self.nest(&nest, dest, out)
    }

    /// Writes one value everywhere.
    fn fill(
        &mut self,
        iterate: &[Axis],
        value: Literal,
        dtype: DType,
        dest: &Place,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let mut exprs = Exprs::new();
        let body = exprs.add(Expr::Const(value), dtype);
        let nest = Nest { iterate, guard: None, reduce: None, exprs: &exprs, body, ports: &[], finish: None };
        self.nest(&nest, dest, out)
    }

    /// A flag per element, all false.
    fn flags(&mut self, work: &Work<'_>, iterate: &[Axis], out: &mut Vec<Stmt>) -> Lowered<Target> {
        let shape = &work.graph.node(work.node).results[0].shape;
        let flags = self.temp(Some("seen"), DType::Bool, shape)?;
        self.fill(iterate, Literal::Bool(false), DType::Bool, &flags, out)?;
        let strides = dense_strides(iterate.iter().map(|axis| &axis.extent))?;
        Ok(Target { buffer: flags.buffer, offset: flags.offset, strides })
    }

    fn keyed_pass(
        &mut self,
        work: &Work<'_>,
        segment: &Segment,
        reduce: &Reduce,
        op: BinaryOp,
        target: &Target,
        seen: Option<&Target>,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let index = &segment.index;
        let keyed = keyed(segment, reduce);
        let nest = Nest {
            iterate: &index.iterate,
            guard: None,
            reduce: Some(reduce),
            exprs: &keyed.exprs,
            body: keyed.body,
            ports: &work.operands,
            finish: None,
        };
        let (mut env, vars) = self.env(&nest);
        let count = index.iterate.len();
        let levels: Vec<usize> =
            (0..segment.axis).chain(count..env.extents.len()).chain(segment.axis + 1..count).collect();
        env.order.clone_from(&levels);
        env.order.insert(levels.len() - (count - segment.axis - 1), segment.axis);
        let body = self.levels(&mut env, &levels, &vars, &keyed.conditions, None, &mut |cx, env, _| {
            let mut body = Vec::new();
            let value = cx.eval(env, &[keyed.body])?.checked(&mut body);
            let mut env = env.clone();
            env.index[segment.axis] = cx.eval(&env, &[keyed.key])?.checked(&mut body);
            let at = cx.target_index(&env, target);
            let so_far = cx.load(target.buffer, at);
            let value = cx.binary(op, so_far, value);
            body.push(Stmt::Store { buffer: target.buffer, index: at, value });
            if let Some(seen) = seen {
                let (at, value) = (cx.target_index(&env, seen), cx.bool(true));
                body.push(Stmt::Store { buffer: seen.buffer, index: at, value });
            }
            Ok(body)
        })?;
        out.extend(body);
        Ok(())
    }

    /// Writes `otherwise` where no term came.
    fn fill_empty(
        &mut self,
        work: &Work<'_>,
        index: &Index,
        otherwise: ExprId,
        target: &Target,
        seen: &Target,
        out: &mut Vec<Stmt>,
    ) -> Lowered<()> {
        let nest = Nest {
            iterate: &index.iterate,
            guard: None,
            reduce: None,
            exprs: &index.exprs,
            body: otherwise,
            ports: &work.operands,
            finish: None,
        };
        let (env, vars): (Env<'_>, Vec<Option<LoopVar>>) = self.env(&nest);
        let env = Env { conditional: true, ..env };
        let (at, flag) = (self.target_index(&env, target), self.target_index(&env, seen));
        let flag = self.load(seen.buffer, flag);
        let condition = self.not(flag);
        let mut then = Vec::new();
        let value = self.eval(&env, &[otherwise])?.checked(&mut then);
        then.push(Stmt::Store { buffer: target.buffer, index: at, value });
        let body = vec![Stmt::If { condition, then, otherwise: Vec::new() }];
        let axes: Vec<usize> = (0..index.iterate.len()).collect();
        out.extend(self.wrap(&axes, &env, &vars, body));
        Ok(())
    }
}

fn keyed(segment: &Segment, reduce: &Reduce) -> Keyed {
    let index = &segment.index;
    let extent: &Dim = &index.iterate[segment.axis].extent;
    let mut exprs = Exprs::new();
    let key = exprs.import(&index.exprs, &[segment.key], &mut |_, _, _| None)[0];
    let roots: Vec<ExprId> = [index.body].into_iter().chain(reduce.filter).collect();
    let moved = exprs.import(&index.exprs, &roots, &mut |_, leaf, _| match leaf {
        Expr::Index(k) if *k as usize == segment.axis => Some(key),
        _ => None,
    });
    let (zero, extent) = (exprs.int(0), exprs.dim(extent));
    let mut conditions = vec![exprs.binary(BinaryOp::Ge, key, zero), exprs.binary(BinaryOp::Lt, key, extent)];
    conditions.extend(exprs.conjuncts(moved.get(1).copied()));
    Keyed { body: moved[0], exprs, key, conditions }
}
