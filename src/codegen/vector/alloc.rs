//! Registers for a kernel: linear scan over live intervals.
//!
//! An interval runs from a register's first definition to its last use, and to the end of every
//! loop that uses it but does not define it first. Where registers do not suffice, the value that
//! is used least is given a slot in memory, with a load before each use and a store behind each
//! definition, and the scan starts anew.

use super::ir::{Class, Code, Inst, Op, Operand, Reg};
use super::isa::Isa;
use std::collections::BTreeSet;

/// Registers for addresses and counters, by their numbers; those that a caller wants back last.
/// `rsp` and `rbp` hold the frame.
const INTEGERS: [u8; 14] = [0, 1, 2, 6, 7, 8, 9, 10, 11, 3, 12, 13, 14, 15];
/// The number of `rdi`, which holds the first argument.
const FIRST_ARGUMENT: u8 = 7;

/// A kernel of more values than this is not assembled.
const MAX_SPILLS: u32 = 40;

/// Which register holds what.
#[derive(Debug)]
pub(super) struct Allocation {
    /// The number of the machine register of each virtual one.
    pub registers: Vec<u8>,
    /// Slots for spilled values, each as large as a vector.
    pub slots: u32,
}

#[derive(Clone, Copy, Debug)]
struct Interval {
    reg: Reg,
    start: u32,
    end: u32,
}

/// Assigns registers; `None` where a kernel needs too many.
pub(super) fn allocate(code: &mut Code, isa: Isa) -> Option<Allocation> {
    let mut slots = 0;
    // Registers made by spilling live for one instruction; to spill them again would not help.
    let mut pinned = BTreeSet::new();
    loop {
        let intervals = intervals(code);
        match scan(code, isa, &intervals) {
            Ok(registers) => return Some(Allocation { registers, slots }),
            Err(crowd) => {
                let victim = victim(code, &intervals, &crowd, &pinned)?;
                if slots == MAX_SPILLS {
                    return None;
                }
                spill(code, victim, slots, &mut pinned);
                slots += 1;
            }
        }
    }
}

/// Live intervals by start; uses of instruction `i` are at `2 i`, its definition is at `2 i + 1`.
fn intervals(code: &Code) -> Vec<Interval> {
    let count = code.classes.len();
    let (mut start, mut end) = (vec![u32::MAX; count], vec![0u32; count]);
    let mut open: Vec<(u32, Vec<Reg>)> = Vec::new();
    for (i, inst) in code.insts.iter().enumerate() {
        let at = 2 * i as u32;
        match inst.op {
            Op::LoopStart => open.push((at, Vec::new())),
            Op::LoopEnd => {
                if let Some((from, used)) = open.pop() {
                    for reg in &used {
                        if start[reg.0 as usize] < from {
                            end[reg.0 as usize] = at;
                        }
                    }
                    if let Some((_, outer)) = open.last_mut() {
                        outer.extend(used);
                    }
                }
            }
            _ => {}
        }
        for reg in inst.uses() {
            end[reg.0 as usize] = end[reg.0 as usize].max(at);
            if let Some((_, used)) = open.last_mut() {
                used.push(reg);
            }
        }
        if let Some(dst) = inst.dst {
            let dst = dst.0 as usize;
            start[dst] = start[dst].min(at + 1);
            end[dst] = end[dst].max(at + 1);
        }
    }
    let regs = (0..count as u32).map(Reg).filter(|reg| start[reg.0 as usize] != u32::MAX);
    let mut all: Vec<Interval> =
        regs.map(|reg| Interval { reg, start: start[reg.0 as usize], end: end[reg.0 as usize] }).collect();
    all.sort_by_key(|interval| (interval.start, interval.reg));
    all
}

/// Machine registers of a class, in the order in which they are tried.
fn pool(class: Class, isa: Isa) -> Vec<u8> {
    match class {
        Class::Int => INTEGERS.to_vec(),
        Class::Vector => (0..isa.registers() as u8).collect(),
        // The first mask register stands for no mask.
        Class::Mask => (1..8).collect(),
    }
}

/// The registers of all values, or the values that want more of them at one place than there are.
fn scan(code: &Code, isa: Isa, intervals: &[Interval]) -> Result<Vec<u8>, Vec<Interval>> {
    let mut registers = vec![0u8; code.classes.len()];
    let classes = [Class::Int, Class::Vector, Class::Mask];
    let mut free = classes.map(|class| pool(class, isa));
    let mut active: [Vec<Interval>; 3] = Default::default();
    for interval in intervals {
        let class = code.classes[interval.reg.0 as usize];
        let k = class as usize;
        let order = pool(class, isa);
        let ended: Vec<Interval> = active[k].extract_if(.., |other| other.end < interval.start).collect();
        free[k].extend(ended.iter().map(|other| registers[other.reg.0 as usize]));
        free[k].sort_by_key(|register| order.iter().position(|other| other == register));
        let Some(register) = wish(code, interval, &registers, &free[k]).or(free[k].first().copied()) else {
            active[k].push(*interval);
            return Err(std::mem::take(&mut active[k]));
        };
        free[k].retain(|other| *other != register);
        registers[interval.reg.0 as usize] = register;
        active[k].push(*interval);
    }
    Ok(registers)
}

/// A free register that saves a move: the addend's, or the one in which a value arrives.
fn wish(code: &Code, interval: &Interval, registers: &[u8], free: &[u8]) -> Option<u8> {
    let inst: &Inst = &code.insts[interval.start as usize / 2];
    if inst.op == Op::Argument {
        return Some(FIRST_ARGUMENT).filter(|register| free.contains(register));
    }
    let order: &[usize] = match inst.op {
        Op::Fma => &[2, 0, 1],
        Op::AddInt | Op::SubInt | Op::MulInt | Op::MoveInt | Op::Move => &[0],
        _ => return None,
    };
    let of = |k: &usize| match inst.args[*k] {
        Some(Operand::Reg(reg)) => Some(registers[reg.0 as usize]),
        _ => None,
    };
    order.iter().filter_map(of).find(|register| free.contains(register))
}

/// The value that costs least to keep in memory, for the room that it makes.
fn victim(code: &Code, intervals: &[Interval], crowd: &[Interval], pinned: &BTreeSet<Reg>) -> Option<Reg> {
    let mut cost = vec![0u64; code.classes.len()];
    let mut weight = 1u64;
    for inst in &code.insts {
        match inst.op {
            Op::LoopStart => weight = weight.saturating_mul(16),
            Op::LoopEnd => weight /= 16,
            _ => {}
        }
        for reg in inst.uses().chain(inst.dst) {
            cost[reg.0 as usize] = cost[reg.0 as usize].saturating_add(weight);
        }
    }
    debug_assert!(crowd.len() <= intervals.len());
    let candidates = crowd.iter().filter(|interval| !pinned.contains(&interval.reg));
    // Cost for the length that becomes free, compared without division.
    let best = candidates.min_by(|a, b| {
        let of = |x: &Interval, y: &Interval| {
            cost[x.reg.0 as usize].saturating_mul(u64::from(y.end - y.start + 1))
        };
        of(a, b).cmp(&of(b, a)).then(a.reg.cmp(&b.reg))
    });
    best.map(|interval| interval.reg)
}

/// Keeps a value in memory.
fn spill(code: &mut Code, victim: Reg, slot: u32, pinned: &mut BTreeSet<Reg>) {
    let class = code.classes[victim.0 as usize];
    let insts = std::mem::take(&mut code.insts);
    for mut inst in insts {
        let uses = inst.uses().any(|reg| reg == victim);
        let defines = inst.dst == Some(victim);
        if !uses && !defines {
            code.insts.push(inst);
            continue;
        }
        let short = code.reg(class);
        pinned.insert(short);
        if uses {
            code.insts.push(Inst::new(Op::Reload(slot), Some(short), &[]));
            inst.replace_use(victim, short);
        }
        if defines {
            inst.dst = Some(short);
        }
        code.insts.push(inst);
        if defines {
            code.insts.push(Inst::new(Op::Spill(slot), None, &[Operand::Reg(short)]));
        }
    }
}
