//! The printed form of a plan: the parts of each frame, when what lies in them is live, and the peak.

use super::{ALIGN_BYTES, Evaluated, FramePlan, Occupant, Place, Plan, Tenant};
use crate::loops::ir::{LoopFunc, LoopProgram};
use std::fmt::Write;

/// Prints a plan; with `evaluated`, the peak beside the lower bound in bytes.
pub fn print(program: &LoopProgram, plan: &Plan, evaluated: Option<&Evaluated>) -> String {
    let mut out = String::new();
    for (func, frame) in program.functions.iter().zip(&plan.functions) {
        print_frame(&mut out, program, func, frame);
    }
    let entry = &program.functions[plan.entry].name;
    match (evaluated, plan.entry_bytes.as_const()) {
        (Some(e), _) => {
            let _ = writeln!(out, "peak {} bytes, lower bound {}", e.entry_bytes, e.lower_bound_bytes);
        }
        (None, Some(bytes)) => {
            let _ = writeln!(out, "peak {bytes} bytes");
        }
        (None, None) => {
            let _ = writeln!(out, "peak: the frame of {entry} and {ALIGN_BYTES} bytes");
        }
    }
    out
}

fn print_frame(out: &mut String, program: &LoopProgram, func: &LoopFunc, frame: &FramePlan) {
    let slots = match frame.slots.len() {
        1 => "1 slot".into(),
        n => format!("{n} slots"),
    };
    let _ = writeln!(out, "frame {}: {} bytes and {slots}", func.name, frame.fixed_bytes);
    let mut tenants: Vec<&Tenant> = frame.tenants.iter().collect();
    tenants.sort_by_key(|tenant| tenant.live);
    let mut line = |tenant: &Tenant, before: &str| {
        let what = match tenant.what {
            Occupant::Buffer(id) => {
                format!("{}: {} bytes", func.buffers[id.0 as usize].name, tenant.size_bytes)
            }
            Occupant::Frame(callee) => format!("frame of {}", program.functions[callee].name),
        };
        let (from, to) = tenant.live;
        let _ = writeln!(out, "{before}{what}, live {from}..{to}");
    };
    for tenant in &tenants {
        if let Place::Fixed(offset) = tenant.place {
            line(tenant, &format!("  @{offset} "));
        }
    }
    for slot in 0..frame.slots.len() {
        let members = tenants.iter().filter(|tenant| tenant.place == Place::Slot(slot));
        for (k, tenant) in members.enumerate() {
            line(tenant, &if k == 0 { format!("  slot {slot} ") } else { "      or ".into() });
        }
    }
}
