//! Functions of one real, as hash-consed expressions: what pointwise ops do to a single variable.
//!
//! Truth values are 1 and 0. Values are those of [`crate::ops::value`] in f64.

use crate::ops::scalar::{BinaryOp, UnaryOp};
use crate::ops::value::{Scalar, apply_binary, apply_unary};
use indexmap::IndexSet;

/// A function of an arena; its parts have smaller numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fun(u32);

impl Fun {
    /// The variable itself.
    pub const IDENTITY: Fun = Fun(0);

    /// Its place in the arena.
    pub fn number(self) -> u64 {
        u64::from(self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Node {
    Variable,
    /// The bits of an f64.
    Constant(u64),
    Unary(UnaryOp, Fun),
    Binary(BinaryOp, Fun, Fun),
    Select(Fun, Fun, Fun),
}

/// An arena of functions.
#[derive(Debug)]
pub(super) struct Funs {
    nodes: IndexSet<Node>,
}

impl Funs {
    /// The identity alone.
    pub fn new() -> Self {
        Funs { nodes: IndexSet::from([Node::Variable]) }
    }

    fn add(&mut self, node: Node) -> Fun {
        Fun(self.nodes.insert_full(node).0 as u32)
    }

    /// A constant.
    pub fn constant(&mut self, value: f64) -> Fun {
        self.add(Node::Constant(value.to_bits()))
    }

    /// The constant that it is, if it is one.
    fn as_constant(&self, f: Fun) -> Option<f64> {
        match self.nodes[f.0 as usize] {
            Node::Constant(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    /// Factor and function, where it is the product of both.
    pub fn as_multiple(&self, f: Fun) -> Option<(f64, Fun)> {
        match self.nodes[f.0 as usize] {
            Node::Binary(BinaryOp::Mul, a, b) => {
                self.as_constant(a).map(|c| (c, b)).or(self.as_constant(b).map(|c| (c, a)))
            }
            Node::Binary(BinaryOp::Div, a, b) => self.as_constant(b).map(|c| (1.0 / c, a)),
            Node::Unary(UnaryOp::Neg, a) => Some((-1.0, a)),
            _ => None,
        }
    }

    /// A function of a function.
    pub fn unary(&mut self, op: UnaryOp, a: Fun) -> Fun {
        match self.as_constant(a) {
            Some(x) => self.constant(unary(op, x)),
            None => self.add(Node::Unary(op, a)),
        }
    }

    /// A function of two functions of the same variable.
    pub fn binary(&mut self, op: BinaryOp, a: Fun, b: Fun) -> Fun {
        match (op, self.as_constant(a), self.as_constant(b)) {
            (_, Some(x), Some(y)) => self.constant(binary(op, x, y)),
            (BinaryOp::Mul, Some(1.0), _) => b,
            (BinaryOp::Mul | BinaryOp::Div, _, Some(1.0)) => a,
            (BinaryOp::Add, Some(0.0), _) => b,
            (BinaryOp::Add | BinaryOp::Sub, _, Some(0.0)) => a,
            _ => self.add(Node::Binary(op, a, b)),
        }
    }

    /// A choice by a truth value.
    pub fn select(&mut self, condition: Fun, a: Fun, b: Fun) -> Fun {
        match self.as_constant(condition) {
            Some(0.0) => b,
            Some(_) => a,
            None => self.add(Node::Select(condition, a, b)),
        }
    }

    /// `outer` of `inner`.
    pub fn compose(&mut self, outer: Fun, inner: Fun) -> Fun {
        if inner == Fun::IDENTITY {
            return outer;
        }
        let mut moved: Vec<Fun> = Vec::with_capacity(outer.0 as usize + 1);
        for k in 0..=outer.0 as usize {
            let at = |f: &Fun| moved[f.0 as usize];
            // What `outer` does not use is composed too: arenas are small, and nothing is lost.
            let next = match self.nodes[k].clone() {
                Node::Variable => inner,
                Node::Constant(_) => Fun(k as u32),
                Node::Unary(op, a) => {
                    let a = at(&a);
                    self.unary(op, a)
                }
                Node::Binary(op, a, b) => {
                    let (a, b) = (at(&a), at(&b));
                    self.binary(op, a, b)
                }
                Node::Select(c, a, b) => {
                    let (c, a, b) = (at(&c), at(&a), at(&b));
                    self.select(c, a, b)
                }
            };
            moved.push(next);
        }
        moved[outer.0 as usize]
    }

    /// The values at each of some points.
    pub fn tabulate(&self, f: Fun, points: &[f64]) -> Vec<f64> {
        let needed = self.reachable(f);
        let mut tables: Vec<Vec<f64>> = Vec::with_capacity(f.0 as usize + 1);
        for (node, needed) in self.nodes.iter().zip(needed) {
            let of = |f: &Fun| &tables[f.0 as usize];
            tables.push(match node {
                _ if !needed => Vec::new(),
                Node::Variable => points.to_vec(),
                Node::Constant(bits) => vec![f64::from_bits(*bits); points.len()],
                Node::Unary(op, a) => of(a).iter().map(|x| unary(*op, *x)).collect(),
                Node::Binary(op, a, b) => of(a).iter().zip(of(b)).map(|(x, y)| binary(*op, *x, *y)).collect(),
                Node::Select(c, a, b) => {
                    let branches = of(a).iter().zip(of(b));
                    of(c).iter().zip(branches).map(|(c, (x, y))| if *c == 0.0 { *y } else { *x }).collect()
                }
            });
        }
        tables.pop().unwrap_or_default()
    }

    /// The value at one point.
    pub fn at(&self, f: Fun, point: f64) -> f64 {
        self.tabulate(f, &[point]).first().copied().unwrap_or(f64::NAN)
    }

    fn reachable(&self, f: Fun) -> Vec<bool> {
        let mut needed = vec![false; f.0 as usize + 1];
        needed[f.0 as usize] = true;
        for k in (0..needed.len()).rev().filter(|k| self.nodes.get_index(*k).is_some()) {
            if !needed[k] {
                continue;
            }
            let parts: [Option<Fun>; 3] = match &self.nodes[k] {
                Node::Variable | Node::Constant(_) => [None; 3],
                Node::Unary(_, a) => [Some(*a), None, None],
                Node::Binary(_, a, b) => [Some(*a), Some(*b), None],
                Node::Select(c, a, b) => [Some(*c), Some(*a), Some(*b)],
            };
            for part in parts.into_iter().flatten() {
                needed[part.0 as usize] = true;
            }
        }
        needed
    }
}

/// A unary operation on a real or a truth value.
pub(super) fn unary(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Not => f64::from(u8::from(x == 0.0)),
        _ => apply_unary(op, Scalar::F64(x)).map_or(f64::NAN, real),
    }
}

/// A binary operation on reals or truth values. Integers that occur in reals divide rounding down.
pub(super) fn binary(op: BinaryOp, x: f64, y: f64) -> f64 {
    match op {
        BinaryOp::And => f64::from(u8::from(x != 0.0 && y != 0.0)),
        BinaryOp::Or => f64::from(u8::from(x != 0.0 || y != 0.0)),
        BinaryOp::FloorDiv => (x / y).floor(),
        BinaryOp::Mod => x - y * (x / y).floor(),
        _ => apply_binary(op, Scalar::F64(x), Scalar::F64(y)).map_or(f64::NAN, real),
    }
}

/// A scalar as a real; truth values are 1 and 0.
pub(super) fn real(value: Scalar) -> f64 {
    match value {
        Scalar::F32(x) => f64::from(x),
        Scalar::F64(x) => x,
        Scalar::I32(x) => f64::from(x),
        Scalar::I64(x) => x as f64,
        Scalar::Bool(x) => f64::from(u8::from(x)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_compose_and_fold() {
        let mut funs = Funs::new();
        let two = funs.constant(2.0);
        let double = funs.binary(BinaryOp::Mul, Fun::IDENTITY, two);
        let square = funs.binary(BinaryOp::Pow, Fun::IDENTITY, two);
        let both = funs.compose(square, double);
        assert_eq!(funs.at(both, 3.0), 36.0);
        assert_eq!(funs.compose(square, Fun::IDENTITY), square);
        let one = funs.constant(1.0);
        assert_eq!(funs.binary(BinaryOp::Mul, square, one), square);
        let zero = funs.constant(0.0);
        let positive = funs.binary(BinaryOp::Gt, Fun::IDENTITY, zero);
        let leaky = funs.select(positive, Fun::IDENTITY, double);
        assert_eq!(funs.tabulate(leaky, &[-1.0, 4.0]), [-2.0, 4.0]);
    }
}
