//! Retrieval on held-out pictures, while a model is trained and when it is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use burn::tensor::{Device, Tensor, TensorData};
use contextune::backbone::{Clip, PixelNormalisation};
use contextune::data::{Dataset, Split};
use contextune::evaluate::{Retrieval, retrieval};
use contextune::image::{DecodeOptions, Preprocess};
use contextune::input::{PictureReader, PictureTower};
use contextune::objective::similarity::normalise;
use contextune::parameters::Parameters;
use contextune::text::{Overlong, Tokenizer};

use super::pictures::{class_words, picture_path};
use super::settings::Settings;

/// Measures retrieval on held-out pictures.
pub struct Evaluator<'a> {
    pub settings: Settings,
    pub dataset: &'a Dataset,
    pub tokenizer: Arc<Tokenizer>,
    pub normalisation: PixelNormalisation,
    pub device: Device,
}

impl Evaluator<'_> {
    /// Measures retrieval between the pictures of a split and the names in it; `None` for an empty split.
    pub fn retrieval(&self, parameters: &Parameters, split: Split) -> Result<Option<Retrieval>> {
        let examples = self.dataset.split(split);
        if examples.is_empty() {
            return Ok(None);
        }
        let config = &self.settings.config;
        let text = self.settings.text_config()?;
        let clip = Clip::build(&mut &*parameters, config, text)?;
        let size = config.image.image_size();
        let tower = PictureTower {
            tower: clip.image,
            normalisation: self.normalisation.clone(),
            side: size,
            device: self.device.clone(),
        };
        let reader = PictureReader {
            preprocess: Preprocess::new(size as u32),
            decoding: DecodeOptions::default(),
        };
        let paths = examples
            .iter()
            .map(picture_path)
            .collect::<Result<Vec<_>>>()?;
        let features = tower.files(&reader, &paths)?;
        let mut number: BTreeMap<usize, usize> = BTreeMap::new();
        for example in examples {
            let next = number.len();
            number.entry(example.label).or_insert(next);
        }
        let mut labels: Vec<(usize, usize)> = number.iter().map(|(&l, &n)| (n, l)).collect();
        labels.sort_unstable();
        let prompts = labels
            .iter()
            .map(|&(_, label)| {
                let name = class_words(self.dataset, label);
                let limit = text.context_length;
                self.tokenizer.tokenize(&name, limit, Overlong::Refuse)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let texts = normalise(clip.text.encode_frozen(&prompts)?);
        let width = config.embedding_width;
        let images = TensorData::new(features, [paths.len(), width]);
        let images = normalise(Tensor::from_data(images, &self.device));
        let similarities: Vec<f32> = images
            .matmul(texts.transpose())
            .into_data()
            .try_to_vec()
            .context("similarities are 32-bit floats")?;
        let rows: Vec<Vec<f32>> = similarities
            .chunks_exact(labels.len())
            .map(<[f32]>::to_vec)
            .collect();
        let names: Vec<usize> = examples
            .iter()
            .map(|example| number[&example.label])
            .collect();
        Ok(Some(retrieval(&rows, &names)))
    }
}
