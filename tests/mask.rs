//! `mdlc dump --emit mask`: drawings, legends, pictures, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use assert_cmd::Command;
use std::fs;
use std::path::Path;

const BAND: &str = "
use std.attend.{causal, window, dilated, padding}
module Band {
    forward(x: [B, T, D]) -> (y: [B, T, D]) {
        let a[b, i: T, j: T] = softmax[j where (causal and window(2))[i, j]] x[b, j, 0]
        let y[b, i, d] = sum[j] a[b, i, j] * x[b, j, d]
        y
    }
}
module Heads {
    forward(x: [B, T], keep: bool[B, T]) -> (near: bool[3, T, T], y: [B, T]) {
        let near[h: 3, i: T, j: T] = dilated(1, [1, 2, 3])[h, i, j]
        let y[b, i: T] = sum[j where (causal and padding(keep))[b, 0, i, j]] x[b, j]
        (near, y)
    }
}
";

fn mdlc() -> Command {
    let mut command = Command::cargo_bin("mdlc").unwrap();
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// The arguments that draw a mask of a model of `BAND`.
fn dump(folder: &Path, model: &str) -> Command {
    let path = folder.join("m.mdl");
    fs::write(&path, BAND).unwrap();
    let mut command = mdlc();
    command.arg("dump").arg(path).args(["--model", model, "--emit", "mask"]);
    command
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(command.assert().code(0).get_output().stdout.clone()).unwrap()
}

fn stderr(command: &mut Command, code: i32) -> String {
    String::from_utf8(command.assert().code(code).get_output().stderr.clone()).unwrap()
}

#[test]
fn a_band_is_drawn_pair_by_pair_and_tile_by_tile() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(dump(folder.path(), "Band").args(["--dim", "T=6"]));
    let (legend, drawing) = text.split_at(text.find('┌').unwrap());
    assert!(legend.starts_with("a  j <= i and abs(i - j) <= 2  ("), "{legend}");
    assert!(legend.contains("rows i: 6, columns j: 6\n"), "{legend}");
    assert!(
        legend.contains("tiles of 1: 15 full (██), 0 partial (▒▒), 21 empty; 41.7 % to 41.7 % of the pairs"),
        "{legend}"
    );
    let expected = "\
┌────────────┐
│██          │
│████        │
│██████      │
│  ██████    │
│    ██████  │
│      ██████│
└────────────┘
";
    assert_eq!(drawing, expected);
    let text = stdout(dump(folder.path(), "Band").args(["--dim", "T=7", "--tile", "2"]));
    let expected = "\
┌────────┐
│▒▒      │
│▒▒▒▒    │
│  ▒▒▒▒  │
│    ████│
└────────┘
";
    assert_eq!(&text[text.find('┌').unwrap()..], expected);
}

#[test]
fn a_free_length_is_chosen_and_long_ones_are_drawn_in_larger_squares() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(&mut dump(folder.path(), "Band"));
    assert!(
        text.contains("T=64") && text.contains("fix them with --dim") && text.contains("tiles of 2: "),
        "{text}"
    );
    let text = stdout(dump(folder.path(), "Band").args(["--dim", "T=16384", "--tile", "32"]));
    // 511 tiles below the diagonal touch the band, and those on it.
    assert!(text.contains("tiles of 32: 0 full (██), 1023 partial (▒▒), "), "{text}");
    assert!(text.contains("a square is 11 x 11 tiles\n"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with('│')).count(), 47);
}

#[test]
fn one_of_several_patterns_and_heads_is_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let text = stderr(&mut dump(folder.path(), "Heads"), 1);
    assert!(
        text.contains("there are 2 patterns; choose one with --pattern:") && text.contains("  near: "),
        "{text}"
    );
    let text = stderr(dump(folder.path(), "Heads").args(["--pattern", "far"]), 1);
    assert!(text.contains("there is no pattern `far`; there are:"), "{text}");
    let near = |at: &str| {
        let text =
            stdout(dump(folder.path(), "Heads").args(["--pattern", "near", "--dim", "T=4", "--at", at]));
        text[text.find('┌').unwrap()..].to_string()
    };
    assert_eq!(near("h=1"), "┌────────┐\n│██  ██  │\n│  ██  ██│\n│██  ██  │\n│  ██  ██│\n└────────┘\n");
    assert_eq!(near("h=2"), "┌────────┐\n│██    ██│\n│  ██    │\n│    ██  │\n│██    ██│\n└────────┘\n");
    let text = stderr(dump(folder.path(), "Heads").args(["--pattern", "near", "--at", "h=3"]), 1);
    assert!(text.contains("`h` has the positions 0 to 2, not 3"), "{text}");
    stderr(dump(folder.path(), "Heads").args(["--pattern", "near", "--at", "z=0"]), 2);
}

#[test]
fn what_inputs_decide_is_partial_and_said_so() {
    let folder = tempfile::tempdir().unwrap();
    let text = stdout(dump(folder.path(), "Heads").args(["--pattern", "y", "--dim", "T=3"]));
    assert!(text.contains("partial also where the values of `keep` decide\n"), "{text}");
    assert_eq!(&text[text.find('┌').unwrap()..], "┌──────┐\n│▒▒    │\n│▒▒▒▒  │\n│▒▒▒▒▒▒│\n└──────┘\n");
}

#[test]
fn pictures_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let (svg, png) = (folder.path().join("m.svg"), folder.path().join("m.png"));
    let text = stdout(dump(folder.path(), "Band").args(["--dim", "T=64", "--tile", "16", "-o"]).arg(&svg));
    assert!(text.contains("wrote ") && !text.contains('┌'), "{text}");
    let picture = fs::read_to_string(&svg).unwrap();
    // Each of the four rows is a run of its own, of one or two tiles of 128 pixels.
    let runs: Vec<&str> = picture.lines().filter(|line| line.contains("fill=\"#9db7d0\"")).collect();
    let run = |x: usize, y: usize, width: usize| {
        format!("<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"128\" fill=\"#9db7d0\"/>")
    };
    assert_eq!(runs, [run(0, 0, 128), run(0, 128, 256), run(128, 256, 256), run(256, 384, 256)]);
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"), "{picture}");
    stdout(dump(folder.path(), "Band").args(["--dim", "T=64", "-o"]).arg(&png));
    let bytes = fs::read(&png).unwrap();
    assert_eq!((&bytes[..8], &bytes[16..24]), (&b"\x89PNG\r\n\x1a\n"[..], &[0, 0, 2, 0, 0, 0, 2, 0][..]));

    stderr(dump(folder.path(), "Band").arg("-o").arg(folder.path().join("m.gif")), 2);
    stderr(dump(folder.path(), "Band").arg("-o").arg(folder.path().join("none/m.svg")), 3);
    let limit = stderr(dump(folder.path(), "Band").args(["--dim", "T=1000000", "--tile", "8"]), 4);
    assert!(limit.contains("the limit is 1048576"), "{limit}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
}

#[test]
fn options_of_masks_are_for_masks() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.mdl");
    fs::write(&model, BAND).unwrap();
    let dump = |more: &[&str]| {
        let mut command = mdlc();
        command.arg("dump").arg(&model).args(["--model", "Band"]).args(more);
        command
    };
    for more in [["--tile", "4"], ["--pattern", "a"], ["--at", "h=1"], ["-o", "m.svg"]] {
        dump(&more).assert().code(2);
    }
    dump(&["--emit", "mask", "--after", "fuse"]).assert().code(2);
    dump(&["--emit", "mask", "--tile", "0"]).assert().code(2);
    mdlc().arg("compile").arg(&model).args(["--model", "Band", "--emit", "mask"]).assert().code(2);
    let none = folder.path().join("none.mdl");
    fs::write(&none, "module N { forward(x: [B]) -> [B] = x }").unwrap();
    let text = stderr(mdlc().arg("dump").arg(&none).args(["--emit", "mask"]), 1);
    assert!(text.contains("the entry has no pattern"), "{text}");
}
