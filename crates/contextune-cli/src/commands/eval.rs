//! `contextune eval`: a run's accuracy, on its own data or on other data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use contextune::data::{self, NamedTensor, TensorValues};
use contextune::evaluate::Accuracy;
use contextune::features::Views;
use contextune::model::Model;
use contextune::prompt;
use contextune::run::{self, Learned};
use serde::Serialize;

use crate::learned;
use crate::measuring::{Measurable, MeasurableArguments, Summary};
use crate::options::Context;
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
    let (learned, model) = learned::open(&arguments.run, context)?;
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
        method: learned.file.method.name(),
        summary: Summary::of(&measurable, &accuracy),
    };
    match arguments.json {
        true => println!("{}", serde_json::to_string(&answer)?),
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
    let prompt = learned.prompt(model, names)?;
    let encoder = run::encoder(&learned.settings, model, context.cache.clone())?;
    let examples = dataset.split(*split);
    let features = encoder.labelled(dataset, examples, Views::Whole, &Watch::new(context))?;
    let parameters = &learned.file.parameters;
    let logits = prompt::logits(&*prompt, parameters, &features, &context.device)?;
    let labels: Vec<i64> = features.labels().iter().map(|&l| l as i64).collect();
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
    Ok(Accuracy::of(&logits, features.labels(), names.len()))
}
