//! `contextune eval`: a run's accuracy, on its own data or on other data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use contextune::data::{self, Dataset, Example, NamedTensor, Split, Subset, TensorValues};
use contextune::evaluate::Accuracy;
use contextune::features::Views;
use contextune::model::Model;
use contextune::prompt;
use contextune::run::{self, Learned, Settings, per_class};
use serde::Serialize;

use crate::examples;
use crate::learned;
use crate::options::{Context, WrongUsage};
use crate::style::HEADING;
use crate::watch::Watch;

/// Measure what a run has learned.
///
/// Other data may have other classes: their names go behind the learned context.
///
/// Example: contextune eval runs/photos --data other-photos --split val
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run folder.
    run: PathBuf,
    /// Data to measure on; without it those of the run.
    #[arg(long)]
    data: Option<PathBuf>,
    /// train, val or test.
    #[arg(long, default_value = "test", value_parser = examples::split)]
    split: Split,
    /// Which classes; without it those of the run, or all of other data.
    #[arg(long, value_parser = examples::subset)]
    subset: Option<Subset>,
    /// Write logits (N × K) and labels to this safetensors file.
    #[arg(long, value_name = "FILE")]
    logits: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    method: String,
    #[serde(flatten)]
    summary: Summary,
}

/// How a split is classified.
#[derive(Serialize)]
pub struct Summary {
    data: PathBuf,
    split: String,
    subset: Subset,
    accuracy: f32,
    correct: usize,
    examples: usize,
    per_class: BTreeMap<String, f32>,
}

impl Summary {
    /// What `accuracy` says of a split.
    pub fn of(measurable: &Measurable, split: Split, accuracy: &Accuracy) -> Self {
        Self {
            data: measurable.path.clone(),
            split: split.to_string(),
            subset: measurable.subset,
            accuracy: accuracy.share(),
            correct: accuracy.correct,
            examples: accuracy.examples,
            per_class: per_class(accuracy, &measurable.dataset.class_names),
        }
    }

    /// A line for all classes, and one for each.
    pub fn print(&self) {
        anstream::println!(
            "{HEADING}{:.1} %{HEADING:#} ({} of {} in the {} split of {})",
            100.0 * self.accuracy,
            self.correct,
            self.examples,
            self.split,
            self.data.display()
        );
        for (class, share) in &self.per_class {
            println!("{:>6.1} %  {class}", 100.0 * share);
        }
    }
}

/// What a run is measured on.
pub struct Measurable {
    /// Where the data set lies.
    pub path: PathBuf,
    /// Which classes of it.
    pub subset: Subset,
    /// The data set, cut to these classes.
    pub dataset: Dataset,
}

impl Measurable {
    /// The data set at `data`, by default the run's own.
    pub fn open(
        run: &Path,
        settings: &Settings,
        data: Option<&Path>,
        subset: Option<Subset>,
        context: &Context,
    ) -> Result<Self> {
        let subset = match (subset, data) {
            (Some(subset), _) => subset,
            (None, None) => settings.subset,
            (None, Some(_)) => Subset::All,
        };
        let Some(path) = data.or(settings.data.as_deref()) else {
            return Err(WrongUsage(format!(
                "{} was imported without data: say with --data what to measure it on",
                run.display()
            ))
            .into());
        };
        Ok(Self {
            path: path.to_owned(),
            subset,
            dataset: examples::open(path, settings.split_seed(), context)?.subset(subset),
        })
    }
}

/// A run on the examples of a split.
pub struct Measured {
    /// The examples that could be read, N of them.
    pub examples: Vec<Example>,
    /// Class of each of them, in `0..K`.
    pub labels: Vec<usize>,
    /// `[N, K]` row-major.
    pub logits: Vec<f32>,
    /// How many are right.
    pub accuracy: Accuracy,
}

/// Classifies a split with what a run has learned.
pub fn measure(
    learned: &Learned,
    model: &Model,
    dataset: &Dataset,
    split: Split,
    context: &Context,
) -> Result<Measured> {
    let chosen = dataset.split(split);
    if chosen.is_empty() {
        let path = dataset.root.display();
        bail!("{path} has no examples in the {split} split");
    }
    let prompt = learned.prompt(model, &dataset.class_names)?;
    let encoder = run::encoder(&learned.settings, model, context.cache.clone())?;
    let (kept, features) = encoder.readable(dataset, chosen, Views::Whole, &Watch::new(context))?;
    let logits = prompt::logits(
        &*prompt,
        &learned.file.parameters,
        &features,
        &context.device,
    )?;
    Ok(Measured {
        accuracy: Accuracy::of(&logits, features.labels(), dataset.class_names.len()),
        examples: kept.iter().map(|&index| chosen[index].clone()).collect(),
        labels: features.labels().to_vec(),
        logits,
    })
}

/// Measures and prints.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let (learned, model) = learned::open(&arguments.run, context)?;
    let settings = &learned.settings;
    let (data, subset) = (arguments.data.as_deref(), arguments.subset);
    let measurable = Measurable::open(&arguments.run, settings, data, subset, context)?;
    let dataset = &measurable.dataset;
    let Measured {
        labels,
        logits,
        accuracy,
        ..
    } = measure(&learned, &model, dataset, arguments.split, context)?;
    if let Some(out) = &arguments.logits {
        let classes = dataset.class_names.len();
        let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
        let logits = NamedTensor {
            name: "logits",
            shape: &[labels.len(), classes],
            values: TensorValues::F32(&logits),
        };
        let labels = NamedTensor {
            name: "labels",
            shape: &[labels.len()],
            values: TensorValues::I64(&labels),
        };
        let names = serde_json::to_string(&dataset.class_names)?;
        let metadata = BTreeMap::from([("classnames".to_owned(), names)]);
        data::write_tensors(out, &[logits, labels], &metadata)?;
    }
    let answer = Answer {
        method: learned.file.method.name(),
        summary: Summary::of(&measurable, arguments.split, &accuracy),
    };
    match arguments.json {
        true => println!("{}", serde_json::to_string(&answer)?),
        false => answer.summary.print(),
    }
    Ok(())
}
