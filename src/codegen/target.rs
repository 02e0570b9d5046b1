//! The processor that code is generated for: the host, with what it has.
//!
//! Generated code needs a fused multiply-add, whose bits cannot be had otherwise; on x86-64 that
//! means FMA and AVX, and SSE 4.1 for rounding. With these no operation becomes a call of a
//! library function, so generated code imports nothing.

use super::error::CodeError;
use super::vector::Isa;
use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_codegen::settings::{self, Configurable, Flags};

/// What generated code needs at least, as processors name it.
const REQUIRED_X86: [&str; 4] = ["sse4.1", "sse4.2", "avx", "fma"];

/// Which wide kernels code may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kernels {
    /// The widest that the processor has; none where it has neither kind.
    #[default]
    Widest,
    /// None: all code is Cranelift's, and the same on all processors.
    None,
    /// Of this kind.
    Of(Isa),
}

impl Kernels {
    /// The kind of kernels on this processor.
    ///
    /// # Errors
    /// [`CodeError::Cpu`] where it lacks what was asked for.
    pub fn isa(self) -> Result<Option<Isa>, CodeError> {
        match self {
            Kernels::None => Ok(None),
            Kernels::Widest => Ok(Isa::ALL.into_iter().rev().find(|isa| missing(isa.features()).is_empty())),
            Kernels::Of(isa) => {
                let missing = missing(isa.features());
                if missing.is_empty() { Ok(Some(isa)) } else { Err(CodeError::Cpu { missing }) }
            }
        }
    }
}

/// The least work that a thread is asked for.
///
/// What the cost model takes for less than two of these runs in the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grain {
    /// # Units
    /// Nanoseconds of one core.
    pub nanoseconds: u32,
}

impl Grain {
    /// Everything that can be divided is, however small.
    pub const FINEST: Grain = Grain { nanoseconds: 0 };
    /// Nothing is divided: all code runs in the calling thread.
    pub const NEVER: Grain = Grain { nanoseconds: u32::MAX };
}

impl Default for Grain {
    /// Ten times a fork and join.
    fn default() -> Self {
        Grain { nanoseconds: 10_000 }
    }
}

/// How code is generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which wide kernels it may use.
    pub kernels: Kernels,
    /// What is divided between threads.
    pub grain: Grain,
}

impl From<Kernels> for Options {
    fn from(kernels: Kernels) -> Self {
        Options { kernels, grain: Grain::default() }
    }
}

/// How the code will be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// In memory of this process.
    Memory,
    /// In an object file, position-independent.
    Object,
}

/// The host as a target.
///
/// # Errors
/// [`CodeError::Cpu`] where it lacks what all code needs, [`CodeError::Target`] where Cranelift
/// has no back end for it.
pub fn host(placement: Placement) -> Result<OwnedTargetIsa, CodeError> {
    let missing = if cfg!(target_arch = "x86_64") { missing(&REQUIRED_X86) } else { Vec::new() };
    if !missing.is_empty() {
        return Err(CodeError::Cpu { missing });
    }
    let builder = cranelift_native::builder().map_err(|reason| CodeError::Target(reason.to_string()))?;
    let flags = flags(placement).map_err(|error| CodeError::Target(error.to_string()))?;
    builder.finish(flags).map_err(|error| CodeError::Target(error.to_string()))
}

fn flags(placement: Placement) -> Result<Flags, settings::SetError> {
    let mut flags = settings::builder();
    flags.set("opt_level", "speed")?;
    flags.set("enable_alias_analysis", "true")?;
    flags.set("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" })?;
    flags.set("is_pic", if placement == Placement::Object { "true" } else { "false" })?;
    flags.set("use_colocated_libcalls", "false")?;
    flags.set("unwind_info", "false")?;
    // Frames beyond a page are touched in order, without a call.
    flags.set("enable_probestack", "true")?;
    flags.set("probestack_strategy", "inline")?;
    Ok(Flags::new(flags))
}

/// The features that generated code uses if the host has them, by the names that
/// `__builtin_cpu_supports` knows; those of the host only.
pub fn host_features() -> Vec<&'static str> {
    features().into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect()
}

/// Those of some features that the host lacks.
fn missing(wanted: &[&'static str]) -> Vec<&'static str> {
    let known = features();
    let lacks = |name: &&&'static str| !known.iter().any(|(known, has)| known == *name && *has);
    wanted.iter().filter(lacks).copied().collect()
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<(&'static str, bool)> {
    macro_rules! list {
        ($($name:tt),*) => { vec![$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    // What cranelift-native enables and its x86-64 back end uses, and what kernels use.
    list![
        "sse3",
        "ssse3",
        "sse4.1",
        "sse4.2",
        "popcnt",
        "avx",
        "avx2",
        "fma",
        "bmi1",
        "bmi2",
        "lzcnt",
        "avx512f",
        "avx512bw",
        "avx512vl",
        "avx512dq",
        "avx512bitalg",
        "avx512vbmi"
    ]
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> Vec<(&'static str, bool)> {
    Vec::new()
}
