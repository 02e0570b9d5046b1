//! Weights by name: from a file, from memory, or from the model's own initialisers.

use super::error::{BindError, WeightFault};
use super::resolve::resolve;
use crate::files::rename::{NameMap, RenameError};
use crate::files::{FileError, read_tensors};
use crate::graph::ir::Signature;
use crate::tensor::Tensor;
use indexmap::IndexMap;
use std::borrow::Cow;
use std::path::Path;

/// The tensors a model is bound to.
///
/// Names are the paths of the model's declarations. All of the model's weights must be there,
/// unless they are to be filled by their initialisers, and nothing else may be, unless allowed.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    pub(super) tensors: IndexMap<String, Tensor>,
    pub(super) seed: Option<u64>,
    pub(super) extra: bool,
}

impl Weights {
    /// No tensors: enough for a model without weights.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tensors of a `.safetensors` or `.npz` file.
    ///
    /// # Errors
    /// [`FileError`], as [`read_tensors`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FileError> {
        Ok(Weights { tensors: read_tensors(path.as_ref())?, ..Self::default() })
    }

    /// Tensors by name.
    pub fn from_tensors(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        Weights { tensors: tensors.into_iter().collect(), ..Self::default() }
    }

    /// What the model's initialisers give for a seed; see [`crate::ops::init`].
    pub fn initialised(seed: u64) -> Self {
        Weights { seed: Some(seed), ..Self::default() }
    }

    /// The tensors under the names that a map gives them, without those that it ignores.
    ///
    /// # Errors
    /// [`RenameError`]: names that become one, or that would not come back.
    pub fn renamed(mut self, map: &NameMap) -> Result<Self, RenameError> {
        let renaming = map.rename(self.tensors.keys().map(String::as_str))?;
        self.tensors = renaming.apply(self.tensors);
        Ok(self)
    }

    /// All differences between these weights and the ones of a signature, none if they fit.
    ///
    /// # Errors
    /// [`BindError::Init`] where a weight that is to be drawn cannot be.
    pub fn differences(&self, signature: &Signature) -> Result<Vec<WeightFault>, BindError> {
        resolve(signature, self).map(|resolved| resolved.faults)
    }

    /// The tensor of each weight of a signature, in order; those that are drawn included.
    ///
    /// # Errors
    /// [`BindError`]: all differences between these weights and the signature's.
    pub fn ordered(&self, signature: &Signature) -> Result<Vec<Cow<'_, Tensor>>, BindError> {
        let resolved = resolve(signature, self)?;
        if !resolved.faults.is_empty() {
            return Err(BindError::Weights { model: signature.name.clone(), faults: resolved.faults });
        }
        Ok(resolved.tensors)
    }

    /// Gives up the tensors.
    pub fn into_tensors(self) -> IndexMap<String, Tensor> {
        self.tensors
    }

    /// Adds a tensor, or replaces the one of that name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Fills weights that are not there by their initialisers instead of refusing.
    pub fn fill_missing(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Passes over tensors that the model does not have instead of refusing.
    pub fn allow_extra(mut self) -> Self {
        self.extra = true;
        self
    }
}
