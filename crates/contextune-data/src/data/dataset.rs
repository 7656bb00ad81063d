//! A data set in memory: its examples, their splits and classes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{DataError, DataWarning, Result};
use super::features_file::FeaturesFile;
use super::published::table::PublishedDataset;
use super::split::{Split, Subset};

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

impl Dataset {
    /// Makes a data set of the rows that are pictures themselves, not further views.
    pub(super) fn from_features(file: FeaturesFile) -> Self {
        let mut splits: [Vec<Example>; 3] = Default::default();
        for (row, &label) in file.labels().iter().enumerate() {
            if file.view(row) == 0 {
                splits[file.split(row) as usize].push(Example {
                    input: Input::FeatureRow(row),
                    label,
                });
            }
        }
        let [train, val, test] = splits;
        Self {
            root: file.path().to_owned(),
            kind: DatasetKind::FeaturesFile,
            published: file.published(),
            class_names: file.class_names().to_vec(),
            train,
            val,
            test,
            warnings: file.warnings().to_vec(),
            features: Some(Arc::new(file)),
            few_shot_files: None,
        }
    }

    /// Returns the examples of a split.
    pub fn split(&self, split: Split) -> &[Example] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// Returns whether a seed decided which examples are train, val and test, because nothing else did.
    pub fn is_split_by_seed(&self) -> bool {
        self.warnings.iter().any(|warning| {
            matches!(
                warning,
                DataWarning::TrainWasSplit { .. } | DataWarning::NoSplitFile { .. }
            )
        })
    }

    /// Returns the hand-written template that the official code gives this data set, if it is a published one.
    pub fn published_template(&self) -> Option<&'static str> {
        self.published.and_then(PublishedDataset::template)
    }

    /// Returns the number of examples of each class in a split, by label.
    pub fn class_counts(&self, split: Split) -> Vec<usize> {
        let mut counts = vec![0; self.class_names.len()];
        for example in self.split(split) {
            counts[example.label] += 1;
        }
        counts
    }

    /// Returns the name of an input: the path of a picture below [`root`](Self::root); for a row, the path that the
    /// features file gives it, or else its number.
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

    /// Returns the examples of some classes, with labels from 0: for base-to-new generalisation, the first ceil(K/2)
    /// classes by label are base, the others new. Sample with [`Dataset::few_shot`] before, as published.
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
    pub(super) fn require_examples(&self, path: &Path) -> Result<()> {
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
    pub(super) fn require_training(&self, path: &Path) -> Result<()> {
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

    /// Notes what is missing: training examples, or those of a class in a split that has others.
    pub(super) fn warn_of_missing_examples(&mut self) {
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

    /// Returns the names of the classes whose label fulfils a condition.
    pub(super) fn classes_where(&self, condition: impl Fn(usize) -> bool) -> Vec<String> {
        let labels = (0..self.class_names.len()).filter(|&label| condition(label));
        labels
            .map(|label| self.class_names[label].clone())
            .collect()
    }
}
