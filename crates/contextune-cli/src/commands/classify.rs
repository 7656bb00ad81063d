//! `contextune classify`: zero-shot on loose pictures.

use std::path::{Path, PathBuf};

use anyhow::Result;
use contextune::data;
use contextune::method::text::zeroshot;
use contextune::run::{AnyAnswer, ErasedPredictor as _};
use contextune::text::{TEMPLATE, TemplateSet};
use serde::Serialize;

use crate::examples;
use crate::options::{Context, ModelArguments, PictureArguments};
use crate::output::{self, out};
use crate::picture_paths::PicturePaths;
use crate::watch::Watch;

/// Classes shown for each picture.
pub const SHOWN: usize = 5;

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

/// Classifies and prints.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let classes = data::class_list(&arguments.classes)?;
    let templates = TemplateSet::from_argument(&arguments.templates)?;
    let paths = arguments.paths.pictures()?;
    let model = arguments.model.open(context)?;
    let predictor = zeroshot::predictor(&model, &classes, &templates.lines())?;
    let encoder = examples::encoder(&model, &arguments.pictures, context)?;
    let (kept, inputs) = encoder.pictures(&paths, &Watch::new(context))?;
    let answers = predictor.all_answers(&inputs, SHOWN)?;
    print(&paths, &kept, &answers, arguments.json)
}

/// Prints one line, or one JSON object, for each of the `kept` pictures.
pub fn print(paths: &[PathBuf], kept: &[usize], answers: &[AnyAnswer], json: bool) -> Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(serialize_with = "output::serialize_path")]
        path: &'a Path,
        /// All bytes of a path that is not UTF-8, which `path` cannot hold.
        #[serde(skip_serializing_if = "Option::is_none")]
        path_bytes: Option<&'a [u8]>,
        #[serde(flatten)]
        answer: &'a AnyAnswer,
    }
    for (&index, answer) in kept.iter().zip(answers) {
        output::check()?;
        let path = &paths[index];
        if json {
            let line = Line {
                path,
                path_bytes: match path.to_str() {
                    Some(_) => None,
                    None => Some(path.as_os_str().as_encoded_bytes()),
                },
                answer,
            };
            out!("{}", serde_json::to_string(&line)?);
        } else {
            out!("{}: {answer}", output::path(path));
        }
    }
    Ok(())
}
