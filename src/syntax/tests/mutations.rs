//! Real files with faults put in: an error or a tree, never a panic, and never slow.

use super::super::{parse, print};
use super::{files, shape, tree};
use crate::span::FileId;
use std::time::{Duration, Instant};

/// A small generator (xorshift), so that the same texts are made every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n.max(1) as u64) as usize
    }
}

/// What is put in.
const PIECES: &[&str] = &[
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "`",
    "\"",
    "#",
    "##",
    "=",
    "==",
    ":",
    "..",
    ",",
    ";",
    "-",
    "->",
    "**",
    "//",
    ".",
    "\n",
    "é",
    "\u{0}",
    "\\",
    "if ",
    "else ",
    "let ",
    "for ",
    "recur ",
    "init ",
    "sum",
    "sum[i] ",
    "max[",
    "where ",
    "when ",
    "not ",
    "module ",
    "fn ",
    "1",
    "1.",
    "1e",
    "99999999999999999999",
    "`a{b}`",
    "in ",
    "self",
    "use ",
    "tie ",
    "param ",
];

fn words(text: &str) -> Vec<&str> {
    text.split_inclusive(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect()
}

fn mutated(text: &str, random: &mut Random) -> String {
    if random.below(2) == 0 {
        let mut words = words(text);
        for _ in 0..=random.below(3) {
            let (at, from) = (random.below(words.len()), random.below(words.len()));
            match random.below(4) {
                0 => drop(words.remove(at)),
                1 => words.swap(at, from),
                2 => words.insert(at, words[from]),
                _ => words.insert(at, PIECES[random.below(PIECES.len())]),
            }
        }
        return words.concat();
    }
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => drop(bytes.remove(at)),
            1 => bytes[at] = random.below(256) as u8,
            2 => bytes.insert(at, PIECES[random.below(PIECES.len())].as_bytes()[0]),
            _ => bytes.truncate(at.max(1)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn faults_in_real_files_are_errors_or_trees() {
    let files: Vec<String> =
        files::all().into_iter().map(|(_, text)| text).filter(|t| !t.is_empty()).collect();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut times = Vec::new();
    for _ in 0..2000 {
        let text = mutated(&files[random.below(files.len())], &mut random);
        let start = Instant::now();
        let result = parse(FileId(0), &text);
        times.push(start.elapsed());
        match result {
            Ok(file) => {
                let printed = print(&file);
                assert_eq!(shape(&tree(&printed)), shape(&file), "{printed}");
            }
            Err(errors) => {
                let internal = errors.iter().any(|e| e.code == "internal");
                assert!(!errors.is_empty() && !internal, "{text}");
                for label in errors.iter().flat_map(|e| &e.labels) {
                    assert!(text.get(label.span.start as usize..label.span.end as usize).is_some(), "{text}");
                }
            }
        }
    }
    times.sort();
    let slow = times[times.len() * 99 / 100];
    println!("99th percentile {slow:?}, slowest {:?}", times[times.len() - 1]);
    assert!(slow < Duration::from_millis(250));
}
