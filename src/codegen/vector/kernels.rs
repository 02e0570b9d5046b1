//! The kernels of a module: each is assembled and defined once, however many places call it.

use super::super::error::CodeError;
use super::encode::{ALIGN_BYTES, AssembleError};
use super::isa::Isa;
use super::lanes::LaneLoop;
use super::line::Line;
use super::pack::Pack;
use super::tile::Tile;
use cranelift_codegen::ir::{AbiParam, types};
use cranelift_codegen::isa::CallConv;
use cranelift_module::{FuncId, Linkage, Module};
use std::collections::BTreeMap;

/// Everything that a kernel's code depends on, besides the width of its vectors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    Tile(Tile),
    Line(Line),
    Pack(Pack),
    Lanes(LaneLoop),
}

/// A kernel that was defined.
#[derive(Clone, Debug)]
pub(crate) struct Defined {
    /// What it is called in printed code.
    pub name: String,
    pub code: Vec<u8>,
    /// Where in the source it is used first, and often afterwards.
    pub places: Vec<String>,
}

/// The kernels that a module has so far.
#[derive(Debug)]
pub(crate) struct Kernels {
    isa: Option<Isa>,
    known: BTreeMap<Shape, Option<(FuncId, usize)>>,
    defined: Vec<Defined>,
}

impl Kernels {
    /// None at first; with no ISA, none ever.
    pub(crate) fn new(isa: Option<Isa>) -> Self {
        Kernels { isa, known: BTreeMap::new(), defined: Vec::new() }
    }

    /// The width of the kernels' vectors, if there are to be kernels.
    pub(crate) fn isa(&self) -> Option<Isa> {
        self.isa
    }

    /// All kernels, in the order of their first use.
    pub(crate) fn into_defined(self) -> Vec<Defined> {
        self.defined
    }

    /// The function of a kernel, defined at its first use; `None` where registers do not suffice.
    ///
    /// # Errors
    /// Faults of our own.
    pub(crate) fn function(
        &mut self,
        module: &mut dyn Module,
        shape: Shape,
        place: Option<String>,
    ) -> Result<Option<FuncId>, CodeError> {
        let Some(isa) = self.isa else { return Ok(None) };
        let known = match self.known.get(&shape) {
            Some(known) => *known,
            None => {
                let made = self.define(module, isa, &shape)?;
                self.known.insert(shape, made);
                made
            }
        };
        if let (Some((_, at)), Some(place)) = (known, place)
            && !self.defined[at].places.contains(&place)
        {
            self.defined[at].places.push(place);
        }
        Ok(known.map(|(id, _)| id))
    }

    fn define(
        &mut self,
        module: &mut dyn Module,
        isa: Isa,
        shape: &Shape,
    ) -> Result<Option<(FuncId, usize)>, CodeError> {
        let name = shape.name(isa);
        let code = match shape {
            Shape::Tile(tile) => tile.assemble(isa),
            Shape::Line(line) => line.assemble(isa),
            Shape::Pack(pack) => pack.assemble(isa),
            Shape::Lanes(lanes) => lanes.assemble(isa),
        };
        let code = match code {
            Ok(code) => code,
            Err(AssembleError::TooLarge) => return Ok(None),
            Err(error) => return Err(CodeError::Internal { function: name, reason: error.to_string() }),
        };
        let mut signature = module.make_signature();
        signature.call_conv = CallConv::SystemV;
        signature.params.push(AbiParam::new(types::I64));
        let symbol = format!("mdlc_kernel_{}_{name}", self.defined.len());
        let failed = |error| CodeError::of_module(&symbol, &error);
        let id = module.declare_function(&symbol, Linkage::Local, &signature).map_err(failed)?;
        module.define_function_bytes(id, ALIGN_BYTES, &code, &[]).map_err(failed)?;
        self.defined.push(Defined { name, code, places: Vec::new() });
        Ok(Some((id, self.defined.len() - 1)))
    }
}

impl Shape {
    /// Letters, digits and underscores.
    fn name(&self, isa: Isa) -> String {
        let isa = isa.name();
        match self {
            Shape::Tile(tile) => {
                let masked = if tile.masked { "_masked" } else { "" };
                let tail = if tile.tail.is_some() { "_tail" } else { "" };
                format!("product_{}x{}{masked}{tail}_{isa}", tile.rows, tile.vectors)
            }
            Shape::Line(line) => {
                format!("row_product{}_{isa}", if line.tail.is_some() { "_tail" } else { "" })
            }
            Shape::Pack(pack) => {
                let what = if pack.transposed { "transpose" } else { "pack" };
                format!("{what}_{}{}_{isa}", pack.vectors, if pack.masked { "_masked" } else { "" })
            }
            Shape::Lanes(lanes) => {
                let what = if lanes.reductions.is_empty() { "loop" } else { "reduction" };
                format!("{what}_{}_{isa}", lanes.body.nodes.len())
            }
        }
    }
}
