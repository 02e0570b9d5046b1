//! The command line as types. `clap` reads it; nothing here acts.

use crate::codegen::target::{Cpu, Kernels};
use crate::codegen::vector::Isa;
use crate::driver::{Cache, Compiler, Error};
use crate::runtime::Threads;
use crate::source::SourceMap;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Exit codes, shown by `mdlc --help`.
const EXIT_CODES: &str = "\
Exit codes:
  0   success
  1   an error in source or data, with its place
  2   wrong use of the command line
  3   a file or device cannot be read or written
  4   a limit was reached
  5   code and processor, or code and runtime, do not fit
  70  a fault of mdlc itself";

/// # Units
/// Seconds: the longest round of `bench`, an hour.
const MAX_SECONDS: f64 = 3600.0;

/// A declarative model compiler: `.mdl` files to native forward functions.
#[derive(Debug, Parser)]
#[command(name = "mdlc", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a file: names, shapes, types. Prints every error of it.
    #[command(after_help = "Example:\n  mdlc check models/lstm.mdl --model lstm --set H=32")]
    Check(CheckArgs),
    /// Compile, print what came of it, and write an object, archive or shared library.
    #[command(
        after_help = "Examples:\n  mdlc compile models/lstm.mdl --model lstm\n  mdlc compile models/bert.mdl --model bert_base --dim B=1 -o bert.so\n  mdlc compile models/lstm.mdl --model lstm --target-cpu x86-64-v3 -o lstm.o    (for any processor with AVX2)"
    )]
    Compile(CompileArgs),
    /// Compile and run on weights and inputs.
    #[command(
        after_help = "Examples:\n  mdlc run models/primer.mdl        (declared initialisers, drawn inputs)\n  mdlc run models/lstm.mdl --model lstm --weights w.safetensors --input x=x.npy --output out.safetensors"
    )]
    Run(RunArgs),
    /// Compile, bind, call again and again, and say how long each took.
    #[command(
        after_help = "Examples:\n  mdlc bench models/lstm.mdl --model lstm --dim T=128 --dim B=1\n  mdlc bench models/lstm.mdl --model lstm --weights w.safetensors --input x=x.npy --runs 500 --json"
    )]
    Bench(BenchArgs),
    /// Compile, call, and say which kernels took how long: a table, JSON, a trace.
    #[command(
        after_help = "Examples:\n  mdlc profile models/lstm.mdl --model lstm --dim T=128 --dim B=1\n  mdlc profile models/lstm.mdl --model lstm --dim T=128 --dim B=1 --merge --trace lstm.json    (open it in https://ui.perfetto.dev)"
    )]
    Profile(ProfileArgs),
    /// Print a stage of the compilation.
    #[command(
        after_help = "Examples:\n  mdlc dump models/feed_forward.mdl --model ffn_relu --emit graph\n  mdlc dump models/feed_forward.mdl --model ffn_relu --emit graph --after fuse\n  mdlc dump models/sparse_attention.mdl --model sparse_fixed --emit mask --pattern m1 --dim T=64"
    )]
    Dump(DumpArgs),
    /// Compare the reference evaluator and native code with expected outputs.
    #[command(
        after_help = "Examples:\n  mdlc verify m.mdl --weights w.safetensors --inputs i.safetensors --expect o.safetensors\n  mdlc verify --cases tests/oracles/cases.toml"
    )]
    Verify(VerifyArgs),
    /// List the weights a model wants; with a file, what is missing, unexpected or of another shape.
    #[command(
        after_help = "Examples:\n  mdlc weights models/gpt2.mdl gpt2.safetensors\n  mdlc weights models/bert.mdl --model bert_base bert.safetensors --map models/maps/bert_pretraining.toml --output renamed.safetensors"
    )]
    Weights(WeightsArgs),
    /// Say what can be said without running: shapes and cost by module, receptive fields, variance, gradients.
    #[command(
        after_help = "Examples:\n  mdlc analyze models/convolution.mdl --model conv1d_layer\n  mdlc analyze models/bert.mdl --model bert_base --dim B=1 --dim T=128 --depth 2 --show modules\n  mdlc analyze models/attention.mdl --model dot_attention --show variance --samples 10\n  mdlc analyze models/rnn.mdl --model rnn --show recurrences --weights w.safetensors"
    )]
    Analyze(AnalyzeArgs),
    /// Print a completion script for a shell.
    #[command(after_help = "Example:\n  mdlc completions bash > /etc/bash_completion.d/mdlc")]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which model of a file, and with what.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// The `.mdl` file.
    pub file: PathBuf,
    /// The `model` of the file, or a module; not needed where there is one only.
    #[arg(long)]
    pub model: Option<String>,
    /// The entry to compile.
    #[arg(long, default_value = "forward")]
    pub entry: String,
    /// A static argument of the model: a number, string, list, any static expression.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// A static argument of the entry.
    #[arg(long = "arg", value_name = "NAME=VALUE", value_parser = pair)]
    pub arg: Vec<(String, String)>,
    /// Fixes a free dimension.
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dimension)]
    pub dims: Vec<(String, i64)>,
    /// The shape of an input, where its rank is open: `x=B,T,24`.
    #[arg(long = "shape", value_name = "INPUT=AXES", value_parser = pair)]
    pub shapes: Vec<(String, String)>,
    /// An optional input that will be given; without it, those with defaults are left out.
    #[arg(long = "with", value_name = "INPUT")]
    pub with: Vec<String>,
}

/// Which native code.
#[derive(Clone, Debug, Args)]
pub struct CodeArgs {
    /// The kernels of native code: the widest that this processor has, without this option.
    #[arg(long, value_enum)]
    pub backend: Option<Native>,
    /// The processors that native code is for, and so the instructions it may use.
    #[arg(long, value_enum, value_name = "CPU", default_value_t = TargetCpu::Native)]
    pub target_cpu: TargetCpu,
}

/// A processor, or all of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TargetCpu {
    /// This one.
    Native,
    /// The least: SSE 4.2, AVX and FMA. Cranelift's code alone.
    Baseline,
    /// AVX2, FMA, BMI.
    #[value(name = "x86-64-v3")]
    V3,
    /// AVX-512 (F, BW, DQ, VL) besides.
    #[value(name = "x86-64-v4")]
    V4,
}

/// Whether compiled code is kept.
#[derive(Clone, Copy, Debug, Args)]
pub struct CacheArgs {
    /// Compile anew, and keep nothing: without this option code is kept in `$MDLC_CACHE_DIR`, or in
    /// `mdlc` below `$XDG_CACHE_HOME` or `~/.cache`.
    #[arg(long)]
    pub no_cache: bool,
}

impl CacheArgs {
    /// The user's cache; where it cannot be used, a warning instead.
    pub fn open(self) -> Option<Cache> {
        let folder = if self.no_cache { None } else { Cache::user_folder() }?;
        let opened = Cache::open(folder);
        if let Err(error) = &opened {
            super::warn(&SourceMap::new(), &[error.to_diagnostic()]);
        }
        opened.ok()
    }
}

/// How many threads.
#[derive(Clone, Copy, Debug, Args)]
pub struct ThreadArgs {
    /// Threads that a call divides its work between: as many as there are cores, without this option.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

impl ThreadArgs {
    /// The threads.
    pub fn start(self) -> Result<Threads, Error> {
        let count = self.threads.map_or_else(Threads::available, |count| count as usize);
        Threads::new(count).map_err(|error| Error::plain(error.to_diagnostic()))
    }
}

/// The kernels of native code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Native {
    /// None: Cranelift alone.
    Clif,
    /// AVX2, 8 lanes.
    Avx2,
    /// AVX-512, 16 lanes.
    Avx512,
}

impl CodeArgs {
    /// What native code comes from: `clif` where it has no kernels.
    pub fn name(&self) -> &'static str {
        self.kernels().on(self.cpu()).ok().flatten().map_or("clif", Isa::name)
    }

    /// The compiler of such code.
    pub fn of(&self, compiler: Compiler) -> Compiler {
        compiler.cpu(self.cpu()).kernels(self.kernels())
    }

    fn cpu(&self) -> Cpu {
        match self.target_cpu {
            TargetCpu::Native => Cpu::Native,
            TargetCpu::Baseline => Cpu::Baseline,
            TargetCpu::V3 => Cpu::V3,
            TargetCpu::V4 => Cpu::V4,
        }
    }

    fn kernels(&self) -> Kernels {
        match self.backend {
            None => Kernels::Widest,
            Some(Native::Clif) => Kernels::None,
            Some(Native::Avx2) => Kernels::Of(Isa::Avx2),
            Some(Native::Avx512) => Kernels::Of(Isa::Avx512),
        }
    }
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// What to check.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Print diagnostics as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `compile`.
#[derive(Debug, Args)]
pub struct CompileArgs {
    /// What to compile.
    #[command(flatten)]
    pub model: ModelArgs,
    /// With which kernels.
    #[command(flatten)]
    pub code: CodeArgs,
    /// Where to write: `.o`, `.a` or `.so`; a C header goes beside it.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Print a stage instead of the summary; `mask` is for `dump`.
    #[arg(long, value_enum)]
    pub emit: Option<Stage>,
    /// Print the summary as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Weights and inputs of a call.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// The weights file (safetensors). Without it the declared initialisers are used.
    #[arg(long)]
    pub weights: Option<PathBuf>,
    /// Rules that rename the tensors of the weights file to the model's names.
    #[arg(long, value_name = "RULES.toml", requires = "weights")]
    pub map: Option<PathBuf>,
    /// Draw weights that the file lacks, and ignore tensors it has too many.
    #[arg(long, requires = "weights")]
    pub partial: bool,
    /// An input from a `.npy` file, or all inputs of a `.npz` or `.safetensors` file.
    #[arg(long = "input", value_name = "[NAME=]FILE")]
    pub inputs: Vec<String>,
    /// Seed of drawn weights and inputs.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// A model, compiled and called.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Which model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// With which kernels.
    #[command(flatten)]
    pub code: CodeArgs,
    /// On how many threads.
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// With what.
    #[command(flatten)]
    pub data: DataArgs,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// What to run.
    #[command(flatten)]
    pub call: CallArgs,
    /// With or without the cache.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Where to write the outputs: `.safetensors`, `.npz`, or `.npy` for a single one.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Compute by the reference evaluator, in f64, instead of native code.
    #[arg(long)]
    pub reference: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// What to time.
    #[command(flatten)]
    pub call: CallArgs,
    /// With or without the cache.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// For how long to call, after warming up for a fifth of it.
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = duration)]
    pub seconds: f64,
    /// How many calls to time, instead of a duration.
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// Measure a round for each line `go` on standard input, and answer each with a line of JSON.
    #[arg(long, conflicts_with = "json")]
    pub on_request: bool,
    /// Where to write the outputs of the first call, as `run` does.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `profile`.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// What to time.
    #[command(flatten)]
    pub call: CallArgs,
    /// For how long to call, without marks and with them.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = duration)]
    pub seconds: f64,
    /// How many calls to time of each kind, instead of a duration.
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: Option<u32>,
    /// Add up what the instances of a module do in the same place.
    #[arg(long)]
    pub merge: bool,
    /// Show so many kernels by themselves; all with 0.
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub top: u32,
    /// Write one call as trace events, for Perfetto or Chrome.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `dump`.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// What to print.
    #[command(flatten)]
    pub model: ModelArgs,
    /// With which kernels.
    #[command(flatten)]
    pub code: CodeArgs,
    /// The stage.
    #[arg(long, value_enum, default_value_t = Stage::Graph)]
    pub emit: Stage,
    /// Show the graph as it is after this pass.
    #[arg(long, value_name = "PASS")]
    pub after: Option<String>,
    /// With `--emit mask`: which pattern, where there are several.
    #[arg(long, value_name = "NAME")]
    pub pattern: Option<String>,
    /// With `--emit mask`: rows and columns of a tile.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub tile: Option<i64>,
    /// With `--emit mask`: the position of another axis, such as the head; 0 without it.
    #[arg(long, value_name = "AXIS=N", value_parser = dimension)]
    pub at: Vec<(String, i64)>,
    /// With `--emit mask`: where to write the picture, `.svg` or `.png`.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
}

/// A stage that can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// The parsed file.
    Ast,
    /// The graph before any pass.
    Graph,
    /// The graph after all passes, with costs.
    Fused,
    /// The loop nests.
    Loops,
    /// The arena.
    Plan,
    /// Cranelift's input.
    Clif,
    /// The machine code of the wide kernels.
    Asm,
    /// A pattern (`where` of a reduction, or a boolean tensor), drawn tile by tile.
    Mask,
}

/// `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The `.mdl` file.
    #[arg(required_unless_present = "cases")]
    pub file: Option<PathBuf>,
    /// A table of cases instead of one.
    #[arg(long, value_name = "TABLE.toml", conflicts_with = "file")]
    pub cases: Option<PathBuf>,
    /// Only cases whose name contains this.
    #[arg(long, requires = "cases")]
    pub only: Option<String>,
    /// The model.
    #[arg(long)]
    pub model: Option<String>,
    /// The entry.
    #[arg(long, default_value = "forward")]
    pub entry: String,
    /// A static argument of the model.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    pub set: Vec<(String, String)>,
    /// A static argument of the entry.
    #[arg(long = "arg", value_name = "NAME=VALUE", value_parser = pair)]
    pub arg: Vec<(String, String)>,
    /// Fixes a free dimension.
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dimension)]
    pub dims: Vec<(String, i64)>,
    /// Weights (safetensors).
    #[arg(long)]
    pub weights: Option<PathBuf>,
    /// Rules that rename the tensors of the weights to the model's names.
    #[arg(long, value_name = "RULES.toml", conflicts_with = "cases")]
    pub map: Option<PathBuf>,
    /// Inputs (safetensors).
    #[arg(long)]
    pub inputs: Option<PathBuf>,
    /// Expected outputs (safetensors).
    #[arg(long)]
    pub expect: Option<PathBuf>,
    /// Weights, `input.*` and `output.*` in one file.
    #[arg(long, conflicts_with_all = ["weights", "inputs", "expect"])]
    pub bundle: Option<PathBuf>,
    /// Tolerances per output.
    #[arg(long)]
    pub case: Option<PathBuf>,
    /// Relative tolerance where no case gives one.
    #[arg(long, default_value_t = 1e-5)]
    pub rtol: f64,
    /// Absolute tolerance where no case gives one.
    #[arg(long, default_value_t = 1e-6)]
    pub atol: f64,
    /// What to compare with what is expected: the reference and the native code that this processor
    /// runs fastest, without this option.
    #[arg(long, value_enum)]
    pub backend: Option<Backend>,
    /// On how many threads.
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// With or without the cache.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Print the results as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The reference evaluator, f64.
    Reference,
    /// Native code from Cranelift.
    Clif,
    /// Native code with AVX2 kernels.
    Avx2,
    /// Native code with AVX-512 kernels.
    Avx512,
}

/// `weights`.
#[derive(Debug, Args)]
pub struct WeightsArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// A weights file to compare with.
    #[arg(value_name = "WEIGHTS")]
    pub positional: Option<PathBuf>,
    /// The same as WEIGHTS.
    #[arg(long, value_name = "WEIGHTS", conflicts_with = "positional")]
    pub weights: Option<PathBuf>,
    /// Rules that rename the tensors of the file to the model's names.
    #[arg(long, value_name = "RULES.toml")]
    pub map: Option<PathBuf>,
    /// The file has the model's names: write them as the map's other side has them.
    #[arg(long, requires = "map", requires = "output")]
    pub inverse: bool,
    /// Where to write the tensors under their new names.
    #[arg(short, long, requires = "map")]
    pub output: Option<PathBuf>,
    /// Print the list as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `analyze`.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub show: Vec<Section>,
    /// Only modules that at most this many calls lie around; the model itself is at 0.
    #[arg(long)]
    pub depth: Option<usize>,
    /// Runs this many times on drawn weights and inputs, and prints the measured spread of every value
    /// beside the predicted one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: Option<u32>,
    /// Seed of the first sample; later ones follow it.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Weights (safetensors), to judge recurrences by.
    #[arg(long)]
    pub weights: Option<PathBuf>,
    /// Rules that rename the tensors of the weights file to the model's names.
    #[arg(long, value_name = "RULES.toml", requires = "weights")]
    pub map: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A part of the report of `analyze`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// Shapes, parameters and cost of every module instance.
    Modules,
    /// Receptive fields.
    Fields,
    /// Mean and spread of every value at initialisation.
    Variance,
    /// Whether gradients of recurrences can last; with `--weights`.
    Recurrences,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if name.is_empty() || value.is_empty() {
        return Err("write NAME=VALUE".into());
    }
    Ok((name.to_string(), value.to_string()))
}

fn dimension(text: &str) -> Result<(String, i64), String> {
    let (name, value) = pair(text)?;
    let value: i64 = value.parse().map_err(|_| format!("`{value}` is not an integer"))?;
    if value < 0 {
        return Err("a dimension cannot be negative".into());
    }
    Ok((name, value))
}

fn duration(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if !(0.0..=MAX_SECONDS).contains(&seconds) {
        return Err(format!("a duration lies between 0 and {MAX_SECONDS} seconds"));
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }
}
