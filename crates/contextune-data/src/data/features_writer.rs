//! Writing features files, and safetensors files in general.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::error::{DataError, Result};
use super::features_file::{
    CLASS_NAMES, DATASET, FINGERPRINT, FeaturesFile, IMAGE_FEATURES, LABELS, PATHS, SPLIT, VIEW,
};
use super::published::table::PublishedDataset;
use super::split::Split;
use crate::files;

/// What a features file will hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeatureRows<'a> {
    /// `[N, D]`, row-major, not normalised.
    pub image_features: &'a [f32],
    /// D
    pub width: usize,
    /// Index into `class_names` of each row.
    pub labels: &'a [usize],
    /// Split of each row; absent: all train.
    pub splits: Option<&'a [Split]>,
    /// View of each row; absent: all 0. See [`FeaturesFile::views_of`].
    pub views: Option<&'a [usize]>,
    /// Class names by label.
    pub class_names: &'a [String],
    /// Path of the picture behind each row.
    pub paths: Option<&'a [String]>,
    /// Fingerprint of the backbone.
    pub fingerprint: Option<&'a str>,
    /// The published data set that was encoded.
    pub published: Option<&'static PublishedDataset>,
    /// Tensors that belong beside them, such as `text_features`.
    pub others: &'a [NamedTensor<'a>],
}

impl FeatureRows<'_> {
    /// Writes the file; under its name appears nothing or a file that [`FeaturesFile::open`] reads.
    ///
    /// # Errors
    /// Those of [`FeaturesFile::open`] for contents that it would refuse, and of [`write_tensors`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let rows = self.labels.len();
        let integers =
            |values: &[usize]| values.iter().map(|&value| value as i64).collect::<Vec<_>>();
        let labels = integers(self.labels);
        let views = self.views.map(integers);
        let splits: Option<Vec<i64>> = self
            .splits
            .map(|splits| splits.iter().map(|&split| split as i64).collect());

        let row_shape = [rows];
        let column = |name, values| NamedTensor {
            name,
            shape: &row_shape,
            values: TensorValues::I64(values),
        };
        let mut tensors = vec![column(LABELS, &labels)];
        tensors.extend(splits.as_deref().map(|splits| column(SPLIT, splits)));
        tensors.extend(views.as_deref().map(|views| column(VIEW, views)));
        let shape = [rows, self.width];
        tensors.push(NamedTensor {
            name: IMAGE_FEATURES,
            shape: &shape,
            values: TensorValues::F32(self.image_features),
        });
        tensors.extend(self.others.iter().copied());

        let mut metadata =
            BTreeMap::from([(CLASS_NAMES.to_owned(), json!(self.class_names).to_string())]);
        metadata.extend(
            self.paths
                .map(|paths| (PATHS.to_owned(), json!(paths).to_string())),
        );
        metadata.extend(
            self.fingerprint
                .map(|text| (FINGERPRINT.to_owned(), text.to_owned())),
        );
        metadata.extend(
            self.published
                .map(|published| (DATASET.to_owned(), published.name().to_owned())),
        );
        write_checked(path, &tensors, &metadata, |written| {
            FeaturesFile::from_file(written, path).map(drop)
        })
    }
}

/// A tensor to write.
#[derive(Clone, Copy, Debug)]
pub struct NamedTensor<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its elements, row-major.
    pub values: TensorValues<'a>,
}

/// Elements of a tensor to write.
#[derive(Clone, Copy, Debug)]
pub enum TensorValues<'a> {
    /// 32-bit floats
    F32(&'a [f32]),
    /// 64-bit integers
    I64(&'a [i64]),
}

impl TensorValues<'_> {
    fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    fn type_and_size(self) -> (&'static str, usize) {
        match self {
            Self::F32(_) => ("F32", 4),
            Self::I64(_) => ("I64", 8),
        }
    }

    fn write(self, file: &mut impl Write) -> std::io::Result<()> {
        match self {
            Self::F32(values) => files::write_numbers(file, values, f32::to_le_bytes),
            Self::I64(values) => files::write_numbers(file, values, i64::to_le_bytes),
        }
    }
}

/// Writes any tensors as a safetensors file, for outputs of `encode` that are no data set. Equal contents give equal
/// bytes, and the file appears under its name only when complete.
///
/// # Errors
/// [`DataError::WrongEntry`] for a name given twice or a shape that does not fit its elements; [`DataError::Io`].
pub fn write_tensors(
    path: &Path,
    tensors: &[NamedTensor],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    write_checked(path, tensors, metadata, |_| Ok(()))
}

fn write_checked(
    path: &Path,
    tensors: &[NamedTensor],
    metadata: &BTreeMap<String, String>,
    check: impl FnOnce(&File) -> Result<()>,
) -> Result<()> {
    // Wide elements first: every tensor is aligned to its elements.
    let mut tensors = tensors.to_vec();
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.values.type_and_size().1));
    let header = header(path, &tensors, metadata)?;

    files::replace(
        path,
        |error| DataError::io(path)(error),
        |file| {
            write_contents(file, &header, &tensors).map_err(DataError::io(path))?;
            check(file)
        },
    )
}

fn write_contents(file: &File, header: &[u8], tensors: &[NamedTensor]) -> std::io::Result<()> {
    let mut buffered = BufWriter::with_capacity(1 << 20, file);
    buffered.write_all(&(header.len() as u64).to_le_bytes())?;
    buffered.write_all(header)?;
    for tensor in tensors {
        tensor.values.write(&mut buffered)?;
    }
    buffered.flush()
}

/// Returns the JSON header, padded so that the data starts at a multiple of 8 bytes.
fn header(
    path: &Path,
    tensors: &[NamedTensor],
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>> {
    let wrong = |tensor: &NamedTensor, what: String| DataError::WrongEntry {
        path: path.to_owned(),
        entry: tensor.name.to_owned(),
        what,
    };
    // Sorted keys: the bytes are the same in every run.
    let mut entries = BTreeMap::from([("__metadata__", json!(metadata))]);
    let mut start = 0;
    for tensor in tensors {
        if tensor.values.len() != tensor.shape.iter().product::<usize>() {
            return Err(wrong(
                tensor,
                format!(
                    "has {} elements, which do not fill the shape {:?}",
                    tensor.values.len(),
                    tensor.shape
                ),
            ));
        }
        let (dtype, size) = tensor.values.type_and_size();
        let end = start + size * tensor.values.len();
        let entry = json!({"dtype": dtype, "shape": tensor.shape, "data_offsets": [start, end]});
        if entries.insert(tensor.name, entry).is_some() {
            return Err(wrong(
                tensor,
                "is given twice; name each tensor differently".to_owned(),
            ));
        }
        start = end;
    }
    let mut header = json!(entries).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}
