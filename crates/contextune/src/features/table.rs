//! What is known of the examples of one split, wherever it lies: features in memory or on disk, or the pictures themselves.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::cache::CachedRow;
use super::encoder::{PictureReader, Request, View};
use super::examples::Views;
use crate::data::{Example, FeaturesFile, Input};
use crate::image::ImageError;

/// Rows that are worth a thread of their own only together: most are a copy of a kilobyte.
const ROWS_A_THREAD: usize = 8;

/// Features, or the pixels, of N pictures in V views each, with a label for each picture; rows are read when they are asked
/// for.
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
    /// The pixels of a view, D = 3 · size · size values in 0..1, decoded when they are asked for.
    Picture {
        path: PathBuf,
        view: View,
        reader: Arc<PictureReader>,
    },
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

    /// Examples of a features file, left where they lie; with random views if each picture has as many of them.
    ///
    /// # Panics
    /// If there are no examples.
    pub fn stored(file: &Arc<FeaturesFile>, examples: &[Example], views: Views) -> Self {
        let pictures: Vec<Vec<usize>> = examples
            .iter()
            .filter_map(|example| match (&example.input, views) {
                (Input::FeatureRow(row), Views::Whole) => Some(vec![*row]),
                (Input::FeatureRow(row), Views::Random { .. }) => Some(file.views_of(*row)),
                _ => None,
            })
            .collect();
        let fewest = pictures.iter().map(Vec::len).min().unwrap_or(1);
        let equal = pictures.iter().all(|rows| rows.len() == fewest);
        let count = if equal { fewest } else { 1 };
        let rows = pictures
            .iter()
            .flat_map(|rows| &rows[..count])
            .map(|&row| Row::Stored(Arc::clone(file), row));
        let labels = examples.iter().map(|example| example.label).collect();
        Self::from_rows(rows.collect(), file.width(), count, labels)
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

    /// Whether these are the pixels of pictures, decoded when they are asked for.
    pub fn are_pixels(&self) -> bool {
        matches!(self.rows.first(), Some(Row::Picture { .. }))
    }

    /// Class of each picture.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Features of some (picture, view), `[B, D]`, not of unit length; or their pixels in 0..1.
    ///
    /// # Errors
    /// A picture that cannot be read any more.
    ///
    /// # Panics
    /// If there is no such picture or view.
    pub fn select(
        &self,
        which: &[(usize, usize)],
        device: &Device,
    ) -> Result<Tensor<2>, ImageError> {
        let mut values = vec![0.0; which.len() * self.width];
        values
            .par_chunks_exact_mut(self.width)
            .with_min_len(ROWS_A_THREAD)
            .zip(which)
            .try_for_each(|(values, &(picture, view))| {
                assert!(view < self.views, "view {view} of {}", self.views);
                self.rows[picture * self.views + view].read(values)
            })?;
        let values = TensorData::new(values, [which.len(), self.width]);
        Ok(Tensor::from_data(values, device))
    }

    /// The first views of all pictures, so many at once (at least one): labels and features `[n, D]` of each part.
    ///
    /// # Errors
    /// See [`Self::select`].
    pub fn parts<'a>(
        &'a self,
        at_once: usize,
        device: &'a Device,
    ) -> impl Iterator<Item = Result<(&'a [usize], Tensor<2>), ImageError>> {
        let at_once = at_once.max(1);
        self.labels
            .chunks(at_once)
            .enumerate()
            .map(move |(part, labels)| {
                let first = part * at_once;
                let which: Vec<_> = (first..first + labels.len())
                    .map(|picture| (picture, 0))
                    .collect();
                Ok((labels, self.select(&which, device)?))
            })
    }

    /// The first view of every picture, `[N, D]`.
    ///
    /// # Errors
    /// See [`Self::select`].
    pub fn first_views(&self, device: &Device) -> Result<Tensor<2>, ImageError> {
        let which: Vec<_> = (0..self.pictures()).map(|picture| (picture, 0)).collect();
        self.select(&which, device)
    }
}

impl Row {
    /// Fills `values`, D of them.
    fn read(&self, values: &mut [f32]) -> Result<(), ImageError> {
        match self {
            Self::Here(row) => values.copy_from_slice(row),
            Self::Cached(row) => row.read(values),
            Self::Stored(file, row) => file.read_row(*row, values),
            Self::Picture { path, view, reader } => {
                let (path, view) = (path.as_path(), *view);
                values.copy_from_slice(&reader.views(&[Request { path, view }])?);
            }
        }
        Ok(())
    }
}
