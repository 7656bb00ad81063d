//! The inputs of a data set: read from its features file, found in the cache, encoded, or left as pictures to be decoded.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::cache::{CacheIndex, FeatureCache, Key};
use super::pipeline::read_ahead;
use super::reader::PictureReader;
use super::table::{InputTable, Row};
use super::tower::PictureTower;
use super::views::{View, Views};
use super::{InputError, InputKind, Inputs};
use crate::data::{FeaturesFile, Input};
use crate::image::{DecodeOptions, ImageError, Preprocess};
use crate::model::{Model, ModelError};

/// What is encoded is written to the cache at least this often: a kill loses no more.
const WRITE_EVERY: Duration = Duration::from_secs(20);
/// And at least after this many features, which bounds the memory.
const WRITE_ROWS: usize = 16_384;

/// Part of every cache key: raise it when pictures are prepared in another way than before, or when a tower adds in another order:
/// a run must not come to something else because its features were kept by an earlier version.
const PREPARATION: u8 = 3;

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

/// Watches pictures being encoded.
pub trait EncodingWatcher {
    /// Called with the views that are there, of all that were asked for; not at all where nothing has to be encoded.
    fn encoded(&self, done: usize, all: usize);
    /// Called with what a person should know, such as a picture that was left out.
    fn remark(&self, text: String);
}

/// Where the inputs of a data set lie.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The folder or file, for errors.
    pub root: &'a Path,
    /// The file that [`Input::FeatureRow`] refers to, if there is one.
    pub features: Option<&'a Arc<FeaturesFile>>,
}

/// A model's way from examples on disk to what a method is given of them, with the cache of what it encoded before.
#[derive(Debug)]
pub struct InputEncoder<'a> {
    model: &'a Model,
    /// What is asked for.
    kind: InputKind,
    cache: Option<FeatureCache>,
    /// What the cache held when it was first asked.
    index: OnceLock<CacheIndex>,
    options: EncodingOptions,
    /// Pictures that declare more are refused.
    max_pixels: u64,
    /// Made when the first picture is encoded: what is cached needs no tower.
    tower: OnceLock<PictureTower>,
}

impl<'a> InputEncoder<'a> {
    /// Prepares the image side of `model` to give inputs of this kind.
    ///
    /// # Errors
    /// The model cannot be read.
    pub fn new(
        model: &'a Model,
        options: EncodingOptions,
        kind: InputKind,
    ) -> Result<Self, ModelError> {
        let root = options.cache.as_ref();
        let cache = match root.filter(|_| kind == InputKind::Features) {
            Some(root) => Some(Self::cache(root, model, &options)?),
            None => None,
        };
        Ok(Self {
            model,
            kind,
            cache,
            index: OnceLock::new(),
            options,
            max_pixels: DecodeOptions::default().max_pixels,
            tower: OnceLock::new(),
        })
    }

    /// The cache for all that decides about a feature.
    fn cache(
        root: &Path,
        model: &Model,
        options: &EncodingOptions,
    ) -> Result<FeatureCache, ModelError> {
        let mut encoding = blake3::Hasher::new();
        encoding.update(model.fingerprint()?.as_bytes());
        let normalisation = model.normalization_values();
        for value in normalisation.mean.iter().chain(&normalisation.std) {
            encoding.update(&value.to_le_bytes());
        }
        let preprocess = model.preprocess(model.config().image.image_size());
        encoding.update(format!("{preprocess:?}").as_bytes());
        // A CLIP's weights and their fingerprint fix all of this.
        if model.config().text.is_none() {
            encoding.update(format!("{:?}", model.config()).as_bytes());
        }
        encoding.update(&[u8::from(options.honour_exif), PREPARATION]);
        let encoding = encoding.finalize().to_hex();
        let width = model.config().embedding_width;
        Ok(FeatureCache::new(
            root,
            &encoding[..32],
            model.source(),
            width,
        ))
    }

    /// Refuses pictures that declare more pixels (width x height).
    pub fn refusing_above(self, max_pixels: u64) -> Self {
        Self { max_pixels, ..self }
    }

    /// Returns what this encoder gives of each example.
    pub fn kind(&self) -> InputKind {
        self.kind
    }

    /// Returns the inputs of examples in these views, and which of the examples could be read. A features file has the views
    /// that it has, and examples of it that differ in their number have one; a picture that cannot be read is left out.
    ///
    /// # Errors
    /// All of [`InputError`].
    pub fn inputs(
        &self,
        place: Place<'_>,
        inputs: &[&Input],
        views: Views,
        watcher: &dyn EncodingWatcher,
    ) -> Result<(Vec<usize>, InputTable), InputError> {
        let no_examples = || InputError::NoExamples {
            path: place.root.to_owned(),
        };
        if inputs.is_empty() {
            return Err(no_examples());
        }
        let Some(file) = place.features else {
            let (examples, paths): (Vec<usize>, Vec<&Path>) = inputs
                .iter()
                .enumerate()
                .filter_map(|(example, input)| match input {
                    Input::Picture(path) => Some((example, path.as_path())),
                    _ => None,
                })
                .unzip();
            if paths.is_empty() {
                return Err(no_examples());
            }
            let (kept, table) = self.of_pictures(&paths, views, watcher)?;
            return Ok((kept.into_iter().map(|kept| examples[kept]).collect(), table));
        };
        self.check(file)?;
        let (examples, rows): (Vec<usize>, Vec<usize>) = inputs
            .iter()
            .enumerate()
            .filter_map(|(example, input)| match input {
                Input::FeatureRow(row) => Some((example, *row)),
                _ => None,
            })
            .unzip();
        if rows.is_empty() {
            return Err(no_examples());
        }
        Ok((examples, InputTable::stored(file, &rows, views)))
    }

    /// Returns the inputs of loose pictures, and which of `paths` could be read.
    ///
    /// # Errors
    /// Not one picture can be read, or with [`EncodingOptions::strict`] one of them cannot.
    pub fn pictures(
        &self,
        paths: &[PathBuf],
        watcher: &dyn EncodingWatcher,
    ) -> Result<(Vec<usize>, InputTable), InputError> {
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        self.of_pictures(&paths, Views::Whole, watcher)
    }

    fn of_pictures(
        &self,
        paths: &[&Path],
        views: Views,
        watcher: &dyn EncodingWatcher,
    ) -> Result<(Vec<usize>, InputTable), InputError> {
        let (kept, rows) = match self.kind {
            InputKind::Features => self.encode(paths, views, watcher)?,
            InputKind::Pixels { .. } => self.pictures_to_decode(paths, views, watcher)?,
        };
        let table = InputTable::from_rows(rows, self.kind, self.width(), views.count());
        Ok((kept, table))
    }

    /// Refuses a features file that cannot stand for the pictures.
    ///
    /// # Errors
    /// Pixels are asked for, or its rows are not as wide as the model's features.
    pub fn check(&self, file: &FeaturesFile) -> Result<(), InputError> {
        let path = file.path().to_owned();
        if self.kind != InputKind::Features {
            return Err(InputError::NeedsPictures { path });
        }
        match (file.width(), self.width()) {
            (found, expected) if found != expected => Err(InputError::Width {
                path,
                found,
                expected,
            }),
            _ => Ok(()),
        }
    }

    /// Values of a feature.
    fn width(&self) -> usize {
        self.model.config().embedding_width
    }

    /// Returns how pictures are read for what is asked for.
    pub fn reader(&self) -> PictureReader {
        let preprocess = match self.kind {
            InputKind::Features => self
                .model
                .preprocess(self.model.config().image.image_size()),
            InputKind::Pixels { side, margin: true } => self.model.preprocess(side),
            InputKind::Pixels { side, .. } => Preprocess::new(side as u32),
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

    /// Returns the values of the inputs of pictures that [the reader](Self::reader) has read, one input after another, from
    /// their pixels `[B, 3, side, side]` in 0..1; [`Self::batch`] makes a batch of any of them.
    ///
    /// # Errors
    /// The model cannot be used.
    pub fn values(&self, pixels: Vec<f32>) -> Result<Vec<f32>, InputError> {
        match self.kind {
            InputKind::Features => Ok(self.tower()?.features(pixels)?),
            InputKind::Pixels { .. } => Ok(pixels),
        }
    }

    /// Returns the number of values of an input.
    pub fn values_of_input(&self) -> usize {
        self.kind.values(self.width())
    }

    /// Returns inputs as a batch, from their values one input after another.
    pub fn batch(&self, values: Vec<f32>) -> Inputs {
        self.kind.batch(values, self.width(), self.model.device())
    }

    fn tower(&self) -> Result<&PictureTower, ModelError> {
        if let Some(tower) = self.tower.get() {
            return Ok(tower);
        }
        let tower = PictureTower {
            tower: self.model.image_tower()?,
            normalisation: self.model.normalisation(),
            side: self.model.config().image.image_size(),
            device: self.model.device().clone(),
        };
        Ok(self.tower.get_or_init(|| tower))
    }

    /// Features from the cache or the tower, writing to the cache now and then.
    fn encode(
        &self,
        paths: &[&Path],
        views: Views,
        watcher: &dyn EncodingWatcher,
    ) -> Result<(Vec<usize>, Vec<Row>), InputError> {
        let width = self.width();
        let mut progress = Encoded {
            encoder: self,
            rows: vec![None; paths.len() * views.count()],
            unwritten: Vec::new(),
            written: Instant::now(),
            watcher,
        };
        let mut skipped: Vec<(PathBuf, ImageError)> = Vec::new();
        let (mut done, mut found, mut is_told) = (0, 0, false);
        let cache = self.cache.as_ref();
        let index = cache.map(|cache| self.index.get_or_init(|| cache.index()));
        read_ahead(&self.reader(), paths, views, index, |batch| {
            found += batch.found.len();
            for (place, row) in batch.found {
                progress.rows[place] = Some(Row::Cached(row));
            }
            skipped.extend(batch.skipped);
            // Who waits for nothing but the cache is told nothing.
            let all = progress.rows.len();
            if !batch.decoded.is_empty() {
                if !is_told {
                    watcher.encoded(found, all);
                    is_told = true;
                }
                let features = self.tower()?.features(batch.pixels)?;
                done += batch.decoded.len();
                let features = features.chunks_exact(width);
                for ((place, key), feature) in batch.decoded.into_iter().zip(features) {
                    progress.rows[place] = Some(Row::Here(feature.into()));
                    progress.unwritten.extend(key.map(|key| (place, key)));
                }
                progress.write_if_due();
                watcher.encoded(found + done, all);
            }
            Ok::<_, InputError>(())
        })?;
        progress.write();
        let mut rows = progress.rows;
        if is_told {
            let all = rows.len();
            watcher.encoded(all, all); // what could not be read will not come any more
        }
        if found > 0
            && let Some(cache) = &self.cache
        {
            cache.mark_as_used();
        }
        let nothing = rows.iter().all(Option::is_none);
        self.report(skipped, paths.len(), nothing, watcher)?;

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
        views: Views,
        watcher: &dyn EncodingWatcher,
    ) -> Result<(Vec<usize>, Vec<Row>), InputError> {
        let reader = Arc::new(self.reader());
        let first = views.each().next().unwrap_or(View::Whole);
        let outcomes: Vec<Result<(), ImageError>> = paths
            .par_iter()
            .map(|path| reader.open(path)?.view(&reader, first).map(drop))
            .collect();
        let (mut kept, mut rows, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for (picture, outcome) in outcomes.into_iter().enumerate() {
            let path = paths[picture].to_owned();
            if let Err(error) = outcome {
                skipped.push((path, error));
                continue;
            }
            kept.push(picture);
            rows.extend(views.each().map(|view| Row::Picture {
                path: path.clone(),
                view,
                reader: Arc::clone(&reader),
            }));
        }
        self.report(skipped, paths.len(), kept.is_empty(), watcher)?;
        Ok((kept, rows))
    }

    /// Says which of the `pictures` were left out; an error if that is not allowed, or leaves `nothing`.
    fn report(
        &self,
        skipped: Vec<(PathBuf, ImageError)>,
        pictures: usize,
        nothing: bool,
        watcher: &dyn EncodingWatcher,
    ) -> Result<(), InputError> {
        let count = skipped.len();
        for (_, error) in &skipped {
            watcher.remark(format!("left out: {error}"));
        }
        let Some((path, source)) = skipped.into_iter().next() else {
            return Ok(());
        };
        if self.options.strict {
            return Err(InputError::Unreadable(source));
        }
        if nothing {
            return Err(InputError::NothingReadable { path, source });
        }
        watcher.remark(format!(
            "{count} of {pictures} pictures left out because they cannot be read"
        ));
        Ok(())
    }
}

/// Features on their way to the cache.
struct Encoded<'a> {
    encoder: &'a InputEncoder<'a>,
    rows: Vec<Option<Row>>,
    /// Places of rows in memory, with their names.
    unwritten: Vec<(usize, Key)>,
    written: Instant,
    watcher: &'a dyn EncodingWatcher,
}

impl Encoded<'_> {
    fn write_if_due(&mut self) {
        if self.written.elapsed() >= WRITE_EVERY || self.unwritten.len() >= WRITE_ROWS {
            self.write();
            self.written = Instant::now();
        }
    }

    /// Moves rows from memory to the cache, if there is one; a cache that cannot be written leaves them where they are.
    fn write(&mut self) {
        let Some(cache) = &self.encoder.cache else {
            return;
        };
        let (mut places, mut keys) = (Vec::new(), Vec::new());
        let mut features = Vec::new();
        for (place, key) in self.unwritten.drain(..) {
            if let Some(Row::Here(row)) = &self.rows[place] {
                places.push(place);
                keys.push(key);
                features.extend_from_slice(row);
            }
        }
        if keys.is_empty() {
            return;
        }
        match cache.add(&keys, &features) {
            Ok(Some(rows)) => {
                for (place, row) in places.into_iter().zip(rows) {
                    self.rows[place] = Some(Row::Cached(row));
                }
            }
            Ok(None) => {}
            Err(error) => self
                .watcher
                .remark(format!("features could not be kept in the cache: {error}")),
        }
    }
}

impl PictureTower {
    /// Returns the features of picture files as they are, `[N, D]` in row-major order, not of unit length.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub fn files(&self, reader: &PictureReader, paths: &[&Path]) -> Result<Vec<f32>, InputError> {
        let mut features = Vec::new();
        read_ahead(reader, paths, Views::Whole, None, |batch| {
            match batch.skipped.into_iter().next() {
                Some((_, error)) => return Err(InputError::Picture(error)),
                None => features.extend(self.features(batch.pixels)?),
            }
            Ok(())
        })?;
        Ok(features)
    }
}
