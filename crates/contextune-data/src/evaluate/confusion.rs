//! Confusions: which classes are predicted for which others, and on which examples.

use std::collections::BTreeMap;

use super::{largest, softmax};

/// A misclassified example.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// Index of the example.
    pub example: usize,
    /// True class.
    pub label: usize,
    /// Predicted class.
    pub predicted: usize,
    /// Probability of the predicted class.
    pub probability: f32,
}

/// A pair of classes of which one was predicted for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusedPair {
    /// True class.
    pub label: usize,
    /// Predicted class.
    pub predicted: usize,
    /// Number of such examples.
    pub count: usize,
}

/// Returns the misclassified examples, in order: those whose largest of `logits` (`[N, K]`, row-major) is not at their
/// label in `0..K`.
pub fn mistakes(logits: &[f32], labels: &[usize], classes: usize) -> Vec<Mistake> {
    logits
        .chunks_exact(classes)
        .zip(labels)
        .enumerate()
        .filter_map(|(example, (row, &label))| {
            let predicted = largest(row);
            (predicted != label).then(|| Mistake {
                example,
                label,
                predicted,
                probability: softmax(row)[predicted],
            })
        })
        .collect()
}

/// Counts how often two classes were confused: most often first, ties in the order of the classes.
pub fn confused_pairs(mistakes: &[Mistake]) -> Vec<ConfusedPair> {
    let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for mistake in mistakes {
        *counts
            .entry((mistake.label, mistake.predicted))
            .or_default() += 1;
    }
    pairs_by_count(counts)
}

/// Sorts pairs of (label, predicted class) by their count: most often first, ties in the order given.
pub fn pairs_by_count(
    counts: impl IntoIterator<Item = ((usize, usize), usize)>,
) -> Vec<ConfusedPair> {
    let mut pairs: Vec<ConfusedPair> = counts
        .into_iter()
        .map(|((label, predicted), count)| ConfusedPair {
            label,
            predicted,
            count,
        })
        .collect();
    pairs.sort_by_key(|pair| std::cmp::Reverse(pair.count)); // stable: equal ones stay in order
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_counted_by_pair() {
        let logits = [
            [1.0, 0.0, 0.0],
            [0.0, 0.0, 3.0],
            [2.0, 1.0, 0.0],
            [0.0, 0.0, 1.0],
        ];
        let mistakes = mistakes(logits.as_flattened(), &[0, 0, 1, 0], 3);
        let examples: Vec<usize> = mistakes.iter().map(|mistake| mistake.example).collect();
        assert_eq!(examples, [1, 2, 3]);
        let expected = 3.0_f32.exp() / (2.0 + 3.0_f32.exp());
        assert!((mistakes[0].probability - expected).abs() < 1e-6);
        let pairs = confused_pairs(&mistakes);
        let pairs: Vec<_> = pairs
            .iter()
            .map(|pair| (pair.label, pair.predicted, pair.count))
            .collect();
        assert_eq!(pairs, [(0, 2, 2), (1, 0, 1)]);
    }
}
