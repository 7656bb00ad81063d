//! `contextune import`: a prompt of the official code becomes a run.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;
use contextune::data::{self, Dataset, Split, Subset};
use contextune::format::{DasslCheckpoint, DasslFamily};
use contextune::method::text::cocoop::CoCoOpSettings;
use contextune::method::text::coop::{ContextLayout, Position};
use contextune::method::text::kgcoop::{KgCoOp, KgCoOpSettings};
use contextune::method::text::prograd::{ProGrad, ProGradSettings};
use contextune::model::Model;
use contextune::run::import::Import;
use contextune::run::{
    AnyMeasured, AnyMethod, JobOutcome, Learned, RunFolder, RunResult, Settings,
};
use contextune::text::TEMPLATE;
use serde::Serialize;

use super::report;
use super::train::absolute_model;
use crate::examples;
use crate::measuring::Measurable;
use crate::options::{Context, ModelArguments, PictureArguments, WrongUsage};
use crate::output::{self, out};
use crate::watch::Watch;

/// Take over a prompt that the official code of CoOp or CoCoOp learned (Dassl's model.pth.tar-N).
///
/// The result is a run like any other: eval, predict, explain, export and train --init take it.
///
/// Example: contextune import output/prompt_learner --model ViT-B-16.pt --classes names.txt --out runs/official
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// A model.pth.tar-N, the folder prompt_learner it lies in, or the folder of the official run.
    file: PathBuf,
    #[command(flatten)]
    model: ModelArguments,
    /// Class names in the order of their labels, separated by commas or one a line in a file; without them those of
    /// --data.
    #[arg(long)]
    classes: Option<String>,
    /// The data set it was learned on: gives the class names, and the accuracy is measured on its test split.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Which classes of the data set it was learned on: all, base or new.
    #[arg(long, requires = "data", value_parser = examples::subset)]
    subset: Option<Subset>,
    /// Where the class name stands among the context vectors: end, middle or front. The checkpoint does not say.
    #[arg(long)]
    position: Option<Position>,
    /// What it was learned by, where the checkpoint looks the same; without it coop.
    #[arg(long, value_enum)]
    method: Option<SameFile>,
    /// Seed of the split of a data set that has none.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for the run.
    #[arg(long)]
    out: PathBuf,
    /// Replace the run folder if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pictures: PictureArguments,
    /// Print what was imported as JSON.
    #[arg(long)]
    json: bool,
}

/// Methods that learn the same tensor.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum SameFile {
    /// CoOp.
    Coop,
    /// KgCoOp.
    Kgcoop,
    /// ProGrad.
    Prograd,
}

#[derive(Serialize)]
struct Answer {
    #[serde(serialize_with = "output::serialize_path")]
    run: PathBuf,
    method: String,
    classes: usize,
    context_length: usize,
    class_specific: bool,
    position: Position,
    epochs: Option<usize>,
    accuracy: Option<f32>,
}

/// Reads, checks, writes the run, and measures it where there are data.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let checkpoint = DasslCheckpoint::open(&arguments.file, &context.device)?;
    let dataset = match &arguments.data {
        Some(path) => Some(examples::open(path, arguments.seed, context)?),
        None => None,
    };
    let subset = arguments.subset.unwrap_or_default();
    let measurable = dataset.as_ref().map(|dataset| Measurable {
        path: dataset.root.clone(),
        split: Split::Test,
        subset,
        dataset: dataset.subset(subset),
    });
    let class_names = match (&arguments.classes, &measurable) {
        (Some(list), _) => data::class_list(list)?,
        (None, Some(measurable)) => measurable.dataset.class_names.clone(),
        (None, None) if checkpoint.class_specific => {
            return Err(WrongUsage(format!(
                "{} has a context for each class: say with --classes or --data which classes these are, in the order of their labels",
                arguments.file.display()
            ))
            .into());
        }
        (None, None) => Vec::new(),
    };
    let method = arguments.method(&checkpoint, dataset.as_ref(), context)?;
    let model = arguments.model.open(context)?;
    let import = Import {
        path: &arguments.file,
        checkpoint: &checkpoint,
        model: &model,
        method: &method,
        class_names: &class_names,
    };
    let file = import.prompt_file()?;
    if let Some(warning) = import.warning()? {
        context.screen.remark(warning);
    }
    if class_names.is_empty() {
        context.screen.remark(
            "no class names: predict and export need them, eval takes those of its --data; give them with --classes",
        );
    }

    let settings = arguments.settings(&checkpoint, method)?;
    settings.check_values()?;
    let folder = RunFolder::create(&arguments.out, &settings, arguments.force)?;
    file.write(&folder.prompt_file())?;
    let accuracy = match (&dataset, &measurable) {
        (Some(dataset), Some(measurable)) if measurable.is_empty() => {
            let path = dataset.root.display();
            let remark = format!("{path} has no test split: the accuracy was not measured");
            context.screen.remark(remark);
            None
        }
        (Some(dataset), Some(measurable)) => finish(&folder, &model, dataset, measurable, context)?,
        _ => None,
    };
    arguments.print(&checkpoint, &settings, class_names.len(), accuracy)
}

/// Measures the run, and writes the result and the page; `dataset` has all classes.
fn finish(
    folder: &RunFolder,
    model: &Model,
    dataset: &Dataset,
    measurable: &Measurable,
    context: &Context,
) -> Result<Option<f32>> {
    let learned = Learned::open(folder.path(), &context.device)?;
    let measured = measurable.measure(&learned, model, context)?;
    let names = &measurable.dataset.class_names;
    let measures = measured.measures(names);
    let accuracy = measures.accuracy;
    let measured = AnyMeasured::new(measured);
    let outcome = JobOutcome {
        split: measurable.split,
        measures,
        unmeasured: None,
        measured: None,
        parameters: learned.file.parameters.elements(),
        seconds: 0.0,
        class_names: names.clone(),
    };
    folder.finish(&RunResult::new(
        &learned.settings,
        &outcome,
        folder.prompt_bytes(),
    ))?;
    let watch = Watch::without_remarks(context);
    report::write(folder, Some(&measured), model, dataset, context, &watch);
    Ok(accuracy)
}

impl Arguments {
    /// The method that learned the checkpoint, as far as checkpoint and arguments tell.
    fn method(
        &self,
        checkpoint: &DasslCheckpoint,
        dataset: Option<&Dataset>,
        context: &Context,
    ) -> Result<AnyMethod> {
        if checkpoint.family == DasslFamily::CoCoOp {
            if self.method.is_some() {
                let message = "--method tells prompts apart that are alike in the file; this one is CoCoOp's: leave it out";
                return Err(WrongUsage(message.into()).into());
            }
            if !matches!(self.position, None | Some(Position::End)) {
                let message = "CoCoOp has the class name at the end: leave --position out";
                return Err(WrongUsage(message.into()).into());
            }
            return Ok(AnyMethod::from(CoCoOpSettings {
                context_length: checkpoint.context_length,
                published_words: None,
            }));
        }
        if self.position.is_none() {
            context.screen.remark(
                "the checkpoint does not say where the class name stands: taken to be at the end, as officially unless set otherwise; else give --position middle or front",
            );
        }
        let layout = ContextLayout {
            length: checkpoint.context_length,
            class_specific: checkpoint.class_specific,
            position: self.position.unwrap_or_default(),
            published_words: None,
        };
        let templates = dataset.and_then(Dataset::published_template);
        let templates = templates.unwrap_or(TEMPLATE).to_owned();
        Ok(match self.method.unwrap_or(SameFile::Coop) {
            SameFile::Coop => layout.into(),
            SameFile::Kgcoop => AnyMethod::from(KgCoOpSettings {
                layout,
                templates,
                guidance: KgCoOp::PUBLISHED,
            }),
            SameFile::Prograd => AnyMethod::from(ProGradSettings {
                layout,
                templates,
                guidance: ProGrad::PUBLISHED,
            }),
        })
    }

    /// The settings as far as they are known; the recipe is the published one.
    fn settings(&self, checkpoint: &DasslCheckpoint, method: AnyMethod) -> Result<Settings> {
        let absolute = |path: &Path| std::path::absolute(path);
        let imported = absolute(&self.file)?;
        let data = self.data.as_deref().map(absolute).transpose()?;
        let mut settings = Settings {
            model: self.model.model.as_deref().map(absolute_model),
            activation: self.model.activation.map(Into::into),
            seed: self.seed,
            subset: self.subset.unwrap_or_default(),
            exif: self.pictures.exif,
            strict: self.pictures.strict,
            ..Settings::imported(imported, data, method)
        };
        if let Some(epochs) = checkpoint.epoch {
            settings.training.fit.epochs = epochs;
        }
        Ok(settings)
    }

    fn print(
        &self,
        checkpoint: &DasslCheckpoint,
        settings: &Settings,
        classes: usize,
        accuracy: Option<f32>,
    ) -> Result<()> {
        let Some(layout) = settings.method.context_layout() else {
            unreachable!("every imported method has a context")
        };
        if self.json {
            let answer = Answer {
                run: self.out.clone(),
                method: settings.method.name().to_owned(),
                classes,
                context_length: layout.length,
                class_specific: layout.class_specific,
                position: layout.position,
                epochs: checkpoint.epoch,
                accuracy,
            };
            out!("{}", serde_json::to_string(&answer)?);
            return Ok(());
        }
        let accuracy = accuracy.map_or_else(String::new, |accuracy| {
            format!("{:.1} % on the test split, ", 100.0 * accuracy)
        });
        out!(
            "{}: {accuracy}{} context vectors{}, class name at the {}, {classes} classes; the run is in {}",
            settings.method.name(),
            layout.length,
            if layout.class_specific {
                " for each class"
            } else {
                ""
            },
            layout.position,
            self.out.display()
        );
        Ok(())
    }
}
