//! Recall of image-to-text and text-to-image retrieval.

use serde::{Deserialize, Serialize};

/// Recall at 1 and at 5: the share of queries with a correct match first (`r1`) or among the best five (`r5`), in both
/// directions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retrieval {
    /// Pictures whose name ranks first among all names.
    pub image_to_text_r1: f32,
    /// Pictures whose name is among the first five.
    pub image_to_text_r5: f32,
    /// Names whose best picture is one of theirs.
    pub text_to_image_r1: f32,
    /// Names with a picture of theirs among the best five.
    pub text_to_image_r5: f32,
}

/// Ranks `similarities`, one row of K values for each picture; `names[i]` in `0..K` is the name of picture i.
///
/// Ties count against the model, so that a constant similarity finds nothing.
pub fn retrieval(similarities: &[Vec<f32>], names: &[usize]) -> Retrieval {
    let image_ranks: Vec<usize> = similarities
        .iter()
        .zip(names)
        .map(|(row, &name)| rank(row.iter().copied(), name, |other| other == name))
        .collect();
    let classes = similarities.first().map_or(0, Vec::len);
    let text_ranks: Vec<usize> = (0..classes)
        .filter_map(|class| {
            let column = |picture: usize| similarities[picture][class];
            let best = (0..names.len())
                .filter(|&picture| names[picture] == class)
                .max_by(|&a, &b| column(a).total_cmp(&column(b)))?;
            let all = (0..names.len()).map(column);
            Some(rank(all, best, |picture| names[picture] == class))
        })
        .collect();
    let share = |ranks: &[usize], within: usize| {
        ranks.iter().filter(|&&rank| rank < within).count() as f32 / ranks.len().max(1) as f32
    };
    Retrieval {
        image_to_text_r1: share(&image_ranks, 1),
        image_to_text_r5: share(&image_ranks, 5),
        text_to_image_r1: share(&text_ranks, 1),
        text_to_image_r5: share(&text_ranks, 5),
    }
}

/// Counts the wrong candidates that are at least as similar as `answer`.
fn rank(
    similarities: impl Iterator<Item = f32> + Clone,
    answer: usize,
    right: impl Fn(usize) -> bool,
) -> usize {
    let own = similarities
        .clone()
        .nth(answer)
        .unwrap_or(f32::NEG_INFINITY);
    similarities
        .enumerate()
        .filter(|&(candidate, similarity)| !right(candidate) && similarity >= own)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_both_ways_and_ties_count_against() {
        // Two pictures of name 0, one of name 1; name 2 has none.
        let similarities = [
            vec![0.9, 0.1, 0.2],
            vec![0.3, 0.8, 0.1],
            vec![0.5, 0.5, 0.5],
        ];
        let result = retrieval(&similarities, &[0, 0, 1]);
        assert_eq!(result.image_to_text_r1, 1.0 / 3.0);
        assert_eq!(result.image_to_text_r5, 1.0);
        assert_eq!(result.text_to_image_r1, 0.5);
        assert_eq!(result.text_to_image_r5, 1.0);
    }
}
