//! Features of the examples of one split, wherever they lie: in memory, or on disk where the cache keeps them.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::cache::CachedRow;
use crate::data::FeaturesFile;

/// Features of N pictures in V views each, with a label for each picture; rows are read when they are asked for.
#[derive(Clone, Debug)]
pub struct LabelledFeatures {
    width: usize,
    views: usize,
    /// Row v of picture i is at `i · V + v`.
    rows: Vec<Row>,
    labels: Vec<usize>,
}

/// One feature.
#[derive(Clone, Debug)]
pub(super) enum Row {
    /// D values in memory.
    Here(Box<[f32]>),
    /// In the cache.
    Cached(CachedRow),
    /// In the data set's own file.
    Stored(Arc<FeaturesFile>, usize),
}

impl LabelledFeatures {
    /// Features `[N · V, D]` of N labelled pictures, the views of a picture one after another.
    ///
    /// # Panics
    /// If the numbers do not fit each other, or there is nothing.
    pub fn new(features: &[f32], width: usize, views: usize, labels: Vec<usize>) -> Self {
        let rows = features
            .chunks_exact(width)
            .map(|row| Row::Here(row.into()));
        Self::from_rows(rows.collect(), width, views, labels)
    }

    /// No picture at all, for methods that learn nothing.
    pub fn nothing(width: usize) -> Self {
        Self {
            width,
            views: 1,
            rows: Vec::new(),
            labels: Vec::new(),
        }
    }

    pub(super) fn from_rows(
        rows: Vec<Row>,
        width: usize,
        views: usize,
        labels: Vec<usize>,
    ) -> Self {
        assert!(
            views > 0 && !labels.is_empty(),
            "there is at least one feature"
        );
        assert_eq!(
            rows.len(),
            labels.len() * views,
            "one row for each view of each picture"
        );
        Self {
            width,
            views,
            rows,
            labels,
        }
    }

    /// Pictures, N.
    pub fn pictures(&self) -> usize {
        self.labels.len()
    }

    /// Views of each picture, V.
    pub fn views(&self) -> usize {
        self.views
    }

    /// Width of a feature, D.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Class of each picture.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Features of some (picture, view), `[B, D]`, not of unit length.
    ///
    /// # Panics
    /// If there is no such picture or view.
    pub fn select(&self, which: &[(usize, usize)], device: &Device) -> Tensor<2> {
        let mut values = Vec::with_capacity(which.len() * self.width);
        for &(picture, view) in which {
            assert!(view < self.views, "view {view} of {}", self.views);
            match &self.rows[picture * self.views + view] {
                Row::Here(row) => values.extend_from_slice(row),
                Row::Cached(row) => row.extend(&mut values),
                Row::Stored(file, row) => values.extend(file.read(&[*row])),
            }
        }
        Tensor::from_data(TensorData::new(values, [which.len(), self.width]), device)
    }

    /// The first view of every picture, `[N, D]`.
    pub fn first_views(&self, device: &Device) -> Tensor<2> {
        let which: Vec<_> = (0..self.pictures()).map(|picture| (picture, 0)).collect();
        self.select(&which, device)
    }
}
