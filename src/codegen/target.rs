//! The processor that code is generated for: the host with what it has, or a level of x86-64.
//!
//! Generated code needs a fused multiply-add, whose bits cannot be had otherwise; on x86-64 that
//! means FMA and AVX, and SSE 4.1 for rounding. With these no operation becomes a call of a
//! library function, so generated code imports nothing. What has them and no more is [`Cpu::Baseline`].

use super::error::CodeError;
use super::vector::Isa;
use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable, Flags};
use std::sync::Arc;

/// What generated code needs at least, as processors name it.
const REQUIRED_X86: [&str; 4] = ["sse4.1", "sse4.2", "avx", "fma"];
/// What each level of processors has beyond the one before.
const BASELINE: [&str; 7] = ["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "fma"];
const LEVEL_3: [&str; 4] = ["avx2", "bmi1", "bmi2", "lzcnt"];
const LEVEL_4: [&str; 4] = ["avx512f", "avx512bw", "avx512vl", "avx512dq"];

/// Which instructions code may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cpu {
    /// All of this processor.
    #[default]
    Native,
    /// The least that code needs, SSE 4.2, AVX and FMA; too narrow for wide kernels.
    Baseline,
    /// The level x86-64-v3: AVX2, FMA, BMI.
    V3,
    /// The level x86-64-v4: AVX-512 (F, BW, DQ, VL) besides.
    V4,
}

impl Cpu {
    /// As options and messages name it.
    pub fn name(self) -> &'static str {
        match self {
            Cpu::Native => "native",
            Cpu::Baseline => "baseline",
            Cpu::V3 => "x86-64-v3",
            Cpu::V4 => "x86-64-v4",
        }
    }

    /// The features that code may use, by the names that `__builtin_cpu_supports` knows.
    pub fn features(self) -> Vec<&'static str> {
        match self {
            Cpu::Native => host_features(),
            Cpu::Baseline => BASELINE.to_vec(),
            Cpu::V3 => [&BASELINE[..], &LEVEL_3].concat(),
            Cpu::V4 => [&BASELINE[..], &LEVEL_3, &LEVEL_4].concat(),
        }
    }

    /// Those that this processor lacks: code may run here where there are none.
    pub fn missing_here(self) -> Vec<&'static str> {
        match self {
            Cpu::Native => Vec::new(),
            level => missing(&level.features()),
        }
    }

    /// The back ends for it.
    ///
    /// # Errors
    /// [`CodeError::Cpu`] where this processor is meant and lacks what all code needs, [`CodeError::Target`]
    /// where Cranelift has no back end for it.
    pub fn compilers(self, placement: Placement) -> Result<Compilers, CodeError> {
        let failed = |reason: String| CodeError::Target(reason);
        let mut builder = match self {
            Cpu::Native => {
                let missing = if cfg!(target_arch = "x86_64") { missing(&REQUIRED_X86) } else { Vec::new() };
                if !missing.is_empty() {
                    return Err(CodeError::Cpu { missing });
                }
                cranelift_native::builder()
            }
            _ if !cfg!(target_arch = "x86_64") => {
                return Err(failed(format!("{} is a level of x86-64 processors", self.name())));
            }
            _ => cranelift_native::builder_with_options(false),
        };
        if let (Ok(builder), false) = (&mut builder, self == Cpu::Native) {
            let settings = self.features().into_iter().filter_map(setting);
            settings
                .into_iter()
                .try_for_each(|name| builder.enable(name))
                .map_err(|e| failed(e.to_string()))?;
        }
        let builder = builder.map_err(|reason| failed(reason.to_string()))?;
        let isa = |optimise| {
            let flags = flags(placement, optimise).map_err(|error| failed(error.to_string()))?;
            builder.finish(flags).map_err(|error| failed(error.to_string()))
        };
        Ok(Compilers { loops: isa(true)?, straight: isa(false)? })
    }
}

/// What Cranelift's setting for a feature is called, where it has one.
fn setting(feature: &str) -> Option<&'static str> {
    Some(match feature {
        "sse3" => "has_sse3",
        "ssse3" => "has_ssse3",
        "sse4.1" => "has_sse41",
        "sse4.2" => "has_sse42",
        "popcnt" => "has_popcnt",
        "avx" => "has_avx",
        "avx2" => "has_avx2",
        "fma" => "has_fma",
        "bmi1" => "has_bmi1",
        "bmi2" => "has_bmi2",
        "lzcnt" => "has_lzcnt",
        "avx512f" => "has_avx512f",
        "avx512dq" => "has_avx512dq",
        "avx512vl" => "has_avx512vl",
        _ => return None,
    })
}

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
        self.on(Cpu::Native)
    }

    /// The kind of kernels on a processor.
    ///
    /// # Errors
    /// [`CodeError::Cpu`] or [`CodeError::Level`] where it lacks what was asked for.
    pub fn on(self, cpu: Cpu) -> Result<Option<Isa>, CodeError> {
        let features = cpu.features();
        let lacks = |isa: Isa| -> Vec<&'static str> {
            isa.features().iter().copied().filter(|feature| !features.contains(feature)).collect()
        };
        match self {
            Kernels::None => Ok(None),
            Kernels::Widest => Ok(Isa::ALL.into_iter().rev().find(|isa| lacks(*isa).is_empty())),
            Kernels::Of(isa) => {
                let missing = lacks(isa);
                match cpu {
                    _ if missing.is_empty() => Ok(Some(isa)),
                    Cpu::Native => Err(CodeError::Cpu { missing }),
                    level => Err(CodeError::Level { level: level.name(), kernels: isa.name(), missing }),
                }
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
    /// Which instructions it may use.
    pub cpu: Cpu,
    /// Which wide kernels it may use.
    pub kernels: Kernels,
    /// What is divided between threads.
    pub grain: Grain,
}

impl From<Kernels> for Options {
    fn from(kernels: Kernels) -> Self {
        Options { kernels, ..Options::default() }
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

/// The compilers of one target, which differ in how long they take and how good their code is.
#[derive(Clone)]
pub struct Compilers {
    loops: OwnedTargetIsa,
    straight: OwnedTargetIsa,
}

impl Compilers {
    /// The target of the module that the code is for.
    pub fn target(&self) -> OwnedTargetIsa {
        Arc::clone(&self.loops)
    }

    /// The compiler of a function. What has no loops runs once in a call, so that the time until it is
    /// there counts for more than its own.
    pub fn of(&self, has_loops: bool) -> &dyn TargetIsa {
        if has_loops { self.loops.as_ref() } else { self.straight.as_ref() }
    }
}

fn flags(placement: Placement, optimise: bool) -> Result<Flags, settings::SetError> {
    let mut flags = settings::builder();
    flags.set("opt_level", if optimise { "speed" } else { "none" })?;
    flags.set("regalloc_algorithm", if optimise { "backtracking" } else { "single_pass" })?;
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
