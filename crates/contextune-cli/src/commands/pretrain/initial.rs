//! Where pre-training begins.

use anyhow::Result;
use burn::tensor::Device;
use contextune::backbone::Clip;
use contextune::model::{Model, ModelOptions};
use contextune::parameters::{Collector, ParameterSource as _, Parameters};
use contextune::pretrain::{IMAGE_TEACHER_HEAD, Initialiser};

use super::settings::Settings;

/// Returns the model's parameters, and the map to an image teacher's space of this width.
pub fn initial_parameters(
    settings: &Settings,
    teacher_width: Option<usize>,
    device: &Device,
) -> Result<Parameters> {
    let mut parameters = model_parameters(settings, device)?;
    if let Some(width) = teacher_width {
        let shape = [settings.config.embedding_width, width];
        let mut initialiser = Initialiser::new(settings.text_config()?, settings.seed, device);
        parameters.insert(
            IMAGE_TEACHER_HEAD,
            initialiser.parameter(IMAGE_TEACHER_HEAD, shape)?,
        );
    }
    Ok(parameters)
}

/// Counts the parameters of the model, without the map to a teacher's space.
pub fn model_elements(parameters: &Parameters) -> usize {
    let head = parameters.shape(IMAGE_TEACHER_HEAD).unwrap_or(&[0]);
    parameters.elements() - head.iter().product::<usize>()
}

fn model_parameters(settings: &Settings, device: &Device) -> Result<Parameters> {
    match &settings.from {
        Some(name) => {
            let model = Model::open(Some(name), ModelOptions::default(), device, |_| ())?;
            Ok(model.parameters()?)
        }
        None => {
            let initialiser = Initialiser::new(settings.text_config()?, settings.seed, device);
            let mut collector = Collector::new(initialiser);
            Clip::build(&mut collector, &settings.config, settings.text_config()?)?;
            Ok(collector.into_parameters())
        }
    }
}
