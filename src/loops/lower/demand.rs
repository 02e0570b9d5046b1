//! Demand: under which conditions an expression is evaluated, where evaluation is lazy.
//!
//! Loop expressions are eager, so laziness survives as a condition: a read outside is an error
//! only if the read is demanded. The branches of a selection are demanded under its condition;
//! what several users demand is demanded under any of theirs.

use super::bounds::Fact;
use crate::graph::expr::{Expr, ExprId, Exprs};

/// A demand of a [`Demands`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DemandId(u32);

impl DemandId {
    pub(super) fn number(self) -> u32 {
        self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    Always,
    /// The demand, and this condition.
    And(DemandId, Fact),
    Or(DemandId, DemandId),
}

/// At most this many ways to reach a read are searched for facts.
const MAX_PATHS: usize = 16;

/// The demand of each expression that some roots reach.
pub(super) struct Demands {
    nodes: Vec<Demand>,
    of: Vec<Option<DemandId>>,
}

impl Demands {
    pub(super) const ALWAYS: DemandId = DemandId(0);

    /// Demands of what `roots` reach, the roots themselves being always demanded.
    pub(super) fn new(exprs: &Exprs, roots: &[ExprId]) -> Demands {
        let mut demands = Demands { nodes: vec![Demand::Always], of: vec![None; exprs.len()] };
        for root in roots {
            demands.of[root.0 as usize] = Some(Self::ALWAYS);
        }
        for (id, expr, _) in exprs.iter().rev() {
            let Some(mine) = demands.of[id.0 as usize] else { continue };
            if let Expr::Select(c, a, b) = expr {
                demands.require(*c, mine);
                for (branch, holds) in [(*a, true), (*b, false)] {
                    let under = demands.push(Demand::And(mine, (*c, holds)));
                    demands.require(branch, under);
                }
            } else {
                for operand in exprs.operands(id) {
                    demands.require(operand, mine);
                }
            }
        }
        demands
    }

    fn push(&mut self, demand: Demand) -> DemandId {
        self.nodes.push(demand);
        DemandId(self.nodes.len() as u32 - 1)
    }

    fn require(&mut self, id: ExprId, more: DemandId) {
        let slot = id.0 as usize;
        self.of[slot] = Some(match self.of[slot] {
            None => more,
            Some(known) => self.either(known, more),
        });
    }

    /// One demand or the other, where both branches of one selection make the selection's own.
    fn either(&mut self, a: DemandId, b: DemandId) -> DemandId {
        if a == b || a == Self::ALWAYS || self.implies(b, a) {
            return a;
        }
        if self.implies(a, b) {
            return b;
        }
        if let (Demand::And(x, (c, true)), Demand::And(y, (d, false))) = (self.get(a), self.get(b))
            && (x, c) == (y, d)
        {
            return x;
        }
        self.push(Demand::Or(a, b))
    }

    /// Whether `a` is `b` with further conditions.
    fn implies(&self, mut a: DemandId, b: DemandId) -> bool {
        loop {
            if a == b || b == Self::ALWAYS {
                return true;
            }
            match self.get(a) {
                Demand::And(inner, _) => a = inner,
                _ => return false,
            }
        }
    }

    pub(super) fn get(&self, id: DemandId) -> Demand {
        self.nodes[id.0 as usize]
    }

    /// The demand of an expression that the roots reach.
    pub(super) fn of(&self, id: ExprId) -> DemandId {
        self.of[id.0 as usize].unwrap_or(Self::ALWAYS)
    }

    /// All conjunctions of facts under which a demand holds; `None` if there are too many.
    pub(super) fn paths(&self, id: DemandId) -> Option<Vec<Vec<Fact>>> {
        let mut done = Vec::new();
        let mut pending = vec![(id, Vec::new())];
        while let Some((id, mut facts)) = pending.pop() {
            match self.get(id) {
                Demand::Always => done.push(facts),
                Demand::And(inner, fact) => {
                    facts.push(fact);
                    pending.push((inner, facts));
                }
                Demand::Or(a, b) => {
                    pending.push((a, facts.clone()));
                    pending.push((b, facts));
                }
            }
            if done.len() + pending.len() > MAX_PATHS {
                return None;
            }
        }
        Some(done)
    }

    /// All conditions that a demand mentions.
    pub(super) fn conditions(&self, id: DemandId) -> Vec<ExprId> {
        let (mut pending, mut found) = (vec![id], Vec::new());
        let mut seen = vec![false; self.nodes.len()];
        while let Some(id) = pending.pop() {
            if std::mem::replace(&mut seen[id.0 as usize], true) {
                continue;
            }
            match self.get(id) {
                Demand::Always => {}
                Demand::And(inner, (condition, _)) => {
                    found.push(condition);
                    pending.push(inner);
                }
                Demand::Or(a, b) => pending.extend([a, b]),
            }
        }
        found
    }
}
