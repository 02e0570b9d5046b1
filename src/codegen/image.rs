//! Machine code apart from any address: what was defined in a module, to define it in another.
//!
//! A [`Capture`] stands between code generation and a module and notes each definition: bytes, alignment and
//! references to other definitions. An [`Image`] holds them; [`Image::define`] makes the same definitions
//! in an empty module, so that the module does the placing, and code from an image runs as code from source does.
//! An image is checked before it is defined: no reference leads out of it, and none lies outside of
//! its piece. What its code does is for whoever keeps images to vouch for.

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::Signature;
use cranelift_codegen::isa::TargetIsa;
use cranelift_codegen::{Context, ir};
use cranelift_module::{
    DataDescription, DataId, FuncId, Init, Linkage, Module, ModuleDeclarations, ModuleReloc,
    ModuleRelocTarget, ModuleResult,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The namespaces by which Cranelift tells functions and data apart.
const FUNCTIONS: u32 = 0;
const DATA: u32 = 1;

/// All definitions of a module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Functions and data that are declared, defined or not.
    functions: u32,
    data: u32,
    pieces: Vec<Piece>,
    /// The bytes of all pieces, one behind the other.
    #[serde(skip)]
    bytes: Vec<u8>,
}

/// A definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    is_data: bool,
    id: u32,
    align: u64,
    len: usize,
    references: Vec<Reference>,
}

/// A place in a piece that names another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Reference {
    at: u32,
    kind: Kind,
    to: Target,
    addend: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Absolute4,
    Absolute8,
    Relative4,
    Call4,
    Arm64Call,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Target {
    Function(u32),
    Data(u32),
    Inside(u32, u32),
}

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image of the code is damaged")]
pub struct Damaged;

impl Kind {
    fn of(kind: Reloc) -> Option<Kind> {
        match kind {
            Reloc::Abs4 => Some(Kind::Absolute4),
            Reloc::Abs8 => Some(Kind::Absolute8),
            Reloc::X86PCRel4 => Some(Kind::Relative4),
            Reloc::X86CallPCRel4 => Some(Kind::Call4),
            Reloc::Arm64Call => Some(Kind::Arm64Call),
            _ => None,
        }
    }

    fn reloc(self) -> Reloc {
        match self {
            Kind::Absolute4 => Reloc::Abs4,
            Kind::Absolute8 => Reloc::Abs8,
            Kind::Relative4 => Reloc::X86PCRel4,
            Kind::Call4 => Reloc::X86CallPCRel4,
            Kind::Arm64Call => Reloc::Arm64Call,
        }
    }

    /// # Units
    /// Bytes that are written.
    fn size(self) -> usize {
        if self == Kind::Absolute8 { 8 } else { 4 }
    }
}

impl Reference {
    /// `None` for what code without libraries does not have.
    fn of(reloc: &ModuleReloc) -> Option<Reference> {
        let to = match reloc.name {
            ModuleRelocTarget::User { namespace: FUNCTIONS, index } => Target::Function(index),
            ModuleRelocTarget::User { namespace: DATA, index } => Target::Data(index),
            ModuleRelocTarget::FunctionOffset(id, offset) => Target::Inside(id.as_u32(), offset),
            _ => return None,
        };
        Some(Reference { at: reloc.offset, kind: Kind::of(reloc.kind)?, to, addend: reloc.addend })
    }

    fn reloc(&self) -> ModuleReloc {
        let name = match self.to {
            Target::Function(index) => ModuleRelocTarget::user(FUNCTIONS, index),
            Target::Data(index) => ModuleRelocTarget::user(DATA, index),
            Target::Inside(index, offset) => {
                ModuleRelocTarget::FunctionOffset(FuncId::from_u32(index), offset)
            }
        };
        ModuleReloc { offset: self.at, kind: self.kind.reloc(), name, addend: self.addend }
    }
}

impl Image {
    /// The bytes of all pieces, which are kept apart from the rest.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The image with the bytes that belong to it.
    pub(crate) fn with_bytes(self, bytes: Vec<u8>) -> Image {
        Image { bytes, ..self }
    }

    /// Whether a function is defined.
    pub(crate) fn defines(&self, function: FuncId) -> bool {
        self.pieces.iter().any(|piece| !piece.is_data && piece.id == function.as_u32())
    }

    /// Makes all definitions in a module that has none.
    ///
    /// # Errors
    /// [`Damaged`], as a fault of the module; and what the module reports.
    pub(crate) fn define(&self, module: &mut dyn Module) -> Result<(), Refused> {
        self.check()?;
        // Definitions go by number; who declares them with which types is of no concern to code that is there.
        let signature = module.make_signature();
        for _ in 0..self.functions {
            module.declare_anonymous_function(&signature)?;
        }
        for _ in 0..self.data {
            module.declare_anonymous_data(false, false)?;
        }
        let mut rest = self.bytes.as_slice();
        for piece in &self.pieces {
            let (bytes, after) = rest.split_at_checked(piece.len).ok_or(Damaged)?;
            rest = after;
            if piece.is_data {
                let mut data = DataDescription::new();
                data.define(bytes.into());
                data.set_align(piece.align);
                module.define_data(DataId::from_u32(piece.id), &data)?;
            } else {
                let relocs: Vec<ModuleReloc> = piece.references.iter().map(Reference::reloc).collect();
                module.define_function_bytes(FuncId::from_u32(piece.id), piece.align, bytes, &relocs)?;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Damaged> {
        let mut defined: BTreeMap<(bool, u32), usize> = BTreeMap::new();
        let mut total = 0usize;
        for piece in &self.pieces {
            let declared = if piece.is_data { self.data } else { self.functions };
            let fresh = defined.insert((piece.is_data, piece.id), piece.len).is_none();
            let sane = piece.align.is_power_of_two() && piece.align <= 4096 && piece.len > 0;
            if piece.id >= declared || !fresh || !sane || (piece.is_data && !piece.references.is_empty()) {
                return Err(Damaged);
            }
            total = total.checked_add(piece.len).ok_or(Damaged)?;
        }
        for piece in &self.pieces {
            for reference in &piece.references {
                let end = (reference.at as usize).checked_add(reference.kind.size());
                let there = match reference.to {
                    Target::Function(id) => defined.contains_key(&(false, id)),
                    Target::Data(id) => defined.contains_key(&(true, id)),
                    Target::Inside(id, offset) => {
                        defined.get(&(false, id)).is_some_and(|len| (offset as usize) < *len)
                    }
                };
                if !there || end.is_none_or(|end| end > piece.len) {
                    return Err(Damaged);
                }
            }
        }
        // Every declaration costs memory; none is there in vain.
        let declared = u64::from(self.functions) + u64::from(self.data);
        let right = total == self.bytes.len() && declared <= 2 * self.pieces.len() as u64 + 64;
        if right { Ok(()) } else { Err(Damaged) }
    }
}

/// Why an image cannot be defined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error(transparent)]
    Module(Box<cranelift_module::ModuleError>),
}

impl From<cranelift_module::ModuleError> for Refused {
    fn from(error: cranelift_module::ModuleError) -> Self {
        Refused::Module(Box::new(error))
    }
}

/// A module that notes what is defined in it.
pub(crate) struct Capture<'m> {
    module: &'m mut dyn Module,
    image: Image,
    complete: bool,
}

impl<'m> Capture<'m> {
    pub(crate) fn new(module: &'m mut dyn Module) -> Self {
        Capture { module, image: Image::default(), complete: true }
    }

    /// What was defined; `None` where something was that an image has no form for.
    pub(crate) fn image(self) -> Option<Image> {
        self.complete.then_some(self.image)
    }

    fn note(&mut self, is_data: bool, id: u32, align: u64, bytes: &[u8], relocs: &[ModuleReloc]) {
        let references: Option<Vec<Reference>> = relocs.iter().map(Reference::of).collect();
        let Some(references) = references else {
            self.complete = false;
            return;
        };
        self.image.pieces.push(Piece { is_data, id, align, len: bytes.len(), references });
        self.image.bytes.extend_from_slice(bytes);
    }

    fn function(&mut self, id: FuncId) -> FuncId {
        self.image.functions = self.image.functions.max(id.as_u32() + 1);
        id
    }

    fn data(&mut self, id: DataId) -> DataId {
        self.image.data = self.image.data.max(id.as_u32() + 1);
        id
    }
}

impl Module for Capture<'_> {
    fn isa(&self) -> &dyn TargetIsa {
        self.module.isa()
    }

    fn declarations(&self) -> &ModuleDeclarations {
        self.module.declarations()
    }

    fn declare_function(
        &mut self,
        name: &str,
        linkage: Linkage,
        signature: &Signature,
    ) -> ModuleResult<FuncId> {
        let declared = self.module.declare_function(name, linkage, signature);
        declared.map(|id| self.function(id))
    }

    fn declare_anonymous_function(&mut self, signature: &Signature) -> ModuleResult<FuncId> {
        let declared = self.module.declare_anonymous_function(signature);
        declared.map(|id| self.function(id))
    }

    fn declare_data(
        &mut self,
        name: &str,
        linkage: Linkage,
        writable: bool,
        tls: bool,
    ) -> ModuleResult<DataId> {
        self.complete &= !writable && !tls;
        let declared = self.module.declare_data(name, linkage, writable, tls);
        declared.map(|id| self.data(id))
    }

    fn declare_anonymous_data(&mut self, writable: bool, tls: bool) -> ModuleResult<DataId> {
        self.complete &= !writable && !tls;
        let declared = self.module.declare_anonymous_data(writable, tls);
        declared.map(|id| self.data(id))
    }

    fn define_function_with_control_plane(
        &mut self,
        id: FuncId,
        context: &mut Context,
        plane: &mut ControlPlane,
    ) -> ModuleResult<()> {
        // Compiled out of sight: only definitions by bytes can be noted.
        self.complete = false;
        self.module.define_function_with_control_plane(id, context, plane)
    }

    fn define_function_bytes(
        &mut self,
        id: FuncId,
        align: u64,
        bytes: &[u8],
        relocs: &[ModuleReloc],
    ) -> ModuleResult<()> {
        self.note(false, id.as_u32(), align, bytes, relocs);
        self.module.define_function_bytes(id, align, bytes, relocs)
    }

    fn define_data(&mut self, id: DataId, data: &DataDescription) -> ModuleResult<()> {
        match &data.init {
            Init::Bytes { contents } if data.function_relocs.is_empty() && data.data_relocs.is_empty() => {
                self.note(true, id.as_u32(), data.align.unwrap_or(1), contents, &[]);
            }
            _ => self.complete = false,
        }
        self.module.define_data(id, data)
    }

    fn declare_func_in_func(&mut self, id: FuncId, func: &mut ir::Function) -> ir::FuncRef {
        self.module.declare_func_in_func(id, func)
    }
}
