//! Labels of the model's own pretraining in the place of a task's classes (Elsayed et al. 2018, "Adversarial Reprogramming of
//! Neural Networks", h_g; Chen et al. 2023, "Understanding and Improving Visual Prompting: A Label-Mapping Perspective", §3).

use burn::tensor::{Int, Tensor};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How each class of a task, K of them, gets a label of the model's, S of them, of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelMapping {
    /// The first K labels.
    First,
    /// Labels drawn by the seed.
    Random,
    /// The label that the model gives most often to the class's pictures, as they are before anything is learned.
    #[default]
    Frequent,
    /// The same, found anew before every epoch for the pictures as the prompt makes them.
    Iterative,
    /// These, one for each class.
    Given(Vec<usize>),
}

/// Why classes cannot be mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabelMapError {
    /// More classes than labels.
    #[error("{classes} classes need labels of their own, the model has {labels}")]
    TooFewLabels {
        /// K
        classes: usize,
        /// S
        labels: usize,
    },
    /// Another number of labels than classes.
    #[error("the label map has {found} labels for {classes} classes")]
    Length {
        /// Its labels.
        found: usize,
        /// K
        classes: usize,
    },
    /// A label that the model does not have.
    #[error("the label map names label {label}; the model has 0 to {}", labels - 1)]
    NoSuchLabel {
        /// The label.
        label: usize,
        /// S
        labels: usize,
    },
    /// Two classes with one label.
    #[error(
        "the label map gives label {label} to the classes {first} and {second}: each class needs a label of its own"
    )]
    Twice {
        /// The label.
        label: usize,
        /// One class.
        first: usize,
        /// The other.
        second: usize,
    },
}

impl LabelMapping {
    /// The label of each class; those that depend on pictures begin as [`Self::First`].
    ///
    /// # Errors
    /// See [`LabelMapError`].
    pub fn labels(
        &self,
        classes: usize,
        labels: usize,
        seed: u64,
    ) -> Result<Vec<usize>, LabelMapError> {
        if classes > labels {
            return Err(LabelMapError::TooFewLabels { classes, labels });
        }
        Ok(match self {
            Self::First | Self::Frequent | Self::Iterative => (0..classes).collect(),
            Self::Random => {
                let mut all: Vec<usize> = (0..labels).collect();
                all.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
                all.truncate(classes);
                all
            }
            Self::Given(given) => {
                check(given, classes, labels)?;
                given.clone()
            }
        })
    }
}

fn check(given: &[usize], classes: usize, labels: usize) -> Result<(), LabelMapError> {
    if given.len() != classes {
        let found = given.len();
        return Err(LabelMapError::Length { found, classes });
    }
    for (second, &label) in given.iter().enumerate() {
        if label >= labels {
            return Err(LabelMapError::NoSuchLabel { label, labels });
        }
        if let Some(first) = given[..second].iter().position(|&other| other == label) {
            return Err(LabelMapError::Twice {
                label,
                first,
                second,
            });
        }
    }
    Ok(())
}

/// A label for each of `classes`, from how often the model gives each label to pictures of each class: the most frequent pair
/// of class and label first, then the most frequent of what is left. Equals go to the lower class and the lower label.
///
/// `seen` are pairs of a class and the label that one of its pictures got; `labels` is at least `classes`.
pub fn most_frequent(
    seen: impl IntoIterator<Item = (usize, usize)>,
    classes: usize,
    labels: usize,
) -> Vec<usize> {
    let mut counts = vec![0_usize; classes * labels];
    for (class, label) in seen {
        counts[class * labels + label] += 1;
    }
    let mut pairs: Vec<usize> = (0..counts.len()).filter(|&pair| counts[pair] > 0).collect();
    pairs.sort_by_key(|&pair| std::cmp::Reverse(counts[pair])); // stable: equals stay in order
    let mut label_of = vec![None; classes];
    let mut taken = vec![false; labels];
    for pair in pairs {
        let (class, label) = (pair / labels, pair % labels);
        if label_of[class].is_none() && !taken[label] {
            label_of[class] = Some(label);
            taken[label] = true;
        }
    }
    let mut free = (0..labels).filter(|&label| !taken[label]);
    label_of
        .into_iter()
        .map(|label| label.or_else(|| free.next()).unwrap_or(0))
        .collect()
}

/// The model's logits `[B, S]` at the labels `[K]` -> `[B, K]`.
pub fn mapped(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<2> {
    logits.select(1, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_label_of_its_own() {
        // Both classes are most often seen as label 3, class 1 more often.
        let seen = [
            (0, 3),
            (0, 3),
            (0, 1),
            (1, 3),
            (1, 3),
            (1, 3),
            (2, 1),
            (2, 1),
        ];
        assert_eq!(most_frequent(seen, 4, 6), [0, 3, 1, 2]);
        assert_eq!(most_frequent([], 2, 6), [0, 1]);
        let random = LabelMapping::Random.labels(5, 9, 7).unwrap();
        assert!(LabelMapping::Given(random).labels(5, 9, 0).is_ok());
    }

    #[test]
    fn maps_that_are_none_are_refused() {
        let given = |labels: &[usize]| LabelMapping::Given(labels.to_vec()).labels(2, 4, 0);
        assert!(matches!(
            given(&[1, 1]),
            Err(LabelMapError::Twice { label: 1, .. })
        ));
        assert!(matches!(
            given(&[1, 4]),
            Err(LabelMapError::NoSuchLabel { label: 4, .. })
        ));
        assert!(matches!(given(&[1]), Err(LabelMapError::Length { .. })));
        let most = LabelMapping::First.labels(5, 4, 0);
        assert!(matches!(most, Err(LabelMapError::TooFewLabels { .. })));
    }
}
