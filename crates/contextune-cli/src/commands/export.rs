//! `contextune export`: what a run has learned, in the formats of other programs.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::ValueEnum;
use contextune::checkpoint::Precision;
use contextune::format::{DasslExport, classifier, onnx};
use contextune::method::text::coop::placeholders;
use contextune::model::Model;
use contextune::run::AnyMethod;
use contextune::run::Learned;
use contextune::task::Classify;

use crate::learned::{self, MovedModel};
use crate::options::{Context, WrongUsage, values};
use crate::output::{self, out};

/// Write a run's prompt or its finished classifier for other programs.
///
/// dassl: the prompt, for the official code of CoOp and CoCoOp. onnx: pictures in, logits out, image tower and classifier
/// in one file. safetensors: the classifier (D × K) alone, for image features of the same model.
///
/// Example: contextune export runs/photos --format onnx --out photos.onnx
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run folder.
    run: PathBuf,
    #[command(flatten)]
    moved: MovedModel,
    /// What to write.
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write; for dassl the folder that the official code takes as --model-dir.
    #[arg(long)]
    out: PathBuf,
    /// Half precision, for dassl.
    #[arg(long)]
    half: bool,
    /// Replace what is there.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// prompt_learner/model.pth.tar-N.
    Dassl,
    /// A model for ONNX Runtime.
    Onnx,
    /// Classifier, class names and preparation of the pictures.
    Safetensors,
}

/// Writes.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    if arguments.half && arguments.format != Format::Dassl {
        let message = "--half is for --format dassl: the other formats are in single precision";
        return Err(WrongUsage(message.into()).into());
    }
    let written = match arguments.format {
        // Other files in the folder stay.
        Format::Dassl => arguments.out.join("prompt_learner"),
        Format::Onnx | Format::Safetensors => arguments.out.clone(),
    };
    if written.exists() && !arguments.force {
        bail!(
            "{} exists already: choose another place with --out, or replace it with --force",
            written.display()
        );
    }
    let (learned, model) = learned::open(&arguments.run, &arguments.moved, context)?;
    let class_names = learned.class_names()?;
    if arguments.format == Format::Dassl {
        return write_dassl(&arguments, &learned, &model);
    }
    let features = class_features(&learned, &model)?;
    match arguments.format {
        Format::Onnx => onnx::write(&written, &model, &features, class_names)?,
        _ => classifier::write(&written, &model, &features, class_names)?,
    }
    let (method, classes) = (learned.method().name(), class_names.len());
    out!("{method}, {classes} classes: {}", output::path(&written));
    Ok(())
}

/// The features `[K, D]` of the classes, for methods whose classifier is made of these.
fn class_features(learned: &Learned, model: &Model) -> Result<Vec<f32>> {
    let predictor = learned.predictor::<Classify>(model, &learned.file.class_names)?;
    let classifier = predictor.prompt().class_features(predictor.parameters())?;
    if let Some(classifier) = classifier {
        return values(classifier.features());
    }
    let method = learned.method().name();
    let instead = match dassl_has(learned.method()) {
        true => "--format dassl works, and so does `contextune predict`",
        false => "use it with `contextune predict`",
    };
    bail!(
        "{method} does not come to one fixed feature for each class whose cosine with a picture's feature is the logit, which is what onnx and safetensors hold: {instead}"
    )
}

/// Whether Dassl's format has prompts of this method.
fn dassl_has(method: &AnyMethod) -> bool {
    method.context_layout().is_some()
}

fn write_dassl(arguments: &Arguments, learned: &Learned, model: &Model) -> Result<()> {
    let file = &learned.file;
    let Some(layout) = learned.method().context_layout() else {
        let predictor = learned.predictor::<Classify>(model, &file.class_names)?;
        let classifier = predictor.prompt().class_features(predictor.parameters())?;
        let instead = match classifier {
            Some(_) => "; --format onnx and safetensors work",
            None => "",
        };
        bail!(
            "Dassl's format has prompts of coop, kgcoop, prograd and cocoop, which are context vectors; {} has none{instead}",
            learned.method().name()
        );
    };
    let text = model.text_tower()?;
    let limit = text.config().context_length;
    let epoch = learned.settings.training.fit.epochs;
    let path = DasslExport {
        parameters: &file.parameters,
        text: &text,
        placeholders: &placeholders(&*model.tokenizer()?, &file.class_names, &layout, limit)?,
        epoch,
        precision: match arguments.half {
            true => Precision::Half,
            false => Precision::Single,
        },
    }
    .write(&arguments.out)?;
    out!("{}", output::path(&path));
    out!(
        "the official code takes it with --model-dir {} --load-epoch {epoch}; its settings must say the same: {} context vectors{}, class name at the {}{}",
        arguments.out.display(),
        layout.length,
        if layout.class_specific {
            " for each class (CSC)"
        } else {
            ""
        },
        layout.position,
        match &layout.published_words {
            Some(words) => format!(", CTX_INIT {words:?}"),
            None => String::new(),
        }
    );
    Ok(())
}
