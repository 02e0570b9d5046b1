//! A body as instructions: its operations for the lanes at one position.

use super::super::math::{self, MathFn};
use super::body::{Access, Body, Node, NodeId};
use super::build::Builder;
use super::ir::{Binary, Class, Compare, Inst, Logic, Mem, Op, Operand, Reg};
use crate::ops::scalar::{BinaryOp, UnaryOp};
use std::collections::BTreeMap;

/// Bounds beyond this hold, or fail, for all lanes alike.
const MAX_BOUND: i32 = 1 << 24;

/// A value of a body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Float(Operand),
    Truth(Reg),
    /// Of an operation that has none.
    Nothing,
}

/// Where the lanes are: `index` elements and `vector` vectors behind the pointers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Position {
    pub index: Option<Reg>,
    pub vector: i32,
    /// The lanes that exist.
    pub mask: Option<Reg>,
}

/// A body with its arguments at hand.
pub(super) struct Lowering<'b> {
    pub body: &'b Body,
    /// The address of the kernel's arguments, and the slot of the body's first.
    arguments: (Reg, i32),
    /// Pointers and bounds, by their argument; they move from row to row.
    moving: BTreeMap<u32, Reg>,
    /// Scalars that are kept in registers.
    uniforms: BTreeMap<u32, Reg>,
    /// The constants of the range of bounds.
    range: Option<(Reg, Reg)>,
}

impl<'b> Lowering<'b> {
    /// Loads pointers and bounds; scalars, too, where they are to stay in registers.
    pub fn new(b: &mut Builder, body: &'b Body, arguments: (Reg, i32), keep: bool) -> Self {
        let mut lowering =
            Lowering { body, arguments, moving: BTreeMap::new(), uniforms: BTreeMap::new(), range: None };
        for node in &body.nodes {
            match node {
                Node::Load(access) | Node::Store(access, _)
                    if !lowering.moving.contains_key(&access.argument) =>
                {
                    let pointer = b.load_int(lowering.slot(access.argument));
                    lowering.moving.insert(access.argument, pointer);
                }
                Node::Bound { argument, .. } => {
                    let bound = b.load_int(lowering.slot(*argument));
                    lowering.moving.insert(*argument, bound);
                    if lowering.range.is_none() {
                        let low = b.move_int(Operand::Imm(-MAX_BOUND));
                        lowering.range = Some((low, b.move_int(Operand::Imm(MAX_BOUND))));
                    }
                }
                Node::Uniform { argument, truth: false } if keep => {
                    let value = b.broadcast(lowering.slot(*argument));
                    lowering.uniforms.insert(*argument, value);
                }
                _ => {}
            }
        }
        lowering
    }

    fn slot(&self, argument: u32) -> Mem {
        let (base, first) = self.arguments;
        Mem::at(base, 8 * (first + argument as i32))
    }

    /// Moves on to the next row.
    pub fn next_row(&self, b: &mut Builder) {
        let mut moved = std::collections::BTreeSet::new();
        for node in &self.body.nodes {
            let argument = match node {
                Node::Load(access) | Node::Store(access, _) if access.by_row => access.argument,
                Node::Bound { argument, by_row: true, .. } => *argument,
                _ => continue,
            };
            if let Some(reg) = self.moving.get(&argument).filter(|_| moved.insert(argument)) {
                let stride = b.load_int(self.slot(argument + 1));
                b.update_int(Op::AddInt, *reg, stride);
            }
        }
    }

    /// Emits all operations at a position; gives their values.
    ///
    /// `folded` is told of the terms of reductions.
    pub fn emit(
        &self,
        b: &mut Builder,
        at: Position,
        accumulator: Option<Operand>,
        folded: &mut dyn FnMut(&mut Builder, u32, BinaryOp, Operand),
    ) -> Vec<Value> {
        let mut values: Vec<Value> = Vec::with_capacity(self.body.nodes.len());
        for node in &self.body.nodes {
            let value = self.node(b, node, at, accumulator, &values, folded);
            values.push(value);
        }
        values
    }

    fn node(
        &self,
        b: &mut Builder,
        node: &Node,
        at: Position,
        accumulator: Option<Operand>,
        values: &[Value],
        folded: &mut dyn FnMut(&mut Builder, u32, BinaryOp, Operand),
    ) -> Value {
        let float = |b: &mut Builder, id: &NodeId| as_float(b, values[*id as usize]);
        let truth = |b: &mut Builder, id: &NodeId| as_truth(b, values[*id as usize]);
        match node {
            Node::Const(bits) => Value::Float(Operand::Splat(*bits)),
            Node::Truth(value) => {
                let lanes = b.register(Operand::Splat(u32::from(*value)));
                Value::Truth(b.equal_int(lanes.into(), Operand::Splat(1)))
            }
            Node::Uniform { argument, truth } => self.uniform(b, *argument, *truth),
            Node::Accumulator => Value::Float(accumulator.unwrap_or(Operand::Splat(0))),
            Node::Load(access) => self.load(b, access, at),
            Node::Unary(op, a) => {
                let a = float(b, a);
                Value::Float(unary(b, *op, a))
            }
            Node::Binary(op, x, y) => {
                let (x, y) = (float(b, x), float(b, y));
                binary(b, *op, x, y)
            }
            Node::Logic(op, x, y) => {
                let (x, y) = (truth(b, x), truth(b, y));
                Value::Truth(match op {
                    BinaryOp::And => b.logic(Logic::And, x, y),
                    BinaryOp::Or => b.logic(Logic::Or, x, y),
                    BinaryOp::Ne => b.logic(Logic::Xor, x, y),
                    _ => {
                        let differ = b.logic(Logic::Xor, x, y);
                        b.not(differ)
                    }
                })
            }
            Node::Not(a) => {
                let a = truth(b, a);
                Value::Truth(b.not(a))
            }
            Node::Select(c, x, y) => self.choose(b, c, x, y, values),
            Node::ToFloat(a) => {
                let a = truth(b, a);
                Value::Float(b.select(a, Builder::real(1.0), Builder::real(0.0)))
            }
            Node::ToTruth(a) => {
                let a = float(b, a);
                Value::Truth(b.compare(Compare::NotEqual, a, Builder::real(0.0)))
            }
            Node::Bound { op, step, argument, .. } => self.bound(b, *op, *step, *argument, at),
            Node::Store(access, value) => {
                self.store(b, access, values[*value as usize], at);
                Value::Nothing
            }
            Node::Reduce(k, op, value) => {
                let value = float(b, value);
                folded(b, *k, *op, value);
                Value::Nothing
            }
        }
    }

    fn choose(&self, b: &mut Builder, c: &NodeId, x: &NodeId, y: &NodeId, values: &[Value]) -> Value {
        let c = as_truth(b, values[*c as usize]);
        let (x, y) = (values[*x as usize], values[*y as usize]);
        if let (Value::Truth(x), Value::Truth(y)) = (x, y) {
            // y ^ (c & (x ^ y))
            let differ = b.logic(Logic::Xor, x, y);
            let taken = b.logic(Logic::And, c, differ);
            return Value::Truth(b.logic(Logic::Xor, y, taken));
        }
        let (x, y) = (as_float(b, x), as_float(b, y));
        Value::Float(b.select(c, x, y))
    }

    fn uniform(&self, b: &mut Builder, argument: u32, truth: bool) -> Value {
        if let Some(kept) = self.uniforms.get(&argument) {
            return Value::Float((*kept).into());
        }
        let lanes = b.broadcast(self.slot(argument));
        if !truth {
            return Value::Float(lanes.into());
        }
        let none = b.equal_int(lanes.into(), Operand::Splat(0));
        Value::Truth(b.not(none))
    }

    fn place(&self, access: &Access, at: Position, lanes: usize) -> Mem {
        let size = if access.truth { 1 } else { 4 };
        let base = self.moving[&access.argument];
        let behind = access.behind * size;
        if !access.along {
            return Mem::at(base, behind);
        }
        let index = at.index.map(|index| (index, size as u8));
        Mem { base, index, disp: behind + at.vector * lanes as i32 * size }
    }

    fn load(&self, b: &mut Builder, access: &Access, at: Position) -> Value {
        let place = self.place(access, at, b.isa.lanes());
        match (access.along, access.truth) {
            (true, false) => Value::Float(b.load(place, at.mask).into()),
            (false, false) => Value::Float(b.broadcast(place).into()),
            (true, true) => {
                let bytes = b.code.reg(Class::Vector);
                let load = Inst::new(Op::LoadBytes, Some(bytes), &[]);
                b.push(Inst { mem: Some(place), mask: at.mask, ..load });
                let none = b.equal_int(bytes.into(), Operand::Splat(0));
                Value::Truth(b.not(none))
            }
            (false, true) => {
                let byte = b.code.reg(Class::Int);
                b.push(Inst { mem: Some(place), ..Inst::new(Op::LoadByte, Some(byte), &[]) });
                let lanes = b.splat(byte);
                let none = b.equal_int(lanes.into(), Operand::Splat(0));
                Value::Truth(b.not(none))
            }
        }
    }

    fn store(&self, b: &mut Builder, access: &Access, value: Value, at: Position) {
        let place = self.place(access, at, b.isa.lanes());
        if !access.truth {
            let value = as_float(b, value);
            b.store(place, value, at.mask);
            return;
        }
        let truth = as_truth(b, value);
        let lanes = b.select(truth, Operand::Splat(1), Operand::Splat(0));
        b.store_bytes(place, lanes, at.mask);
    }

    /// `lane * step op bound`, the bound counted from the position.
    fn bound(&self, b: &mut Builder, op: BinaryOp, step: i32, argument: u32, at: Position) -> Value {
        let mut bound = self.moving[&argument];
        if step != 0 {
            if let Some(index) = at.index {
                let passed = b.int(Op::MulInt, index, Operand::Imm(step));
                bound = b.int(Op::SubInt, bound, passed);
            }
            let passed = at.vector * b.isa.lanes() as i32 * step;
            if passed != 0 {
                bound = b.int(Op::AddInt, bound, Operand::Imm(-passed));
            }
        }
        if let Some((low, high)) = self.range {
            bound = b.int(Op::MaxInt, bound, low);
            bound = b.int(Op::MinInt, bound, high);
        }
        let bound: Operand = b.splat(bound).into();
        let steps = Operand::Steps(step);
        // `steps` can stand last only, so conditions are turned round it.
        Value::Truth(match op {
            BinaryOp::Eq => b.equal_int(bound, steps),
            BinaryOp::Ne => {
                let equal = b.equal_int(bound, steps);
                b.not(equal)
            }
            BinaryOp::Lt => b.greater_int(bound, steps),
            BinaryOp::Ge => {
                let less = b.greater_int(bound, steps);
                b.not(less)
            }
            BinaryOp::Gt => b.greater_int(steps, bound),
            _ => {
                let greater = b.greater_int(steps, bound);
                b.not(greater)
            }
        })
    }
}

/// As f32.
pub(super) fn as_float(b: &mut Builder, value: Value) -> Operand {
    match value {
        Value::Float(value) => value,
        Value::Truth(mask) => b.select(mask, Builder::real(1.0), Builder::real(0.0)),
        Value::Nothing => Operand::Splat(0),
    }
}

fn as_truth(b: &mut Builder, value: Value) -> Reg {
    match value {
        Value::Truth(mask) => mask,
        other => {
            let value = as_float(b, other);
            b.compare(Compare::NotEqual, value, Builder::real(0.0))
        }
    }
}

fn unary(b: &mut Builder, op: UnaryOp, a: Operand) -> Operand {
    match MathFn::of(op) {
        Some(func) => math::straight_line(b, func, a),
        // A truth value's operation, which bodies hold as another.
        None => a,
    }
}

fn binary(b: &mut Builder, op: BinaryOp, x: Operand, y: Operand) -> Value {
    let less = |b: &mut Builder, how, x, y| Value::Truth(b.compare(how, x, y));
    match op {
        BinaryOp::Eq => less(b, Compare::Equal, x, y),
        BinaryOp::Ne => less(b, Compare::NotEqual, x, y),
        BinaryOp::Lt => less(b, Compare::Less, x, y),
        BinaryOp::Le => less(b, Compare::LessEqual, x, y),
        BinaryOp::Gt => less(b, Compare::Less, y, x),
        BinaryOp::Ge => less(b, Compare::LessEqual, y, x),
        BinaryOp::Sub => Value::Float(b.binary(Binary::Sub, x, y)),
        BinaryOp::Div => Value::Float(b.binary(Binary::Div, x, y)),
        BinaryOp::Pow => Value::Float(math::power(b, x, y)),
        _ => Value::Float(b.reduce(op, x, y)),
    }
}
