//! Where a value may be other than zero, and what that saves: a factor is of no account where the other
//! one is zero.

use super::conditions::{Conditions, Constraint, Known};
use super::domain::Domain;
use super::reads::Reader;
use crate::graph::expr::{Expr, ExprId, Literal};
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};

impl Reader<'_> {
    /// For every expression that is used, where it is multiplied by something other than zero, as
    /// far as all of its users agree.
    pub(super) fn factors(&self, supports: &[&Domain]) -> Vec<Option<Vec<Constraint>>> {
        let exprs = &self.index.exprs;
        let mut own: Vec<Vec<Constraint>> = Vec::with_capacity(exprs.len());
        for (id, expr, _) in exprs.iter() {
            own.push(self.support(id, expr, &own, supports));
        }
        let mut found: Vec<Option<Vec<Constraint>>> = vec![None; exprs.len()];
        self.index.roots().into_iter().for_each(|root| agree(&mut found, root, Vec::new()));
        for (id, expr, _) in exprs.iter().rev() {
            let Some(above) = found[id.0 as usize].clone() else { continue };
            let with = |other: ExprId| above.iter().chain(&own[other.0 as usize]).cloned().collect();
            match expr {
                Expr::Binary(BinaryOp::Mul, a, b) => {
                    agree(&mut found, *a, with(*b));
                    agree(&mut found, *b, with(*a));
                }
                Expr::Binary(BinaryOp::Div, a, b) => {
                    agree(&mut found, *a, above.clone());
                    agree(&mut found, *b, with(*a));
                }
                _ => exprs
                    .operands(id)
                    .into_iter()
                    .for_each(|operand| agree(&mut found, operand, above.clone())),
            }
        }
        found
    }

    /// Outside of what the value of an expression is zero.
    fn support(
        &self,
        id: ExprId,
        expr: &Expr,
        own: &[Vec<Constraint>],
        supports: &[&Domain],
    ) -> Vec<Constraint> {
        let of = |id: &ExprId| own[id.0 as usize].iter().cloned();
        match expr {
            Expr::Read(read) if read.otherwise.is_none() => {
                let bounds = supports.get(read.port as usize).into_iter().flat_map(|domain| &domain.bounds);
                bounds.filter_map(|bound| self.substituted(bound, &read.index)).collect()
            }
            Expr::Unary(UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Tanh | UnaryOp::Sqrt, a) | Expr::Cast(a) => {
                of(a).collect()
            }
            Expr::Binary(BinaryOp::Mul, a, b) => of(a).chain(of(b)).collect(),
            Expr::Binary(BinaryOp::Div, a, _) => of(a).collect(),
            Expr::Select(c, a, b) if self.is_zero(*b) => {
                self.known(&Conditions::from([(*c, true)])).constraints.into_iter().chain(of(a)).collect()
            }
            Expr::Select(c, a, b) if self.is_zero(*a) => {
                self.known(&Conditions::from([(*c, false)])).constraints.into_iter().chain(of(b)).collect()
            }
            _ => {
                debug_assert!(own.len() == id.0 as usize, "invariant: operands precede users");
                Vec::new()
            }
        }
    }

    fn is_zero(&self, id: ExprId) -> bool {
        match self.index.exprs.get(id) {
            Expr::Const(Literal::Real(bits)) => f64::from_bits(*bits) == 0.0,
            Expr::Const(Literal::Int(value)) => *value == 0,
            Expr::Cast(a) => self.is_zero(*a),
            _ => false,
        }
    }

    /// Where the result may be other than zero.
    pub fn result_support(&self, supports: &[&Domain]) -> Domain {
        let exprs = &self.index.exprs;
        let mut own: Vec<Vec<Constraint>> = Vec::with_capacity(exprs.len());
        for (id, expr, _) in exprs.iter() {
            own.push(self.support(id, expr, &own, supports));
        }
        let mut constraints = match &self.index.reduce {
            Some(reduce) if reduce.reducer != Reducer::Sum || reduce.otherwise.is_some() => Vec::new(),
            _ => own[self.index.body.0 as usize].clone(),
        };
        constraints.extend(
            self.index.guard.iter().flat_map(|g| self.known(&Conditions::from([(*g, true)])).constraints),
        );
        self.over_axes(&Known { constraints, partial: false })
    }
}

/// Notes that an expression is used where these hold: what its users have in common is sure.
fn agree(found: &mut [Option<Vec<Constraint>>], id: ExprId, constraints: Vec<Constraint>) {
    let slot = &mut found[id.0 as usize];
    *slot = Some(match slot.take() {
        Some(before) => before.into_iter().filter(|constraint| constraints.contains(constraint)).collect(),
        None => constraints,
    });
}
