//! Tests that want a process of their own: those that may fault, and those that watch its memory.

use std::process::Command;

/// Set in the process that a test starts for itself.
const INSIDE: &str = "MDLC_ROBUSTNESS_INSIDE";

/// Runs `work` in a new process, which runs the test `name` alone. A fault there is a failure here, with
/// everything that was printed.
pub fn alone(name: &str, work: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return work();
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{name}: {}\n{text}", output.status);
    print!("{text}");
}
