//! Features that were computed before, on disk: each (picture, view) goes through a tower once.
//!
//! Below the folder of one way of encoding (a model's weights and its preparation of pictures) lie segments: safetensors
//! files with `keys` `[N, 32]` u8 and `features` `[N, D]` f32. A segment is written once, whole, and never changed: any
//! number of processes may read and add at the same time, and a kill loses at most what was not written yet. A segment
//! that cannot be read counts as not there. Beside them `about.json` names the model, for people, and is as old as the last use.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::files;

const EXTENSION: &str = "safetensors";
const KEYS: &str = "keys";
const FEATURES: &str = "features";
const KEY_BYTES: usize = 32;
const ABOUT: &str = "about.json";
/// Characters of the name of an encoding, and of a segment: parts of a hash.
const ENCODING_NAME: usize = 32;
const SEGMENT_NAME: usize = 64;

/// Names one view of one picture: a hash of the picture's bytes and of how the view is made.
pub(super) type Key = [u8; KEY_BYTES];

/// The folder of one way of encoding.
#[derive(Clone, Debug)]
pub struct FeatureCache {
    folder: PathBuf,
    model: String,
    width: usize,
}

/// What a person may want to know of an encoding.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    model: String,
}

/// What the cache keeps for one way of encoding.
#[derive(Clone, Debug, Serialize)]
pub struct KeptEncoding {
    /// Its name: a part of a hash of the model's weights and its preparation of pictures.
    pub encoding: String,
    /// A name that the model was opened by; absent in caches that only early versions have used.
    pub model: Option<String>,
    /// How many features there are.
    pub features: usize,
    /// Numbers in each; absent if there are none.
    pub width: Option<usize>,
    /// On disk.
    pub bytes: u64,
    /// When they were last found or added, in seconds since 1970.
    pub last_used: u64,
    #[serde(skip)]
    folder: PathBuf,
    /// All files that this library has written there.
    #[serde(skip)]
    files: Vec<PathBuf>,
}

/// Features found, still where they lie.
#[derive(Clone, Debug)]
pub(super) struct CachedRow {
    segment: Arc<Segment>,
    row: usize,
}

/// What a cache holds for one way of encoding, by name.
#[derive(Debug)]
pub(super) struct CacheIndex {
    rows: HashMap<Key, CachedRow>,
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
    /// The part of the cache at `root` for one way of encoding, whose name is `encoding`, with features of `width` that
    /// `model` makes.
    pub fn new(root: &Path, encoding: &str, model: &str, width: usize) -> Self {
        Self {
            folder: Self::folder(root).join(encoding),
            model: model.to_owned(),
            width,
        }
    }

    /// Where a cache at `root` has its features.
    pub fn folder(root: &Path) -> PathBuf {
        root.join("features")
    }

    /// What the cache at `root` keeps, by the time of the last use, the latest first; nothing where there is no cache.
    ///
    /// # Errors
    /// A folder that is there cannot be read.
    pub fn kept(root: &Path) -> io::Result<Vec<KeptEncoding>> {
        let Some(entries) = if_there(fs::read_dir(Self::folder(root)))? else {
            return Ok(Vec::new());
        };
        let mut kept = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_folder = if_there(entry.file_type())?.is_some_and(|kind| kind.is_dir());
            if is_hash(&name, ENCODING_NAME) && is_folder {
                kept.extend(if_there(KeptEncoding::read(entry.path(), name))?);
            }
        }
        kept.sort_by(|a, b| (b.last_used, &a.encoding).cmp(&(a.last_used, &b.encoding)));
        Ok(kept)
    }

    /// Reads what is there, by name.
    pub(super) fn index(&self) -> CacheIndex {
        let mut rows = HashMap::new();
        for path in self.segments() {
            let segment = match Segment::open(&path) {
                Some(segment) if segment.width == self.width => Arc::new(segment),
                _ => continue,
            };
            for row in 0..segment.rows {
                let segment = &segment;
                rows.entry(*segment.key(row)).or_insert_with(|| CachedRow {
                    segment: Arc::clone(segment),
                    row,
                });
            }
        }
        CacheIndex { rows }
    }

    /// Adds features `[N, D]` under their keys, as one segment, and returns where they lie now: `None` where another program
    /// removes them at the same moment.
    pub(super) fn add(&self, keys: &[Key], features: &[f32]) -> io::Result<Option<Vec<CachedRow>>> {
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
        let path = self.folder.join(name);
        files::replace_with(&path, &bytes)?;
        self.write_about()?;
        let Some(segment) = Segment::open(&path).map(Arc::new) else {
            return Ok(None);
        };
        let rows = (0..segment.rows).map(|row| CachedRow {
            segment: Arc::clone(&segment),
            row,
        });
        Ok(Some(rows.collect()))
    }

    fn write_about(&self) -> io::Result<()> {
        let about = About {
            model: self.model.clone(),
        };
        files::replace_with(&self.folder.join(ABOUT), &serde_json::to_vec(&about)?)
    }

    /// A cache that may be read but not written is of use all the same.
    pub(super) fn mark_as_used(&self) {
        let about = File::options().write(true).open(self.folder.join(ABOUT));
        let _ = match about {
            Ok(about) => about.set_modified(SystemTime::now()),
            Err(_) => self.write_about(),
        };
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
    /// `None` for a file that is no segment.
    fn open(path: &Path) -> Option<Self> {
        let map = files::map(&File::open(path).ok()?).ok()?;
        let start = map.as_ptr() as usize;
        let tensors = SafeTensors::deserialize(&map).ok()?;
        let (keys, features) = (tensors.tensor(KEYS).ok()?, tensors.tensor(FEATURES).ok()?);
        let rows = *keys.shape().first()?;
        let width = *features.shape().get(1)?;
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

impl CacheIndex {
    /// Returns the feature of this name.
    pub(super) fn find(&self, key: &Key) -> Option<CachedRow> {
        self.rows.get(key).cloned()
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

impl KeptEncoding {
    /// Fails with `NotFound` only if the folder itself is gone.
    fn read(folder: PathBuf, encoding: String) -> io::Result<Self> {
        let mut kept = Self {
            encoding,
            model: fs::read(folder.join(ABOUT))
                .ok()
                .and_then(|bytes| serde_json::from_slice::<About>(&bytes).ok())
                .map(|about| about.model),
            features: 0,
            width: None,
            bytes: 0,
            last_used: 0,
            folder,
            files: Vec::new(),
        };
        for entry in fs::read_dir(&kept.folder)? {
            let entry = entry?;
            // Another process may have renamed what it wrote, or deleted it, since it was listed.
            let Some(metadata) = if_there(entry.metadata())? else {
                continue;
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            if !metadata.is_file() || !is_ours(&name) {
                continue;
            }
            if let Some(segment) = Segment::open(&entry.path()) {
                kept.features += segment.rows;
                kept.width = Some(segment.width);
            }
            let changed = metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH);
            kept.last_used = kept
                .last_used
                .max(changed.map_or(0, |since| since.as_secs()));
            kept.bytes += metadata.len();
            kept.files.push(entry.path());
        }
        Ok(kept)
    }

    /// Deletes these features. What this library did not write stays, as does what another process adds meanwhile, and then so
    /// does the folder.
    ///
    /// # Errors
    /// A file that cannot be deleted.
    pub fn delete(&self) -> io::Result<()> {
        for file in &self.files {
            if_there(fs::remove_file(file))?;
        }
        match fs::remove_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            removed => if_there(removed).map(|_| ()),
        }
    }
}

/// `None` for what is not there: other processes write and delete at any time.
fn if_there<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Whether this library writes files of such names into the folder of an encoding, a kill halfway included.
fn is_ours(name: &str) -> bool {
    let whole = match name
        .strip_suffix(".partial")
        .and_then(|name| name.rsplit_once('.'))
    {
        Some((whole, process)) if process.bytes().all(|byte| byte.is_ascii_digit()) => whole,
        _ => name,
    };
    let segment = whole
        .strip_suffix(EXTENSION)
        .and_then(|name| name.strip_suffix('.'));
    whole == ABOUT || segment.is_some_and(|name| is_hash(name, SEGMENT_NAME))
}

fn is_hash(name: &str, length: usize) -> bool {
    name.len() == length && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_added_is_found_and_damage_is_not() {
        let root = tempfile::tempdir().unwrap();
        let cache = FeatureCache::new(root.path(), "encoding", "model", 2);
        cache
            .add(&[[1; 32], [2; 32]], &[1.0, 2.0, 3.0, 4.0])
            .unwrap();
        cache.add(&[[3; 32]], &[5.0, 6.0]).unwrap();
        fs::write(cache.folder.join("broken.safetensors"), b"cut short").unwrap();
        let index = cache.index();
        let found = [[3; 32], [9; 32], [1; 32], [3; 32]].map(|key| index.find(&key));
        let read = |row: CachedRow| {
            let mut values = [0.0; 2];
            row.read(&mut values);
            values
        };
        let values: Vec<_> = found.into_iter().map(|row| row.map(read)).collect();
        let expected = [Some([5.0, 6.0]), None, Some([1.0, 2.0]), Some([5.0, 6.0])];
        assert_eq!(values, expected);
        // Features of another width are another model's.
        let other = FeatureCache::new(root.path(), "encoding", "model", 3);
        assert!(other.index().find(&[1; 32]).is_none());
    }

    #[test]
    fn what_is_kept_is_counted_and_only_that_is_deleted() {
        let root = tempfile::tempdir().unwrap();
        assert!(FeatureCache::kept(root.path()).unwrap().is_empty());
        let encoding = "0123456789abcdef".repeat(2);
        let cache = FeatureCache::new(root.path(), &encoding, "a model", 2);
        cache
            .add(&[[1; 32], [2; 32]], &[1.0, 2.0, 3.0, 4.0])
            .unwrap();
        cache.add(&[[3; 32]], &[5.0, 6.0]).unwrap();
        let partial = cache
            .folder
            .join(format!("{}.safetensors.17.partial", "0".repeat(64)));
        fs::write(&partial, b"cut sh").unwrap();
        let others = [
            cache.folder.join("notes.txt"),
            cache.folder.join("features.safetensors"),
            FeatureCache::folder(root.path()).join("photos"),
        ];
        for other in &others {
            fs::write(other, b"mine").unwrap();
        }

        let kept = FeatureCache::kept(root.path()).unwrap();
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].encoding, encoding);
        assert_eq!(kept[0].model.as_deref(), Some("a model"));
        assert_eq!((kept[0].features, kept[0].width), (3, Some(2)));
        // The second time as if another process had deleted it.
        kept[0].delete().unwrap();
        kept[0].delete().unwrap();
        assert!(cache.index().find(&[1; 32]).is_none() && !partial.exists());
        assert!(others.iter().all(|other| other.exists()));

        let empty = FeatureCache::kept(root.path()).unwrap();
        assert_eq!((empty[0].features, empty[0].bytes), (0, 0));
        for other in &others {
            fs::remove_file(other).unwrap();
        }
        empty[0].delete().unwrap();
        empty[0].delete().unwrap();
        assert!(FeatureCache::kept(root.path()).unwrap().is_empty());
    }
}
