//! The command line. The only place that prints and decides exit codes.
#![expect(clippy::print_stderr, reason = "this is where the program speaks")]

mod analyze;
mod args;
mod bench;
mod call;
mod compile;
mod data;
mod mask;
mod profile;
mod run;
mod sizes;
mod verify;
mod weights;

use crate::diag::{Diagnostic, Fault, render, render_plain};
use crate::driver::{Compiler, Error};
use crate::source::SourceMap;
use args::{Cli, Command, ModelArgs};
use clap::{CommandFactory, Parser};
use codespan_reporting::term::termcolor::{ColorChoice, StandardStream};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;

/// Reads the command line, acts, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Check(args) => compile::check(args),
        Command::Compile(args) => compile::compile(args),
        Command::Run(args) => run::run(args),
        Command::Bench(args) => bench::bench(args),
        Command::Profile(args) => profile::profile(args),
        Command::Dump(args) => compile::dump(args),
        Command::Verify(args) => verify::verify(args),
        Command::Analyze(args) => analyze::analyze(args),
        Command::Weights(args) => weights::weights(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "mdlc", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => report(&error),
    }
}

/// Writes to standard output. A reader that has gone away is no error.
fn print(text: &str) -> Result<ExitCode, Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(plain("unwritable", Fault::File, format!("the output cannot be written: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn print_json(value: &serde_json::Value) -> Result<ExitCode, Error> {
    print(&format!("{value:#}\n"))
}

/// Prints an error to standard error.
fn report(error: &Error) -> ExitCode {
    warn(&error.sources, &error.diagnostics);
    if error.diagnostics.iter().any(|d| d.fault == Fault::Internal) {
        eprintln!("this is a fault of mdlc itself; please report it with the source that shows it");
    }
    ExitCode::from(error.exit_code())
}

/// Prints diagnostics to standard error, in colours on a terminal.
fn warn(sources: &SourceMap, diagnostics: &[Diagnostic]) {
    let colours = if std::io::stderr().is_terminal() { ColorChoice::Auto } else { ColorChoice::Never };
    let mut stream = StandardStream::stderr(colours);
    if render(&mut stream, sources, diagnostics).is_err() {
        eprintln!("{}", render_plain(sources, diagnostics));
    }
}

/// An error without a place.
fn plain(code: &'static str, fault: Fault, title: impl Into<String>) -> Error {
    Error::plain(Diagnostic::error(code, title).fault(fault))
}

/// An error of a command line that clap cannot see: exit code 2 is clap's own, so it prints it.
fn usage(title: &str) -> ! {
    Cli::command().error(clap::error::ErrorKind::ValueValidation, title).exit()
}

/// Diagnostics as JSON.
fn diagnostics_json(error: &Error) -> serde_json::Value {
    let place = |label: &crate::diag::Label| {
        let (line, column) = error.sources.line_column(label.span);
        let file = &error.sources.file(label.span.file).name;
        serde_json::json!({ "file": file, "line": line, "column": column, "text": label.text })
    };
    let one = |d: &Diagnostic| {
        serde_json::json!({
            "code": d.code,
            "severity": d.severity,
            "fault": d.fault,
            "title": d.title,
            "labels": d.labels.iter().map(place).collect::<Vec<_>>(),
            "notes": d.notes,
            "help": d.help,
        })
    };
    serde_json::json!({ "diagnostics": error.diagnostics.iter().map(one).collect::<Vec<_>>() })
}

/// The compiler that model arguments describe.
fn compiler(args: &ModelArgs) -> Compiler {
    let mut compiler = Compiler::new().entry(&args.entry);
    if let Some(model) = &args.model {
        compiler = compiler.model(model);
    }
    for (name, value) in &args.set {
        compiler = compiler.set(name, value);
    }
    for (name, value) in &args.arg {
        compiler = compiler.argument(name, value);
    }
    for (name, value) in &args.dims {
        compiler = compiler.dim(name, *value);
    }
    for (name, axes) in &args.shapes {
        compiler = compiler.shape(name, axes.split(',').map(str::trim));
    }
    args.with.iter().fold(compiler, Compiler::with)
}
