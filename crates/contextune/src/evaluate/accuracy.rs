//! Top-1 accuracy, over all examples and for each class.

/// Which examples were classified rightly.
#[derive(Clone, Debug, PartialEq)]
pub struct Accuracy {
    /// Right answers.
    pub correct: usize,
    /// Examples.
    pub examples: usize,
    /// Right answers and examples of each class, in the order of the classes.
    pub per_class: Vec<(usize, usize)>,
}

impl Accuracy {
    /// Compares the largest of each row of `logits` (K values for each example) with `labels` in `0..K`.
    pub fn of(logits: &[f32], labels: &[usize], classes: usize) -> Self {
        let mut per_class = vec![(0, 0); classes];
        for (row, &label) in logits.chunks_exact(classes).zip(labels) {
            let (correct, examples) = &mut per_class[label];
            *examples += 1;
            *correct += usize::from(largest(row) == label);
        }
        Self {
            correct: per_class.iter().map(|(correct, _)| correct).sum(),
            examples: labels.len(),
            per_class,
        }
    }

    /// Share of right answers, 0 without examples.
    pub fn share(&self) -> f32 {
        self.correct as f32 / self.examples.max(1) as f32
    }
}

/// Index of the largest value, the first of equals.
pub fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

/// exp(x) / Σ exp(x), for one example.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = logits.iter().map(|logit| (logit - highest).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
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
    }
}
