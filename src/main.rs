//! The `mdlc` program.

fn main() -> std::process::ExitCode {
    mdlc::cli::main()
}
