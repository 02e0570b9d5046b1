//! Classes of tiles against every pair: the patterns of the library and of `models/`, as elaborated, by
//! the reference evaluator. Where all is known the classes must be those of the pairs, no tile that is
//! uniform may be partial; where inputs decide, they must hold for all inputs and be partial only there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use mdlc::dim::Symbol;
use mdlc::driver::{Compiler, Unit, reference};
use mdlc::graph::tiles::Class;
use mdlc::graph::tiles::patterns::{GridError, MAX_TILES, Pattern, patterns};
use mdlc::{Data, Tensor, Weights};
use std::path::Path;

const TILES: [i64; 6] = [1, 2, 3, 5, 8, 16];

/// Patterns over h, i and j, with the definitions that they need.
const PATTERNS: &[&str] = &[
    "causal",
    "window(3)",
    "window(0)",
    "dilated(2, [1, 2, 3])",
    "strided(4)",
    "strided(7)",
    "fixed(4, 1)",
    "fixed(6, 2)",
    "fixed(8, 8)",
    "blocks(4)",
    "globals(3)",
    "big_bird(4, 9)",
    "beyond(causal, 5)",
    "causal and window(4)",
    "not window(5)",
    "causal and globals(2) or window(1)",
    "by_head(1, strided(4), fixed(4, 1))",
    "by_head(2, causal, not causal)",
    "full",
    "not full",
];

const DEFINITIONS: &str = "
use std.attend.{causal, window, dilated, strided, fixed, beyond}
pattern blocks(l: int)[i, j] = i // l == j // l
pattern globals(n: int)[i, j] = i < n or j < n
pattern big_bird(l: int, n: int)[i, j] =
    abs(i // l - j // l) <= 1 or i // l == 0 or j // l == 0 or i // l == n - 1 or j // l == n - 1
pattern by_head(n: int, first: pattern, second: pattern)[h, i, j] = if h < n { first[i, j] } else { second[i, j] }
";

/// The classes of all tiles by their pairs, in the order of a grid.
fn by_pairs(mask: &[bool], [rows, columns]: [usize; 2], tile: usize) -> Vec<Class> {
    let mut classes = Vec::new();
    for top in (0..rows).step_by(tile) {
        for left in (0..columns).step_by(tile) {
            let (bottom, right) = ((top + tile).min(rows), (left + tile).min(columns));
            let pairs = (top..bottom).flat_map(|i| mask[i * columns + left..i * columns + right].iter());
            let (count, held) = pairs.fold((0, 0), |(n, held), pair| (n + 1, held + usize::from(*pair)));
            classes.push(match held {
                0 => Class::Empty,
                _ if held == count => Class::Full,
                _ => Class::Partial,
            });
        }
    }
    classes
}

fn named<'a>(found: &'a [Pattern<'a>], name: &str) -> &'a Pattern<'a> {
    found.iter().find(|pattern| pattern.name == name).unwrap_or_else(|| panic!("no pattern {name}"))
}

/// One output of a program on these inputs, as truth values.
fn truths(unit: &Unit, inputs: &[Tensor], output: &str) -> Vec<bool> {
    let signature = &unit.program.signature;
    let initialised = Weights::initialised(0);
    let weights = initialised.ordered(signature).unwrap();
    let outputs = reference(&unit.program, inputs, &weights).unwrap();
    let at = signature.outputs.iter().position(|port| port.name == output).unwrap();
    match outputs[at].data() {
        Data::Bool(values) => values.clone(),
        other => panic!("{other:?}"),
    }
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::new(shape, vec![0.0_f32; shape.iter().product()]).unwrap()
}

#[test]
fn known_patterns_have_the_classes_of_their_pairs() {
    const HEADS: usize = 3;
    let mut uniform = 0;
    for text in PATTERNS {
        let module = format!(
            "module M {{ forward(x: [T], y: [S]) -> (m: bool[{HEADS}, T, S]) {{
                let m[h: {HEADS}, i: T, j: S] = ({text})[0, h, i, j]
                m
            }} }}"
        );
        let source = format!("{DEFINITIONS}{module}");
        let unit = Compiler::new().elaborate_source("m.mdl", &source, Path::new(".")).unwrap();
        let found = patterns(&unit.program);
        // A pattern that is the same for all pairs has no index, and so nothing to be drawn.
        let Some(pattern) = found.first() else {
            assert!(text.ends_with("full"), "{text}");
            continue;
        };
        for (rows, columns) in [(37, 37), (48, 48), (20, 33), (33, 1)] {
            let mask = truths(&unit, &[zeros(&[rows]), zeros(&[columns])], "m");
            let symbols = |s: &Symbol| Some(if s.name() == "T" { rows } else { columns } as i64);
            for (head, tile) in (0..HEADS).flat_map(|head| TILES.map(|tile| (head, tile))) {
                let fixed: Vec<(usize, i64)> =
                    pattern.others().iter().map(|(k, _)| (*k, head as i64)).collect();
                let grid = pattern.grid(&symbols, &fixed, tile).unwrap();
                let pairs = &mask[head * rows * columns..][..rows * columns];
                let expected = by_pairs(pairs, [rows, columns], tile as usize);
                assert_eq!(
                    grid.classes, expected,
                    "{text}, head {head}, {rows} x {columns}, tiles of {tile}"
                );
                uniform += grid.count(Class::Full) + grid.count(Class::Empty);
            }
        }
    }
    assert!(uniform > 100_000, "too little was tried: {uniform}");
}

#[test]
fn the_sparse_transformer_has_the_classes_of_its_pairs() {
    for (model, width) in [("sparse_strided", 24), ("sparse_fixed", 16)] {
        let unit =
            Compiler::new().model(model).elaborate_file(Path::new("models/sparse_attention.mdl")).unwrap();
        let found = patterns(&unit.program);
        for (name, output) in [("m1", "mask_1"), ("m2", "mask_2")] {
            let mask = truths(&unit, &[zeros(&[1, 29, width])], output);
            let symbols = |s: &Symbol| Some(if s.name() == "T" { 29 } else { 1 });
            for tile in TILES {
                let grid = named(&found, name).grid(&symbols, &[], tile).unwrap();
                assert_eq!(grid.classes, by_pairs(&mask, [29, 29], tile as usize), "{model} {name} {tile}");
            }
        }
        // The condition of each softmax is a pattern too, here of one half of the heads.
        let symbols = |s: &Symbol| Some(if s.name() == "T" { 64 } else { 1 });
        let heads = named(&found, "masked.a");
        let others: Vec<usize> = heads.others().iter().map(|(k, _)| *k).collect();
        let of = |head: i64| heads.grid(&symbols, &[(others[0], head)], 8).unwrap().classes;
        assert_eq!(of(0), named(&found, "m1").grid(&symbols, &[], 8).unwrap().classes);
        let last = if model == "sparse_strided" { 3 } else { 1 };
        assert_eq!(of(last), named(&found, "m2").grid(&symbols, &[], 8).unwrap().classes);
    }
}

/// Every class is full where all pairs are known, and partial where run-time values decide.
fn assert_known_part(
    unit: &Unit,
    name: &str,
    unknown: &str,
    known: &[bool],
    sizes: &dyn Fn(&Symbol) -> Option<i64>,
    side: usize,
) {
    let found = patterns(&unit.program);
    let pattern = named(&found, name);
    assert_eq!(pattern.unknown().into_iter().collect::<Vec<_>>(), [unknown]);
    let head = pattern.others()[0].0;
    for (h, tile) in (0..2).flat_map(|h| TILES.map(|tile| (h, tile))) {
        let grid = pattern.grid(sizes, &[(head, h as i64)], tile).unwrap();
        let expected = by_pairs(&known[h * side * side..][..side * side], [side, side], tile as usize);
        let expected = expected.into_iter().map(|c| if c == Class::Full { c } else { Class::Partial });
        assert_eq!(grid.classes, expected.collect::<Vec<_>>(), "{name}, head {h}, tiles of {tile}");
    }
}

#[test]
fn big_bird_knows_its_window_and_its_global_blocks() {
    let (heads, block, side) = (2, 4, 40);
    let compiler = Compiler::new().model("BigBird").set("D", "4").set("heads", "2").set("block", "4");
    let unit = compiler.elaborate_file(Path::new("models/sparse_attention.mdl")).unwrap();
    // No block is listed at random.
    let blocks = side / block;
    let none = Tensor::new([heads, blocks - 2, 3], vec![-1_i64; heads * (blocks - 2) * 3]).unwrap();
    let known = truths(&unit, &[zeros(&[1, side, 4]), none], "mask");
    let sizes = |s: &Symbol| {
        Some(match s.name() {
            "T" => side,
            "M" => blocks - 2,
            "R" => 3,
            _ => 1,
        } as i64)
    };
    assert_known_part(&unit, "m", "rand_blocks", &known, &sizes, side);
}

#[test]
fn longformer_knows_its_dilated_window() {
    let compiler = Compiler::new().model("DilatedLongformer");
    let compiler = compiler.set("D", "6").set("heads", "3").set("w", "2").set("d", "[1, 2, 3]");
    let unit = compiler.elaborate_file(Path::new("models/sparse_attention.mdl")).unwrap();
    let side = 30;
    // No token is global.
    let known = truths(&unit, &[zeros(&[1, side, 6]), Tensor::new([0], Vec::<i64>::new()).unwrap()], "mask");
    let sizes = |s: &Symbol| {
        Some(match s.name() {
            "T" => side as i64,
            _ => 1,
        })
    };
    assert_known_part(&unit, "m", "global_index", &known, &sizes, side);
}

#[test]
fn long_sequences_take_as_long_for_a_tile_as_short_ones() {
    let source = format!(
        "{DEFINITIONS}module M {{ forward(x: [T]) -> (m: bool[T, T]) {{ let m[i: T, j: T] = strided(512)[i, j] m }} }}"
    );
    let unit = Compiler::new().elaborate_source("m.mdl", &source, Path::new(".")).unwrap();
    let found = patterns(&unit.program);
    let length = 1_i64 << 40;
    let grid = found[0].grid(&|_| Some(length), &[], length >> 5).unwrap();
    assert_eq!((grid.tiles, grid.count(Class::Empty), grid.count(Class::Full)), ([32, 32], 32 * 31 / 2, 0));
    let error = found[0].grid(&|_| Some(length), &[], 16).unwrap_err();
    assert!(matches!(error, GridError::Tiles { count, .. } if count > i128::from(MAX_TILES)), "{error}");
    assert!(matches!(found[0].grid(&|_| None, &[], 16), Err(GridError::Size { .. })));
}
