//! From the examples of a data set to image features, with progress and remarks.

use anyhow::{Context as _, Result, bail};
use burn::tensor::{Tensor, TensorData};
use contextune::data::{Dataset, Example, FeaturesFile, Input, Split, Subset};
use contextune::features::PictureEncoder;
use contextune::image::{DecodeOptions, Preprocess};
use contextune::model::Model;

use crate::options::{Context, PictureArguments};

/// Image features with their labels.
#[derive(Debug)]
pub struct Features {
    /// `[N, D]`, not of unit length.
    pub rows: Tensor<2>,
    /// One of the data set's classes for each row.
    pub labels: Vec<usize>,
}

/// Which classes, on the command line.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum SubsetName {
    /// Every class.
    #[default]
    All,
    /// The first half by label.
    Base,
    /// The other half.
    New,
}

impl From<SubsetName> for Subset {
    fn from(name: SubsetName) -> Self {
        match name {
            SubsetName::All => Self::All,
            SubsetName::Base => Self::Base,
            SubsetName::New => Self::New,
        }
    }
}

/// The image side of a model with what belongs in front of it.
pub fn encoder(model: &Model, exif: bool) -> Result<PictureEncoder> {
    Ok(PictureEncoder {
        tower: model.image_tower()?,
        normalisation: model.normalisation(),
        preprocess: Preprocess::new(model.config().image.image_size() as u32),
        decoding: DecodeOptions {
            honour_exif: exif,
            ..DecodeOptions::default()
        },
        device: model.device().clone(),
    })
}

/// Features of `examples`: encoded from pictures, or read from the data set's features file.
pub fn features(
    dataset: &Dataset,
    examples: &[Example],
    model: &Model,
    pictures: &PictureArguments,
    context: &Context,
) -> Result<Features> {
    if examples.is_empty() {
        bail!("{} has no such examples", dataset.root.display());
    }
    check_width(dataset, model)?;
    match &dataset.features {
        Some(file) => from_file(file, examples, model, context),
        None => from_pictures(examples, model, pictures, context),
    }
}

/// Refuses a features file whose rows are not as wide as the model's features.
pub fn check_width(dataset: &Dataset, model: &Model) -> Result<()> {
    let width = model.config().embedding_width;
    match &dataset.features {
        Some(file) if file.width() != width => bail!(
            "{} holds features of width {}, the model's are {width} wide: encode the pictures with this model",
            file.path().display(),
            file.width()
        ),
        _ => Ok(()),
    }
}

fn from_file(
    file: &FeaturesFile,
    examples: &[Example],
    model: &Model,
    context: &Context,
) -> Result<Features> {
    let width = model.config().embedding_width;
    let rows: Vec<usize> = examples
        .iter()
        .filter_map(|example| match example.input {
            Input::FeatureRow(row) => Some(row),
            _ => None,
        })
        .collect();
    let values = TensorData::new(file.read(&rows), [rows.len(), width]);
    Ok(Features {
        rows: Tensor::from_data(values, &context.device),
        labels: examples.iter().map(|example| example.label).collect(),
    })
}

fn from_pictures(
    examples: &[Example],
    model: &Model,
    pictures: &PictureArguments,
    context: &Context,
) -> Result<Features> {
    let paths = examples
        .iter()
        .map(|example| match &example.input {
            Input::Picture(path) => Ok(path.clone()),
            _ => bail!("an example is neither a picture nor a row of features"),
        })
        .collect::<Result<Vec<_>>>()?;
    let (kept, rows) = encode_paths(&paths, model, pictures, context)?;
    Ok(Features {
        rows,
        labels: kept.iter().map(|&index| examples[index].label).collect(),
    })
}

/// Features `[N, D]` of the pictures that can be read, and which of `paths` these are.
pub fn encode_paths(
    paths: &[std::path::PathBuf],
    model: &Model,
    pictures: &PictureArguments,
    context: &Context,
) -> Result<(Vec<usize>, Tensor<2>)> {
    let encoder = encoder(model, pictures.exif)?;
    let bar = context.screen.bar("encode", paths.len());
    let encoded = encoder.encode(paths, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    for (_, error) in &encoded.skipped {
        context.screen.remark(format!("left out: {error}"));
    }
    if let Some((path, error)) = encoded.skipped.into_iter().next() {
        if pictures.strict {
            return Err(error).context("--strict stops at a picture that cannot be read");
        }
        if encoded.kept.is_empty() {
            return Err(error).with_context(|| {
                format!("no picture could be read; the first is {}", path.display())
            });
        }
        context.screen.remark(format!(
            "{} of {} pictures left out because they cannot be read",
            paths.len() - encoded.kept.len(),
            paths.len()
        ));
    }
    let shape = [encoded.kept.len(), model.config().embedding_width];
    let rows = Tensor::from_data(TensorData::new(encoded.features, shape), &context.device);
    Ok((encoded.kept, rows))
}

/// Opens a data set and says what its user should know.
pub fn open(path: &std::path::Path, seed: u64, context: &Context) -> Result<Dataset> {
    let dataset = contextune::data::open(path, seed)?;
    for warning in &dataset.warnings {
        context.screen.remark(warning);
    }
    Ok(dataset)
}

/// A split on the command line.
pub fn split(name: &str) -> Result<Split, String> {
    Split::ALL
        .into_iter()
        .find(|split| split.to_string() == name)
        .ok_or_else(|| "a split is train, val or test".to_owned())
}
