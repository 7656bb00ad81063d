//! A prompt on pictures: their logits, and how many of them are right in bounded memory.

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use super::Prompt;
use crate::evaluate::{Accuracy, most_probable};
use crate::features::LabelledFeatures;
use crate::train::{Parameters, TrainError};

/// Numbers of features or of logits that are in memory at once: 4,096 features of width 1,024.
const AT_ONCE: usize = 1 << 22;
/// Pictures that go through a tower at once.
pub(super) const PICTURES_AT_ONCE: usize = 32;

/// Logits of the first view of every picture, `[N, K]` row-major.
///
/// # Errors
/// Whatever the prompt reports.
pub fn logits(
    prompt: &dyn Prompt,
    parameters: &Parameters,
    features: &LabelledFeatures,
    device: &Device,
) -> Result<Vec<f32>, TrainError> {
    let at_once = at_once(features, 1);
    let mut all = Vec::new();
    in_parts(prompt, parameters, features, at_once, device, |logits| {
        all.extend_from_slice(logits);
    })?;
    Ok(all)
}

/// How many pictures are classified rightly, into `classes` classes. Memory does not grow with the pictures.
///
/// # Errors
/// Whatever the prompt reports.
pub fn accuracy(
    prompt: &dyn Prompt,
    parameters: &Parameters,
    features: &LabelledFeatures,
    classes: usize,
    device: &Device,
) -> Result<Accuracy, TrainError> {
    let at_once = at_once(features, classes);
    let mut accuracy = Accuracy::none(classes);
    let mut labels = features.labels();
    in_parts(prompt, parameters, features, at_once, device, |logits| {
        let (of_these, later) = labels.split_at(logits.len() / classes);
        accuracy.add(logits, of_these);
        labels = later;
    })?;
    Ok(accuracy)
}

/// The `count` most probable classes of every picture and their probabilities, most probable first: in memory for that alone.
///
/// # Errors
/// Whatever the prompt reports.
pub fn guesses(
    prompt: &dyn Prompt,
    parameters: &Parameters,
    features: &LabelledFeatures,
    [classes, count]: [usize; 2],
    device: &Device,
) -> Result<Vec<Vec<(usize, f32)>>, TrainError> {
    let at_once = at_once(features, classes);
    let mut all = Vec::with_capacity(features.pictures());
    in_parts(prompt, parameters, features, at_once, device, |logits| {
        let rows = logits.par_chunks_exact(classes);
        all.par_extend(rows.map(|row| most_probable(row, count)));
    })?;
    Ok(all)
}

/// How many pictures fit into memory together.
fn at_once(features: &LabelledFeatures, classes: usize) -> usize {
    match features.are_pixels() {
        // What a tower makes of them on the way is much larger than they are.
        true => PICTURES_AT_ONCE,
        false => AT_ONCE / features.width().max(classes),
    }
}

/// Gives `take` the logits `[n, K]` of so many pictures `at_once`, until it had all.
fn in_parts(
    prompt: &dyn Prompt,
    parameters: &Parameters,
    features: &LabelledFeatures,
    at_once: usize,
    device: &Device,
    mut take: impl FnMut(&[f32]),
) -> Result<(), TrainError> {
    // What all pictures have in common is computed once.
    let classifier = prompt.class_features(parameters)?;
    let logits = |images: Tensor<2>| match &classifier {
        Some(classifier) => Ok(classifier.classify(images)),
        None => prompt.logits(parameters, images),
    };
    for part in features.parts(at_once, device) {
        let (_, images) = part?;
        let logits = logits(images)?.into_data(); // [n, K]
        take(logits.as_slice().expect("prompts compute in 32-bit floats"));
    }
    Ok(())
}
