//! `contextune data`: what is in a data set.

use std::path::PathBuf;

use anyhow::Result;
use contextune::data::{Dataset, Split};
use contextune::run;
use serde::Serialize;

use crate::examples;
use crate::options::Context;
use crate::watch::Watch;

/// Look into a data set.
///
/// Example: contextune data sample photos --shots 4
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show the few-shot sample that training draws: split, label, class name and path of each picture.
    ///
    /// The same shots and seed draw the pictures that the official code draws.
    ///
    /// Example: contextune data sample photos --shots 4 --seed 2 --json
    Sample(SampleArguments),
}

#[derive(Debug, clap::Args)]
struct SampleArguments {
    /// A folder of class folders, a published data set, or a features file.
    data: PathBuf,
    /// Training pictures of each class; validation pictures are at most 4 of each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    shots: u32,
    /// Seed of the sample, and of the split of a data set that has none.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object with the lists train and val.
    #[arg(long)]
    json: bool,
}

/// The drawn pictures.
#[derive(Serialize)]
struct Sample<'a> {
    train: Vec<Drawn<'a>>,
    val: Vec<Drawn<'a>>,
}

#[derive(Serialize)]
struct Drawn<'a> {
    path: String,
    label: usize,
    classname: &'a str,
}

/// Draws and prints.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let Action::Sample(arguments) = arguments.action;
    let dataset = examples::open(&arguments.data, arguments.seed, context)?;
    let (shots, seed) = (arguments.shots as usize, arguments.seed);
    let sampled = run::few_shot(&dataset, shots, seed, &Watch::new(context))?;
    let sample = Sample {
        train: drawn(&sampled, Split::Train),
        val: drawn(&sampled, Split::Val),
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&sample)?);
        return Ok(());
    }
    for (split, list) in [(Split::Train, &sample.train), (Split::Val, &sample.val)] {
        for picture in list {
            println!(
                "{split}\t{}\t{}\t{}",
                picture.label, picture.classname, picture.path
            );
        }
    }
    Ok(())
}

fn drawn(dataset: &Dataset, split: Split) -> Vec<Drawn<'_>> {
    dataset
        .split(split)
        .iter()
        .map(|example| Drawn {
            path: dataset.input_name(&example.input),
            label: example.label,
            classname: &dataset.class_names[example.label],
        })
        .collect()
}
