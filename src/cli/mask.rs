//! `mdlc dump --emit mask`: a pattern, drawn tile by tile.

use super::args::DumpArgs;
use super::sizes::{Sizes, choices};
use super::{compiler, plain, usage};
use crate::diag::Fault;
use crate::dim::Symbol;
use crate::driver::{Error, Outline, Unit};
use crate::files::NamedTensors;
use crate::files::atomic::write_atomically;
use crate::files::png::write_png;
use crate::graph::dims::DimEnv;
use crate::graph::print::expression_text;
use crate::graph::tiles::Class;
use crate::graph::tiles::patterns::{Grid, GridError, Pattern, patterns};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// Rows and columns where their size is free and nothing fixes it.
const FREE_EXTENT: i64 = 64;
/// The most squares across a terminal, each two characters wide.
const TERMINAL_SQUARES: i64 = 48;
/// The most squares across a picture where no tile is asked for.
const PICTURE_SQUARES: i64 = 512;
/// # Units
/// Pixels that a picture has across at least.
const PICTURE_PIXELS: usize = 512;

/// The drawing with its legend; writes the picture, if one is asked for.
pub fn mask(args: &DumpArgs) -> Result<String, Error> {
    let unit = compiler(&args.model).elaborate_file(&args.model.file)?;
    let found = patterns(&unit.program);
    let pattern = chosen(&unit, &found, args.pattern.as_deref())?;
    let (sizes, made_up) = sizes(&unit, pattern);
    let symbols = |symbol: &Symbol| sizes.get(symbol);
    let fixed = positions(pattern, &args.at);
    let grid = |tile| pattern.grid(&symbols, &fixed, tile).map_err(|error| refused(&error));
    let extents = pattern.extents(&symbols).map_err(|error| refused(&error))?;
    let longest = extents[0].max(extents[1]);
    let fitting = |squares: i64| (longest - 1).div_euclid(squares) + 1;
    let most = if args.output.is_some() { PICTURE_SQUARES } else { TERMINAL_SQUARES };
    let classes = grid(args.tile.unwrap_or_else(|| fitting(most).max(1)))?;
    let mut text = legend(&unit, pattern, &fixed, &made_up, &classes);
    match &args.output {
        Some(path) => {
            picture(path, pattern, &classes)?;
            let _ = writeln!(text, "wrote {}", path.display());
        }
        None => {
            // Several tiles to a square where there are more than fit.
            let tiles = fitting(TERMINAL_SQUARES * classes.tile).max(1);
            if tiles == 1 {
                text.push_str(&drawing(&classes));
            } else {
                let _ = writeln!(text, "a square is {tiles} x {tiles} tiles");
                text.push_str(&drawing(&grid(classes.tile * tiles)?));
            }
        }
    }
    Ok(text)
}

/// The pattern of a name, or the only one.
fn chosen<'a>(unit: &Unit, found: &'a [Pattern<'a>], name: Option<&str>) -> Result<&'a Pattern<'a>, Error> {
    let list = || {
        found.iter().fold(String::new(), |text, pattern| {
            let place = unit.sources.place(pattern.graph.node(pattern.node).span);
            format!("{text}\n  {}: {}  ({place})", pattern.name, condition(pattern))
        })
    };
    let error = |title: String| Err(plain("unknown-pattern", Fault::User, title));
    match (name, found) {
        (_, []) => error("the entry has no pattern: no reduction has a `where` over two indices".into()),
        (None, [only]) => Ok(only),
        (None, _) => {
            error(format!("there are {} patterns; choose one with --pattern:{}", found.len(), list()))
        }
        (Some(name), _) => match found.iter().find(|pattern| pattern.name == name) {
            Some(pattern) => Ok(pattern),
            None => error(format!("there is no pattern `{name}`; there are:{}", list())),
        },
    }
}

fn condition(pattern: &Pattern<'_>) -> String {
    let name = |value: &crate::graph::ir::Value| match &pattern.graph.node(value.node).name {
        Some(name) => name.to_string(),
        None => format!("%{}", value.node.index()),
    };
    let operands = pattern.graph.operands(pattern.node).iter().map(name).collect();
    expression_text(pattern.op, pattern.condition, operands)
}

/// Sizes for what is free: rows and columns that can be seen, and others that the model accepts.
fn sizes(unit: &Unit, pattern: &Pattern<'_>) -> (DimEnv, Vec<(Symbol, i64)>) {
    let first = choices(&Outline::of(&unit.program), &NamedTensors::new()).into_iter().next();
    let first = first.expect("invariant: there is a choice of sizes");
    let Sizes { env: mut sizes, chosen: mut made_up } = first;
    for axis in [pattern.row, pattern.column].into_iter().filter_map(|k| pattern.axes().nth(k)) {
        if let Some(symbol) = axis.extent.as_symbol() {
            sizes.set(symbol.clone(), FREE_EXTENT);
            made_up.iter_mut().filter(|(s, _)| s == symbol).for_each(|(_, size)| *size = FREE_EXTENT);
        }
    }
    (sizes, made_up)
}

/// Positions of the other axes, as asked for.
fn positions(pattern: &Pattern<'_>, at: &[(String, i64)]) -> Vec<(usize, i64)> {
    let others = pattern.others();
    let position = |(name, at): &(String, i64)| {
        let found = others.iter().find(|(_, axis)| *axis.name == **name);
        match found {
            Some((k, _)) => (*k, *at),
            None => {
                let names: Vec<&str> = others.iter().map(|(_, axis)| &*axis.name).collect();
                let names = if names.is_empty() { "it has none".into() } else { names.join(", ") };
                usage(&format!("the pattern has no other axis `{name}`: {names}"))
            }
        }
    };
    at.iter().map(position).collect()
}

fn refused(error: &GridError) -> Error {
    let fault = if matches!(error, GridError::Tiles { .. }) { Fault::Limit } else { Fault::User };
    plain("mask", fault, error.to_string())
}

fn legend(
    unit: &Unit,
    pattern: &Pattern<'_>,
    fixed: &[(usize, i64)],
    made_up: &[(Symbol, i64)],
    grid: &Grid,
) -> String {
    let place = unit.sources.place(pattern.graph.node(pattern.node).span);
    let mut text = format!("{}  {}  ({place})\n", pattern.name, condition(pattern));
    let axes: Vec<&crate::graph::ir::Axis> = pattern.axes().collect();
    let [rows, columns] = grid.extents;
    let (row, column) = (&axes[pattern.row].name, &axes[pattern.column].name);
    let _ = write!(text, "rows {row}: {rows}, columns {column}: {columns}");
    for (k, axis) in pattern.others() {
        let at = fixed.iter().find(|(index, _)| *index == k).map_or(0, |(_, at)| *at);
        let _ = write!(text, ", {} = {at}", axis.name);
    }
    text.push('\n');
    if !made_up.is_empty() {
        let sizes: Vec<String> = made_up.iter().map(|(s, size)| format!("{}={size}", s.name())).collect();
        let _ = writeln!(text, "sizes {} (fix them with --dim)", sizes.join(", "));
    }
    let count = |class| grid.count(class);
    let (full, partial, empty) = (count(Class::Full), count(Class::Partial), count(Class::Empty));
    let (all, some) = (grid.pairs(Class::Full), grid.pairs(Class::Full) + grid.pairs(Class::Partial));
    let share = |pairs: i128| 100.0 * pairs as f64 / (rows as f64 * columns as f64).max(1.0);
    let _ = writeln!(
        text,
        "tiles of {}: {full} full (██), {partial} partial (▒▒), {empty} empty; {:.1} % to {:.1} % of the pairs",
        grid.tile,
        share(all),
        share(some)
    );
    let unknown: Vec<String> = pattern.unknown().iter().map(|name| format!("`{name}`")).collect();
    if !unknown.is_empty() {
        let _ = writeln!(text, "partial also where the values of {} decide", unknown.join(", "));
    }
    text
}

fn drawing(grid: &Grid) -> String {
    let [rows, columns] = grid.tiles;
    let line = "──".repeat(columns);
    let mut text = format!("┌{line}┐\n");
    for row in 0..rows {
        text.push('│');
        for column in 0..columns {
            text.push_str(match grid.class(row, column) {
                Class::Empty => "  ",
                Class::Partial => "▒▒",
                Class::Full => "██",
            });
        }
        text.push_str("│\n");
    }
    text + &format!("└{line}┘\n")
}

fn picture(path: &Path, pattern: &Pattern<'_>, grid: &Grid) -> Result<(), Error> {
    match path.extension().and_then(|e| e.to_str()) {
        Some("svg") => {
            let text = svg(&pattern.name, grid);
            write_atomically(path, |out| out.write_all(text.as_bytes())).map_err(|error| {
                plain("unwritable", Fault::File, format!("cannot write `{}`: {error}", path.display()))
            })
        }
        Some("png") => {
            let (width, pixels) = pixels(grid);
            Ok(write_png(path, width, &pixels)?)
        }
        _ => usage("the picture ends in .svg or .png"),
    }
}

/// The grid as grey values, each tile a square of pixels.
fn pixels(grid: &Grid) -> (usize, Vec<u8>) {
    let [rows, columns] = grid.tiles;
    let scale = (PICTURE_PIXELS / rows.max(columns).max(1)).max(1);
    let mut pixels = Vec::with_capacity(rows * columns * scale * scale);
    for row in 0..rows {
        let line: Vec<u8> = (0..columns)
            .flat_map(|column| {
                let grey = match grid.class(row, column) {
                    Class::Empty => 255,
                    Class::Partial => 176,
                    Class::Full => 32,
                };
                std::iter::repeat_n(grey, scale)
            })
            .collect();
        (0..scale).for_each(|_| pixels.extend_from_slice(&line));
    }
    (columns * scale, pixels)
}

/// A run of equal tiles: columns from, columns to, class.
type Run = (usize, usize, Class);

/// The grid as rectangles: equal tiles of a row are one, and equal rows of them as well.
fn svg(name: &str, grid: &Grid) -> String {
    let [rows, columns] = grid.tiles;
    let side = (PICTURE_PIXELS / rows.max(columns).max(1)).max(1);
    let (width, height) = (columns * side, rows * side);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         <title>{}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\" stroke=\"#808080\"/>\n",
        escaped(name)
    );
    // Runs that are open, with the row they began in.
    let mut open: Vec<(Run, usize)> = Vec::new();
    for row in 0..=rows {
        let runs = if row < rows { runs(grid, row) } else { Vec::new() };
        let mut still = Vec::new();
        for (run, since) in open {
            if runs.contains(&run) {
                still.push((run, since));
            } else {
                rectangle(&mut text, run, since, row, side);
            }
        }
        let fresh: Vec<Run> = runs.into_iter().filter(|run| still.iter().all(|(s, _)| s != run)).collect();
        still.extend(fresh.into_iter().map(|run| (run, row)));
        open = still;
    }
    text + "</svg>\n"
}

fn runs(grid: &Grid, row: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for column in 0..grid.tiles[1] {
        let class = grid.class(row, column);
        match runs.last_mut() {
            Some((_, end, last)) if *last == class && *end == column => *end += 1,
            _ => runs.push((column, column + 1, class)),
        }
    }
    runs.retain(|(_, _, class)| *class != Class::Empty);
    runs
}

fn rectangle(text: &mut String, (from, to, class): Run, top: usize, bottom: usize, side: usize) {
    let fill = if class == Class::Full { "#20364d" } else { "#9db7d0" };
    let _ = writeln!(
        text,
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{fill}\"/>",
        from * side,
        top * side,
        (to - from) * side,
        (bottom - top) * side
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
