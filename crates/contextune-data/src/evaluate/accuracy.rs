//! Top-1 accuracy, over all examples and for each class.

use rayon::prelude::*;

/// Counts of correctly classified examples.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// Correct predictions.
    pub correct: usize,
    /// Number of examples.
    pub examples: usize,
    /// Correct predictions and examples of each class, in the order of the classes.
    pub per_class: Vec<(usize, usize)>,
}

impl Accuracy {
    /// Compares the largest of each row of `logits` (K values for each example) with `labels` in `0..K`.
    pub fn of(logits: &[f32], labels: &[usize], classes: usize) -> Self {
        let mut accuracy = Self::none(classes);
        accuracy.add(logits, labels);
        accuracy
    }

    /// Starts with no example of `classes` classes; see [`Self::add`].
    pub fn none(classes: usize) -> Self {
        Self {
            correct: 0,
            examples: 0,
            per_class: vec![(0, 0); classes],
        }
    }

    /// Adds examples; see [`Self::of`].
    pub fn add(&mut self, logits: &[f32], labels: &[usize]) {
        let rows = logits.par_chunks_exact(self.per_class.len());
        let right: Vec<bool> = rows
            .zip(labels)
            .map(|(row, &label)| largest(row) == label)
            .collect();
        for (right, &label) in right.into_iter().zip(labels) {
            self.count(right, label);
        }
    }

    /// Adds an example of the class `label`.
    pub fn count(&mut self, right: bool, label: usize) {
        let (correct, examples) = &mut self.per_class[label];
        *examples += 1;
        *correct += usize::from(right);
        self.examples += 1;
        self.correct += usize::from(right);
    }

    /// Returns the share of correct predictions, 0 without examples.
    pub fn share(&self) -> f32 {
        self.correct as f32 / self.examples.max(1) as f32
    }
}

/// Returns the index of the largest value, the first of equals.
pub fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// Returns the probabilities exp(x) / Σ exp(x) of one example.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Returns the `count` classes of the largest logits of one example and their probabilities, most probable first; of
/// equals the first one first.
pub fn most_probable(logits: &[f32], count: usize) -> Vec<(usize, f32)> {
    let mut best: Vec<usize> = Vec::with_capacity(count + 1);
    for (class, &logit) in logits.iter().enumerate() {
        let behind = best.iter().position(|&other| logits[other] < logit);
        best.insert(behind.unwrap_or(best.len()), class);
        best.truncate(count);
    }
    let highest = best.first().map_or(0.0, |&class| logits[class]);
    let weight = |logit: f32| (logit - highest).exp();
    let sum: f32 = logits.iter().map(|&logit| weight(logit)).sum();
    best.into_iter()
        .map(|class| (class, weight(logits[class]) / sum))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_counts_by_class() {
        let logits = [1.0, 0.0, 0.0, 3.0, 0.5, 0.5, 2.0, 1.0];
        let accuracy = Accuracy::of(&logits, &[0, 1, 1, 0], 2);
        assert_eq!(accuracy.per_class, [(2, 2), (1, 2)]);
        assert_eq!(accuracy.share(), 0.75);
        assert_eq!(softmax(&[0.0, 0.0]), [0.5, 0.5]);
        let logits = [0.5, 9.0, 0.5, -1.0, 3.0];
        let shares = softmax(&logits);
        let expected = [1, 4, 0, 2].map(|class| (class, shares[class]));
        assert_eq!(most_probable(&logits, 4), expected);
        assert_eq!(most_probable(&logits, 9).len(), 5);
    }
}
