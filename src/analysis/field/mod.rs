//! Receptive fields in closed form: which positions of each input an output takes part of.
//!
//! An output at position `p` of its axis takes part of a window of an input's axis. Its *size* is
//! the span of the window, its *jump* how far it moves when `p` grows by one, its *start* where it
//! begins for `p = 0` (below zero by as much as is padded), and its *dilation* the distance of the
//! positions touched. All of it is derived from the affine reads of the ops, under their
//! conditions, for all sizes at once. Attention and recurrences have open windows: up to a position,
//! or everything.

mod apply;
mod conditions;
mod domain;
mod flow;
mod formula;
mod offsets;
mod positions;
mod reads;
mod rows;
mod support;
mod union;

pub use domain::{Bound, Domain};
pub use flow::Flow;
pub use offsets::Offsets;
pub use positions::{Coord, Cycle, Hull, Jump, Notes, Positions, Rows};
pub use union::Union;

use crate::dim::Dim;
use crate::graph::ir::Program;
use offsets::gcd;

/// The field of one output along one axis of one input.
#[derive(Clone, Debug)]
pub struct AxisField {
    /// Which output of the signature.
    pub output: usize,
    /// Which input of the signature.
    pub input: usize,
    /// Which axis of the input.
    pub axis: usize,
    /// Where in the output this holds; what other rows do not speak of takes no part of the input.
    pub domain: Domain,
    /// The closed form: one window, or several.
    pub windows: Union,
}

/// The fields of all outputs of a program, by output, input and axis of the input.
pub fn fields(program: &Program) -> Vec<AxisField> {
    let mut all = Vec::new();
    for (output, fields) in Flow::new(program).outputs().into_iter().enumerate() {
        for (input, port) in program.signature.inputs.iter().enumerate() {
            let parts: Vec<(&Domain, &Vec<Union>)> =
                fields.iter().filter(|(k, ..)| *k == input).map(|(_, domain, axes)| (domain, axes)).collect();
            for axis in 0..port.ty.shape.len() {
                // What is the same in all domains is said once.
                let same = parts.windows(2).all(|pair| pair[0].1.get(axis) == pair[1].1.get(axis));
                let shown = if same { parts.len().min(1) } else { parts.len() };
                all.extend(parts.iter().take(shown).filter_map(|(domain, axes)| {
                    let domain = if same && parts.len() > 1 { Domain::new() } else { (*domain).clone() };
                    Some(AxisField { output, input, axis, domain, windows: axes.get(axis)?.clone() })
                }));
            }
        }
    }
    all
}

impl AxisField {
    /// The axes of the output that the windows move with.
    pub fn drivers(&self) -> Vec<usize> {
        let mut axes: Vec<usize> = self.windows.parts().iter().flat_map(Positions::drivers).collect();
        axes.sort_unstable();
        axes.dedup();
        axes
    }

    /// How far the window moves for one position of an axis of the output.
    pub fn jump(&self, axis: usize) -> Option<Jump> {
        self.windows.single()?.jump(axis)
    }

    /// The spans of the window: the least and the greatest; `None` where an end is open.
    pub fn sizes(&self) -> Option<(Dim, Dim)> {
        self.windows.single()?.sizes()
    }

    /// The greatest span of the window.
    pub fn size(&self) -> Option<Dim> {
        self.sizes().map(|(_, most)| most)
    }

    /// Where the window begins for the output's first position.
    pub fn start(&self) -> Option<Dim> {
        self.windows.single()?.hulls()?.into_iter().next()??.low
    }

    /// How many positions are touched at most, where they are known one by one.
    pub fn touched(&self) -> Option<i64> {
        match &self.windows.single()?.rows {
            Rows::Exact(rows) => rows.iter().map(Offsets::count).max(),
            Rows::Hull(_) => None,
        }
    }

    /// The distance of the positions touched; 1 where there is one only.
    pub fn dilation(&self) -> Option<i64> {
        match &self.windows.single()?.rows {
            Rows::Exact(rows) => Some(rows.iter().fold(0, |step, row| gcd(step, row.spacing())).max(1)),
            Rows::Hull(_) => None,
        }
    }

    /// Where in the output this holds: `p3 <= p2`; empty for everywhere.
    pub fn place(&self) -> String {
        let bounds: Vec<String> = self.domain.bounds.iter().map(|b| b.text(&|c| self.letter(c))).collect();
        bounds.join(", ")
    }

    /// The letter of a coordinate: with the number of its axis where the form has several.
    fn letter(&self, coord: Coord) -> String {
        let several = self.drivers().len() > 1 || !self.domain.bounds.is_empty();
        match coord {
            Coord::Axis(axis) if several => format!("p{axis}"),
            Coord::Axis(_) => "p".to_string(),
            Coord::Var(_) => "t".to_string(),
        }
    }

    /// What is to be said besides.
    pub fn notes(&self) -> Notes {
        self.windows.notes().or(Notes { bound: self.domain.partial, ..Notes::default() })
    }

    /// The windows as formulas of the output's position: `2*p - 1 .. 2*p + 1`, both ends included.
    pub fn formula(&self) -> String {
        let name = |coord: Coord| self.letter(coord);
        let parts: Vec<String> =
            self.windows.parts().iter().map(|part| formula::window(part, &name)).collect();
        parts.join(", ")
    }
}
