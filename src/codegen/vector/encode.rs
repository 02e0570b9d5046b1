//! Machine code of a kernel whose registers are assigned.
//!
//! Every instruction of the IR becomes one or two machine instructions. The code is encoded twice:
//! the first time for its length, the second with the addresses of labels and constants, which lie
//! behind the code. It refers to itself only, relative to `rip`, so it runs anywhere.

use super::alloc::{Allocation, allocate};
use super::ir::{Class, Code, Condition, Inst, Mem, Op, Operand, Reg};
use super::isa::Isa;
use super::opcodes::{self, Pair};
use iced_x86::{Code as Opcode, Encoder, IcedError, Instruction, MemoryOperand, Register};
use std::collections::BTreeMap;

/// Frames stay below a page: they are not probed.
const MAX_FRAME_BYTES: i32 = 3584;
/// What constants and code are aligned to.
pub(super) const ALIGN_BYTES: u64 = 64;

/// Why a kernel was not assembled.
#[derive(Debug, thiserror::Error)]
pub(super) enum AssembleError {
    /// It needs more registers or memory than a kernel may have; there are other ways to do its work.
    #[error("the kernel is too large")]
    TooLarge,
    /// A fault of our own.
    #[error("an instruction cannot be encoded: {0}")]
    Encode(#[from] IcedError),
    /// A fault of our own.
    #[error("an instruction has other operands: {0:?}")]
    Operands(Op),
}

/// Assembles a kernel: a System V function of one pointer.
pub(super) fn assemble(mut code: Code, isa: Isa) -> Result<Vec<u8>, AssembleError> {
    let allocation = allocate(&mut code, isa).ok_or(AssembleError::TooLarge)?;
    let slots = allocation.slots as i32 * isa.bytes();
    let frame = (slots + code.scratch_bytes + 63) & !63;
    if frame > MAX_FRAME_BYTES {
        return Err(AssembleError::TooLarge);
    }
    let mut assembler = Assembler {
        isa,
        allocation: &allocation,
        classes: &code.classes,
        slots,
        encoder: Encoder::new(64),
        at: 0,
        labels: vec![0; code.labels as usize],
        constants: BTreeMap::new(),
    };
    assembler.pass(&code, frame)?;
    assembler.pass(&code, frame)
}

/// What lies behind the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Constant {
    /// A whole vector: the same bits in each lane, or the number of the lane times a step.
    Vector(u32),
    Steps(i32),
    /// One lane, spread by the instruction that reads it.
    Lane(u32),
}

struct Assembler<'a> {
    isa: Isa,
    allocation: &'a Allocation,
    classes: &'a [Class],
    /// # Units
    /// Bytes of spilled registers, which come first in the frame.
    slots: i32,
    encoder: Encoder,
    /// # Units
    /// Bytes encoded so far.
    at: u64,
    /// Addresses, right in the second pass.
    labels: Vec<u64>,
    constants: BTreeMap<Constant, u64>,
}

/// The 64-bit register of a number.
fn int_register(number: u8) -> Register {
    Register::RAX + u32::from(number)
}

/// Registers that a function gives back as it found them, apart from the frame's.
const CALLEE_SAVED: [u8; 5] = [3, 12, 13, 14, 15];

impl Assembler<'_> {
    fn pass(&mut self, code: &Code, frame: i32) -> Result<Vec<u8>, AssembleError> {
        let used = |number: &u8| {
            let mut regs = self.allocation.registers.iter().zip(&code.classes);
            regs.any(|(register, class)| *class == Class::Int && register == number)
        };
        let saved: Vec<Register> = CALLEE_SAVED.into_iter().filter(used).map(int_register).collect();
        for register in &saved {
            self.put(Instruction::with1(Opcode::Push_r64, *register)?)?;
        }
        let (rsp, rbp) = (Register::RSP, Register::RBP);
        if frame > 0 {
            self.put(Instruction::with1(Opcode::Push_r64, rbp)?)?;
            self.put(Instruction::with2(Opcode::Mov_r64_rm64, rbp, rsp)?)?;
            self.put(Instruction::with2(Opcode::Sub_rm64_imm32, rsp, frame)?)?;
            self.put(Instruction::with2(Opcode::And_rm64_imm8, rsp, -64)?)?;
        }
        for inst in &code.insts {
            self.inst(inst)?;
        }
        if frame > 0 {
            self.put(Instruction::with2(Opcode::Mov_r64_rm64, rsp, rbp)?)?;
            self.put(Instruction::with1(Opcode::Pop_r64, rbp)?)?;
        }
        for register in saved.iter().rev() {
            self.put(Instruction::with1(Opcode::Pop_r64, *register)?)?;
        }
        self.put(Instruction::with(Opcode::VEX_Vzeroupper))?;
        self.put(Instruction::with(Opcode::Retnq))?;
        Ok(self.constants())
    }

    /// Writes the constants behind the code, notes where they lie, and takes all bytes.
    fn constants(&mut self) -> Vec<u8> {
        let mut bytes = self.encoder.take_buffer();
        self.at = 0;
        if self.constants.is_empty() {
            return bytes;
        }
        // Whole vectors come first and stay aligned.
        bytes.resize(bytes.len().next_multiple_of(ALIGN_BYTES as usize), 0xcc);
        let lanes = self.isa.lanes();
        for (constant, address) in &mut self.constants {
            *address = bytes.len() as u64;
            match constant {
                Constant::Vector(bits) => bytes.extend(bits.to_le_bytes().repeat(lanes)),
                Constant::Lane(bits) => bytes.extend(bits.to_le_bytes()),
                Constant::Steps(step) => {
                    bytes.extend((0..lanes as i32).flat_map(|lane| (lane * *step).to_le_bytes()));
                }
            }
        }
        bytes
    }

    fn put(&mut self, instruction: Instruction) -> Result<(), IcedError> {
        self.at += self.encoder.encode(&instruction, self.at)? as u64;
        Ok(())
    }

    fn register(&self, reg: Reg, class: Class) -> Register {
        let number = self.allocation.registers[reg.0 as usize];
        let from = |first: Register| first + u32::from(number);
        match (class, self.isa) {
            (Class::Int, _) => int_register(number),
            (Class::Vector | Class::Mask, Isa::Avx2) => from(Register::YMM0),
            (Class::Vector, Isa::Avx512) => from(Register::ZMM0),
            (Class::Mask, Isa::Avx512) => from(Register::K0),
        }
    }

    fn int(&self, reg: Reg) -> Register {
        self.register(reg, Class::Int)
    }

    /// The first 128 bits of a vector.
    fn low(&self, reg: Reg) -> Register {
        Register::XMM0 + u32::from(self.allocation.registers[reg.0 as usize])
    }

    fn memory(&self, mem: Mem) -> MemoryOperand {
        let index = mem.index.map(|(reg, scale)| (self.int(reg), u32::from(scale)));
        let (index, scale) = index.unwrap_or((Register::None, 1));
        let size = u32::from(mem.disp != 0);
        MemoryOperand::new(self.int(mem.base), index, scale, mem.disp.into(), size, false, Register::None)
    }

    fn frame(&self, disp: i32) -> MemoryOperand {
        MemoryOperand::with_base_displ_size(Register::RSP, disp.into(), u32::from(disp != 0))
    }

    fn constant(&mut self, constant: Constant, spread: bool) -> MemoryOperand {
        let address = *self.constants.entry(constant).or_insert(0);
        MemoryOperand::new(Register::RIP, Register::None, 1, address as i64, 8, spread, Register::None)
    }

    /// The last operand of an instruction, which may be a constant.
    fn last(&mut self, inst: &Inst, operand: Operand) -> Result<Last, AssembleError> {
        Ok(match (operand, self.isa) {
            (Operand::Reg(reg), _) => Last::Register(self.register(reg, Class::Vector)),
            (Operand::Splat(bits), Isa::Avx512) => Last::Memory(self.constant(Constant::Lane(bits), true)),
            (Operand::Splat(bits), Isa::Avx2) => Last::Memory(self.constant(Constant::Vector(bits), false)),
            (Operand::Steps(step), _) => Last::Memory(self.constant(Constant::Steps(step), false)),
            (Operand::Imm(_), _) => return Err(AssembleError::Operands(inst.op)),
        })
    }

    /// Argument `k`, which must be a register.
    fn arg(&self, inst: &Inst, k: usize) -> Result<Reg, AssembleError> {
        match inst.args[k] {
            Some(Operand::Reg(reg)) => Ok(reg),
            _ => Err(AssembleError::Operands(inst.op)),
        }
    }

    fn operand(&self, inst: &Inst, k: usize) -> Result<Operand, AssembleError> {
        inst.args[k].ok_or(AssembleError::Operands(inst.op))
    }

    fn dst(&self, inst: &Inst) -> Result<Reg, AssembleError> {
        inst.dst.ok_or(AssembleError::Operands(inst.op))
    }

    fn mem(&self, inst: &Inst) -> Result<MemoryOperand, AssembleError> {
        Ok(self.memory(inst.mem.ok_or(AssembleError::Operands(inst.op))?))
    }

    fn opcode_of(&self, (narrow, wide): Pair) -> Opcode {
        if self.isa == Isa::Avx2 { narrow } else { wide }
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), AssembleError> {
        match inst.op {
            Op::LoopStart | Op::LoopEnd => Ok(()),
            Op::Label(label) => {
                self.labels[label.0 as usize] = self.at;
                Ok(())
            }
            Op::Jump(label) => {
                let target = self.labels[label.0 as usize];
                Ok(self.put(Instruction::with_branch(Opcode::Jmp_rel32_64, target)?)?)
            }
            Op::Branch(condition, label) => self.branch(inst, condition, label.0),
            Op::Argument
            | Op::Scratch(_)
            | Op::MoveInt
            | Op::LoadInt
            | Op::LoadByte
            | Op::AddInt
            | Op::SubInt
            | Op::MulInt
            | Op::MinInt
            | Op::MaxInt => self.integer(inst),
            Op::Load | Op::LoadQuarter | Op::Broadcast | Op::LoadBytes | Op::Reload(_) => self.load(inst),
            Op::Store | Op::StoreFirst | Op::StoreBytes | Op::Spill(_) => self.store(inst),
            Op::Prefetch => {
                let mem = self.mem(inst)?;
                Ok(self.put(Instruction::with1(Opcode::Prefetcht1_m8, mem)?)?)
            }
            Op::Logic(_) | Op::NotMask | Op::Select => self.masks(inst),
            _ => self.lanes(inst),
        }
    }

    fn branch(&mut self, inst: &Inst, condition: Condition, label: u32) -> Result<(), AssembleError> {
        let a = self.int(self.arg(inst, 0)?);
        match self.operand(inst, 1)? {
            Operand::Reg(b) => self.put(Instruction::with2(Opcode::Cmp_r64_rm64, a, self.int(b))?)?,
            Operand::Imm(0) => self.put(Instruction::with2(Opcode::Test_rm64_r64, a, a)?)?,
            Operand::Imm(value) => self.put(Instruction::with2(Opcode::Cmp_rm64_imm32, a, value)?)?,
            _ => return Err(AssembleError::Operands(inst.op)),
        }
        let target = self.labels[label as usize];
        Ok(self.put(Instruction::with_branch(opcodes::jump(condition), target)?)?)
    }

    fn move_int(&mut self, to: Register, from: Register) -> Result<(), IcedError> {
        if to == from {
            return Ok(());
        }
        self.put(Instruction::with2(Opcode::Mov_r64_rm64, to, from)?)
    }

    fn integer(&mut self, inst: &Inst) -> Result<(), AssembleError> {
        let dst = self.int(self.dst(inst)?);
        match inst.op {
            Op::Argument => return Ok(self.move_int(dst, Register::RDI)?),
            Op::Scratch(disp) => {
                let place = self.frame(self.slots + disp);
                return Ok(self.put(Instruction::with2(Opcode::Lea_r64_m, dst, place)?)?);
            }
            Op::LoadInt => {
                let mem = self.mem(inst)?;
                return Ok(self.put(Instruction::with2(Opcode::Mov_r64_rm64, dst, mem)?)?);
            }
            Op::LoadByte => {
                let mem = self.mem(inst)?;
                return Ok(self.put(Instruction::with2(Opcode::Movzx_r64_rm8, dst, mem)?)?);
            }
            Op::MoveInt => {
                if let Operand::Imm(value) = self.operand(inst, 0)? {
                    return Ok(self.put(Instruction::with2(Opcode::Mov_rm64_imm32, dst, value)?)?);
                }
                let from = self.int(self.arg(inst, 0)?);
                return Ok(self.move_int(dst, from)?);
            }
            _ => {}
        }
        let a = self.int(self.arg(inst, 0)?);
        match self.operand(inst, 1)? {
            Operand::Imm(value) => Ok(self.integer_immediate(inst.op, dst, a, value)?),
            Operand::Reg(b) => Ok(self.integer_registers(inst.op, dst, a, self.int(b))?),
            _ => Err(AssembleError::Operands(inst.op)),
        }
    }

    fn integer_immediate(
        &mut self,
        op: Op,
        dst: Register,
        a: Register,
        value: i32,
    ) -> Result<(), AssembleError> {
        if op == Op::MulInt {
            return Ok(self.put(Instruction::with3(Opcode::Imul_r64_rm64_imm32, dst, a, value)?)?);
        }
        let code = match op {
            Op::AddInt => Opcode::Add_rm64_imm32,
            Op::SubInt => Opcode::Sub_rm64_imm32,
            _ => return Err(AssembleError::Operands(op)),
        };
        self.move_int(dst, a)?;
        Ok(self.put(Instruction::with2(code, dst, value)?)?)
    }

    fn integer_registers(
        &mut self,
        op: Op,
        dst: Register,
        a: Register,
        b: Register,
    ) -> Result<(), AssembleError> {
        let code = match op {
            Op::AddInt => Opcode::Add_r64_rm64,
            Op::SubInt if dst == b && dst != a => {
                self.put(Instruction::with1(Opcode::Neg_rm64, dst)?)?;
                return Ok(self.put(Instruction::with2(Opcode::Add_r64_rm64, dst, a)?)?);
            }
            Op::SubInt => Opcode::Sub_r64_rm64,
            Op::MulInt => Opcode::Imul_r64_rm64,
            Op::MinInt => Opcode::Cmovg_r64_rm64,
            Op::MaxInt => Opcode::Cmovl_r64_rm64,
            _ => return Err(AssembleError::Operands(op)),
        };
        // All but the difference commute.
        let other = if dst == b { a } else { b };
        if dst != b {
            self.move_int(dst, a)?;
        }
        if matches!(op, Op::MinInt | Op::MaxInt) {
            self.put(Instruction::with2(Opcode::Cmp_r64_rm64, dst, other)?)?;
        }
        Ok(self.put(Instruction::with2(code, dst, other)?)?)
    }

    /// With a mask where there is one: lanes outside become zero, or are not stored.
    fn put_masked(
        &mut self,
        inst: &Inst,
        mut instruction: Instruction,
        zero: bool,
    ) -> Result<(), AssembleError> {
        if let Some(mask) = inst.mask {
            instruction.set_op_mask(self.register(mask, Class::Mask));
            instruction.set_zeroing_masking(zero);
        }
        Ok(self.put(instruction)?)
    }

    fn load(&mut self, inst: &Inst) -> Result<(), AssembleError> {
        let dst = self.dst(inst)?;
        let wide = self.register(dst, Class::Vector);
        if let Op::Reload(slot) = inst.op {
            let place = self.frame(slot as i32 * self.isa.bytes());
            return Ok(self.put(match (self.class_of(dst), self.isa) {
                (Class::Int, _) => Instruction::with2(Opcode::Mov_r64_rm64, self.int(dst), place)?,
                (Class::Mask, Isa::Avx512) => {
                    Instruction::with2(Opcode::VEX_Kmovw_kr_km16, self.register(dst, Class::Mask), place)?
                }
                _ => Instruction::with2(self.opcode_of(opcodes::LOAD), wide, place)?,
            })?);
        }
        let mem = self.mem(inst)?;
        if inst.op == Op::LoadQuarter {
            let code = self.opcode_of(opcodes::LOAD_QUARTER);
            return Ok(self.put(Instruction::with2(code, self.low(dst), mem)?)?);
        }
        let pair = match inst.op {
            Op::Load => opcodes::LOAD,
            Op::Broadcast => opcodes::BROADCAST,
            _ => opcodes::LOAD_BYTES,
        };
        if let (Some(mask), Isa::Avx2) = (inst.mask, self.isa) {
            if inst.op != Op::Load {
                return Err(AssembleError::Operands(inst.op));
            }
            let mask = self.register(mask, Class::Mask);
            let load = Instruction::with3(Opcode::VEX_Vmaskmovps_ymm_ymm_m256, wide, mask, mem)?;
            return Ok(self.put(load)?);
        }
        let load = Instruction::with2(self.opcode_of(pair), wide, mem)?;
        self.put_masked(inst, load, true)
    }

    fn store(&mut self, inst: &Inst) -> Result<(), AssembleError> {
        let from = self.arg(inst, 0)?;
        let wide = self.register(from, Class::Vector);
        if let Op::Spill(slot) = inst.op {
            let place = self.frame(slot as i32 * self.isa.bytes());
            return Ok(self.put(match (self.class_of(from), self.isa) {
                (Class::Int, _) => Instruction::with2(Opcode::Mov_rm64_r64, place, self.int(from))?,
                (Class::Mask, Isa::Avx512) => {
                    Instruction::with2(Opcode::VEX_Kmovw_m16_kr, place, self.register(from, Class::Mask))?
                }
                _ => Instruction::with2(self.opcode_of(opcodes::STORE), place, wide)?,
            })?);
        }
        let mem = self.mem(inst)?;
        match (inst.op, inst.mask, self.isa) {
            (Op::Store, Some(mask), Isa::Avx2) => {
                let mask = self.register(mask, Class::Mask);
                Ok(self.put(Instruction::with3(Opcode::VEX_Vmaskmovps_m256_ymm_ymm, mem, mask, wide)?)?)
            }
            (Op::Store, ..) => {
                let store = Instruction::with2(self.opcode_of(opcodes::STORE), mem, wide)?;
                self.put_masked(inst, store, false)
            }
            (Op::StoreFirst, None, _) => {
                let store = self.opcode_of(opcodes::STORE_FIRST);
                Ok(self.put(Instruction::with2(store, mem, self.low(from))?)?)
            }
            (Op::StoreBytes, _, Isa::Avx512) => {
                let store = Instruction::with2(Opcode::EVEX_Vpmovdb_xmmm128_k1z_zmm, mem, wide)?;
                self.put_masked(inst, store, false)
            }
            _ => Err(AssembleError::Operands(inst.op)),
        }
    }

    fn masks(&mut self, inst: &Inst) -> Result<(), AssembleError> {
        let dst = self.dst(inst)?;
        let a = self.register(self.arg(inst, 0)?, Class::Mask);
        match (inst.op, self.isa) {
            (Op::Logic(op), _) => {
                let b = self.register(self.arg(inst, 1)?, Class::Mask);
                let code = self.opcode_of(opcodes::logic(op));
                Ok(self.put(Instruction::with3(code, self.register(dst, Class::Mask), a, b)?)?)
            }
            (Op::NotMask, Isa::Avx512) => {
                let dst = self.register(dst, Class::Mask);
                Ok(self.put(Instruction::with2(Opcode::VEX_Knotw_kr_kr, dst, a)?)?)
            }
            (Op::NotMask, Isa::Avx2) => {
                let ones = self.constant(Constant::Vector(u32::MAX), false);
                let dst = self.register(dst, Class::Mask);
                Ok(self.put(Instruction::with3(Opcode::VEX_Vxorps_ymm_ymm_ymmm256, dst, a, ones)?)?)
            }
            (_, Isa::Avx2) => {
                let dst = self.register(dst, Class::Vector);
                let yes = self.operand(inst, 1)?;
                let no = self.register(self.arg(inst, 2)?, Class::Vector);
                let code = Opcode::VEX_Vblendvps_ymm_ymm_ymmm256_ymm;
                let blend = match self.last(inst, yes)? {
                    Last::Register(yes) => Instruction::with4(code, dst, no, yes, a)?,
                    Last::Memory(yes) => Instruction::with4(code, dst, no, yes, a)?,
                };
                Ok(self.put(blend)?)
            }
            (_, Isa::Avx512) => {
                let dst = self.register(dst, Class::Vector);
                let yes = self.operand(inst, 1)?;
                let no = self.register(self.arg(inst, 2)?, Class::Vector);
                let code = Opcode::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32;
                let mut blend = match self.last(inst, yes)? {
                    Last::Register(yes) => Instruction::with3(code, dst, no, yes)?,
                    Last::Memory(yes) => Instruction::with3(code, dst, no, yes)?,
                };
                blend.set_op_mask(a);
                Ok(self.put(blend)?)
            }
        }
    }

    fn lanes(&mut self, inst: &Inst) -> Result<(), AssembleError> {
        let dst = self.dst(inst)?;
        let to = self.register(dst, Class::Vector);
        match inst.op {
            Op::Move => self.move_vector(inst, to),
            Op::Fma => self.fma(inst, to),
            Op::Splat => {
                let from = self.arg(inst, 0)?;
                let low = self.int_low(from);
                if self.isa == Isa::Avx512 {
                    let code = Opcode::EVEX_Vpbroadcastd_zmm_k1z_r32;
                    return Ok(self.put(Instruction::with2(code, to, low)?)?);
                }
                let first = self.low(dst);
                self.put(Instruction::with2(Opcode::VEX_Vmovd_xmm_rm32, first, low)?)?;
                Ok(self.put(Instruction::with2(Opcode::VEX_Vpbroadcastd_ymm_xmmm32, to, first)?)?)
            }
            Op::Binary(op) => {
                let a = self.register(self.arg(inst, 0)?, Class::Vector);
                let code = self.opcode_of(opcodes::binary(op));
                self.three(inst, code, to, a, 1)
            }
            Op::Unary(op) => {
                let a = self.register(self.arg(inst, 0)?, Class::Vector);
                let (pair, immediate) = opcodes::unary(op);
                let code = self.opcode_of(pair);
                Ok(self.put(match immediate {
                    Some(mode) => Instruction::with3(code, to, a, mode)?,
                    None => Instruction::with2(code, to, a)?,
                })?)
            }
            Op::Shift(shift, by) => {
                let a = self.register(self.arg(inst, 0)?, Class::Vector);
                let code = self.opcode_of(opcodes::shift(shift));
                Ok(self.put(Instruction::with3(code, to, a, u32::from(by))?)?)
            }
            Op::Insert(quarter) => {
                let a = self.register(self.arg(inst, 0)?, Class::Vector);
                let (code, mem) = (self.opcode_of(opcodes::INSERT), self.mem(inst)?);
                Ok(self.put(Instruction::with4(code, to, a, mem, u32::from(quarter))?)?)
            }
            Op::Swap(swap) => {
                let a = self.register(self.arg(inst, 0)?, Class::Vector);
                let (code, two, mode) =
                    opcodes::swap(swap, self.isa).ok_or(AssembleError::Operands(inst.op))?;
                Ok(self.put(if two {
                    Instruction::with4(code, to, a, a, mode)?
                } else {
                    Instruction::with3(code, to, a, mode)?
                })?)
            }
            Op::Compare(_) | Op::EqualInt | Op::GreaterInt => self.compare(inst, dst),
            _ => Err(AssembleError::Operands(inst.op)),
        }
    }

    fn compare(&mut self, inst: &Inst, dst: Reg) -> Result<(), AssembleError> {
        let dst = self.register(dst, Class::Mask);
        let a = self.register(self.arg(inst, 0)?, Class::Vector);
        let (pair, immediate) = opcodes::compare(inst.op).ok_or(AssembleError::Operands(inst.op))?;
        let code = self.opcode_of(pair);
        let b = self.operand(inst, 1)?;
        let b = self.last(inst, b)?;
        Ok(self.put(match (b, immediate) {
            (Last::Register(b), Some(how)) => Instruction::with4(code, dst, a, b, how)?,
            (Last::Memory(b), Some(how)) => Instruction::with4(code, dst, a, b, how)?,
            (Last::Register(b), None) => Instruction::with3(code, dst, a, b)?,
            (Last::Memory(b), None) => Instruction::with3(code, dst, a, b)?,
        })?)
    }

    /// `to = code(a, argument k)`
    fn three(
        &mut self,
        inst: &Inst,
        code: Opcode,
        to: Register,
        a: Register,
        k: usize,
    ) -> Result<(), AssembleError> {
        let last = self.operand(inst, k)?;
        let instruction = match self.last(inst, last)? {
            Last::Register(b) => Instruction::with3(code, to, a, b)?,
            Last::Memory(b) => Instruction::with3(code, to, a, b)?,
        };
        Ok(self.put(instruction)?)
    }

    fn move_vector(&mut self, inst: &Inst, to: Register) -> Result<(), AssembleError> {
        let instruction = match (self.operand(inst, 0)?, self.isa) {
            (Operand::Splat(0), Isa::Avx2) => {
                Instruction::with3(Opcode::VEX_Vxorps_ymm_ymm_ymmm256, to, to, to)?
            }
            (Operand::Splat(0), Isa::Avx512) => {
                Instruction::with3(Opcode::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, to, to, to)?
            }
            (Operand::Splat(bits), Isa::Avx512) => {
                let lane = self.constant(Constant::Lane(bits), false);
                Instruction::with2(opcodes::BROADCAST.1, to, lane)?
            }
            (operand, _) => {
                let code = self.opcode_of(opcodes::MOVE);
                match self.last(inst, operand)? {
                    Last::Register(from) if from == to => return Ok(()),
                    Last::Register(from) => Instruction::with2(code, to, from)?,
                    Last::Memory(from) => Instruction::with2(code, to, from)?,
                }
            }
        };
        Ok(self.put(instruction)?)
    }

    /// `a * b + c` into one of the three registers, or another.
    fn fma(&mut self, inst: &Inst, to: Register) -> Result<(), AssembleError> {
        let a = self.register(self.arg(inst, 0)?, Class::Vector);
        let of = |k: usize| match inst.args[k] {
            Some(Operand::Reg(reg)) => Some(self.register(reg, Class::Vector)),
            _ => None,
        };
        let (b, c) = (of(1), of(2));
        let [by_product, by_sum, by_factor] = opcodes::FMA.map(|pair| self.opcode_of(pair));
        match (b, c) {
            (_, Some(c)) if c == to => self.three(inst, by_sum, to, a, 1),
            (Some(b), _) if a == to => self.three(inst, by_product, to, b, 2),
            (Some(b), _) if b == to => self.three(inst, by_product, to, a, 2),
            (Some(b), None) => {
                self.put(Instruction::with2(self.opcode_of(opcodes::MOVE), to, a)?)?;
                self.three(inst, by_product, to, b, 2)
            }
            (_, Some(c)) if a != to => {
                self.put(Instruction::with2(self.opcode_of(opcodes::MOVE), to, c)?)?;
                self.three(inst, by_sum, to, a, 1)
            }
            (None, Some(c)) => self.three(inst, by_factor, to, c, 1),
            _ => Err(AssembleError::Operands(inst.op)),
        }
    }

    fn class_of(&self, reg: Reg) -> Class {
        self.classes[reg.0 as usize]
    }

    /// The low half of an integer register.
    fn int_low(&self, reg: Reg) -> Register {
        Register::EAX + u32::from(self.allocation.registers[reg.0 as usize])
    }
}

/// The last operand of an instruction.
enum Last {
    Register(Register),
    Memory(MemoryOperand),
}
