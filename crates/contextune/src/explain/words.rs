//! The words that learned vectors are near to (Zhou et al. 2022, "Learning to Prompt for Vision-Language Models",
//! "Interpreting the Learned Prompts").

use burn::tensor::Tensor;
use serde::Serialize;

use super::movement::{cosine, distance};
use crate::backbone::TextTower;
use crate::text::Tokenizer;

/// Vectors that are compared at once, and words they are compared with: bounds the memory to 16 MiB of values.
const VECTORS_AT_ONCE: usize = 512;
const WORDS_AT_ONCE: usize = 8192;
/// Products of rounded numbers do not tell close neighbours apart: so many more are kept, and measured exactly.
const SPARE: usize = 8;

/// A word of the vocabulary, and how near it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NearWord {
    /// Its token id.
    pub id: u32,
    /// As the tokenizer writes it: `photo</w>`, `pho`.
    pub token: String,
    /// For people: `photo`, `pho-`.
    pub word: String,
    /// Euclidean distance of its embedding from the vector.
    pub distance: f32,
    /// Cosine of the angle between the two.
    pub cosine: f32,
}

/// The words near one vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    /// Nearest first.
    pub by_distance: Vec<NearWord>,
    /// Of most equal direction first.
    pub by_cosine: Vec<NearWord>,
}

/// The `count` words nearest to each of `vectors` `[V, d]` among the tower's token embeddings, in bounded memory.
///
/// # Panics
/// If the vectors are not as wide as the tower.
pub fn nearest(
    vectors: &Tensor<2>,
    text: &TextTower,
    tokenizer: &Tokenizer,
    count: usize,
) -> Vec<Neighbours> {
    let vectors = vectors.clone().inner();
    let [all, width] = vectors.dims();
    assert_eq!(width, text.config().width, "vectors of the tower's width");
    (0..all)
        .step_by(VECTORS_AT_ONCE)
        .flat_map(|first| {
            let some = VECTORS_AT_ONCE.min(all - first);
            let some = vectors.clone().narrow(0, first, some); // [V, d]
            nearest_at_once(some, text, tokenizer, count)
        })
        .collect()
}

fn nearest_at_once(
    vectors: Tensor<2>,
    text: &TextTower,
    tokenizer: &Tokenizer,
    count: usize,
) -> Vec<Neighbours> {
    let [rows, width] = vectors.dims();
    let words = tokenizer.vocabulary_size();
    let table = text.token_embedding();
    let mut near = vec![Candidates::new(count + SPARE); rows];
    let mut direct = near.clone();
    for first in (0..words).step_by(WORDS_AT_ONCE) {
        let some = WORDS_AT_ONCE.min(words - first);
        let embeddings = table.clone().narrow(0, first, some); // [W, d]
        let squares = embeddings.clone().square().sum_dim(1).transpose(); // [1, W]
        let products = vectors.clone().matmul(embeddings.transpose()); // [V, W]
        // ‖v − w‖² without ‖v‖², and the cosine times ‖v‖: neither changes a vector's order.
        let distances = values(squares.clone() - products.clone() * 2.0);
        let cosines = values(products / squares.sqrt().clamp_min(f32::MIN_POSITIVE));
        for row in 0..rows {
            let place = row * some..(row + 1) * some;
            near[row].add(first, distances[place.clone()].iter().copied());
            direct[row].add(first, cosines[place].iter().map(|cosine| -cosine));
        }
    }

    let vectors = values(vectors);
    near.into_iter()
        .zip(direct)
        .zip(vectors.chunks_exact(width))
        .map(|((near, direct), vector)| {
            let words = |candidates: Candidates, order: fn(&NearWord) -> f32| {
                let ids: Vec<u32> = candidates.ids();
                let embeddings = values(text.embed(&ids)); // [W, d]
                let mut words: Vec<NearWord> = ids
                    .iter()
                    .zip(embeddings.chunks_exact(width))
                    .filter_map(|(&id, embedding)| {
                        let token = tokenizer.decode_token(id)?;
                        Some(NearWord {
                            id,
                            word: readable(&token, is_mark(id, tokenizer)),
                            token,
                            distance: distance(vector, embedding),
                            cosine: cosine(vector, embedding),
                        })
                    })
                    .collect();
                words.sort_by(|a, b| order(a).total_cmp(&order(b)));
                words.truncate(count);
                words
            };
            Neighbours {
                by_distance: words(near, |word| word.distance),
                by_cosine: words(direct, |word| -word.cosine),
            }
        })
        .collect()
}

/// The ids of least score so far, least first.
#[derive(Clone, Debug)]
struct Candidates {
    kept: Vec<(f32, u32)>,
    most: usize,
}

impl Candidates {
    fn new(most: usize) -> Self {
        Self {
            kept: Vec::new(),
            most,
        }
    }

    /// Scores of the ids from `first` on.
    fn add(&mut self, first: usize, scores: impl Iterator<Item = f32>) {
        for (offset, score) in scores.enumerate() {
            let worst = self.kept.last().map_or(f32::INFINITY, |&(score, _)| score);
            if self.kept.len() < self.most || score < worst {
                let place = self.kept.partition_point(|&(kept, _)| kept <= score);
                self.kept.insert(place, (score, (first + offset) as u32));
                self.kept.truncate(self.most);
            }
        }
    }

    fn ids(&self) -> Vec<u32> {
        self.kept.iter().map(|&(_, id)| id).collect()
    }
}

/// Whether a token is the start or the end of text.
fn is_mark(id: u32, tokenizer: &Tokenizer) -> bool {
    id == tokenizer.start_of_text() || id == tokenizer.end_of_text()
}

/// A whole word or end of a word as it is, the beginning or middle of one with a hyphen.
fn readable(token: &str, is_mark: bool) -> String {
    match token.strip_suffix("</w>") {
        Some(word) => word.to_owned(),
        None if is_mark => token.to_owned(),
        None => format!("{token}-"),
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_scores_are_kept_in_order() {
        let mut candidates = Candidates::new(3);
        candidates.add(10, [4.0, 1.0, 3.0].into_iter());
        candidates.add(20, [2.0, 5.0, 1.0].into_iter());
        assert_eq!(candidates.ids(), [11, 22, 20]);
    }

    #[test]
    fn tokens_are_written_for_people() {
        assert_eq!(readable("photo</w>", false), "photo");
        assert_eq!(readable("pho", false), "pho-");
        assert_eq!(readable("<|endoftext|>", true), "<|endoftext|>");
    }
}
