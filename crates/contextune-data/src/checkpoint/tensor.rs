//! A tensor where it lies in a file: found without reading it, read as `f32`.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use super::error::{Error, Result};
use crate::files;

/// Tensors under the names that their file gives them.
pub type TensorTable = BTreeMap<String, StoredTensor>;

/// The bytes of a file (memory-mapped) or of a model compiled into the program.
#[derive(Debug)]
pub(super) struct Bytes {
    pub(super) path: PathBuf,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Mapped(memmap2::Mmap),
    Embedded(&'static [u8]),
}

impl Bytes {
    pub(super) fn map(path: &Path) -> Result<Arc<Self>> {
        let metadata = path.metadata().map_err(Error::io(path))?;
        if !metadata.is_file() {
            return Err(Error::not_a_checkpoint(
                path,
                "not a regular file",
                "pass a file",
            ));
        }
        if metadata.len() == 0 {
            return Err(Error::damaged(path, "the file is empty"));
        }
        let file = File::open(path).map_err(Error::io(path))?;
        let map = files::map(&file).map_err(Error::io(path))?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            memory: Memory::Mapped(map),
        }))
    }

    pub(super) fn embedded(bytes: &'static [u8]) -> Arc<Self> {
        Arc::new(Self {
            path: PathBuf::from("<embedded model>"),
            memory: Memory::Embedded(bytes),
        })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Memory::Mapped(map) => map,
            Memory::Embedded(bytes) => bytes,
        }
    }
}

/// How the elements of a stored tensor are written, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    /// IEEE 754 binary16
    Half,
    /// The upper half of a binary32
    BFloat16,
    /// IEEE 754 binary32
    Single,
    /// IEEE 754 binary64
    Double,
    /// Anything that is not a weight: its name and its size in bytes.
    Other(&'static str, usize),
}

impl ElementType {
    /// Returns the size of one element in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Half | Self::BFloat16 => 2,
            Self::Single => 4,
            Self::Double => 8,
            Self::Other(_, size) => size,
        }
    }
}

/// A tensor in a file, not read yet.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    file: Arc<Bytes>,
    name: String,
    element: ElementType,
    /// Byte at which the element with index 0 on every axis starts.
    start: usize,
    shape: Vec<usize>,
    /// Elements between neighbours on each axis.
    strides: Vec<usize>,
}

impl StoredTensor {
    /// Describes a tensor whose elements lie in `storage` (a byte range of `file`), `offset` elements after its start.
    ///
    /// Every element is checked to lie in the storage, and the tensor to have no more elements than the storage: a
    /// stride of 0 would let a short file ask for any amount of memory.
    pub(super) fn new(
        file: &Arc<Bytes>,
        name: &str,
        element: ElementType,
        storage: std::ops::Range<usize>,
        offset: usize,
        shape: Vec<usize>,
        strides: Vec<usize>,
    ) -> Result<Self> {
        let damaged = |what: &str| Error::damaged(&file.path, format!("the tensor {name} {what}"));
        if file.get(storage.clone()).is_none() {
            return Err(damaged("lies beyond the end of the file"));
        }
        if shape.len() != strides.len() {
            return Err(damaged("has another number of strides than of axes"));
        }
        let stored = storage.len() / element.size();
        let count = shape
            .iter()
            .try_fold(1usize, |count, &size| count.checked_mul(size));
        let end = if count == Some(0) {
            Some(offset)
        } else {
            shape
                .iter()
                .zip(&strides)
                .try_fold(offset, |last, (&size, &stride)| {
                    last.checked_add((size - 1).checked_mul(stride)?)
                })
                .and_then(|last| last.checked_add(1))
        };
        if count.is_none_or(|count| count > stored) || end.is_none_or(|end| end > stored) {
            return Err(damaged("has more elements than are stored"));
        }
        Ok(Self {
            file: Arc::clone(file),
            name: name.to_owned(),
            element,
            start: storage.start + offset * element.size(),
            shape,
            strides,
        })
    }

    /// Returns the tensor's name in its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Returns the length of each axis; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Returns how the elements are stored.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Returns the same elements with the axes in reverse order.
    pub(super) fn transposed(mut self) -> Self {
        self.shape.reverse();
        self.strides.reverse();
        self
    }

    /// Returns the same elements with axis `order[i]` in place of axis i.
    pub(super) fn permuted<const N: usize>(mut self, order: [usize; N]) -> Self {
        self.shape = order.map(|axis| self.shape[axis]).to_vec();
        self.strides = order.map(|axis| self.strides[axis]).to_vec();
        self
    }

    /// Returns the same elements under another shape of as many elements; `None` where that would need a copy.
    pub(super) fn reshaped(mut self, shape: &[usize]) -> Option<Self> {
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        if !self.is_contiguous() || count(shape) != count(&self.shape) {
            return None;
        }
        self.strides = contiguous_strides(shape);
        self.shape = shape.to_vec();
        Some(self)
    }

    /// Returns the elements in row-major order.
    ///
    /// # Errors
    /// [`Error::NotFloat`] for integers, [`Error::NotFinite`] for a NaN or an infinity.
    pub fn read(&self) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        self.read_into(&mut values)?;
        Ok(values)
    }

    /// Appends the elements in row-major order.
    pub(super) fn read_into(&self, values: &mut Vec<f32>) -> Result<()> {
        let first = values.len();
        match self.element {
            ElementType::Half => self.convert(values, |bytes, values| {
                widen(bytes, values, |bits, values| {
                    bits.reinterpret_cast::<f16>().convert_to_f32_slice(values)
                });
            }),
            ElementType::BFloat16 => self.convert(values, |bytes, values| {
                widen(bytes, values, |bits, values| {
                    bits.reinterpret_cast::<bf16>().convert_to_f32_slice(values)
                });
            }),
            ElementType::Single => self.convert(values, |bytes, values| {
                values.extend(files::numbers(bytes, f32::from_le_bytes));
            }),
            ElementType::Double => self.convert(values, |bytes, values| {
                values.extend(files::numbers(bytes, |bytes| {
                    f64::from_le_bytes(bytes) as f32
                }));
            }),
            ElementType::Other(element, _) => {
                return Err(Error::NotFloat {
                    path: self.file.path.clone(),
                    name: self.name.clone(),
                    element,
                });
            }
        }
        if let Some(index) = values[first..].iter().position(|value| !value.is_finite()) {
            return Err(Error::NotFinite {
                path: self.file.path.clone(),
                name: self.name.clone(),
                index,
                value: values[first + index],
            });
        }
        Ok(())
    }

    /// Hands the elements to `convert` in row-major order, in runs that are contiguous in the file.
    fn convert(&self, values: &mut Vec<f32>, convert: impl Fn(&[u8], &mut Vec<f32>)) {
        let size = self.element.size();
        let count: usize = self.shape.iter().product();
        values.reserve(count);
        if count == 0 {
            return;
        }
        let run = |index: usize, length: usize| {
            let start = self.start + index * size;
            &self.file[start..start + length * size]
        };
        if self.is_contiguous() {
            return convert(run(0, count), values);
        }
        // An odometer over the axes; the file's element index follows the strides.
        let mut position = vec![0; self.shape.len()];
        let mut index = 0;
        for _ in 0..count {
            convert(run(index, 1), values);
            for axis in (0..position.len()).rev() {
                position[axis] += 1;
                index += self.strides[axis];
                if position[axis] < self.shape[axis] {
                    break;
                }
                index -= position[axis] * self.strides[axis];
                position[axis] = 0;
            }
        }
    }

    fn is_contiguous(&self) -> bool {
        let expected = contiguous_strides(&self.shape);
        self.shape
            .iter()
            .zip(self.strides.iter().zip(&expected))
            .all(|(&size, (stride, expected))| size == 1 || stride == expected)
    }
}

/// Returns the strides of a row-major tensor.
pub(super) fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1usize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// Converts sixteen-bit elements to `f32`, a block at a time so that the vector instructions of `half` apply.
fn widen(bytes: &[u8], values: &mut Vec<f32>, convert: impl Fn(&[u16], &mut [f32])) {
    const BLOCK: usize = 1024;
    let (elements, _) = bytes.as_chunks::<2>();
    for block in elements.chunks(BLOCK) {
        let mut bits = [0; BLOCK];
        for (bits, bytes) in bits.iter_mut().zip(block) {
            *bits = u16::from_le_bytes(*bytes);
        }
        let first = values.len();
        values.resize(first + block.len(), 0.0);
        convert(&bits[..block.len()], &mut values[first..]);
    }
}
