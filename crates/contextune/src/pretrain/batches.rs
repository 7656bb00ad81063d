//! Batches in which no name comes twice, so that every other row is a true negative.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The pictures of one epoch in batches of `batch_size`; `names[i]` is the name of picture i.
///
/// In each of as many rounds as a name has pictures, every name that has one left gives one, drawn at random; what does
/// not fill a batch at the end of a round waits for another epoch. Every epoch has equally many batches.
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
    for round in 0..rounds {
        let mut order: Vec<usize> = pictures
            .iter()
            .filter_map(|of_name| of_name.get(round).copied())
            .collect();
        order.shuffle(&mut random);
        batches.extend(order.chunks_exact(batch_size).map(<[usize]>::to_vec));
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
        let second = batches(&names, 32, 7, 1);
        assert_ne!(first, second);
        assert_eq!((first.len(), second.len()), (12, 12)); // three of 120 names in each of four rounds, 20 left over
        let mut seen = BTreeSet::new();
        for batch in &first {
            let distinct: BTreeSet<_> = batch.iter().map(|&picture| names[picture]).collect();
            assert_eq!(distinct.len(), 32);
            assert!(batch.iter().all(|&picture| seen.insert(picture)));
        }
    }
}
