//! The patterns of a program, and what they allow tile by tile.
//!
//! A pattern is the condition of a reduction (`softmax[j where mask[i, j]]`), or a boolean tensor over
//! two axes or more. Takes a program before its passes; gives patterns under names that a user can choose
//! by, and their grids of classes.

use super::values::{Values, unknown};
use super::{Class, Condition};
use crate::dim::{Dim, Symbol};
use crate::dtype::DType;
use crate::graph::expr::ExprId;
use crate::graph::ir::{Axis, Graph, Index, Op, Program};
use petgraph::stable_graph::NodeIndex;
use std::collections::{BTreeSet, HashSet};

/// The most tiles of a grid.
pub const MAX_TILES: i64 = 1 << 20;
/// How far from a condition the name of what uses it is looked for.
const MAX_STEPS: usize = 8;

/// A condition over two indices, and maybe others.
#[derive(Clone, Debug)]
pub struct Pattern<'a> {
    /// What it is called: the tensor that it masks, behind the function where that is not the entry.
    pub name: String,
    /// Where it is.
    pub graph: &'a Graph,
    /// The op that has it.
    pub node: NodeIndex,
    /// The op.
    pub op: &'a Index,
    /// The condition, in the expressions of the op.
    pub condition: ExprId,
    /// The index that counts rows: queries.
    pub row: usize,
    /// The index that counts columns: keys.
    pub column: usize,
}

/// The classes of the tiles of a pattern, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Number of rows and columns of the pattern.
    pub extents: [i64; 2],
    /// Rows and columns of a tile; those at the ends may have fewer.
    pub tile: i64,
    /// Number of rows and columns of tiles.
    pub tiles: [usize; 2],
    /// A class for each tile.
    pub classes: Vec<Class>,
}

/// Why a pattern cannot be classified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GridError {
    /// The size of an axis cannot be computed.
    #[error("the size of `{axis}` is not known")]
    Size {
        /// The axis.
        axis: String,
    },
    /// A position that an axis does not have.
    #[error("`{axis}` has the positions 0 to {}, not {at}", extent - 1)]
    Outside {
        /// The axis.
        axis: String,
        /// The position asked for.
        at: i64,
        /// Its size.
        extent: i64,
    },
    /// Too many tiles, or tiles of no size.
    #[error("tiles of {tile} are {count}, the limit is {MAX_TILES}")]
    Tiles {
        /// The size of a tile.
        tile: i64,
        /// How many there would be.
        count: i128,
    },
}

/// All patterns of a program, in the order of its functions.
pub fn patterns(program: &Program) -> Vec<Pattern<'_>> {
    let mut found = Vec::new();
    for (id, function) in program.functions.iter().enumerate() {
        let entry = function.name.split_once('.').map_or(&*function.name, |(_, entry)| entry);
        let prefix = if id as u32 == program.entry.0 { String::new() } else { format!("{entry}.") };
        collect(&function.graph, &prefix, &mut found);
    }
    let mut names = HashSet::new();
    for pattern in &mut found {
        let base = pattern.name.clone();
        let mut number = 1;
        while !names.insert(pattern.name.clone()) {
            number += 1;
            pattern.name = format!("{base}.{number}");
        }
    }
    found
}

fn collect<'a>(graph: &'a Graph, prefix: &str, found: &mut Vec<Pattern<'a>>) {
    for node in graph.topological() {
        match &graph.node(node).op {
            Op::Index(op) => {
                let name = format!("{prefix}{}", name_of(graph, node));
                found.extend(pattern(graph, node, op, name));
            }
            Op::Recur(recur) => collect(&recur.body, prefix, found),
            Op::Region(region) => collect(&region.body, prefix, found),
            _ => {}
        }
    }
}

fn pattern<'a>(graph: &'a Graph, node: NodeIndex, op: &'a Index, name: String) -> Option<Pattern<'a>> {
    let iterate = op.iterate.len();
    let (condition, row, column) = match &op.reduce {
        Some(reduce) => {
            let filter = reduce.filter?;
            let condition = Condition::new(&op.exprs, filter);
            let used = |k: &usize| condition.uses(*k);
            let column = (iterate..iterate + reduce.axes.len()).rev().find(used)?;
            let row = (0..iterate).rev().find(used).or(iterate.checked_sub(1))?;
            (filter, row, column)
        }
        None if op.exprs.dtype(op.body) == DType::Bool && iterate >= 2 => {
            let condition = Condition::new(&op.exprs, op.body);
            let (row, column) = (iterate - 2, iterate - 1);
            if !(condition.uses(row) && condition.uses(column)) {
                return None;
            }
            (op.body, row, column)
        }
        None => return None,
    };
    Some(Pattern { name, graph, node, op, condition, row, column })
}

/// The name of a value, or of the nearest one that is computed from it.
fn name_of(graph: &Graph, node: NodeIndex) -> String {
    let (mut front, mut seen) = (vec![node], BTreeSet::from([node]));
    for _ in 0..MAX_STEPS {
        if let Some(name) = front.iter().find_map(|id| graph.node(*id).name.as_deref()) {
            return name.to_string();
        }
        front = front.iter().flat_map(|id| graph.users(*id)).filter(|id| seen.insert(*id)).collect();
    }
    "where".to_string()
}

impl Pattern<'_> {
    /// All axes, in the order of their indices.
    pub fn axes(&self) -> impl Iterator<Item = &Axis> {
        self.op.iterate.iter().chain(self.op.reduce.iter().flat_map(|reduce| &reduce.axes))
    }

    /// The axes besides rows and columns that the pattern depends on.
    pub fn others(&self) -> Vec<(usize, &Axis)> {
        let condition = Condition::new(&self.op.exprs, self.condition);
        let is_other = |k: usize| k != self.row && k != self.column && condition.uses(k);
        self.axes().enumerate().filter(|(k, _)| is_other(*k)).collect()
    }

    /// Arguments whose values may decide where the class is partial.
    pub fn unknown(&self) -> BTreeSet<String> {
        unknown(self.graph, self.node, Condition::new(&self.op.exprs, self.condition).reads())
    }

    /// Number of rows and columns.
    ///
    /// # Errors
    /// [`GridError::Size`].
    pub fn extents(&self, symbols: &dyn Fn(&Symbol) -> Option<i64>) -> Result<[i64; 2], GridError> {
        Ok([self.extent(self.row, symbols)?, self.extent(self.column, symbols)?])
    }

    fn extent(&self, k: usize, symbols: &dyn Fn(&Symbol) -> Option<i64>) -> Result<i64, GridError> {
        let Some(axis) = self.axes().nth(k) else { return Err(GridError::Size { axis: k.to_string() }) };
        let size = |dim: &Dim| dim.eval(symbols).ok();
        size(&axis.extent).ok_or_else(|| GridError::Size { axis: axis.name.to_string() })
    }

    /// Classifies all tiles at given sizes. `fixed` are positions of other indices; those that are not
    /// named are at 0.
    ///
    /// # Errors
    /// [`GridError`]: sizes that are not known, positions that are not there, too many tiles.
    pub fn grid(
        &self,
        symbols: &dyn Fn(&Symbol) -> Option<i64>,
        fixed: &[(usize, i64)],
        tile: i64,
    ) -> Result<Grid, GridError> {
        let extents = self.extents(symbols)?;
        let too_many = |count| GridError::Tiles { tile, count };
        if tile < 1 {
            return Err(too_many(0));
        }
        let tiles = extents.map(|extent| extent.div_euclid(tile) + i64::from(extent.rem_euclid(tile) > 0));
        let count = i128::from(tiles[0]) * i128::from(tiles[1]);
        if count > i128::from(MAX_TILES) {
            return Err(too_many(count));
        }
        let mut ranges = Vec::new();
        for (k, axis) in self.axes().enumerate() {
            let at = fixed.iter().find(|(index, _)| *index == k).map_or(0, |(_, at)| *at);
            if self.others().iter().any(|(other, _)| *other == k) {
                let extent = self.extent(k, symbols)?;
                if !(0..extent).contains(&at) {
                    return Err(GridError::Outside { axis: axis.name.to_string(), at, extent });
                }
            }
            ranges.push((at, at));
        }
        let values = Values::new(self.graph, symbols);
        let scope = values.scope(self.node);
        let condition = Condition::new(&self.op.exprs, self.condition);
        let mut classes = Vec::new();
        for row in 0..tiles[0] {
            ranges[self.row] = (row * tile, (row * tile + tile).min(extents[0]) - 1);
            for column in 0..tiles[1] {
                ranges[self.column] = (column * tile, (column * tile + tile).min(extents[1]) - 1);
                classes.push(condition.classify(&ranges, &scope));
            }
        }
        Ok(Grid { extents, tile, tiles: tiles.map(|n| n as usize), classes })
    }
}

impl Grid {
    /// The class of a tile.
    pub fn class(&self, row: usize, column: usize) -> Class {
        self.classes[row * self.tiles[1] + column]
    }

    /// Number of tiles of a class.
    pub fn count(&self, class: Class) -> usize {
        self.classes.iter().filter(|c| **c == class).count()
    }

    /// Number of pairs in tiles of a class.
    pub fn pairs(&self, class: Class) -> i128 {
        let side = |k: usize, extent: i64| (extent - k as i64 * self.tile).min(self.tile);
        let area = |at: usize| {
            let (row, column) = (at / self.tiles[1], at % self.tiles[1]);
            i128::from(side(row, self.extents[0])) * i128::from(side(column, self.extents[1]))
        };
        self.classes.iter().enumerate().filter(|(_, c)| **c == class).map(|(at, _)| area(at)).sum()
    }
}
