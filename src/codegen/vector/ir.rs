//! Kernels before registers are assigned.
//!
//! A kernel is a list of instructions over virtual registers of three classes: 64-bit integers,
//! vectors of f32 or i32, and masks (which on AVX2 are vectors, too). Most registers have one
//! definition; those that a loop carries are defined again inside it. Loops are bracketed by
//! [`Op::LoopStart`] and [`Op::LoopEnd`], and every definition precedes its uses in the list.
//! Vector operands may be constants, which lie behind the code; only the *last* vector operand of
//! an instruction may be one.

/// A virtual register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Reg(pub u32);

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Class {
    /// A 64-bit integer or address.
    Int,
    /// Lanes of f32 or i32.
    Vector,
    /// A truth value per lane, where these have registers of their own.
    Mask,
}

/// An operand that is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Operand {
    Reg(Reg),
    /// These bits in every lane.
    Splat(u32),
    /// The number of the lane times this.
    Steps(i32),
    /// An integer.
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Operand::Reg(reg)
    }
}

/// `base + index * scale + disp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mem {
    pub base: Reg,
    pub index: Option<(Reg, u8)>,
    /// # Units
    /// Bytes.
    pub disp: i32,
}

impl Mem {
    pub fn at(base: Reg, disp: i32) -> Self {
        Mem { base, index: None, disp }
    }
}

/// A place in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(pub u32);

/// A condition on two integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Less,
    GreaterEqual,
    LessEqual,
}

/// Operations on two vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    /// `a < b ? a : b`, as the processor has it.
    Min,
    /// `a > b ? a : b`.
    Max,
    And,
    Or,
    Xor,
    AddInt,
    SubInt,
    /// Lanes of half the width, those of `a` before those of `b` in each 128 bits.
    PackWords,
    PackBytes,
    /// Interleavings of the lower or upper halves of each 128 bits, by 32 or 64 bits.
    UnpackLow32,
    UnpackHigh32,
    UnpackLow64,
    UnpackHigh64,
}

/// Operations on one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unary {
    Sqrt,
    Nearest,
    Floor,
    Ceil,
    Trunc,
}

/// Shifts of each lane by a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    Left,
    /// Zeros come in.
    Right,
}

/// Exchanges of lanes over a distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swap {
    /// Lanes that are 8 apart.
    By8,
    /// 4 apart.
    By4,
    /// 2 apart.
    By2,
    /// Neighbours.
    By1,
}

/// Comparisons of floats; false for NaN but [`Compare::NotEqual`] and [`Compare::Unordered`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    Equal,
    Less,
    LessEqual,
    NotEqual,
    Unordered,
}

/// Operations on masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
    Xor,
}

/// What an instruction does; `a`, `b`, `c` are its arguments in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// The address of the kernel's arguments; the first instruction.
    Argument,
    /// The address of the kernel's own memory, plus a displacement.
    Scratch(i32),
    /// `a`, an integer.
    MoveInt,
    LoadInt,
    /// A byte, widened with zeros.
    LoadByte,
    AddInt,
    SubInt,
    MulInt,
    MinInt,
    MaxInt,
    /// `a`, a vector.
    Move,
    Binary(Binary),
    /// `a * b + c`
    Fma,
    Unary(Unary),
    Shift(Shift, u8),
    Swap(Swap),
    /// A mask of `a` and `b`.
    Compare(Compare),
    /// `a == b`
    EqualInt,
    /// `a > b`
    GreaterInt,
    Logic(Logic),
    /// `!a`
    NotMask,
    /// `b` where the mask `a` holds, `c` elsewhere.
    Select,
    /// An integer's low half in all lanes.
    Splat,
    /// A vector, under the mask zero elsewhere.
    Load,
    /// One element in all lanes.
    Broadcast,
    /// Bytes, each in a lane; under the mask zero elsewhere. Masks need AVX-512.
    LoadBytes,
    /// 128 bits, and zeros.
    LoadQuarter,
    /// `a` with 128 bits from memory in the place of its quarter.
    Insert(u8),
    /// Stores `a`, a vector, where the mask holds.
    Store,
    /// Stores the first lane of `a`.
    StoreFirst,
    /// Stores the low byte of each lane of `a`. Needs AVX-512.
    StoreBytes,
    /// Asks for a line in the second cache; any address will do, even one where there is no memory.
    Prefetch,
    /// A register into its slot, and back.
    Spill(u32),
    Reload(u32),
    Label(Label),
    Jump(Label),
    /// To the label if `a` and `b` fulfil the condition.
    Branch(Condition, Label),
    LoopStart,
    LoopEnd,
}

/// An instruction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inst {
    pub op: Op,
    pub dst: Option<Reg>,
    pub args: [Option<Operand>; 3],
    pub mem: Option<Mem>,
    /// Lanes to load or store.
    pub mask: Option<Reg>,
}

impl Inst {
    pub fn new(op: Op, dst: Option<Reg>, args: &[Operand]) -> Self {
        let mut all = [None; 3];
        for (slot, arg) in all.iter_mut().zip(args) {
            *slot = Some(*arg);
        }
        Inst { op, dst, args: all, mem: None, mask: None }
    }

    /// The registers that it reads.
    pub fn uses(&self) -> impl Iterator<Item = Reg> {
        let args = self.args.into_iter().flatten().filter_map(|arg| match arg {
            Operand::Reg(reg) => Some(reg),
            _ => None,
        });
        let mem = self.mem.into_iter().flat_map(|mem| [Some(mem.base), mem.index.map(|(reg, _)| reg)]);
        args.chain(mem.flatten()).chain(self.mask)
    }

    /// Replaces a register that it reads.
    pub fn replace_use(&mut self, from: Reg, to: Reg) {
        let of = |reg: &mut Reg| {
            if *reg == from {
                *reg = to;
            }
        };
        for arg in self.args.iter_mut().flatten() {
            if let Operand::Reg(reg) = arg {
                of(reg);
            }
        }
        if let Some(mem) = &mut self.mem {
            of(&mut mem.base);
            if let Some((index, _)) = &mut mem.index {
                of(index);
            }
        }
        self.mask.iter_mut().for_each(of);
    }
}

/// A kernel before registers are assigned.
#[derive(Clone, Debug, Default)]
pub(super) struct Code {
    pub insts: Vec<Inst>,
    /// The class of each register.
    pub classes: Vec<Class>,
    pub labels: u32,
    /// # Units
    /// Bytes of memory of its own, besides spilled registers.
    pub scratch_bytes: i32,
}

impl Code {
    /// A register that is not defined yet.
    pub fn reg(&mut self, class: Class) -> Reg {
        self.classes.push(class);
        Reg(self.classes.len() as u32 - 1)
    }
}
