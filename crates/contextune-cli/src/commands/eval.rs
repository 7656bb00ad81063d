//! `contextune eval`: a run's accuracy, on its own data or on other data.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use contextune::data::{self, NamedTensor, Split, TensorValues};
use serde::Serialize;

use super::train::{measure, per_class};
use crate::examples::{self, SubsetName};
use crate::learned;
use crate::options::Context;

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
    #[arg(long, value_enum)]
    subset: Option<SubsetName>,
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
    data: PathBuf,
    split: String,
    subset: SubsetName,
    accuracy: f32,
    correct: usize,
    examples: usize,
    per_class: BTreeMap<String, f32>,
}

/// Measures and prints.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let mut learned = learned::open(&arguments.run, context)?;
    let subset = match (arguments.subset, &arguments.data) {
        (Some(subset), _) => subset,
        (None, None) => learned.settings.subset,
        (None, Some(_)) => SubsetName::All,
    };
    let path = arguments
        .data
        .unwrap_or_else(|| learned.settings.data.clone());
    let dataset = examples::open(&path, learned.settings.seed, context)?.subset(subset.into());
    let chosen = dataset.split(arguments.split);
    if chosen.is_empty() {
        bail!(
            "{} has no examples in the {} split",
            path.display(),
            arguments.split
        );
    }
    learned.use_classes(&dataset.class_names)?;
    let pictures = learned.settings.picture_arguments();
    let features = examples::features(&dataset, chosen, &learned.model, &pictures, context)?;
    let (accuracy, logits) = measure(&learned.prompt, &features, &learned.model)?;
    if let Some(out) = &arguments.logits {
        let classes = dataset.class_names.len();
        let labels: Vec<i64> = features.labels.iter().map(|&label| label as i64).collect();
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
        method: learned.prompt.method.clone(),
        data: path,
        split: arguments.split.to_string(),
        subset,
        accuracy: accuracy.share(),
        correct: accuracy.correct,
        examples: accuracy.examples,
        per_class: per_class(&accuracy, &dataset.class_names),
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&answer)?);
    } else {
        println!(
            "{:.1} % ({} of {} in the {} split of {})",
            100.0 * answer.accuracy,
            answer.correct,
            answer.examples,
            answer.split,
            answer.data.display()
        );
        for (class, share) in &answer.per_class {
            println!("{:>6.1} %  {class}", 100.0 * share);
        }
    }
    Ok(())
}
