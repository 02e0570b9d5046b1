//! Tables of text with aligned columns.

use crate::dim::Dim;
use std::fmt::Write;

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table: a head and rows of as many cells.
#[derive(Clone, Debug)]
pub struct Table {
    head: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(head: &[(&str, Align)]) -> Self {
        Table { head: head.iter().map(|(name, align)| ((*name).to_string(), *align)).collect(), rows: vec![] }
    }

    /// Adds a row; cells that are missing are blank.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.head.len(), String::new());
        self.rows.push(cells);
    }

    /// The text, every line indented by `indent`. Columns without any content are left out.
    pub fn text(&self, indent: usize) -> String {
        let width = |k: usize| {
            let cells = self.rows.iter().map(|row| row[k].chars().count());
            cells.max().filter(|w| *w > 0).map(|w| w.max(self.head[k].0.chars().count()))
        };
        let shown: Vec<(usize, usize)> =
            (0..self.head.len()).filter_map(|k| width(k).map(|w| (k, w))).collect();
        let head: Vec<String> = self.head.iter().map(|(name, _)| name.clone()).collect();
        let mut text = String::new();
        for row in std::iter::once(&head).chain(&self.rows) {
            let mut line = " ".repeat(indent);
            for (k, width) in &shown {
                let _ = match self.head[*k].1 {
                    Align::Left => write!(line, "{:<width$}  ", row[*k]),
                    Align::Right => write!(line, "{:>width$}  ", row[*k]),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Short names for the compound sizes of a report: `s1` for `((H + 1)//2)`.
#[derive(Clone, Debug, Default)]
pub struct SizeNames {
    /// The printed size, in the order of their names.
    sizes: Vec<String>,
}

/// Sizes that print shorter than this keep their form.
const LONG_SIZE_CHARS: usize = 10;

impl SizeNames {
    /// Names every quotient, remainder and extremum of the given sizes that is long to print.
    pub fn of<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Self {
        let mut names = SizeNames::default();
        for dim in dims {
            for (atom, _) in dim.terms().iter().flat_map(|(monomial, _)| monomial) {
                let text = atom.to_string();
                if text.len() >= LONG_SIZE_CHARS && !names.sizes.contains(&text) {
                    names.sizes.push(text);
                }
            }
        }
        names
    }

    /// A printed formula with the names in place of what they stand for.
    pub fn shorten(&self, text: &str) -> String {
        // The longest first: a size may occur in another.
        let mut order: Vec<usize> = (0..self.sizes.len()).collect();
        order.sort_by_key(|k| std::cmp::Reverse(self.sizes[*k].len()));
        order.into_iter().fold(text.to_string(), |text, k| text.replace(&self.sizes[k], &name(k)))
    }

    /// One line for each name.
    pub fn legend(&self, indent: usize) -> String {
        let pad = " ".repeat(indent);
        let plain = |text: &str| text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).map(str::to_string);
        let lines = self.sizes.iter().enumerate();
        lines
            .map(|(k, t)| format!("{pad}{} = {}\n", name(k), plain(t).unwrap_or_else(|| t.clone())))
            .collect()
    }
}

fn name(k: usize) -> String {
    format!("s{}", k + 1)
}

/// A number with four significant digits.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(1e-3..1e6).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut table = Table::new(&[("name", Align::Left), ("none", Align::Left), ("n", Align::Right)]);
        table.row(["a".into(), String::new(), "10".into()]);
        table.row(["longer".into(), String::new(), "7".into()]);
        assert_eq!(table.text(2), "  name     n\n  a       10\n  longer   7\n");
    }

    #[test]
    fn long_sizes_get_names() {
        let h = Dim::symbol(crate::dim::Symbol::new("Height", 0));
        let half = h.add(&Dim::ONE).unwrap().floor_div(&Dim::from(2)).unwrap();
        let quarter = half.add(&Dim::ONE).unwrap().floor_div(&Dim::from(2)).unwrap();
        let names = SizeNames::of([&half, &quarter.mul(&Dim::from(3)).unwrap(), &h]);
        assert_eq!(names.shorten(&format!("f32[{half}, 3*{quarter}]")), "f32[s1, 3*s2]");
        assert_eq!(names.legend(1), " s1 = (Height + 1)//2\n s2 = (Height + 3)//4\n");
    }

    #[test]
    fn numbers_have_four_digits() {
        let shown = [0.0, 1.0, 0.25, 1234.567, 0.012_345, 1e-9, 12_345_678.0, -2.0 / 3.0].map(number);
        assert_eq!(shown, ["0", "1", "0.25", "1235", "0.01235", "1.000e-9", "1.235e7", "-0.6667"]);
    }
}
