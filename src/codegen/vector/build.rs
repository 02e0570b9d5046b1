//! Writing kernels: one method per operation.
//!
//! Values are [`Operand`]s: constants stay constants until an instruction wants a register. What
//! the methods compute has the bits that Cranelift's instructions give, so a kernel and the code
//! that it replaces agree.

use super::ir::{
    Binary, Class, Code, Compare, Condition, Inst, Label, Logic, Mem, Op, Operand, Reg, Swap, Unary,
};
use super::isa::Isa;
use crate::ops::scalar::BinaryOp;
use std::collections::BTreeMap;

/// A kernel under construction.
pub(super) struct Builder {
    pub isa: Isa,
    pub code: Code,
    /// The operands of each `a < b` so far: choosing between these is a minimum or maximum.
    less: BTreeMap<Reg, (Operand, Operand)>,
}

/// The sign bit of a float.
const SIGN: u32 = 1 << 31;

impl Builder {
    pub fn new(isa: Isa) -> Self {
        Builder { isa, code: Code::default(), less: BTreeMap::new() }
    }

    pub fn push(&mut self, inst: Inst) {
        self.code.insts.push(inst);
    }

    fn emit(&mut self, op: Op, class: Class, args: &[Operand]) -> Reg {
        let dst = self.code.reg(class);
        self.push(Inst::new(op, Some(dst), args));
        dst
    }

    /// The class of masks.
    fn mask_class(&self) -> Class {
        match self.isa {
            Isa::Avx2 => Class::Vector,
            Isa::Avx512 => Class::Mask,
        }
    }

    // Integers.

    /// The address of the kernel's arguments.
    pub fn argument(&mut self) -> Reg {
        self.emit(Op::Argument, Class::Int, &[])
    }

    /// The address of `bytes` more bytes of the kernel's own memory, aligned to a cache line.
    pub fn scratch(&mut self, bytes: i32) -> Reg {
        let disp = (self.code.scratch_bytes + 63) & !63;
        self.code.scratch_bytes = disp + bytes;
        self.emit(Op::Scratch(disp), Class::Int, &[])
    }

    pub fn load_int(&mut self, mem: Mem) -> Reg {
        let dst = self.code.reg(Class::Int);
        self.push(Inst { mem: Some(mem), ..Inst::new(Op::LoadInt, Some(dst), &[]) });
        dst
    }

    pub fn int(&mut self, op: Op, a: Reg, b: impl Into<Operand>) -> Reg {
        self.emit(op, Class::Int, &[a.into(), b.into()])
    }

    pub fn move_int(&mut self, a: impl Into<Operand>) -> Reg {
        self.emit(Op::MoveInt, Class::Int, &[a.into()])
    }

    /// `reg = reg op b`
    pub fn update_int(&mut self, op: Op, reg: Reg, b: impl Into<Operand>) {
        self.push(Inst::new(op, Some(reg), &[reg.into(), b.into()]));
    }

    // Control.

    pub fn label(&mut self) -> Label {
        self.code.labels += 1;
        Label(self.code.labels - 1)
    }

    pub fn place(&mut self, label: Label) {
        self.push(Inst::new(Op::Label(label), None, &[]));
    }

    pub fn branch(&mut self, a: Reg, condition: Condition, b: impl Into<Operand>, to: Label) {
        self.push(Inst::new(Op::Branch(condition, to), None, &[a.into(), b.into()]));
    }

    pub fn jump(&mut self, to: Label) {
        self.push(Inst::new(Op::Jump(to), None, &[]));
    }

    /// Runs `body`, takes `step` off `count`, and does so again while at least `step` are left;
    /// before the first turn, too, there must be so many.
    pub fn repeat(&mut self, count: Reg, step: i32, body: impl FnOnce(&mut Self)) {
        let (head, exit) = (self.label(), self.label());
        self.branch(count, Condition::Less, Operand::Imm(step), exit);
        self.push(Inst::new(Op::LoopStart, None, &[]));
        self.place(head);
        body(self);
        self.update_int(Op::SubInt, count, Operand::Imm(step));
        self.branch(count, Condition::GreaterEqual, Operand::Imm(step), head);
        self.push(Inst::new(Op::LoopEnd, None, &[]));
        self.place(exit);
    }

    // Memory.

    pub fn load(&mut self, mem: Mem, mask: Option<Reg>) -> Reg {
        let dst = self.code.reg(Class::Vector);
        self.push(Inst { mem: Some(mem), mask, ..Inst::new(Op::Load, Some(dst), &[]) });
        dst
    }

    /// Loads into a register that was defined before.
    pub fn load_into(&mut self, dst: Reg, mem: Mem, mask: Option<Reg>) {
        self.push(Inst { mem: Some(mem), mask, ..Inst::new(Op::Load, Some(dst), &[]) });
    }

    /// 128 bits from each of some places, side by side.
    pub fn load_quarters(&mut self, places: &[Mem]) -> Reg {
        let mut all = self.code.reg(Class::Vector);
        for (k, place) in places.iter().enumerate() {
            let inst = if k == 0 {
                Inst::new(Op::LoadQuarter, Some(all), &[])
            } else {
                let more = self.code.reg(Class::Vector);
                let inst = Inst::new(Op::Insert(k as u8), Some(more), &[all.into()]);
                all = more;
                inst
            };
            self.push(Inst { mem: Some(*place), ..inst });
        }
        all
    }

    pub fn broadcast(&mut self, mem: Mem) -> Reg {
        let dst = self.code.reg(Class::Vector);
        self.push(Inst { mem: Some(mem), ..Inst::new(Op::Broadcast, Some(dst), &[]) });
        dst
    }

    pub fn store(&mut self, mem: Mem, value: Operand, mask: Option<Reg>) {
        let value = self.register(value);
        self.push(Inst { mem: Some(mem), mask, ..Inst::new(Op::Store, None, &[value.into()]) });
    }

    pub fn store_first(&mut self, mem: Mem, value: Operand) {
        let value = self.register(value);
        self.push(Inst { mem: Some(mem), ..Inst::new(Op::StoreFirst, None, &[value.into()]) });
    }

    /// Stores the low byte of each lane, which holds a number below 128. Masks need AVX-512.
    pub fn store_bytes(&mut self, mem: Mem, value: Operand, mask: Option<Reg>) {
        if self.isa == Isa::Avx512 {
            let value = self.register(value);
            self.push(Inst { mem: Some(mem), mask, ..Inst::new(Op::StoreBytes, None, &[value.into()]) });
            return;
        }
        // Packed, each half holds its four lanes again and again.
        let words = self.binary(Binary::PackWords, value, value);
        let bytes = self.binary(Binary::PackBytes, words, words);
        self.store_first(mem, bytes);
        let upper = self.swap(Swap::By4, bytes);
        self.store_first(Mem { disp: mem.disp + 4, ..mem }, upper);
    }

    /// Asks for the line of an address, which need not be one of memory, in the second cache.
    pub fn prefetch(&mut self, mem: Mem) {
        self.push(Inst { mem: Some(mem), ..Inst::new(Op::Prefetch, None, &[]) });
    }

    // Vectors.

    /// The value in a register.
    pub fn register(&mut self, value: Operand) -> Reg {
        match value {
            Operand::Reg(reg) => reg,
            constant => self.emit(Op::Move, Class::Vector, &[constant]),
        }
    }

    /// A register that a loop may define again, with its first value.
    pub fn carried(&mut self, value: Operand) -> Reg {
        self.emit(Op::Move, Class::Vector, &[value])
    }

    /// Gives a register that a loop carries another value.
    pub fn assign(&mut self, reg: Reg, value: Operand) {
        // The value's last instruction may write there itself.
        if let (Operand::Reg(value), Some(last)) = (value, self.code.insts.last_mut())
            && last.dst == Some(value)
            && value != reg
        {
            last.dst = Some(reg);
            return;
        }
        self.push(Inst::new(Op::Move, Some(reg), &[value]));
    }

    pub fn real(value: f32) -> Operand {
        Operand::Splat(value.to_bits())
    }

    /// An integer's low half in all lanes.
    pub fn splat(&mut self, value: Reg) -> Reg {
        self.emit(Op::Splat, Class::Vector, &[value.into()])
    }

    pub fn binary(&mut self, op: Binary, a: Operand, b: Operand) -> Operand {
        let commutes =
            matches!(op, Binary::Add | Binary::Mul | Binary::And | Binary::Or | Binary::Xor | Binary::AddInt);
        let (a, b) = match (a, b) {
            (Operand::Reg(_), _) => (a, b),
            (_, Operand::Reg(_)) if commutes => (b, a),
            _ => (self.register(a).into(), b),
        };
        self.emit(Op::Binary(op), Class::Vector, &[a, b]).into()
    }

    /// `a * b + c`
    pub fn fma(&mut self, a: Operand, b: Operand, c: Operand) -> Operand {
        let (a, b) = if matches!(a, Operand::Reg(_)) { (a, b) } else { (b, a) };
        let a = self.register(a).into();
        // One constant is an operand in memory; a second one needs a register.
        let b = if matches!(c, Operand::Reg(_)) { b } else { self.register(b).into() };
        self.emit(Op::Fma, Class::Vector, &[a, b, c]).into()
    }

    /// `sum += a * b`
    pub fn accumulate(&mut self, sum: Reg, a: Reg, b: Reg) {
        self.push(Inst::new(Op::Fma, Some(sum), &[a.into(), b.into(), sum.into()]));
    }

    pub fn unary(&mut self, op: Unary, a: Operand) -> Operand {
        let a = self.register(a);
        self.emit(Op::Unary(op), Class::Vector, &[a.into()]).into()
    }

    pub fn shift(&mut self, op: Op, a: Operand) -> Operand {
        let a = self.register(a);
        self.emit(op, Class::Vector, &[a.into()]).into()
    }

    pub fn swap(&mut self, swap: Swap, a: Operand) -> Operand {
        let a = self.register(a);
        self.emit(Op::Swap(swap), Class::Vector, &[a.into()]).into()
    }

    pub fn negate(&mut self, a: Operand) -> Operand {
        self.binary(Binary::Xor, a, Operand::Splat(SIGN))
    }

    pub fn absolute(&mut self, a: Operand) -> Operand {
        self.binary(Binary::And, a, Operand::Splat(!SIGN))
    }

    /// The smaller; NaN if either is NaN; -0 is below +0.
    pub fn minimum(&mut self, a: Operand, b: Operand) -> Operand {
        // Where the operands differ in nothing but sign, or one is NaN, the processor gives the
        // second; the bits of both orders together are those of -0, or of NaN.
        let (x, y) = (self.register(a), self.register(b));
        let one = self.binary(Binary::Min, x.into(), y.into());
        let other = self.binary(Binary::Min, y.into(), x.into());
        self.binary(Binary::Or, one, other)
    }

    /// The greater; NaN if either is NaN; -0 is below +0.
    pub fn maximum(&mut self, a: Operand, b: Operand) -> Operand {
        let (a, b) = if matches!(a, Operand::Reg(_)) { (a, b) } else { (b, a) };
        if let Operand::Splat(bits) = b
            && !f32::from_bits(bits).is_nan()
            && bits != SIGN
        {
            // The second operand is given where it is NaN, and where both are zeros.
            let (constant, a) = (self.register(b), self.register(a));
            let greater = self.binary(Binary::Max, constant.into(), a.into());
            return if bits == 0 { self.binary(Binary::Add, greater, b) } else { greater };
        }
        let (x, y) = (self.register(a), self.register(b));
        let one = self.binary(Binary::Max, x.into(), y.into());
        let other = self.binary(Binary::Max, y.into(), x.into());
        let greater = self.binary(Binary::And, one, other);
        let unordered = self.compare(Compare::Unordered, x.into(), y.into());
        let nan = self.binary(Binary::Add, x.into(), y.into());
        self.select(unordered, nan, greater)
    }

    // Masks.

    pub fn compare(&mut self, how: Compare, a: Operand, b: Operand) -> Reg {
        let first = self.register(a);
        let class = self.mask_class();
        let mask = self.emit(Op::Compare(how), class, &[first.into(), b]);
        if how == Compare::Less {
            self.less.insert(mask, (a, b));
        }
        mask
    }

    pub fn equal_int(&mut self, a: Operand, b: Operand) -> Reg {
        let (a, b) = if matches!(a, Operand::Reg(_)) { (a, b) } else { (b, a) };
        let (a, class) = (self.register(a), self.mask_class());
        self.emit(Op::EqualInt, class, &[a.into(), b])
    }

    pub fn greater_int(&mut self, a: Operand, b: Operand) -> Reg {
        let (a, class) = (self.register(a), self.mask_class());
        self.emit(Op::GreaterInt, class, &[a.into(), b])
    }

    pub fn logic(&mut self, op: Logic, a: Reg, b: Reg) -> Reg {
        let class = self.mask_class();
        self.emit(Op::Logic(op), class, &[a.into(), b.into()])
    }

    pub fn not(&mut self, a: Reg) -> Reg {
        let class = self.mask_class();
        self.emit(Op::NotMask, class, &[a.into()])
    }

    /// `yes` where the mask holds, `no` elsewhere.
    pub fn select(&mut self, mask: Reg, yes: Operand, no: Operand) -> Operand {
        // What the processor's minimum and maximum are, NaN and zeros included.
        match self.less.get(&mask) {
            Some((a, b)) if (*a, *b) == (yes, no) => return self.binary(Binary::Min, yes, no),
            Some((a, b)) if (*b, *a) == (yes, no) => return self.binary(Binary::Max, yes, no),
            _ => {}
        }
        let no = self.register(no);
        self.emit(Op::Select, Class::Vector, &[mask.into(), yes, no.into()]).into()
    }

    /// The lanes below a number.
    pub fn first_lanes(&mut self, count: Reg) -> Reg {
        let count = self.splat(count);
        self.greater_int(count.into(), Operand::Steps(1))
    }

    /// All lanes together, in all lanes: each with the one that is half the lanes away, and so on.
    pub fn combine(&mut self, op: BinaryOp, mut value: Operand) -> Operand {
        let swaps: &[Swap] = match self.isa {
            Isa::Avx2 => &[Swap::By4, Swap::By2, Swap::By1],
            Isa::Avx512 => &[Swap::By8, Swap::By4, Swap::By2, Swap::By1],
        };
        for swap in swaps {
            let other = self.swap(*swap, value);
            value = self.reduce(op, value, other);
        }
        value
    }

    /// One of the four operations that reduce.
    pub fn reduce(&mut self, op: BinaryOp, a: Operand, b: Operand) -> Operand {
        match op {
            BinaryOp::Add => self.binary(Binary::Add, a, b),
            BinaryOp::Mul => self.binary(Binary::Mul, a, b),
            BinaryOp::Min => self.minimum(a, b),
            _ => self.maximum(a, b),
        }
    }
}
