//! `contextune eval`: a run's accuracy, on its own data or on other data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use contextune::data::{self, NamedTensor, TensorValues};
use contextune::evaluate::Accuracy;
use contextune::input::Views;
use contextune::model::Model;
use contextune::run::{self, Learned};
use contextune::task::{Classify, Task, TaskDataset};
use serde::Serialize;

use crate::learned::{self, MovedModel};
use crate::measuring::{Measurable, MeasurableArguments, Summary};
use crate::options::Context;
use crate::output::out;
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
    #[command(flatten)]
    moved: MovedModel,
    #[command(flatten)]
    measurable: MeasurableArguments,
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

/// Measures and prints.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let (learned, model) = learned::open(&arguments.run, &arguments.moved, context)?;
    let settings = &learned.settings;
    let measurable = arguments
        .measurable
        .open(&arguments.run, settings, context)?;
    let accuracy = match &arguments.logits {
        Some(out) => write_logits(out, &measurable, &learned, &model, context)?,
        None => {
            let measured = measurable.measure(&learned, &model, context)?;
            measured.accuracy(measurable.dataset.class_names.len())
        }
    };
    let answer = Answer {
        method: learned.method().name().to_owned(),
        summary: Summary::of(&measurable, &accuracy),
    };
    match arguments.json {
        true => out!("{}", serde_json::to_string(&answer)?),
        false => answer.summary.print(),
    }
    Ok(())
}

/// Writes all logits to `out`, and says how many of them are right. They are in memory together, so nothing else computes
/// them.
fn write_logits(
    out: &Path,
    measurable: &Measurable,
    learned: &Learned,
    model: &Model,
    context: &Context,
) -> Result<Accuracy> {
    measurable.check()?;
    let Measurable { dataset, split, .. } = measurable;
    let names = &dataset.class_names;
    let predictor = learned.predictor::<Classify>(model, names)?;
    let encoder = run::encoder(&learned.settings, model, context.cache.clone())?;
    let (inputs, labels) = Classify::examples(dataset, *split);
    let watch = Watch::new(context);
    let (kept, inputs) = encoder.inputs(dataset.place(), &inputs, Views::Whole, &watch)?;
    let kept: Vec<usize> = kept.into_iter().map(|example| labels[example]).collect();
    let logits = predictor.logits(&inputs)?;
    let labels: Vec<i64> = kept.iter().map(|&label| label as i64).collect();
    let tensors = [
        NamedTensor {
            name: "logits",
            shape: &[labels.len(), names.len()],
            values: TensorValues::F32(&logits),
        },
        NamedTensor {
            name: "labels",
            shape: &[labels.len()],
            values: TensorValues::I64(&labels),
        },
    ];
    let metadata = BTreeMap::from([("classnames".to_owned(), serde_json::to_string(names)?)]);
    data::write_tensors(out, &tensors, &metadata)?;
    Ok(Accuracy::of(&logits, &kept, names.len()))
}
