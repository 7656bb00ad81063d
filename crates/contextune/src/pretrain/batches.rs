//! Batches in which no name comes twice, so that every other row is a true negative.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The pictures of one epoch in batches of `batch_size`; what does not fill a batch is left for another epoch.
///
/// `names[i]` is the name of picture i. In each of as many rounds as a name has pictures, every name gives one picture;
/// batches never span rounds of which they would take a name twice.
pub fn batches(names: &[usize], batch_size: usize, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(epoch as u64);
    let classes = names.iter().max().map_or(0, |&name| name + 1);
    let mut pictures: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (picture, &name) in names.iter().enumerate() {
        pictures[name].push(picture);
    }
    for of_name in &mut pictures {
        of_name.shuffle(&mut random);
    }
    let rounds = pictures.iter().map(Vec::len).max().unwrap_or(0);
    let mut batches = Vec::new();
    let mut waiting: Vec<usize> = Vec::new();
    for round in 0..rounds {
        let mut order: Vec<usize> = pictures
            .iter()
            .filter_map(|of_name| of_name.get(round).copied())
            .collect();
        order.shuffle(&mut random);
        for picture in order {
            let repeated = waiting
                .iter()
                .any(|&other: &usize| names[other] == names[picture]);
            if repeated {
                continue;
            }
            waiting.push(picture);
            if waiting.len() == batch_size {
                batches.push(std::mem::take(&mut waiting));
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_batch_has_a_name_twice_and_epochs_differ() {
        let names: Vec<usize> = (0..500).map(|picture| picture % 120).collect();
        let first = batches(&names, 32, 7, 0);
        assert_eq!(first, batches(&names, 32, 7, 0));
        assert_ne!(first, batches(&names, 32, 7, 1));
        assert!(first.len() >= 14, "{} of at most 15 batches", first.len());
        let mut seen = BTreeSet::new();
        for batch in &first {
            assert_eq!(batch.len(), 32);
            let distinct: BTreeSet<_> = batch.iter().map(|&picture| names[picture]).collect();
            assert_eq!(distinct.len(), 32);
            assert!(batch.iter().all(|&picture| seen.insert(picture)));
        }
    }
}
