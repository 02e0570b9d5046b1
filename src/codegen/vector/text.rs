//! Kernels as assembly.

use super::kernels::Defined;
use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, NasmFormatter};
use std::fmt::Write;

/// The text of a kernel: where it is used, its instructions, and the constants behind them.
pub(crate) fn kernel_text(kernel: &Defined) -> String {
    let mut out = format!("{}:", kernel.name);
    for place in &kernel.places {
        let _ = write!(out, "\n    ; {place}");
    }
    out.push('\n');
    let mut decoder = Decoder::with_ip(64, &kernel.code, 0, DecoderOptions::NONE);
    let mut formatter = NasmFormatter::new();
    formatter.options_mut().set_rip_relative_addresses(true);
    let (mut instruction, mut text) = (Instruction::default(), String::new());
    let mut targets = std::collections::BTreeSet::new();
    let mut code = Vec::new();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        if instruction.near_branch_target() != 0 {
            targets.insert(instruction.near_branch_target());
        }
        code.push(instruction);
        if instruction.mnemonic() == iced_x86::Mnemonic::Ret {
            break;
        }
    }
    for instruction in code {
        text.clear();
        formatter.format(&instruction, &mut text);
        let mark = if targets.contains(&instruction.ip()) { ":" } else { " " };
        let _ = writeln!(out, "{:6x}{mark} {text}", instruction.ip());
    }
    let end = decoder.ip() as usize;
    if kernel.code.len() > end {
        let _ = writeln!(out, "    ; {} bytes with constants", kernel.code.len());
    }
    out
}
