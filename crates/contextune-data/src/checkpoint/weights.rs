//! The weights of a CLIP model under their canonical names, whatever the file calls them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::error::{Error, Result};
use super::parameters;
use super::tensor::{StoredTensor, TensorTable};
use crate::architecture::ModelConfig;

/// All weights of one model, read from the file one tensor at a time.
///
/// Names and shapes are OpenAI's (`visual.conv1.weight`, `transformer.resblocks.0.attn.in_proj_weight`, …), exactly
/// those that the architecture has: no counters, buffers or optimiser state.
#[derive(Clone, Debug)]
pub struct Weights {
    path: PathBuf,
    tensors: BTreeMap<String, Weight>,
}

/// One weight: the concatenation on axis 0 of what the file stores (one part, or query, key and value).
#[derive(Clone, Debug)]
struct Weight {
    shape: Vec<usize>,
    parts: Vec<StoredTensor>,
}

/// Where a format keeps a canonical weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Names in the file; several are concatenated on axis 0.
    pub(super) names: Vec<String>,
    /// How it lies there.
    pub(super) axes: Axes,
}

/// How the axes of a stored weight stand to those of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axes {
    /// They are the same.
    Same,
    /// They are in reverse order.
    Reversed,
    /// They are the same once axes that one became are joined again, and those of one element are left out.
    Split,
    /// The same, and then in reverse order.
    SplitReversed,
    /// Those of a convolution in JAX: height, width, inputs, outputs.
    JaxConvolution,
}

impl Source {
    /// Finds a weight under one name, its axes unchanged.
    pub(super) fn named(name: impl Into<String>) -> Self {
        Self {
            names: vec![name.into()],
            axes: Axes::Same,
        }
    }
}

impl Weights {
    /// Takes every weight that `config` implies out of `table`.
    ///
    /// Refuses a table in which a weight is missing, has another shape, or is left over.
    pub(super) fn assemble(
        path: &Path,
        config: &ModelConfig,
        mut table: TensorTable,
        source: impl Fn(&str) -> Source,
    ) -> Result<Self> {
        let mut tensors = BTreeMap::new();
        for (name, shape) in parameters::parameters(config) {
            let source = source(&name);
            let mut part_shape = shape.clone();
            if let Some(rows) = part_shape.first_mut() {
                *rows /= source.names.len();
            }
            let parts = source
                .names
                .into_iter()
                .map(|file_name| {
                    let stored = table
                        .remove(&file_name)
                        .ok_or_else(|| Error::MissingTensor {
                            path: path.to_owned(),
                            name: file_name,
                        })?;
                    take_part(path, stored, &part_shape, source.axes)
                })
                .collect::<Result<_>>()?;
            tensors.insert(name, Weight { shape, parts });
        }
        match table.keys().find(|name| !is_no_weight(name)) {
            Some(name) => Err(Error::UnknownTensor {
                path: path.to_owned(),
                name: name.clone(),
            }),
            None => Ok(Self {
                path: path.to_owned(),
                tensors,
            }),
        }
    }

    /// Returns the names, sorted.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns the shape of a weight; `[]` for `logit_scale`. `None` where the architecture has no such weight.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|weight| &*weight.shape)
    }

    /// Returns the elements of a weight in row-major order. Half, bfloat16 and double precision become `f32`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] where the architecture has no such weight, [`Error::NotFinite`] for a NaN or an
    /// infinity, [`Error::LogitScale`] for one that would make them, [`Error::NotFloat`] for a quantised weight.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let weight = self.tensors.get(name).ok_or_else(|| Error::MissingTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })?;
        let mut values = Vec::with_capacity(weight.shape.iter().product());
        for part in &weight.parts {
            part.read_into(&mut values)?;
        }
        if name == LOGIT_SCALE
            && let Some(&scale) = values.iter().find(|scale| !scale.exp().is_finite())
        {
            return Err(Error::LogitScale {
                path: self.path.clone(),
                scale,
            });
        }
        Ok(values)
    }

    /// Identifies the model: equal for one model in every format and precision of at least fp16, 64 hexadecimal digits.
    ///
    /// BLAKE3 over the weights in the order of their names; for each the name, a zero byte, the number of axes and
    /// each axis as 64-bit integers, then the elements rounded to fp16, all little-endian. The activation is not part
    /// of it.
    ///
    /// # Errors
    /// As [`Self::read`]; every weight is read once.
    pub fn fingerprint(&self) -> Result<String> {
        const BLOCK: usize = 4096;
        let mut hasher = blake3::Hasher::new();
        let mut rounded = [f16::ZERO; BLOCK];
        let mut bytes = [0; 2 * BLOCK];
        for (name, weight) in &self.tensors {
            hasher.update(name.as_bytes()).update(&[0]);
            hasher.update(&(weight.shape.len() as u64).to_le_bytes());
            for &size in &weight.shape {
                hasher.update(&(size as u64).to_le_bytes());
            }
            for block in self.read(name)?.chunks(BLOCK) {
                let rounded = &mut rounded[..block.len()];
                rounded.convert_from_f32_slice(block);
                for (bytes, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(&*rounded) {
                    *bytes = value.to_le_bytes();
                }
                hasher.update(&bytes[..2 * block.len()]);
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

/// The logarithm of the factor on cosines.
const LOGIT_SCALE: &str = "logit_scale";

/// Returns whether a tensor of a published file is no weight: counters, index and mask buffers, OpenAI's three sizes.
fn is_no_weight(name: &str) -> bool {
    is_openai_size(name)
        || ["num_batches_tracked", "position_ids", "attn_mask"]
            .iter()
            .any(|buffer| name.rsplit('.').next() == Some(buffer))
}

/// Returns whether the name is one of the three integers that only OpenAI's files have beside the weights.
pub(super) fn is_openai_size(name: &str) -> bool {
    matches!(name, "input_resolution" | "context_length" | "vocab_size")
}

/// Brings one stored tensor to the shape that the model needs.
fn take_part(
    path: &Path,
    stored: StoredTensor,
    expected: &[usize],
    axes: Axes,
) -> Result<StoredTensor> {
    let wrong = |stored: &StoredTensor| Error::WrongShape {
        path: path.to_owned(),
        name: stored.name().to_owned(),
        found: stored.shape().to_vec(),
        expected: expected.to_vec(),
    };
    let reversed: Vec<usize> = expected.iter().rev().copied().collect();
    let stored = match axes {
        Axes::Same => stored,
        Axes::Reversed => stored.transposed(),
        Axes::Split if joins(stored.shape(), expected) => {
            let joined = stored.clone().reshaped(expected);
            joined.ok_or_else(|| wrong(&stored))?
        }
        Axes::SplitReversed if joins(stored.shape(), &reversed) => {
            let joined = stored.clone().reshaped(&reversed);
            joined.ok_or_else(|| wrong(&stored))?.transposed()
        }
        Axes::JaxConvolution if stored.shape().len() == 4 => stored.permuted([3, 2, 0, 1]),
        Axes::Split | Axes::SplitReversed | Axes::JaxConvolution => return Err(wrong(&stored)),
    };
    // Some trainers keep the scalar logit_scale with one axis.
    if expected.is_empty()
        && stored.shape() == [1]
        && let Some(scalar) = stored.clone().reshaped(&[])
    {
        return Ok(scalar);
    }
    match stored.shape() == expected {
        true => Ok(stored),
        false => Err(wrong(&stored)),
    }
}

/// Returns whether neighbouring axes of `stored` can be joined to `expected`.
fn joins(stored: &[usize], expected: &[usize]) -> bool {
    let mut stored = stored.iter().copied().filter(|&size| size != 1);
    let each = expected.iter().filter(|&&size| size != 1).all(|&size| {
        let mut joined = 1_usize;
        while joined < size {
            match stored.next() {
                Some(next) => joined = joined.saturating_mul(next),
                None => return false,
            }
        }
        joined == size
    });
    each && stored.next().is_none()
}
