//! The examples of a data set to features: read from its features file, found in the cache, or encoded.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use super::cache::{FeatureCache, Key};
use super::encoder::{PictureEncoder, PictureReader, Request, View};
use super::table::{LabelledFeatures, Row};
use crate::data::{Dataset, Example, FeaturesFile, Input};
use crate::image::{DecodeOptions, ImageError, Preprocess};
use crate::model::{Model, ModelError};

/// What is encoded is written to the cache at least this often: a kill loses no more.
const WRITE_EVERY: Duration = Duration::from_secs(20);
/// And at least after this many features, which bounds the memory.
const WRITE_ROWS: usize = 16_384;

/// Part of every cache key: raise it when pictures are prepared in another way than before, or when a tower adds in another order:
/// a run must not come to something else because its features were kept by an earlier version.
const PREPARATION: u8 = 2;

/// How pictures become features.
#[derive(Clone, Debug, Default)]
pub struct EncodingOptions {
    /// Turn pictures upright as their EXIF orientation says.
    pub honour_exif: bool,
    /// Stop at the first picture that cannot be read, instead of leaving it out.
    pub strict: bool,
    /// Root of the cache; without it every picture is encoded anew.
    pub cache: Option<PathBuf>,
}

/// The views to encode of each picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Views {
    /// The picture itself, as for the test.
    Whole,
    /// So many random views of this seed.
    Random {
        /// Views of each picture, at least one.
        count: usize,
        /// The smallest share of the picture's area that a crop may have, in percent.
        least_area: u8,
        /// Seed of the run.
        seed: u64,
    },
}

/// What a method is given of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sees {
    /// The feature that the frozen image tower makes of it, `[D]`.
    #[default]
    Features,
    /// Its pixels in 0..1, `[3 · side · side]`: the method changes what the tower sees, or the tower.
    Pixels {
        /// Side of the square.
        side: usize,
        /// Whether the margin is cut off that the model cuts off its own input.
        margin: bool,
    },
}

/// Watches pictures being encoded.
pub trait EncodingWatcher {
    /// Views done, of all that had to be encoded.
    fn encoded(&self, done: usize, all: usize);
    /// Something a person should know, such as a picture that was left out.
    fn remark(&self, text: String);
}

/// Why there are no features.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeatureError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// There are no such examples.
    #[error("{} has no such examples", path.display())]
    NoExamples {
        /// The data set.
        path: PathBuf,
    },
    /// Features where pictures are needed.
    #[error(
        "{} holds features; this method learns from the pictures themselves: give it their folder", path.display()
    )]
    NeedsPictures {
        /// The features file.
        path: PathBuf,
    },
    /// Features of another model.
    #[error(
        "{} holds features of width {found}, the model's are {expected} wide: encode the pictures with this model",
        path.display()
    )]
    Width {
        /// The features file.
        path: PathBuf,
        /// Its width.
        found: usize,
        /// The model's.
        expected: usize,
    },
    /// A picture that cannot be read, and the user wants to know.
    #[error("--strict stops at a picture that cannot be read: {0}")]
    Unreadable(ImageError),
    /// Not one picture can be read.
    #[error("no picture could be read; the first is {}: {source}", path.display())]
    NothingReadable {
        /// The first picture.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
}

/// A model's way from pictures to features, with the cache of what it encoded before.
#[derive(Debug)]
pub struct ExampleEncoder<'a> {
    model: &'a Model,
    /// What is asked for.
    sees: Sees,
    cache: Option<FeatureCache>,
    options: EncodingOptions,
    /// Pictures that declare more are refused.
    max_pixels: u64,
    /// Made when the first picture is encoded: what is cached needs no tower.
    encoder: OnceLock<PictureEncoder>,
}

impl<'a> ExampleEncoder<'a> {
    /// The image side of `model`, whose fingerprint is `fingerprint`.
    pub fn new(model: &'a Model, fingerprint: &str, options: EncodingOptions, sees: Sees) -> Self {
        let root = options.cache.as_ref().filter(|_| sees == Sees::Features);
        let cache = root.map(|root| {
            let mut encoding = blake3::Hasher::new();
            encoding.update(fingerprint.as_bytes());
            let normalisation = model.normalization_values();
            for value in normalisation.mean.iter().chain(&normalisation.std) {
                encoding.update(&value.to_le_bytes());
            }
            let preprocess = model.preprocess(model.config().image.image_size());
            // A CLIP's weights and their fingerprint fix all of this.
            if model.config().text.is_none() {
                encoding.update(format!("{:?} {preprocess:?}", model.config()).as_bytes());
            }
            encoding.update(&[u8::from(options.honour_exif), PREPARATION]);
            let encoding = encoding.finalize().to_hex();
            FeatureCache::new(
                root,
                &encoding[..32],
                model.source(),
                model.config().embedding_width,
            )
        });
        Self {
            model,
            sees,
            cache,
            options,
            max_pixels: DecodeOptions::default().max_pixels,
            encoder: OnceLock::new(),
        }
    }

    /// The same, which refuses pictures that declare more pixels (width x height).
    pub fn refusing_above(self, max_pixels: u64) -> Self {
        Self { max_pixels, ..self }
    }

    /// Features of `examples` in these views. A features file has the views that it has, and pictures of it that differ in
    /// their number have one; a picture that cannot be read is left out.
    ///
    /// # Errors
    /// All of [`FeatureError`].
    pub fn labelled(
        &self,
        dataset: &Dataset,
        examples: &[Example],
        views: Views,
        watcher: &impl EncodingWatcher,
    ) -> Result<LabelledFeatures, FeatureError> {
        let (_, features) = self.readable(dataset, examples, views, watcher)?;
        Ok(features)
    }

    /// The same, behind the places in `examples` of those that could be read.
    ///
    /// # Errors
    /// All of [`FeatureError`].
    pub fn readable(
        &self,
        dataset: &Dataset,
        examples: &[Example],
        views: Views,
        watcher: &impl EncodingWatcher,
    ) -> Result<(Vec<usize>, LabelledFeatures), FeatureError> {
        if examples.is_empty() {
            return Err(FeatureError::NoExamples {
                path: dataset.root.clone(),
            });
        }
        if let Some(file) = &dataset.features {
            self.check(file)?;
            let all = (0..examples.len()).collect();
            return Ok((all, LabelledFeatures::stored(file, examples, views)));
        }
        let paths: Vec<&Path> = examples.iter().filter_map(picture).collect();
        let (kept, rows) = self.rows(&paths, views, watcher)?;
        let labels = kept.iter().map(|&index| examples[index].label).collect();
        let features = LabelledFeatures::from_rows(rows, self.width(), views.count(), labels);
        Ok((kept, features))
    }

    /// Features of loose pictures, and which of `paths` could be read.
    ///
    /// # Errors
    /// Not one picture can be read, or with `strict` one of them.
    pub fn pictures(
        &self,
        paths: &[PathBuf],
        watcher: &impl EncodingWatcher,
    ) -> Result<(Vec<usize>, LabelledFeatures), FeatureError> {
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let (kept, rows) = self.rows(&paths, Views::Whole, watcher)?;
        let labels = vec![0; kept.len()];
        let features = LabelledFeatures::from_rows(rows, self.width(), 1, labels);
        Ok((kept, features))
    }

    /// Refuses a features file that cannot stand for the pictures.
    ///
    /// # Errors
    /// Pixels are asked for, or its rows are not as wide as the model's features.
    pub fn check(&self, file: &FeaturesFile) -> Result<(), FeatureError> {
        let path = file.path().to_owned();
        if self.sees != Sees::Features {
            return Err(FeatureError::NeedsPictures { path });
        }
        match (file.width(), self.width()) {
            (found, expected) if found != expected => Err(FeatureError::Width {
                path,
                found,
                expected,
            }),
            _ => Ok(()),
        }
    }

    fn width(&self) -> usize {
        match self.sees {
            Sees::Features => self.model.config().embedding_width,
            Sees::Pixels { side, .. } => 3 * side * side,
        }
    }

    /// How pictures are read for what is asked for.
    pub fn reader(&self) -> PictureReader {
        let preprocess = match self.sees {
            Sees::Features => self
                .model
                .preprocess(self.model.config().image.image_size()),
            Sees::Pixels { side, margin: true } => self.model.preprocess(side),
            Sees::Pixels { side, .. } => Preprocess::new(side as u32),
        };
        PictureReader {
            preprocess,
            decoding: DecodeOptions {
                honour_exif: self.options.honour_exif,
                max_pixels: self.max_pixels,
                ..DecodeOptions::default()
            },
        }
    }

    /// What is asked for of pictures that [the reader](Self::reader) has read, a batch of B: pixels
    /// `[B, 3, side, side]` in 0..1, one after another -> `[B, D]`.
    ///
    /// # Errors
    /// The model cannot be used.
    pub fn of_pixels(&self, pixels: Vec<f32>) -> Result<Tensor<2>, ModelError> {
        let rows = match self.sees {
            Sees::Features => self.encoder()?.features(pixels),
            Sees::Pixels { .. } => pixels,
        };
        let shape = [rows.len() / self.width(), self.width()];
        Ok(Tensor::from_data(
            TensorData::new(rows, shape),
            self.model.device(),
        ))
    }

    fn encoder(&self) -> Result<&PictureEncoder, ModelError> {
        if let Some(encoder) = self.encoder.get() {
            return Ok(encoder);
        }
        let encoder = PictureEncoder {
            tower: self.model.image_tower()?,
            normalisation: self.model.normalisation(),
            reader: self.reader(),
            device: self.model.device().clone(),
        };
        Ok(self.encoder.get_or_init(|| encoder))
    }

    /// Which of `paths` can be read, and the rows of all their views.
    fn rows(
        &self,
        paths: &[&Path],
        views: Views,
        watcher: &impl EncodingWatcher,
    ) -> Result<(Vec<usize>, Vec<Row>), FeatureError> {
        let requests: Vec<Request<'_>> = paths
            .iter()
            .flat_map(|&path| views.each().map(move |view| Request { path, view }))
            .collect();
        if self.sees != Sees::Features {
            return self.pictures_to_decode(paths, &requests, views, watcher);
        }
        let keys = match &self.cache {
            Some(_) => keys(paths, views),
            None => vec![None; requests.len()],
        };
        let mut rows: Vec<Option<Row>> = self.cached(&keys);
        let missing: Vec<usize> = (0..requests.len())
            .filter(|&request| rows[request].is_none())
            .collect();
        if !missing.is_empty() {
            let skipped = self.encode_missing(&requests, &keys, &missing, &mut rows, watcher)?;
            let nothing = rows.iter().all(Option::is_none);
            self.report(skipped, paths.len(), nothing, watcher)?;
        }

        // A picture counts with all its views or not at all.
        let mut kept = Vec::new();
        let mut kept_rows = Vec::with_capacity(rows.len());
        for (picture, rows) in rows.chunks_exact_mut(views.count()).enumerate() {
            if rows.iter().all(Option::is_some) {
                kept.push(picture);
                kept_rows.extend(rows.iter_mut().filter_map(Option::take));
            }
        }
        Ok((kept, kept_rows))
    }

    /// Rows that are decoded when they are asked for. Each picture is decoded once now, to know whether it can be.
    fn pictures_to_decode(
        &self,
        paths: &[&Path],
        requests: &[Request<'_>],
        views: Views,
        watcher: &impl EncodingWatcher,
    ) -> Result<(Vec<usize>, Vec<Row>), FeatureError> {
        let reader = Arc::new(self.reader());
        let count = views.count();
        let outcomes: Vec<Result<(), ImageError>> = requests
            .par_chunks(count)
            .map(|of_picture| reader.views(&of_picture[..1]).map(drop))
            .collect();
        let (mut kept, mut rows, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for (picture, outcome) in outcomes.into_iter().enumerate() {
            if let Err(error) = outcome {
                skipped.push((paths[picture].to_owned(), error));
                continue;
            }
            kept.push(picture);
            let of_picture = &requests[picture * count..][..count];
            rows.extend(of_picture.iter().map(|request| Row::Picture {
                path: request.path.to_owned(),
                view: request.view,
                reader: Arc::clone(&reader),
            }));
        }
        self.report(skipped, paths.len(), kept.is_empty(), watcher)?;
        Ok((kept, rows))
    }

    fn cached(&self, keys: &[Option<Key>]) -> Vec<Option<Row>> {
        let mut rows = vec![None; keys.len()];
        if let Some(cache) = &self.cache {
            let (places, known): (Vec<usize>, Vec<Key>) = keys
                .iter()
                .enumerate()
                .filter_map(|(place, key)| Some((place, (*key)?)))
                .unzip();
            for (place, row) in places.into_iter().zip(cache.find(&known)) {
                rows[place] = row.map(Row::Cached);
            }
        }
        rows
    }

    /// Encodes what is `missing`, writing to the cache now and then; returns the pictures that cannot be read.
    fn encode_missing(
        &self,
        requests: &[Request<'_>],
        keys: &[Option<Key>],
        missing: &[usize],
        rows: &mut [Option<Row>],
        watcher: &impl EncodingWatcher,
    ) -> Result<Vec<(PathBuf, ImageError)>, FeatureError> {
        let encoder = self.encoder()?;
        let asked: Vec<Request<'_>> = missing.iter().map(|&request| requests[request]).collect();
        let width = self.width();
        let mut skipped: Vec<(PathBuf, ImageError)> = Vec::new();
        let mut unwritten: Vec<usize> = Vec::new();
        let mut written = Instant::now();
        let mut done = 0;
        let write = |unwritten: &mut Vec<usize>, rows: &mut [Option<Row>]| {
            if let Err(error) = self.write(unwritten, keys, rows) {
                watcher.remark(format!("features could not be kept in the cache: {error}"));
            }
            unwritten.clear();
        };
        watcher.encoded(0, asked.len());
        encoder.encode(&asked, |batch| {
            done += batch.requests;
            for (&kept, row) in batch.kept.iter().zip(batch.features.chunks_exact(width)) {
                rows[missing[kept]] = Some(Row::Here(row.into()));
                unwritten.push(missing[kept]);
            }
            skipped.extend(batch.skipped);
            if written.elapsed() >= WRITE_EVERY || unwritten.len() >= WRITE_ROWS {
                write(&mut unwritten, rows);
                written = Instant::now();
            }
            watcher.encoded(done, asked.len());
        });
        write(&mut unwritten, rows);
        let mut seen = HashSet::new();
        skipped.retain(|(path, _)| seen.insert(path.clone()));
        Ok(skipped)
    }

    /// Moves rows from memory to the cache, if there is one.
    fn write(
        &self,
        places: &[usize],
        keys: &[Option<Key>],
        rows: &mut [Option<Row>],
    ) -> std::io::Result<()> {
        let Some(cache) = &self.cache else {
            return Ok(());
        };
        let mut known = Vec::with_capacity(places.len());
        let mut features = Vec::new();
        let mut moved = Vec::with_capacity(places.len());
        for &place in places {
            if let (Some(key), Some(Row::Here(row))) = (keys[place], &rows[place]) {
                known.push(key);
                features.extend_from_slice(row);
                moved.push(place);
            }
        }
        if known.is_empty() {
            return Ok(());
        }
        cache.add(&known, &features)?;
        for (place, row) in moved.into_iter().zip(cache.find(&known)) {
            if let Some(row) = row {
                rows[place] = Some(Row::Cached(row));
            }
        }
        Ok(())
    }

    /// Says which of the `pictures` were left out; an error if that is not allowed, or leaves `nothing`.
    fn report(
        &self,
        skipped: Vec<(PathBuf, ImageError)>,
        pictures: usize,
        nothing: bool,
        watcher: &impl EncodingWatcher,
    ) -> Result<(), FeatureError> {
        let count = skipped.len();
        for (_, error) in &skipped {
            watcher.remark(format!("left out: {error}"));
        }
        let Some((path, source)) = skipped.into_iter().next() else {
            return Ok(());
        };
        if self.options.strict {
            return Err(FeatureError::Unreadable(source));
        }
        if nothing {
            return Err(FeatureError::NothingReadable { path, source });
        }
        watcher.remark(format!(
            "{count} of {pictures} pictures left out because they cannot be read"
        ));
        Ok(())
    }
}

impl Views {
    /// Views of each picture.
    pub fn count(self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Random { count, .. } => count,
        }
    }

    fn each(self) -> impl Iterator<Item = View> {
        (0..self.count()).map(move |index| match self {
            Self::Whole => View::Whole,
            Self::Random {
                least_area, seed, ..
            } => View::Random {
                least_area,
                seed,
                index,
            },
        })
    }
}

/// The picture behind an example.
fn picture(example: &Example) -> Option<&Path> {
    match &example.input {
        Input::Picture(path) => Some(path),
        _ => None,
    }
}

/// The names of all views of all pictures in the cache; none for a file that cannot be read.
fn keys(paths: &[&Path], views: Views) -> Vec<Option<Key>> {
    let pictures: Vec<Option<blake3::Hash>> = paths
        .par_iter()
        .map(|path| {
            let mut hash = blake3::Hasher::new();
            hash.update_reader(File::open(path).ok()?).ok()?;
            Some(hash.finalize())
        })
        .collect();
    let key = |picture: &blake3::Hash, view: View| {
        let mut hash = blake3::Hasher::new();
        hash.update(picture.as_bytes());
        match view {
            View::Whole => hash.update(b"whole"),
            View::Random {
                least_area,
                seed,
                index,
            } => hash
                .update(b"random")
                .update(&[least_area])
                .update(&seed.to_le_bytes())
                .update(&(index as u64).to_le_bytes()),
        };
        *hash.finalize().as_bytes()
    };
    pictures
        .iter()
        .flat_map(|picture| {
            views
                .each()
                .map(move |view| picture.as_ref().map(|picture| key(picture, view)))
        })
        .collect()
}
