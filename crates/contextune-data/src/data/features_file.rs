//! Features files: image features that were computed once, with labels, in a safetensors file.
//!
//! | tensor | shape, type | |
//! |---|---|---|
//! | `image_features` | `[N, D]` f32 (f16, bf16 and f64 are read too) | not normalised |
//! | `labels` | `[N]` i64 | index into `classnames` |
//! | `split` | `[N]` i64, optional | 0 train, 1 val, 2 test; absent: all train |
//! | `view` | `[N]` i64, optional | 0 for the picture itself, 1, 2, ... for augmented views; absent: all 0 |
//!
//! Metadata: `classnames` (JSON list), optional `paths` (JSON list of N), `fingerprint` (of the backbone) and `dataset`
//! (name of the published data set behind it). Other tensors, such as `text_features`, are left alone.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;

use super::class_names;
use super::error::{DataError, DataWarning, Result};
use super::folder_reader::is_picture;
use super::published::table::{PublishedDataset, of_name};
use super::split::Split;
use crate::files::{self, numbers, read_numbers};

pub(super) const IMAGE_FEATURES: &str = "image_features";
pub(super) const LABELS: &str = "labels";
pub(super) const SPLIT: &str = "split";
pub(super) const VIEW: &str = "view";
pub(super) const CLASS_NAMES: &str = "classnames";
pub(super) const PATHS: &str = "paths";
pub(super) const FINGERPRINT: &str = "fingerprint";
pub(super) const DATASET: &str = "dataset";

/// A features file, checked as a whole when opened; its features stay on disk until they are read.
#[derive(Debug)]
pub struct FeaturesFile {
    path: PathBuf,
    map: Mmap,
    /// Where `image_features` lies in `map`.
    features: Range<usize>,
    element: Element,
    width: usize,
    labels: Vec<usize>,
    splits: Option<Vec<Split>>,
    /// Absent if every row is a picture of its own.
    views: Option<Views>,
    class_names: Vec<String>,
    paths: Option<Vec<String>>,
    fingerprint: Option<String>,
    published: Option<&'static PublishedDataset>,
    warnings: Vec<DataWarning>,
}

/// Which rows are of one picture.
#[derive(Debug)]
struct Views {
    by_row: Vec<usize>,
    /// The rows of each picture, by the row of its view 0.
    pictures: HashMap<usize, Vec<usize>>,
}

/// Number format of the features on disk.
#[derive(Clone, Copy, Debug)]
enum Element {
    Half,
    BFloat16,
    Single,
    Double,
}

impl Element {
    fn size(self) -> usize {
        match self {
            Self::Half | Self::BFloat16 => 2,
            Self::Single => 4,
            Self::Double => 8,
        }
    }
}

impl FeaturesFile {
    /// Opens and checks a features file. The features are read through once, in pieces, to find NaN; memory keeps the
    /// labels and names only.
    ///
    /// # Errors
    /// [`DataError::NotADataset`] for another kind of file, [`DataError::Damaged`] for one cut short,
    /// [`DataError::MissingEntry`], [`DataError::WrongEntry`] for types, shapes, labels, splits or views that do not
    /// fit together, [`DataError::NotFinite`], [`DataError::SameName`] and [`DataError::NoName`].
    pub fn open(path: &Path) -> Result<Self> {
        // Before it is opened: to open a pipe is to wait for its other end.
        let metadata = fs::metadata(path).map_err(DataError::io(path))?;
        if !metadata.is_file() {
            return Err(not_features(path, "no regular file"));
        }
        let file = File::open(path).map_err(DataError::io(path))?;
        Self::from_file(&file, path)
    }

    /// Reads an open file, which may not yet have the name that errors give.
    pub(super) fn from_file(source: &File, path: &Path) -> Result<Self> {
        let map = map(source, path)?;
        let (header_length, header) =
            SafeTensors::read_metadata(&map).map_err(|error| unreadable(path, &map, &error))?;
        let contents = Contents {
            path,
            map: &map,
            data_start: 8 + header_length,
            header: &header,
        };

        let features = contents
            .tensor(IMAGE_FEATURES)
            .ok_or_else(|| contents.missing("tensor image_features"))?;
        let element = match features.dtype {
            Dtype::F16 => Element::Half,
            Dtype::BF16 => Element::BFloat16,
            Dtype::F32 => Element::Single,
            Dtype::F64 => Element::Double,
            other => {
                return Err(contents.wrong(
                    IMAGE_FEATURES,
                    format!("is of type {other}; floating-point numbers are needed"),
                ));
            }
        };
        let (rows, width) = match features.shape.as_slice() {
            &[rows, width] if rows > 0 && width > 0 => (rows, width),
            shape => {
                return Err(contents.wrong(
                    IMAGE_FEATURES,
                    format!(
                        "has shape {shape:?}; [rows, width] with at least one of each is needed"
                    ),
                ));
            }
        };

        let class_names: Vec<String> = contents
            .json(CLASS_NAMES)?
            .ok_or_else(|| contents.missing("metadata entry classnames"))?;
        let published = contents.text(DATASET).and_then(|name| of_name(name));
        let source_name = path.display().to_string();
        let mut warnings = Vec::new();
        match published {
            Some(_) => warnings.extend(class_names::check_published(&source_name, &class_names)?),
            None => class_names::check(&source_name, &class_names)?,
        }
        let labels = contents
            .integers(LABELS, rows, class_names.len(), "a class name")?
            .ok_or_else(|| contents.missing("tensor labels"))?;
        let splits: Option<Vec<Split>> = contents
            .integers(
                SPLIT,
                rows,
                Split::ALL.len(),
                "0 (train), 1 (val) or 2 (test)",
            )?
            .map(|splits| splits.into_iter().map(|split| Split::ALL[split]).collect());
        let views = contents.integers(VIEW, rows, usize::MAX, "0, 1, 2, ...")?;
        let paths: Option<Vec<String>> = contents.json(PATHS)?;
        if let Some(paths) = &paths
            && paths.len() != rows
        {
            return Err(contents.wrong(
                PATHS,
                format!(
                    "lists {} paths for {rows} rows; one for each row is needed",
                    paths.len()
                ),
            ));
        }

        let features = contents.bytes_of(features);
        let fingerprint = contents.text(FINGERPRINT).cloned();
        let mut file = Self {
            path: path.to_owned(),
            features,
            element,
            width,
            labels,
            splits,
            views: None,
            class_names,
            paths,
            fingerprint,
            published,
            warnings,
            map,
        };
        file.views = views.map(|views| file.group_views(views)).transpose()?;
        file.require_finite(source)?;
        Ok(file)
    }

    /// Returns the number of rows, N.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Returns the width of a feature, D: the joint embedding size of the model that made the file.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the class names by label.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// Returns the label of each row.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Returns the split of a row; train if the file does not say.
    ///
    /// # Panics
    /// If the file has no such row.
    pub fn split(&self, row: usize) -> Split {
        assert!(row < self.rows(), "row {row} of {}", self.rows());
        self.splits
            .as_ref()
            .map_or(Split::Train, |splits| splits[row])
    }

    /// Returns the view of a row: 0 for the picture itself, other numbers for augmented views.
    ///
    /// # Panics
    /// If the file has no such row.
    pub fn view(&self, row: usize) -> usize {
        assert!(row < self.rows(), "row {row} of {}", self.rows());
        self.views.as_ref().map_or(0, |views| views.by_row[row])
    }

    /// Returns the rows of the picture whose view 0 is `row`, by view, `row` first. The k-th row of a split and view
    /// belongs to the k-th picture of that split.
    pub fn views_of(&self, row: usize) -> Vec<usize> {
        self.views
            .as_ref()
            .and_then(|views| views.pictures.get(&row).cloned())
            .unwrap_or_else(|| vec![row])
    }

    /// Returns the path of the picture behind each row, if the file says so.
    pub fn paths(&self) -> Option<&[String]> {
        self.paths.as_deref()
    }

    /// Returns the fingerprint of the backbone that made the features, if the file says so.
    pub fn fingerprint(&self) -> Option<&str> {
        self.fingerprint.as_deref()
    }

    /// Returns the published data set that was encoded, if the file says so.
    pub fn published(&self) -> Option<&'static PublishedDataset> {
        self.published
    }

    /// Returns what its user should know, though the file can be used.
    pub fn warnings(&self) -> &[DataWarning] {
        &self.warnings
    }

    /// Reads the features of some rows, one after another: `[rows.len(), D]`, row-major.
    ///
    /// # Panics
    /// If the file has no such row.
    pub fn read(&self, rows: &[usize]) -> Vec<f32> {
        let mut features = vec![0.0; rows.len() * self.width];
        for (&row, feature) in rows.iter().zip(features.chunks_exact_mut(self.width)) {
            self.read_row(row, feature);
        }
        features
    }

    /// Fills `feature` with that of one row, D values.
    ///
    /// # Panics
    /// If the file has no such row.
    pub fn read_row(&self, row: usize, feature: &mut [f32]) {
        let stored = &self.map[self.features.clone()];
        let bytes = &stored[row * self.row_bytes()..][..self.row_bytes()];
        self.decode(bytes, feature);
    }

    fn decode(&self, bytes: &[u8], feature: &mut [f32]) {
        match self.element {
            Element::Half => read_numbers(bytes, |b| f16::from_le_bytes(b).to_f32(), feature),
            Element::BFloat16 => {
                read_numbers(bytes, |b| bf16::from_le_bytes(b).to_f32(), feature);
            }
            Element::Single => read_numbers(bytes, f32::from_le_bytes, feature),
            Element::Double => read_numbers(bytes, |b| f64::from_le_bytes(b) as f32, feature),
        }
    }

    /// Reads the whole file in pieces: through the map, all of it would count as memory in use.
    fn require_finite(&self, mut file: &File) -> Result<()> {
        let start = SeekFrom::Start(self.features.start as u64);
        file.seek(start).map_err(DataError::io(&self.path))?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut bytes = vec![0; self.row_bytes()];
        let mut feature = vec![0.0; self.width];
        for row in 0..self.rows() {
            reader
                .read_exact(&mut bytes)
                .map_err(DataError::io(&self.path))?;
            self.decode(&bytes, &mut feature);
            if let Some(column) = feature.iter().position(|value| !value.is_finite()) {
                return Err(DataError::NotFinite {
                    path: self.path.clone(),
                    row,
                    name: self.paths.as_ref().map(|paths| paths[row].clone()),
                    column,
                    value: feature[column],
                });
            }
        }
        Ok(())
    }

    fn row_bytes(&self) -> usize {
        self.width * self.element.size()
    }

    /// Finds the rows of each picture.
    fn group_views(&self, by_row: Vec<usize>) -> Result<Views> {
        let wrong = |what: String| DataError::WrongEntry {
            path: self.path.clone(),
            entry: VIEW.to_owned(),
            what,
        };
        let mut rows_by_view: BTreeMap<(Split, usize), Vec<usize>> = BTreeMap::new();
        for (row, &view) in by_row.iter().enumerate() {
            rows_by_view
                .entry((self.split(row), view))
                .or_default()
                .push(row);
        }
        let mut pictures: HashMap<usize, Vec<usize>> = HashMap::new();
        for (&(split, view), rows) in &rows_by_view {
            let firsts = rows_by_view.get(&(split, 0)).map_or(&[][..], Vec::as_slice);
            if rows.len() != firsts.len() {
                return Err(wrong(format!(
                    "has {} {split} rows of view {view} but {} of view 0; each picture needs one of both",
                    rows.len(),
                    firsts.len()
                )));
            }
            for (&first, &row) in firsts.iter().zip(rows) {
                if self.labels[first] != self.labels[row] {
                    return Err(wrong(format!(
                        "pairs rows {first} and {row}, the same picture in views 0 and {view}, but their labels differ; keep one order of pictures in all views"
                    )));
                }
                pictures.entry(first).or_default().push(row);
            }
        }
        Ok(Views { by_row, pictures })
    }
}

fn map(file: &File, path: &Path) -> Result<Mmap> {
    let metadata = file.metadata().map_err(DataError::io(path))?;
    if metadata.len() == 0 {
        return Err(not_features(path, "an empty file"));
    }
    files::map(file).map_err(DataError::io(path))
}

/// Says what is wrong with bytes that do not hold a safetensors file.
fn unreadable(path: &Path, bytes: &[u8], error: &safetensors::SafeTensorError) -> DataError {
    if bytes.get(8) == Some(&b'{') {
        return DataError::Damaged {
            path: path.to_owned(),
            what: format!(
                "its {} bytes are not what its header says ({error})",
                bytes.len()
            ),
        };
    }
    let is_split_file = bytes.starts_with(b"{") && path.extension() == Some("json".as_ref());
    if is_split_file {
        return DataError::NotADataset {
            path: path.to_owned(),
            what: "a JSON file".to_owned(),
            advice: "for a CoOp split file, give the folder that holds it",
        };
    }
    if is_picture(path) {
        return not_features(path, "a picture");
    }
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(&[0x1f, 0x8b]) {
        return not_features(path, "an archive or checkpoint");
    }
    not_features(path, "a file, but no safetensors file")
}

fn not_features(path: &Path, what: &str) -> DataError {
    DataError::NotADataset {
        path: path.to_owned(),
        what: what.to_owned(),
        advice: "give a folder of class folders, a CoOp data set's folder or a features file",
    }
}

/// The parsed header over the bytes it describes; safetensors has checked every offset against the file's length and
/// every shape against its offsets.
struct Contents<'a> {
    path: &'a Path,
    map: &'a [u8],
    data_start: usize,
    header: &'a Metadata,
}

impl Contents<'_> {
    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.info(name)
    }

    fn bytes_of(&self, tensor: &TensorInfo) -> Range<usize> {
        self.data_start + tensor.data_offsets.0..self.data_start + tensor.data_offsets.1
    }

    fn text(&self, key: &str) -> Option<&String> {
        self.header.metadata().as_ref()?.get(key)
    }

    fn json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let parse = |text: &String| {
            serde_json::from_str(text).map_err(|error| {
                self.wrong(
                    key,
                    format!("in the metadata is no JSON list of texts: {error}"),
                )
            })
        };
        self.text(key).map(parse).transpose()
    }

    /// Reads a column of integers below `end`, which are each `meaning`.
    fn integers(
        &self,
        name: &str,
        rows: usize,
        end: usize,
        meaning: &str,
    ) -> Result<Option<Vec<usize>>> {
        let Some(tensor) = self.tensor(name) else {
            return Ok(None);
        };
        if tensor.dtype != Dtype::I64 || tensor.shape != [rows] {
            return Err(self.wrong(
                name,
                format!("has type {} and shape {:?}; I64 and [{rows}] are needed, as image_features has {rows} rows", tensor.dtype, tensor.shape),
            ));
        }
        let values = numbers(&self.map[self.bytes_of(tensor)], i64::from_le_bytes);
        let checked = values.enumerate().map(|(row, value)| {
            let index = usize::try_from(value).ok().filter(|&index| index < end);
            index.ok_or_else(|| {
                self.wrong(
                    name,
                    format!("is {value} in row {row}, which is not the number of {meaning}"),
                )
            })
        });
        checked.collect::<Result<_>>().map(Some)
    }

    fn wrong(&self, entry: &str, what: String) -> DataError {
        DataError::WrongEntry {
            path: self.path.to_owned(),
            entry: entry.to_owned(),
            what,
        }
    }

    fn missing(&self, missing: &'static str) -> DataError {
        let metadata = self
            .header
            .metadata()
            .iter()
            .flatten()
            .map(|(key, _)| key.clone());
        let mut found: Vec<String> = self.header.tensors().into_keys().chain(metadata).collect();
        found.sort();
        DataError::MissingEntry {
            path: self.path.to_owned(),
            missing,
            found,
        }
    }
}
