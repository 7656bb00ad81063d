//! What is known of the examples of one split, wherever it lies: features in memory or on disk, or the pictures themselves.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::cache::CachedRow;
use super::reader::PictureReader;
use super::views::{View, Views};
use super::{InputError, InputKind, Inputs};
use crate::data::FeaturesFile;
use crate::image::ImageError;

/// Rows that are worth a thread of their own only together: most are a copy of a kilobyte.
const ROWS_A_THREAD: usize = 8;

/// The inputs of N examples in V views each; rows are read when they are asked for.
#[derive(Clone, Debug)]
pub struct InputTable {
    kind: InputKind,
    /// Values of a feature, D.
    width: usize,
    views: usize,
    /// Row v of example i is at `i · V + v`.
    rows: Vec<Row>,
}

/// Inputs with what is right for each of them.
#[derive(Clone, Debug)]
pub struct Examples<T> {
    /// The inputs, N of them.
    pub inputs: InputTable,
    /// What is right: a class from 0, or what else the task has for a target.
    pub targets: Vec<T>,
}

/// One input.
#[derive(Clone, Debug)]
pub(super) enum Row {
    /// D values in memory.
    Here(Box<[f32]>),
    /// In the cache.
    Cached(CachedRow),
    /// In the data set's own file.
    Stored(Arc<FeaturesFile>, usize),
    /// The pixels of a view, 3 · side · side values in 0..1, decoded when they are asked for.
    Picture {
        path: PathBuf,
        view: View,
        reader: Arc<PictureReader>,
    },
}

impl<T> Examples<T> {
    /// Features `[N · V, D]` of N examples, the views of an example one after another.
    ///
    /// # Panics
    /// If the numbers do not fit each other, or there is nothing.
    pub fn of_features(features: &[f32], width: usize, views: usize, targets: Vec<T>) -> Self {
        Self::in_memory(InputKind::Features, features, width, views, targets)
    }

    /// The values of N · V inputs of one kind, the views of an example one after another; a feature has `width` of them.
    ///
    /// # Panics
    /// If the numbers do not fit each other, or there is nothing.
    pub fn in_memory(
        kind: InputKind,
        values: &[f32],
        width: usize,
        views: usize,
        targets: Vec<T>,
    ) -> Self {
        let rows = values
            .chunks_exact(kind.values(width))
            .map(|row| Row::Here(row.into()));
        Self::new(
            InputTable::from_rows(rows.collect(), kind, width, views),
            targets,
        )
    }

    /// Inputs with their targets.
    ///
    /// # Panics
    /// If there are not as many of both.
    pub fn new(inputs: InputTable, targets: Vec<T>) -> Self {
        assert_eq!(inputs.count(), targets.len(), "one target for each input");
        Self { inputs, targets }
    }

    /// No example at all, for methods that learn nothing.
    pub fn none(width: usize) -> Self {
        let inputs = InputTable {
            kind: InputKind::Features,
            width,
            views: 1,
            rows: Vec::new(),
        };
        Self {
            inputs,
            targets: Vec::new(),
        }
    }

    /// Returns the number of examples, N.
    pub fn count(&self) -> usize {
        self.targets.len()
    }

    /// Returns the first views of all examples in parts of `at_once` (at least one), with their targets.
    ///
    /// # Errors
    /// See [`InputTable::select`].
    pub fn parts<'a>(
        &'a self,
        at_once: usize,
        device: &'a Device,
    ) -> impl Iterator<Item = Result<(&'a [T], Inputs), InputError>> {
        let at_once = at_once.max(1);
        let parts = self.targets.chunks(at_once).enumerate();
        parts.map(move |(part, targets)| {
            let first = part * at_once;
            let which: Vec<_> = (first..first + targets.len())
                .map(|example| (example, 0))
                .collect();
            Ok((targets, self.inputs.select(&which, device)?))
        })
    }
}

impl InputTable {
    /// Rows of a features file, left where they lie; with random views if each example has as many of them.
    ///
    /// # Panics
    /// If there are no rows.
    pub fn stored(file: &Arc<FeaturesFile>, rows: &[usize], views: Views) -> Self {
        let examples: Vec<Vec<usize>> = rows
            .iter()
            .map(|&row| match views {
                Views::Whole => vec![row],
                Views::Random { .. } => file.views_of(row),
            })
            .collect();
        let fewest = examples.iter().map(Vec::len).min().unwrap_or(1);
        let equal = examples.iter().all(|rows| rows.len() == fewest);
        let count = if equal { fewest } else { 1 };
        let rows = examples
            .iter()
            .flat_map(|rows| &rows[..count])
            .map(|&row| Row::Stored(Arc::clone(file), row));
        Self::from_rows(rows.collect(), InputKind::Features, file.width(), count)
    }

    pub(super) fn from_rows(rows: Vec<Row>, kind: InputKind, width: usize, views: usize) -> Self {
        assert!(views > 0 && !rows.is_empty(), "there is at least one input");
        assert_eq!(rows.len() % views, 0, "every example has all views");
        Self {
            kind,
            width,
            views,
            rows,
        }
    }

    /// Returns the number of examples, N.
    pub fn count(&self) -> usize {
        self.rows.len() / self.views
    }

    /// Returns the views of each example, V.
    pub fn views(&self) -> usize {
        self.views
    }

    /// Returns the width of a feature, D.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Returns what the inputs are.
    pub fn kind(&self) -> InputKind {
        self.kind
    }

    /// Returns the inputs of some (example, view), B of them.
    ///
    /// # Errors
    /// A picture that cannot be read any more.
    ///
    /// # Panics
    /// If there is no such example or view.
    pub fn select(&self, which: &[(usize, usize)], device: &Device) -> Result<Inputs, InputError> {
        let values = self.values(which)?;
        Ok(self.kind.batch(values, self.width, device))
    }

    /// Returns the values of some (example, view), one after another.
    fn values(&self, which: &[(usize, usize)]) -> Result<Vec<f32>, ImageError> {
        let length = self.kind.values(self.width);
        let mut values = vec![0.0; which.len() * length];
        values
            .par_chunks_exact_mut(length)
            .with_min_len(ROWS_A_THREAD)
            .zip(which)
            .try_for_each(|(values, &(example, view))| {
                assert!(view < self.views, "view {view} of {}", self.views);
                self.rows[example * self.views + view].read(values)
            })?;
        Ok(values)
    }

    /// Returns the features of all views of every example, `[N · V, D]`, not of unit length.
    ///
    /// # Errors
    /// The inputs are pixels.
    pub fn all_features(&self, device: &Device) -> Result<Tensor<2>, InputError> {
        let every: Vec<_> = (0..self.rows.len())
            .map(|row| (row / self.views, row % self.views))
            .collect();
        self.select(&every, device)?.features()
    }

    /// Returns the features of the first view of every example, `[N, D]`, not of unit length.
    ///
    /// # Errors
    /// The inputs are pixels.
    pub fn first_features(&self, device: &Device) -> Result<Tensor<2>, InputError> {
        let first: Vec<_> = (0..self.count()).map(|example| (example, 0)).collect();
        self.select(&first, device)?.features()
    }
}

impl Row {
    /// Fills `values`, D of them.
    fn read(&self, values: &mut [f32]) -> Result<(), ImageError> {
        match self {
            Self::Here(row) => values.copy_from_slice(row),
            Self::Cached(row) => row.read(values),
            Self::Stored(file, row) => file.read_row(*row, values),
            Self::Picture { path, view, reader } => reader.read(path, *view, values)?,
        }
        Ok(())
    }
}
