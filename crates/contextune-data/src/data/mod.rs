//! A place on disk to examples with labels: a folder of class folders, a CoOp data set, or a features file.
//!
//! [`open`] recognises which; [`Dataset::few_shot`] and then [`Dataset::subset`] cut it down as the published
//! protocols do. Pictures are listed here, not decoded.

mod aircraft;
mod class_folders;
mod class_names;
mod coop_split;
mod error;
mod features_file;
mod features_writer;
mod few_shot;
mod few_shot_file;
mod fixed_sample;
mod folder_reader;
mod imagenet;
mod inspect;
mod named_features;
mod published;
mod python_random;
mod sampling;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use class_names::{check as check_class_names, class_list, distinct_names};
pub use error::{DataError, DataWarning, Result};
pub use features_file::FeaturesFile;
pub use features_writer::{FeatureRows, NamedTensor, TensorValues, write_tensors};
pub use inspect::{
    ClassCounts, Copies, Copy, FeatureFacts, Finding, Inspection, PictureFacts, Unreadable, inspect,
};
pub use named_features::{NamedFeatures, NamedRows};
pub use published::PublishedDataset;
pub use sampling::{LearnFrom, Sampling};

/// Extensions of the pictures that can be decoded, in lower case.
const PICTURE_EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// What an example shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Input {
    /// A picture file.
    Picture(PathBuf),
    /// A row of the data set's [`features`](Dataset::features), from 0.
    FeatureRow(usize),
}

/// An input and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// What it shows.
    pub input: Input,
    /// Index into [`Dataset::class_names`].
    pub label: usize,
}

/// What a data set was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetKind {
    /// A folder for each class.
    ClassFolders,
    /// A folder of pictures with a `split_zhou_*.json`.
    CoopSplit,
    /// The lists or numbered folders of FGVC-Aircraft, ImageNet and its variants.
    PublishedLayout,
    /// A safetensors file of image features.
    FeaturesFile,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// To learn from.
    Train,
    /// To choose settings by.
    Val,
    /// To measure on.
    Test,
}

impl Split {
    /// All splits; the index of each is its number in a features file.
    pub const ALL: [Self; 3] = [Self::Train, Self::Val, Self::Test];
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::Test => "test",
        })
    }
}

/// Which classes of a data set, in the base-to-new protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subset {
    /// Every class.
    #[default]
    All,
    /// The first half by label; the larger half if their number is odd.
    Base,
    /// The other classes.
    New,
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Base => "base",
            Self::New => "new",
        })
    }
}

/// Examples in three splits, and the classes they belong to.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// The folder that the pictures are below, or the features file.
    pub root: PathBuf,
    /// What it was made from.
    pub kind: DatasetKind,
    /// Which of the published data sets it is, or was encoded from; absent for a data set of one's own.
    pub published: Option<&'static PublishedDataset>,
    /// Names by label, as they stand on disk or as published. No two of them give the same prompt, except in ImageNet's
    /// list ([`DataWarning::SameNames`]).
    pub class_names: Vec<String>,
    /// Examples to learn from. Empty in a data set that is for evaluation only.
    pub train: Vec<Example>,
    /// Examples to choose settings by; may be empty.
    pub val: Vec<Example>,
    /// Examples to measure on; may be empty.
    pub test: Vec<Example>,
    /// The rows that [`Input::FeatureRow`] refers to. Their labels are those before any [`Dataset::subset`].
    pub features: Option<Arc<FeaturesFile>>,
    /// Where samples that the official code has drawn would be kept; [`Dataset::few_shot`] looks there first. Absent
    /// where there are none, and in a subset, whose labels are others.
    pub few_shot_files: Option<PathBuf>,
    /// What its user should know.
    pub warnings: Vec<DataWarning>,
}

/// Opens the data set at `path`, recognised by its content:
/// - a features file (safetensors with `image_features`, `labels` and class names, see [`FeaturesFile`]);
/// - a folder with a `split_zhou_*.json` and the folder of pictures that it lists;
/// - a published data set in its own layout ([`PublishedDataset`]): FGVC-Aircraft by its lists, ImageNet by
///   `images/{train,val}/n*/` and `classnames.txt`, its variants for evaluation only; EuroSAT, Caltech-101, Food-101 and
///   DTD also without their split files: then split 50/20/30, with class names cleaned up as published;
/// - a folder of class folders, or of `train/`, `val/`, `test/` with class folders below each. A class is named as its
///   folder; its pictures may lie deeper. Without `test/`, `val/` serves as both; with neither, or without any of the
///   three, the pictures of each class are split 50/20/30.
///
/// `seed` decides only that last split. It is the official rule on sorted lists, for ever the same:
/// `random.seed(seed)` in Python, then for the classes in order of their names, the pictures ordered by their paths
/// (component by component, by bytes) are shuffled with `random.shuffle`; the first `round(0.5 * n)` are train, the next
/// `round(0.2 * n)` val, the rest test, but train always has one, and test has one before val does.
///
/// # Errors
/// Every variant of [`DataError`] that speaks of a place on disk.
pub fn open(path: &Path, seed: u64) -> Result<Dataset> {
    let metadata = fs::metadata(path).map_err(DataError::io(path))?;
    let mut dataset = if !metadata.is_dir() {
        features_file::open_dataset(path)?
    } else if let Some(split_file) = coop_split::find(path)? {
        coop_split::open(path, &split_file)?
    } else if let Some(dataset) = published::open(path, seed)? {
        dataset
    } else {
        class_folders::open(path, seed)?
    };
    if let [class] = dataset.class_names.as_slice() {
        return Err(DataError::SingleClass {
            path: path.to_owned(),
            class: class.clone(),
        });
    }
    dataset.warn_of_missing_examples();
    Ok(dataset)
}

/// Whether a file's extension is one of a picture that can be decoded, in any case.
pub fn is_picture(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| {
            PICTURE_EXTENSIONS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(extension))
        })
}

impl Dataset {
    /// The examples of a split.
    pub fn split(&self, split: Split) -> &[Example] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// Whether a seed decided which examples are train, val and test, because nothing else did.
    pub fn is_split_by_seed(&self) -> bool {
        self.warnings.iter().any(|warning| {
            matches!(
                warning,
                DataWarning::TrainWasSplit { .. } | DataWarning::NoSplitFile { .. }
            )
        })
    }

    /// The hand-written template that the official code gives this data set, if it is a published one.
    pub fn published_template(&self) -> Option<&'static str> {
        self.published.and_then(PublishedDataset::template)
    }

    /// Number of examples of each class in a split, by label.
    pub fn class_counts(&self, split: Split) -> Vec<usize> {
        let mut counts = vec![0; self.class_names.len()];
        for example in self.split(split) {
            counts[example.label] += 1;
        }
        counts
    }

    /// What to call an input: a picture by its path below [`root`](Self::root), a row by the path or else the number
    /// that the features file gives it.
    pub fn input_name(&self, input: &Input) -> String {
        match input {
            Input::Picture(path) => {
                let below = path.strip_prefix(&self.root).unwrap_or(path);
                let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
                parts.join("/")
            }
            Input::FeatureRow(row) => self
                .features
                .as_ref()
                .and_then(|features| features.paths()?.get(*row).cloned())
                .unwrap_or_else(|| format!("row {row}")),
        }
    }

    /// The examples of some classes, with labels from 0: for base-to-new generalisation, the first ceil(K/2) classes by
    /// label are base, the others new. Sample with [`Dataset::few_shot`] before, as published.
    pub fn subset(&self, subset: Subset) -> Dataset {
        let base_count = self.class_names.len().div_ceil(2);
        let labels = match subset {
            Subset::All => 0..self.class_names.len(),
            Subset::Base => 0..base_count,
            Subset::New => base_count..self.class_names.len(),
        };
        let of_classes = |examples: &[Example]| -> Vec<Example> {
            examples
                .iter()
                .filter(|example| labels.contains(&example.label))
                .map(|example| Example {
                    input: example.input.clone(),
                    label: example.label - labels.start,
                })
                .collect()
        };
        Dataset {
            root: self.root.clone(),
            kind: self.kind,
            published: self.published,
            class_names: self.class_names[labels.clone()].to_vec(),
            train: of_classes(&self.train),
            val: of_classes(&self.val),
            test: of_classes(&self.test),
            features: self.features.clone(),
            few_shot_files: match subset {
                Subset::All => self.few_shot_files.clone(),
                Subset::Base | Subset::New => None,
            },
            warnings: self.warnings.clone(),
        }
    }

    /// Refuses classes without any example; `path` is named in the error.
    fn require_examples(&self, path: &Path) -> Result<()> {
        let [train, val, test] = Split::ALL.map(|split| self.class_counts(split));
        let classes = self.classes_where(|label| train[label] + val[label] + test[label] == 0);
        if !classes.is_empty() {
            return Err(DataError::NoPictures {
                path: path.to_owned(),
                classes,
            });
        }
        Ok(())
    }

    /// Refuses classes that could be evaluated but were never learned: in folders that a person made that is a slip.
    /// Split files may hold out classes on purpose.
    fn require_training(&self, path: &Path) -> Result<()> {
        let [train, val, test] = Split::ALL.map(|split| self.class_counts(split));
        for (split, counts) in [(Split::Test, &test), (Split::Val, &val)] {
            let classes = self.classes_where(|label| train[label] == 0 && counts[label] > 0);
            if !self.train.is_empty() && !classes.is_empty() {
                return Err(DataError::NotInTrain {
                    path: path.to_owned(),
                    split,
                    classes,
                });
            }
        }
        Ok(())
    }

    fn warn_of_missing_examples(&mut self) {
        if self.train.is_empty() {
            self.warnings.push(DataWarning::NothingToTrain);
        }
        for split in Split::ALL {
            let counts = self.class_counts(split);
            let classes = self.classes_where(|label| counts[label] == 0);
            if !self.split(split).is_empty() && !classes.is_empty() {
                self.warnings
                    .push(DataWarning::ClassesMissing { split, classes });
            }
        }
    }

    /// Names of the classes whose label fulfils a condition.
    fn classes_where(&self, condition: impl Fn(usize) -> bool) -> Vec<String> {
        let labels = (0..self.class_names.len()).filter(|&label| condition(label));
        labels
            .map(|label| self.class_names[label].clone())
            .collect()
    }
}
