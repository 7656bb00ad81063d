//! `contextune classify`: zero-shot on loose pictures.

use std::path::PathBuf;

use anyhow::Result;
use contextune::data;
use contextune::evaluate::most_probable;
use contextune::objective::similarity;
use contextune::prompt::zeroshot;
use contextune::text::{TEMPLATE, TemplateSet};
use serde::Serialize;

use crate::examples;
use crate::options::{Context, ModelArguments, PictureArguments, values};
use crate::picture_paths::PicturePaths;

/// Classes shown for each picture.
const SHOWN: usize = 5;

/// Say what is on pictures, given nothing but the names of classes.
///
/// Example: contextune classify --classes "cat,dog,tree" holiday.jpg
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Class names, separated by commas or one a line in a file.
    #[arg(long)]
    classes: String,
    /// A template, a file with one a line, or a named set (openai-7, openai-80, …).
    #[arg(long, default_value = TEMPLATE)]
    templates: String,
    #[command(flatten)]
    paths: PicturePaths,
    #[command(flatten)]
    pictures: PictureArguments,
    /// One JSON object a picture.
    #[arg(long)]
    json: bool,
}

/// A picture's most probable classes.
#[derive(Debug, Serialize)]
pub struct Prediction {
    path: PathBuf,
    class: String,
    probability: f32,
    top: Vec<(String, f32)>,
}

/// Classifies and prints.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let classes = data::class_list(&arguments.classes)?;
    let templates = TemplateSet::from_argument(&arguments.templates)?;
    let paths = arguments.paths.pictures()?;
    let model = arguments.model.open(context)?;
    let classifier = zeroshot::classifier(
        &model.text_tower()?,
        &model.tokenizer()?,
        &classes,
        &templates,
    )?;
    let (kept, rows) = examples::encode_paths(&paths, &model, &arguments.pictures, context)?;
    let logits = values(similarity::logits(rows, classifier, model.logit_scale()?))?;
    print(&paths, &kept, &logits, &classes, arguments.json)
}

/// Prints one line, or one JSON object, for each of the `kept` pictures; `logits` has a row of K for each.
pub fn print(
    paths: &[PathBuf],
    kept: &[usize],
    logits: &[f32],
    classes: &[String],
    json: bool,
) -> Result<()> {
    for (&index, row) in kept.iter().zip(logits.chunks_exact(classes.len())) {
        let top: Vec<(String, f32)> = most_probable(row, SHOWN)
            .into_iter()
            .map(|(class, probability)| (classes[class].clone(), probability))
            .collect();
        if json {
            let (class, probability) = top[0].clone();
            let prediction = Prediction {
                path: paths[index].clone(),
                class,
                probability,
                top,
            };
            println!("{}", serde_json::to_string(&prediction)?);
        } else {
            let shares: Vec<String> = top
                .iter()
                .map(|(class, probability)| format!("{class} {:.1} %", 100.0 * probability))
                .collect();
            println!("{}: {}", paths[index].display(), shares.join(", "));
        }
    }
    Ok(())
}
