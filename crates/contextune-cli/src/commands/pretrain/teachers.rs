//! Features of frozen teachers, to imitate.

use std::collections::HashMap;

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor, TensorData};
use contextune::data::{Dataset, NamedFeatures, NamedRows};
use contextune::pretrain::{Distillation, ImageTeacher, TextTeacher};
use contextune::text::{Overlong, Tokenizer};

use super::pictures::{picture_path, relative};
use super::settings::Settings;

/// Reads the teachers' features; `remark` is told how many pictures each knows.
pub fn load_teachers(
    settings: &Settings,
    dataset: &Dataset,
    tokenizer: &Tokenizer,
    device: &Device,
    remark: impl Fn(String),
) -> Result<Option<Distillation>> {
    /// Texts imitated in each step for every picture in it.
    const TEXTS_PER_PICTURE: usize = 2;
    let mut teachers = Distillation {
        images: None,
        texts: None,
        weight: settings.distill_weight,
    };
    for path in &settings.distill {
        let file = NamedFeatures::read(path)?;
        if let Some(features) = file.images {
            let place: HashMap<&str, usize> = features.places();
            let rows = dataset
                .train
                .iter()
                .map(|example| {
                    let name = relative(dataset, picture_path(example)?);
                    Ok(place.get(name.as_str()).copied())
                })
                .collect::<Result<Vec<_>>>()?;
            let known = rows.iter().flatten().count();
            if known == 0 {
                bail!(
                    "{} has features of none of the training pictures",
                    path.display()
                );
            }
            remark(format!(
                "{} knows {known} of {} training pictures",
                path.display(),
                rows.len()
            ));
            teachers.images = Some(ImageTeacher {
                targets: tensor(&features, device),
                rows,
            });
        }
        if let Some(features) = file.texts {
            if features.width != settings.config.embedding_width {
                bail!(
                    "the text features in {} are {} wide, the joint space {}",
                    path.display(),
                    features.width,
                    settings.config.embedding_width
                );
            }
            let limit = settings.text_config()?.context_length;
            let texts = features
                .names
                .iter()
                .map(|text| tokenizer.tokenize(text, limit, Overlong::Truncate))
                .collect::<Result<Vec<_>, _>>()?;
            teachers.texts = Some(TextTeacher::new(
                texts,
                tensor(&features, device),
                TEXTS_PER_PICTURE * settings.batch_size,
                settings.seed,
            ));
        }
    }
    let any = teachers.images.is_some() || teachers.texts.is_some();
    Ok(any.then_some(teachers))
}

/// Rows of features as a tensor, `[rows, width]`.
fn tensor(rows: &NamedRows, device: &Device) -> Tensor<2> {
    let shape = [rows.names.len(), rows.width];
    Tensor::from_data(TensorData::new(rows.values().to_vec(), shape), device)
}
