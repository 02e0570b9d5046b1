//! Which tensor is which weight, and all ways in which they do not fit.
//!
//! Takes a signature and weights by name; gives a tensor for each weight of the signature, in order, the
//! free dimensions that they decide, and every difference. Knows nothing of code.

use super::error::{BindError, WeightFault};
use super::weights::Weights;
use crate::dim::DimError;
use crate::graph::dims::DimEnv;
use crate::graph::ir::{Signature, Weight};
use crate::graph::print::type_text;
use crate::ops::init::initialise;
use crate::tensor::Tensor;
use std::borrow::Cow;
use std::collections::BTreeSet;

/// The weights of a signature as they were found.
pub(super) struct Resolved<'a> {
    /// The tensor of each weight, in order; something else where a fault names the weight.
    pub tensors: Vec<Cow<'a, Tensor>>,
    /// The free dimensions that axes of weights decide.
    pub dims: DimEnv,
    /// All differences: in the order of the model's weights, then of the names given, then types.
    pub faults: Vec<WeightFault>,
}

/// Finds the weights of a signature; those that are not there are drawn where that is asked for.
pub(super) fn resolve<'a>(signature: &Signature, weights: &'a Weights) -> Result<Resolved<'a>, BindError> {
    let (mut tensors, mut faults, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
    let mut present = Vec::new();
    for weight in &signature.weights {
        let found = named(weight, weights, &mut used, &mut faults);
        let found = match (found, weights.seed) {
            (Some(tensor), _) => Some(Cow::Borrowed(tensor)),
            (None, Some(seed)) => filled(weight, seed)?.map(Cow::Owned),
            (None, None) => None,
        };
        present.push(found.is_some());
        if found.is_none() {
            let expected = type_text(&weight.ty);
            faults.push(WeightFault::Missing { path: weight.path.clone(), expected });
        }
        // Keeps the order; the fault says that there is none.
        tensors.push(found.unwrap_or_else(|| Cow::Owned(Tensor::scalar_f32(0.0))));
    }
    if !weights.extra {
        let unknown = weights.tensors.iter().filter(|(name, _)| !used.contains(name.as_str()));
        faults.extend(unknown.map(|(name, tensor)| WeightFault::Unexpected {
            name: name.clone(),
            found: (tensor.dtype(), tensor.shape().to_vec()),
        }));
    }
    let there = || signature.weights.iter().zip(&tensors).zip(&present).filter(|(_, there)| **there);
    let dims = decided(there().map(|((weight, tensor), _)| (weight, &**tensor)));
    let wrong = there().filter(|((weight, tensor), _)| !fits(&dims, weight, tensor));
    faults.extend(wrong.map(|((weight, tensor), _)| WeightFault::Differs {
        path: weight.path.clone(),
        expected: type_text(&weight.ty),
        found: (tensor.dtype(), tensor.shape().to_vec()),
    }));
    Ok(Resolved { tensors, dims, faults })
}

/// The tensor under the path of a weight or another of its names; all of them must be one.
fn named<'a>(
    weight: &Weight,
    weights: &'a Weights,
    used: &mut BTreeSet<&'a str>,
    faults: &mut Vec<WeightFault>,
) -> Option<&'a Tensor> {
    let names = std::iter::once(&weight.path).chain(&weight.aliases);
    let mut given = names.filter_map(|name| weights.tensors.get_key_value(name));
    let (name, tensor) = given.next()?;
    used.insert(name.as_str());
    for (alias, other) in given {
        used.insert(alias);
        if !other.same_bits(tensor) {
            faults.push(WeightFault::Tied { path: name.clone(), alias: alias.clone() });
        }
    }
    Some(tensor)
}

/// The weight as its initialiser fills it; `None` where its shape is not known.
fn filled(weight: &Weight, seed: u64) -> Result<Option<Tensor>, BindError> {
    let Ok(shape) = DimEnv::new().shape(&weight.ty.shape) else { return Ok(None) };
    initialise(&weight.init, weight.ty.dtype, &shape, &weight.path, seed)
        .map(Some)
        .map_err(|error| BindError::Init { path: weight.path.clone(), error })
}

/// The free dimensions that axes of weights decide.
fn decided<'a>(pairs: impl Iterator<Item = (&'a Weight, &'a Tensor)>) -> DimEnv {
    let mut env = DimEnv::new();
    for (weight, tensor) in pairs {
        for (dim, found) in weight.ty.shape.iter().zip(tensor.shape()) {
            if let (Some(symbol), Ok(found)) = (dim.as_symbol(), i64::try_from(*found))
                && env.get(symbol).is_none()
            {
                env.set(symbol.clone(), found);
            }
        }
    }
    env
}

fn fits(dims: &DimEnv, weight: &Weight, tensor: &Tensor) -> bool {
    if tensor.dtype() != weight.ty.dtype {
        return false;
    }
    match dims.shape(&weight.ty.shape) {
        Ok(shape) => shape == tensor.shape(),
        // Decided by the inputs of each call, and checked there.
        Err(DimError::Unbound(_)) => weight.ty.shape.len() == tensor.shape().len(),
        Err(_) => false,
    }
}
