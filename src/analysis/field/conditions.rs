//! What holds where an expression of an index op is evaluated, as affine constraints.

use super::reads::Reader;
use crate::dim::Dim;
use crate::graph::affine::{Affine, Leaf, affine};
use crate::graph::expr::{Expr, ExprId, Literal};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use std::collections::BTreeSet;

/// A condition of a read: an expression and whether it holds.
pub(super) type Conditions = BTreeSet<(ExprId, bool)>;

/// An affine form that is zero, or not negative.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Constraint {
    Zero(Affine),
    NotNegative(Affine),
}

/// What is known to hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub constraints: Vec<Constraint>,
    /// Whether more holds that cannot be said.
    pub partial: bool,
}

/// Notes that an expression is evaluated under these conditions too: only what all of its users
/// have in common is sure.
fn require(known: &mut [Option<Conditions>], id: ExprId, conditions: Conditions) {
    let slot = &mut known[id.0 as usize];
    *slot = Some(match slot.take() {
        Some(before) => before.intersection(&conditions).copied().collect(),
        None => conditions,
    });
}

impl Reader<'_> {
    /// For every expression that is used, what holds whenever it is evaluated.
    pub(super) fn conditions(&self) -> Vec<(ExprId, Conditions)> {
        let exprs = &self.index.exprs;
        let mut known: Vec<Option<Conditions>> = vec![None; exprs.len()];
        let guard: Conditions = self.index.guard.iter().map(|guard| (*guard, true)).collect();
        let mut all = guard.clone();
        if let Some(reduce) = &self.index.reduce {
            all.extend(reduce.filter.iter().map(|filter| (*filter, true)));
            reduce
                .filter
                .iter()
                .chain(&reduce.otherwise)
                .for_each(|id| require(&mut known, *id, guard.clone()));
        }
        self.index.guard.iter().for_each(|id| require(&mut known, *id, Conditions::new()));
        require(&mut known, self.index.body, all);
        let mut found = Vec::new();
        for (id, expr, _) in exprs.iter().rev() {
            let Some(own) = known[id.0 as usize].clone() else { continue };
            let with = |condition: ExprId, holds: bool| {
                let mut conditions = own.clone();
                conditions.insert((condition, holds));
                conditions
            };
            if let Expr::Select(condition, then, otherwise) = expr {
                require(&mut known, *condition, own.clone());
                require(&mut known, *then, with(*condition, true));
                require(&mut known, *otherwise, with(*condition, false));
            } else {
                exprs.operands(id).into_iter().for_each(|operand| require(&mut known, operand, own.clone()));
            }
            found.push((id, own));
        }
        found
    }

    pub(super) fn known(&self, conditions: &Conditions) -> Known {
        let mut known = Known::default();
        for (id, holds) in conditions {
            self.constrain(*id, *holds, &mut known);
        }
        known
    }

    fn constrain(&self, id: ExprId, holds: bool, known: &mut Known) {
        let exprs = &self.index.exprs;
        match exprs.get(id) {
            Expr::Const(_) => {}
            Expr::Unary(UnaryOp::Not, a) => self.constrain(*a, !holds, known),
            Expr::Binary(op @ (BinaryOp::And | BinaryOp::Or), a, b) => {
                if (*op == BinaryOp::And) == holds {
                    self.constrain(*a, holds, known);
                    self.constrain(*b, holds, known);
                } else {
                    self.either((*a, holds), (*b, holds), known);
                }
            }
            // A conjunction whose right side reads is written as a selection.
            Expr::Select(a, b, c) if holds && *exprs.get(*c) == truth(false) => {
                self.constrain(*a, holds, known);
                self.constrain(*b, holds, known);
            }
            Expr::Select(_, b, c) => self.either((*b, holds), (*c, holds), known),
            _ if self.has_read(id) => {}
            Expr::Binary(op, a, b) => {
                let difference = || affine(exprs, *b)?.add(&affine(exprs, *a)?.scale(&Dim::from(-1))?);
                match difference().and_then(|form| self.compared(*op, holds, form)) {
                    Some(constraints) => known.constraints.extend(constraints),
                    None => known.partial = true,
                }
            }
            _ => known.partial = true,
        }
    }

    /// What two conditions have in common, one of which holds.
    fn either(&self, a: (ExprId, bool), b: (ExprId, bool), known: &mut Known) {
        let (a, b) = (self.known(&Conditions::from([a])), self.known(&Conditions::from([b])));
        let common = a.constraints.iter().filter(|constraint| b.constraints.contains(constraint));
        known.constraints.extend(common.cloned());
        known.partial = true;
    }

    /// What a comparison says of `form`, its right side less its left.
    fn compared(&self, op: BinaryOp, holds: bool, form: Affine) -> Option<Vec<Constraint>> {
        let minus = |form: &Affine| form.scale(&Dim::from(-1));
        let less_one = |form: &Affine| form.add(&Affine::constant(Dim::from(-1)));
        let form = match (op, holds) {
            (BinaryOp::Eq, true) | (BinaryOp::Ne, false) => return Some(vec![Constraint::Zero(form)]),
            (BinaryOp::Le, true) | (BinaryOp::Gt, false) => form,
            (BinaryOp::Lt, true) | (BinaryOp::Ge, false) => less_one(&form)?,
            (BinaryOp::Ge, true) | (BinaryOp::Lt, false) => minus(&form)?,
            (BinaryOp::Gt, true) | (BinaryOp::Le, false) => less_one(&minus(&form)?)?,
            _ => return None,
        };
        let absolute = form.terms.iter().find_map(|(leaf, coefficient)| match leaf {
            Leaf::Opaque(id) if coefficient.is(-1) => match self.index.exprs.get(*id) {
                Expr::Unary(UnaryOp::Abs, inner) => Some((*leaf, *inner)),
                _ => None,
            },
            _ => None,
        });
        let Some((leaf, inner)) = absolute else { return Some(vec![Constraint::NotNegative(form)]) };
        let (mut rest, inner) = (form, affine(&self.index.exprs, inner)?);
        rest.terms.remove(&leaf);
        let both = [rest.add(&inner)?, rest.add(&minus(&inner)?)?];
        Some(both.into_iter().map(Constraint::NotNegative).collect())
    }
}

fn truth(value: bool) -> Expr {
    Expr::Const(Literal::Bool(value))
}
