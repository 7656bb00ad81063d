//! Reading and decoding on a thread beside the tower, in batches of bounded memory. Every file is read once: its bytes give
//! its name in the cache and, where that is not known, its pixels.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use rayon::prelude::*;

use super::PICTURES_AT_ONCE;
use super::cache::{CacheIndex, CachedRow, Key};
use super::reader::{OpenPicture, PictureReader};
use super::views::{View, Views};
use crate::image::ImageError;

/// What came of some views. View v of picture i has the number i · V + v.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The views that are in the cache.
    pub(super) found: Vec<(usize, CachedRow)>,
    /// The views that were decoded, with their keys if there is a cache.
    pub(super) decoded: Vec<(usize, Option<Key>)>,
    /// The pixels of those, `[decoded, 3, size, size]` in 0..1.
    pub(super) pixels: Vec<f32>,
    /// The pictures that cannot be read, each once, with the reason.
    pub(super) skipped: Vec<(PathBuf, ImageError)>,
}

/// Reads the `views` of pictures, looks them up in `index` and decodes what is not there; hands batches to `take` in order
/// until all are done or `take` fails.
pub(super) fn read_ahead<E>(
    reader: &PictureReader,
    paths: &[&Path],
    views: Views,
    index: Option<&CacheIndex>,
    mut take: impl FnMut(Batch) -> Result<(), E>,
) -> Result<(), E> {
    let (sender, receiver) = mpsc::sync_channel::<Batch>(1);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut pictures = Pictures {
                reader,
                paths,
                views,
                index,
                unfinished: None,
            };
            let all = paths.len() * views.count();
            for first in (0..all).step_by(PICTURES_AT_ONCE) {
                let last = (first + PICTURES_AT_ONCE).min(all);
                if sender.send(pictures.batch(first, last)).is_err() {
                    break; // the receiving side is gone, so is the reason to go on
                }
            }
        });
        let taken = receiver.into_iter().try_for_each(&mut take);
        match reading.join() {
            Ok(()) => taken,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Pictures whose views are asked for one after another.
struct Pictures<'a> {
    reader: &'a PictureReader,
    paths: &'a [&'a Path],
    views: Views,
    index: Option<&'a CacheIndex>,
    /// The picture whose views the last batch did not finish.
    unfinished: Option<Opened>,
}

/// A picture with its name in the cache; `None` for one that cannot be read, which was said.
type Opened = Option<(OpenPicture, Option<blake3::Hash>)>;

/// Some views of one picture.
struct Portion {
    picture: usize,
    views: std::ops::Range<usize>,
    opened: Option<Opened>,
    batch: Batch,
}

impl Pictures<'_> {
    /// The views with the numbers from `first` to before `last`.
    fn batch(&mut self, first: usize, last: usize) -> Batch {
        let count = self.views.count();
        let portion = |picture: usize| Portion {
            picture,
            views: first.max(picture * count) - picture * count
                ..last.min((picture + 1) * count) - picture * count,
            opened: None,
            batch: Batch::default(),
        };
        let mut portions: Vec<Portion> =
            (first / count..last.div_ceil(count)).map(portion).collect();
        portions[0].opened = self.unfinished.take();
        portions
            .par_iter_mut()
            .for_each(|portion| self.read(portion));
        self.unfinished = portions
            .last_mut()
            .and_then(|portion| portion.opened.take());
        let mut batch = Batch::default();
        for portion in portions {
            batch.found.extend(portion.batch.found);
            batch.decoded.extend(portion.batch.decoded);
            batch.pixels.extend(portion.batch.pixels);
            batch.skipped.extend(portion.batch.skipped);
        }
        batch
    }

    fn read(&self, portion: &mut Portion) {
        let path = self.paths[portion.picture];
        let opened = match portion.opened.take() {
            Some(opened) => opened,
            None => match self.reader.open(path) {
                Ok(picture) => {
                    let hash = self.index.map(|_| blake3::hash(picture.bytes()));
                    Some((picture, hash))
                }
                Err(error) => {
                    portion.batch.skipped.push((path.to_owned(), error));
                    None
                }
            },
        };
        let opened = match opened {
            Some((mut picture, hash)) => match self.views_of(&mut picture, hash, portion) {
                Ok(()) => Some((picture, hash)),
                Err(error) => {
                    portion.batch.skipped.push((path.to_owned(), error));
                    None
                }
            },
            None => None,
        };
        // A picture whose views are all done is forgotten at once: a decoded one can take 200 MB.
        if portion.views.end < self.views.count() {
            portion.opened = Some(opened);
        }
    }

    fn views_of(
        &self,
        picture: &mut OpenPicture,
        hash: Option<blake3::Hash>,
        portion: &mut Portion,
    ) -> Result<(), ImageError> {
        let count = self.views.count();
        let each = self.views.each().enumerate();
        for (place, view) in each.skip(portion.views.start).take(portion.views.len()) {
            let number = portion.picture * count + place;
            let key = hash.as_ref().map(|hash| key(hash, view));
            let found = self.index.and_then(|index| index.find(key.as_ref()?));
            if let Some(row) = found {
                portion.batch.found.push((number, row));
                continue;
            }
            let view = picture.view(self.reader, view)?;
            let mut pixels = vec![0.0; view.as_bytes().len()];
            view.write_unit_floats(&mut pixels)?;
            portion.batch.pixels.extend(pixels);
            portion.batch.decoded.push((number, key));
        }
        Ok(())
    }
}

/// The name of a view in the cache: of the file's bytes and all that decides what is cut out of it.
fn key(picture: &blake3::Hash, view: View) -> Key {
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
}
