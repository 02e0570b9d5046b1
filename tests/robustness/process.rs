//! The `mdlc` program under limits of the system, and how it ended.

use super::corpus::root;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    /// The exit code; as shells say it, 128 and the signal where one ended it.
    pub code: i32,
    pub stderr: String,
    pub time: Duration,
}

impl Run {
    /// Whether it ended by itself with a promised code: not killed, no panic, no fault of our own.
    pub fn is_orderly(&self) -> bool {
        matches!(self.code, 0..=5)
    }
}

/// A run of `mdlc` with arguments and limits.
#[derive(Debug, Default)]
pub struct Mdlc {
    args: Vec<String>,
    limits: String,
}

/// Longest that any run here may take, even in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

impl Mdlc {
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Mdlc { args: args.into_iter().map(Into::into).collect(), limits: String::new() }
    }

    pub fn arg(mut self, arg: impl AsRef<Path>) -> Self {
        self.args.push(arg.as_ref().to_string_lossy().into_owned());
        self
    }

    pub fn args(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// What the shell runs before the program: `ulimit`, `trap`.
    pub fn under(mut self, limits: &str) -> Self {
        self.limits += limits;
        self.limits += "; ";
        self
    }

    /// At most so many bytes of address space. Allocators reserve some for each thread, which is
    /// turned off, so that the limit is one on what is used.
    ///
    /// # Units
    /// MiB.
    pub fn address_space(self, mebibytes: usize) -> Self {
        self.under(&format!("ulimit -v {}; export MALLOC_ARENA_MAX=1", mebibytes << 10))
    }

    /// At most so many seconds of a processor; a signal ends what takes more.
    pub fn processor(self, seconds: u32) -> Self {
        self.under(&format!("ulimit -t {seconds}"))
    }

    /// The command, ready to be started.
    pub fn command(&self) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{}exec \"$0\" \"$@\"", self.limits));
        command.arg(env!("CARGO_BIN_EXE_mdlc")).args(&self.args).current_dir(root());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end, and checks that it ended as it may.
    pub fn run(&self) -> Run {
        let run = self.run_unchecked();
        assert!(run.is_orderly(), "code {} after {:?} of {self:?}\n{}", run.code, run.time, run.stderr);
        run
    }

    /// Runs it to its end, or kills it after a time.
    pub fn run_unchecked(&self) -> Run {
        let started = Instant::now();
        let child = self.command().spawn().unwrap();
        let pid = child.id();
        let waiting = thread::spawn(move || child.wait_with_output().unwrap());
        while !waiting.is_finished() && started.elapsed() < LIMIT {
            thread::sleep(Duration::from_millis(2));
        }
        if !waiting.is_finished() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        let output = waiting.join().unwrap();
        let time = started.elapsed();
        let status = output.status;
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Run { code, stderr, time }
    }
}
