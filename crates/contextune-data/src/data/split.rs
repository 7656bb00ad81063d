//! The parts of a data set: splits, and the two halves of its classes.

use std::fmt;

use serde::{Deserialize, Serialize};

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

    /// Returns the split that people mean by the name of a folder, in any case and with what is often said beside it:
    /// `Training`, `seg_test`, `validation_set`, `train2017`. [`open`](super::open) takes such a folder for a split only if it holds
    /// classes of another split.
    pub fn of_folder(name: &str) -> Option<Self> {
        const BESIDE: [&str; 14] = [
            "set", "data", "dataset", "image", "images", "img", "imgs", "picture", "pictures",
            "photos", "samples", "seg", "split", "folder",
        ];
        let split = |word: &str| match word {
            "train" | "training" | "trn" => Some(Self::Train),
            "val" | "valid" | "validation" | "validate" | "dev" | "devel" | "development" => {
                Some(Self::Val)
            }
            "test" | "testing" | "tests" | "eval" | "evaluation" | "holdout" => Some(Self::Test),
            _ => None,
        };
        let name = name.to_lowercase();
        let mut words = name
            .split(|letter: char| !letter.is_alphabetic())
            .filter(|word| !word.is_empty() && !BESIDE.contains(word));
        match (words.next(), words.next()) {
            (Some(word), None) => split(word).or_else(|| {
                let mut bare = BESIDE.iter().filter_map(|beside| word.strip_suffix(beside));
                bare.find_map(split)
            }),
            _ => None,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_have_many_names() {
        for (split, names) in [
            (
                Split::Train,
                [
                    "train",
                    "Training",
                    "seg_train",
                    "training_set",
                    "TrainSet",
                    "train2017",
                ],
            ),
            (
                Split::Val,
                [
                    "val",
                    "VALID",
                    "validation",
                    "dev",
                    "valid_images",
                    "val-data",
                ],
            ),
            (
                Split::Test,
                [
                    "test", "Testing", "seg_test", "Test Set", "eval", "testdata",
                ],
            ),
        ] {
            for name in names {
                assert_eq!(Split::of_folder(name), Some(split), "{name}");
            }
        }
        for name in [
            "cat",
            "seg_pred",
            "train station",
            "bullet train",
            "images",
            "contest",
            "",
            "2017",
        ] {
            assert_eq!(Split::of_folder(name), None, "{name}");
        }
    }
}
