//! The printed form of a plan: when each buffer is live, where it lies, and the peak.

use super::{Evaluated, Occupant, Plan};
use crate::loops::ir::LoopProgram;
use std::fmt::Write;

/// Prints a plan; with `evaluated`, the peak beside the lower bound in bytes.
pub fn print(program: &LoopProgram, plan: &Plan, evaluated: Option<&Evaluated>) -> String {
    let mut out = String::new();
    for (func, frame) in program.functions.iter().zip(&plan.functions) {
        let _ = writeln!(out, "frame {}: {} bytes", func.name, frame.size_bytes);
        let mut tenants: Vec<_> = frame.tenants.iter().collect();
        tenants.sort_by(|a, b| (a.live, &a.offset_bytes).cmp(&(b.live, &b.offset_bytes)));
        for tenant in tenants {
            let name = match tenant.what {
                Occupant::Buffer(id) => func.buffers[id.0 as usize].name.clone(),
                Occupant::Frame(callee) => format!("frame of {}", program.functions[callee].name),
            };
            let (from, to) = tenant.live;
            let _ =
                writeln!(out, "  @{} +{}  {name}  live {from}..{to}", tenant.offset_bytes, tenant.size_bytes);
        }
    }
    match evaluated {
        Some(e) => {
            let _ = writeln!(out, "peak {} bytes, lower bound {}", e.entry_bytes, e.lower_bound_bytes);
        }
        None => {
            let _ = writeln!(out, "peak {} bytes", plan.entry_bytes);
        }
    }
    out
}
