//! Files that are written: whole or not at all, whatever ends the writer.

use super::corpus::root;
use super::effort;
use super::process::Mdlc;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

const OLD: &[u8] = b"what was there before";

/// A model whose outputs and code are large enough that writing them takes a while.
const MODEL: &str = "
module Wide(N) {
    l = [Linear(64, 64); 4]
    forward(x: [B, 64]) -> (y: [B, N], z: [B, 64]) {
        let y[b, n: N] = sin(n * 0.5) * x[b, n % 64]
        (y, l(x))
    }
}
model wide = Wide(200000)
";

fn model(folder: &Path) -> PathBuf {
    let path = folder.join("wide.mdl");
    fs::write(&path, MODEL).unwrap();
    path
}

/// The commands that write, and the names of what they write.
fn writers(model: &Path, folder: &Path) -> Vec<(Mdlc, Vec<PathBuf>)> {
    let run = |name: &str| {
        let path = folder.join(name);
        (Mdlc::new(["run", "--dim", "B=8"]).arg(model).arg("-o").arg(&path), vec![path])
    };
    let compile = |name: &str| {
        let path = folder.join(name);
        let command = Mdlc::new(["compile"]).arg(model).arg("-o").arg(&path);
        (command, vec![path.clone(), path.with_extension("h")])
    };
    vec![run("y.safetensors"), run("y.npz"), compile("m.o"), compile("m.a")]
}

/// Files of a folder that are no temporary ones of a writer that was killed.
fn outputs(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
    let mut kept: Vec<String> = names.filter(|name| !name.starts_with(".mdlc-")).collect();
    kept.sort();
    kept
}

/// A small generator (xorshift), so that the same moments are drawn every time.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % below
}

#[test]
fn a_writer_that_is_killed_leaves_the_old_file_or_the_new_one() {
    let home = tempfile::tempdir().unwrap();
    let model = model(home.path());
    let mut random = 0x9e37_79b9_7f4a_7c15;
    let (mut old, mut new) = (0, 0);
    for k in 0..4 {
        let fresh = tempfile::tempdir_in(home.path()).unwrap();
        let (command, paths) = writers(&model, fresh.path()).swap_remove(k);
        let started = Instant::now();
        assert_eq!(command.run().code, 0);
        let whole = started.elapsed();
        let wanted: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        for _ in 0..12 * effort() {
            paths.iter().for_each(|path| fs::write(path, OLD).unwrap());
            let mut child = command.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // Most of the moments near the end, where the writing is.
            let micros = whole.as_micros() as u64;
            let pause = if draw(&mut random, 4) == 0 {
                draw(&mut random, micros)
            } else {
                micros / 2 + draw(&mut random, micros * 2 / 3)
            };
            thread::sleep(Duration::from_micros(pause));
            let _ = child.kill();
            child.wait().unwrap();
            for (path, wanted) in paths.iter().zip(&wanted) {
                let found = fs::read(path).unwrap();
                assert!(
                    found == OLD || found == *wanted,
                    "{} is torn: {} bytes",
                    path.display(),
                    found.len()
                );
                if found == OLD { old += 1 } else { new += 1 }
            }
        }
        assert_eq!(outputs(fresh.path()).len(), paths.len());
    }
    println!("{old} old files, {new} new ones");
    assert!(old > 0 && new > 0, "all kills came too early or too late: {old} old, {new} new");
}

/// A file may not grow beyond a limit: the disk is full.
#[test]
fn a_full_disk_is_code_3_and_the_old_file_stays() {
    let home = tempfile::tempdir().unwrap();
    let model = model(home.path());
    for blocks in [0, 1, 5, 60] {
        let folder = tempfile::tempdir_in(home.path()).unwrap();
        for (command, paths) in writers(&model, folder.path()) {
            paths.iter().for_each(|path| fs::write(path, OLD).unwrap());
            let before = outputs(folder.path());
            // Without the signal the write itself fails, as it does where the disk is full.
            let run = command.under(&format!("trap '' XFSZ; ulimit -f {blocks}")).run();
            if run.code == 0 {
                assert!(blocks > 5, "{blocks} blocks were enough: {paths:?}");
                continue;
            }
            assert_eq!(run.code, 3, "{blocks} blocks: {}", run.stderr);
            assert!(run.stderr.contains("cannot write"), "{}", run.stderr);
            let kept = paths.iter().filter(|path| fs::read(path).unwrap() == OLD).count();
            assert!(kept > 0, "{paths:?}");
            let all = fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(all, before.len(), "{blocks} blocks: something is left behind");
        }
    }
}

#[test]
fn places_that_cannot_be_written_to_are_code_3() {
    let home = tempfile::tempdir().unwrap();
    let model = model(home.path());
    let link = home.path().join("full.safetensors");
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    let folder = home.path().join("folder.safetensors");
    fs::create_dir(&folder).unwrap();
    let absent = home.path().join("absent/y.safetensors");
    for path in [&link, &folder, &absent, &PathBuf::from("/proc/y.safetensors"), &model.join("y.npz")] {
        let run = Mdlc::new(["run", "--dim", "B=1"]).arg(&model).arg("-o").arg(path).run();
        assert_eq!(run.code, 3, "{}: {}", path.display(), run.stderr);
    }
    for path in ["/proc/m.o", "/proc/m.a", "/dev/full/m.o"] {
        let run = Mdlc::new(["compile"]).arg(&model).arg("-o").arg(path).run();
        assert_eq!(run.code, 3, "{path}: {}", run.stderr);
    }
    // What cannot be told to a terminal that is full is an error as well.
    let run = Mdlc::new(["check"]).arg(&model).under("exec >/dev/full").run();
    assert_eq!(run.code, 3, "{}", run.stderr);
    let help = Mdlc::new(["--help"]).under("exec >/dev/full").run_unchecked();
    assert!(matches!(help.code, 0..=5), "{}", help.code);
}

/// A reader that goes away early is no failure, and no signal.
#[test]
fn a_pipe_that_closes_is_no_failure() {
    for stage in ["graph", "loops", "clif"] {
        let mut child = Mdlc::new(["dump", "models/lstm.mdl", "--model", "lstm", "--emit", stage]).command();
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{stage}");
    }
    assert!(root().join("models/lstm.mdl").exists());
}
