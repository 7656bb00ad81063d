//! From paths to data sets and features, with progress and remarks.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Tensor;
use contextune::data::{Dataset, Split, Subset};
use contextune::input::{InputEncoder, InputKind};
use contextune::model::Model;

use crate::options::{Context, PictureArguments};
use crate::watch::Watch;

/// The way from pictures to a model's features.
pub fn encoder<'a>(
    model: &'a Model,
    pictures: &PictureArguments,
    context: &Context,
) -> Result<InputEncoder<'a>> {
    Ok(InputEncoder::new(
        model,
        pictures.encoding(context),
        InputKind::Features,
    )?)
}

/// Features `[N, D]` of the pictures that can be read, and which of `paths` these are.
pub fn encode_paths(
    paths: &[PathBuf],
    model: &Model,
    pictures: &PictureArguments,
    context: &Context,
) -> Result<(Vec<usize>, Tensor<2>)> {
    let encoder = encoder(model, pictures, context)?;
    let (kept, features) = encoder.pictures(paths, &Watch::new(context))?;
    Ok((kept, features.first_features(&context.device)?))
}

/// Opens a data set and says what its user should know.
pub fn open(path: &Path, seed: u64, context: &Context) -> Result<Dataset> {
    let dataset = contextune::data::open(path, seed)?;
    for warning in &dataset.warnings {
        context.screen.warning(warning);
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

/// A subset on the command line.
pub fn subset(name: &str) -> Result<Subset, String> {
    [Subset::All, Subset::Base, Subset::New]
        .into_iter()
        .find(|subset| subset.to_string() == name)
        .ok_or_else(|| "a subset is all, base or new".to_owned())
}
