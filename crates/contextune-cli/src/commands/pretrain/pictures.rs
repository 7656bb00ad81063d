//! Training pictures with their names and captions.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use contextune::data::{Dataset, Example, Input};
use contextune::image::{self, DecodeOptions};
use contextune::pretrain::{CaptionedPicture, Captions};
use rayon::prelude::*;

/// Captions beside a CoOp split: for each picture its name and other words for it.
const CAPTIONS: &str = "captions.json";

/// Decodes all training pictures into memory; `decoded` is called after each.
pub fn load_pictures(
    dataset: &Dataset,
    decoded: &(impl Fn() + Sync),
) -> Result<Vec<CaptionedPicture>> {
    let captions = captions(dataset)?;
    dataset
        .train
        .par_iter()
        .map(|example| {
            let path = picture_path(example)?;
            let name = class_words(dataset, example.label);
            let others = captions
                .get(&relative(dataset, path))
                .map(|texts| {
                    texts
                        .iter()
                        .filter(|&text| *text != name)
                        .cloned()
                        .collect()
                })
                .unwrap_or_else(Vec::new);
            let picture = image::open(path, &DecodeOptions::default())?.into_rgb();
            decoded();
            Ok(CaptionedPicture {
                picture,
                name: example.label,
                captions: Captions::new(name, others),
            })
        })
        .collect()
}

/// Reads other words for each picture from the file beside the data set, if there is one.
fn captions(dataset: &Dataset) -> Result<HashMap<String, Vec<String>>> {
    let beside = dataset
        .root
        .ancestors()
        .take(2)
        .map(|folder| folder.join(CAPTIONS))
        .find(|path| path.is_file());
    match beside {
        None => Ok(HashMap::new()),
        Some(path) => {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            serde_json::from_str(&text).with_context(|| {
                format!("{} is no list of captions for each picture", path.display())
            })
        }
    }
}

/// Returns the path of the example's picture.
pub fn picture_path(example: &Example) -> Result<&Path> {
    match &example.input {
        Input::Picture(path) => Ok(path),
        _ => bail!("pre-training needs pictures, not features"),
    }
}

/// Returns a picture's path below the folder of pictures, as captions and teachers name it.
pub fn relative(dataset: &Dataset, path: &Path) -> String {
    let below = path.strip_prefix(&dataset.root).unwrap_or(path);
    let below = below.strip_prefix("images").unwrap_or(below);
    below.to_string_lossy().replace('\\', "/")
}

/// Returns a class name as text: `_` stands for a blank.
pub fn class_words(dataset: &Dataset, label: usize) -> String {
    dataset.class_names[label].replace('_', " ")
}
