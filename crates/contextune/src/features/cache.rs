//! Features that were computed before, on disk: each (picture, view) goes through a tower once.
//!
//! Below the folder of one way of encoding (a model's weights and its preparation of pictures) lie segments: safetensors
//! files with `keys` `[N, 32]` u8 and `features` `[N, D]` f32. A segment is written once, whole, and never changed: any
//! number of processes may read and add at the same time, and a kill loses at most what was not written yet. A segment
//! that cannot be read counts as not there.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::files;

const EXTENSION: &str = "safetensors";
const KEYS: &str = "keys";
const FEATURES: &str = "features";
const KEY_BYTES: usize = 32;

/// Names one view of one picture: a hash of the picture's bytes and of how the view is made.
pub(super) type Key = [u8; KEY_BYTES];

/// The folder of one way of encoding.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    width: usize,
}

/// Features found, still where they lie.
#[derive(Clone, Debug)]
pub(super) struct CachedRow {
    segment: Arc<Segment>,
    row: usize,
}

/// A mapped file of features.
#[derive(Debug)]
struct Segment {
    map: Mmap,
    /// Where the keys and the features begin.
    keys: usize,
    features: usize,
    rows: usize,
    width: usize,
}

impl FeatureCache {
    /// The part of the cache at `root` for one way of encoding, whose name is `encoding`, with features of `width`.
    pub fn new(root: &Path, encoding: &str, width: usize) -> Self {
        Self {
            folder: root.join("features").join(encoding),
            width,
        }
    }

    /// What is there of `keys`.
    pub(super) fn find(&self, keys: &[Key]) -> Vec<Option<CachedRow>> {
        let mut places: HashMap<&Key, Vec<usize>> = HashMap::with_capacity(keys.len());
        for (place, key) in keys.iter().enumerate() {
            places.entry(key).or_default().push(place);
        }
        let mut found = vec![None; keys.len()];
        for path in self.segments() {
            if places.is_empty() {
                break;
            }
            let Some(segment) = Segment::open(&path, self.width).map(Arc::new) else {
                continue;
            };
            for row in 0..segment.rows {
                for place in places.remove(segment.key(row)).unwrap_or_default() {
                    found[place] = Some(CachedRow {
                        segment: Arc::clone(&segment),
                        row,
                    });
                }
            }
        }
        found
    }

    /// Adds features `[N, D]` under their keys, as one segment.
    pub(super) fn add(&self, keys: &[Key], features: &[f32]) -> io::Result<()> {
        let mut name = blake3::Hasher::new();
        name.update(keys.as_flattened());
        let name = format!("{}.{EXTENSION}", name.finalize().to_hex());
        let features = files::bytes_of(features, f32::to_le_bytes);
        let keys_view =
            TensorView::new(Dtype::U8, vec![keys.len(), KEY_BYTES], keys.as_flattened());
        let features_view = TensorView::new(Dtype::F32, vec![keys.len(), self.width], &features);
        let tensors = BTreeMap::from([
            (KEYS, keys_view.map_err(io::Error::other)?),
            (FEATURES, features_view.map_err(io::Error::other)?),
        ]);
        let bytes = safetensors::serialize(tensors, None).map_err(io::Error::other)?;
        fs::create_dir_all(&self.folder)?;
        files::replace_with(&self.folder.join(name), &bytes)
    }

    fn segments(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut segments: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == EXTENSION)
            })
            .collect();
        segments.sort();
        segments
    }
}

impl Segment {
    /// `None` for a file that is no segment of this width.
    fn open(path: &Path, width: usize) -> Option<Self> {
        let map = files::map(&File::open(path).ok()?).ok()?;
        let start = map.as_ptr() as usize;
        let tensors = SafeTensors::deserialize(&map).ok()?;
        let (keys, features) = (tensors.tensor(KEYS).ok()?, tensors.tensor(FEATURES).ok()?);
        let rows = *keys.shape().first()?;
        let fits = keys.dtype() == Dtype::U8
            && keys.shape() == [rows, KEY_BYTES]
            && features.dtype() == Dtype::F32
            && features.shape() == [rows, width];
        let place = |bytes: &[u8]| bytes.as_ptr() as usize - start;
        let (keys, features) = (place(keys.data()), place(features.data()));
        fits.then_some(Self {
            map,
            keys,
            features,
            rows,
            width,
        })
    }

    fn key(&self, row: usize) -> &Key {
        let start = self.keys + row * KEY_BYTES;
        self.map[start..start + KEY_BYTES]
            .as_array()
            .expect("a key has a fixed length")
    }
}

impl CachedRow {
    /// Fills `values` with the feature, D of them.
    pub(super) fn read(&self, values: &mut [f32]) {
        let bytes = 4 * self.segment.width;
        let start = self.segment.features + self.row * bytes;
        let stored = &self.segment.map[start..start + bytes];
        files::read_numbers(stored, f32::from_le_bytes, values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_damage_is_not() {
        let root = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(root.path(), "model", 2);
        cache
            .add(&[[1; 32], [2; 32]], &[1.0, 2.0, 3.0, 4.0])
            .unwrap();
        cache.add(&[[3; 32]], &[5.0, 6.0]).unwrap();
        fs::write(cache.folder.join("broken.safetensors"), b"cut short").unwrap();
        let found = cache.find(&[[3; 32], [9; 32], [1; 32], [3; 32]]);
        let read = |row: CachedRow| {
            let mut values = [0.0; 2];
            row.read(&mut values);
            values
        };
        let values: Vec<_> = found.into_iter().map(|row| row.map(read)).collect();
        let expected = [Some([5.0, 6.0]), None, Some([1.0, 2.0]), Some([5.0, 6.0])];
        assert_eq!(values, expected);
        // Features of another width are another model's.
        assert!(FeatureCache::new(root.path(), "model", 3).find(&[[1; 32]])[0].is_none());
    }
}
