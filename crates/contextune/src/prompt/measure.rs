//! A prompt on pictures: logits in bounded memory, and how many of them are right.

use burn::tensor::Device;

use super::Prompt;
use crate::evaluate::Accuracy;
use crate::features::LabelledFeatures;
use crate::train::{Parameters, TrainError};

/// Numbers that go into a prompt at once: 4,096 features of width 1,024, or some pictures.
const AT_ONCE: usize = 1 << 22;

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
    let pictures: Vec<(usize, usize)> = (0..features.pictures())
        .map(|picture| (picture, 0))
        .collect();
    let mut all = Vec::new();
    for some in pictures.chunks((AT_ONCE / features.width()).max(1)) {
        let logits = prompt.logits(parameters, features.select(some, device)?)?;
        let logits: Vec<f32> = logits
            .into_data()
            .try_to_vec()
            .expect("prompts compute in 32-bit floats");
        all.extend(logits);
    }
    Ok(all)
}

/// How many pictures are classified rightly, into `classes` classes.
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
    let logits = logits(prompt, parameters, features, device)?;
    Ok(Accuracy::of(&logits, features.labels(), classes))
}
