//! `contextune explain`: what a run has learned, in words, numbers and pictures.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contextune::data::{Input, distinct_names};
use contextune::evaluate::{Mistake, confused_pairs};
use contextune::explain::words::NearWord;
use contextune::method::text::cocoop::CoCoOpSettings;
use contextune::model::Model;
use contextune::run::AnyMethod;
use contextune::run::Learned;
use contextune::task::{Classify, Measured};
use contextune_report::{LearnedContext, LearnedVector, learned_context, png_of_tensor};
use serde::Serialize;

use crate::learned::{self, MovedModel};
use crate::measuring::{MeasurableArguments, Summary};
use crate::options::Context;
use crate::output::{self, out};
use crate::style::HEADING;

/// Pairs of confused classes that are shown.
const PAIRS: usize = 10;
/// Pictures of each of them that are shown as text.
const PICTURES: usize = 3;

/// Show what a run has learned: words near its vectors, classes it confuses, pictures it gets wrong.
///
/// The nearest words say little about what a vector does: they are where it lies among the words.
///
/// Example: contextune explain runs/photos --words 3
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run folder.
    run: PathBuf,
    #[command(flatten)]
    moved: MovedModel,
    /// Words to show for each context vector.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    words: u16,
    #[command(flatten)]
    measurable: MeasurableArguments,
    /// Write what the prompt makes of a grey picture to this PNG file; for prompts that are pixels.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Print everything as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    #[serde(serialize_with = "output::serialize_path")]
    run: PathBuf,
    method: String,
    /// Absent for methods without context vectors.
    context: Option<LearnedContext>,
    /// Absent without data.
    classification: Option<Classification>,
}

/// How a split is classified, and what is wrong with it.
#[derive(Serialize)]
struct Classification {
    #[serde(flatten)]
    summary: Summary,
    confused: Vec<Pair>,
    mistakes: Vec<WrongPicture>,
}

/// Pictures of one class that were taken for another.
#[derive(Serialize)]
struct Pair {
    class: String,
    predicted: String,
    count: usize,
}

#[derive(Serialize)]
struct WrongPicture {
    path: String,
    class: String,
    predicted: String,
    probability: f32,
}

/// The prompt, as a picture.
fn write_picture(path: &Path, learned: &Learned, model: &Model) -> Result<()> {
    let predictor = learned.predictor::<Classify>(model, &learned.file.class_names)?;
    let picture = predictor.prompt().picture(predictor.parameters())?;
    let Some(picture) = picture else {
        let method = learned.method().name();
        bail!(
            "{method} learned no pixels, so there is no picture of it: leave --picture out, or explain a run of pixel or reprogram"
        );
    };
    fs::write(path, png_of_tensor(picture)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Looks and prints.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let (learned, model) = learned::open(&arguments.run, &arguments.moved, context)?;
    let method = learned.method().name().to_owned();
    if let Some(path) = &arguments.picture {
        write_picture(path, &learned, &model)?;
    }
    let vectors = learned_context(&learned, &model, arguments.words.into())?;
    let remark = match &vectors {
        None => Some(format!(
            "{method} has no context vectors, and so no words near them"
        )),
        Some(vectors) => {
            let unknown = vectors.unknown_beginning.as_ref();
            unknown.map(|unknown| format!("how far the vectors moved is not known: {unknown}"))
        }
    };
    if let Some(remark) = remark {
        context.screen.remark(remark);
    }
    let answer = Answer {
        classification: classification(&arguments, &learned, &model, context)?,
        context: vectors,
        run: arguments.run,
        method,
    };
    match arguments.json {
        true => out!("{}", serde_json::to_string(&answer)?),
        false => print(&answer, learned.method()),
    }
    Ok(())
}

/// Accuracy and mistakes on the data asked for; nothing, with a remark, if the run has none or they are gone.
fn classification(
    arguments: &Arguments,
    learned: &Learned,
    model: &Model,
    context: &Context,
) -> Result<Option<Classification>> {
    if arguments.measurable.data.is_none() {
        let left_out = match &learned.settings.data {
            None => Some("the run was imported without data".to_owned()),
            Some(data) if !data.exists() => Some(format!("{} is not there", data.display())),
            Some(_) => None,
        };
        if let Some(reason) = left_out {
            let remark = format!(
                "accuracy and mistakes are left out, because {reason}; say with --data what to measure on"
            );
            context.screen.remark(remark);
            return Ok(None);
        }
    }
    let settings = &learned.settings;
    let measurable = arguments
        .measurable
        .open(&arguments.run, settings, context)?;
    let dataset = &measurable.dataset;
    let examples = dataset.split(measurable.split);
    let measured = measurable.measure(learned, model, context)?;
    let accuracy = measured.accuracy(dataset.class_names.len());
    let names = distinct_names(&dataset.class_names);
    let mistakes = mistakes(&measured);
    let confused = confused_pairs(&mistakes)
        .into_iter()
        .take(PAIRS)
        .map(|pair| Pair {
            class: names[pair.label].clone(),
            predicted: names[pair.predicted].clone(),
            count: pair.count,
        })
        .collect();
    let mistakes = mistakes
        .into_iter()
        .map(|mistake| WrongPicture {
            path: match &examples[measured.examples[mistake.example]].input {
                Input::Picture(path) => path.display().to_string(),
                input => dataset.input_name(input),
            },
            class: names[mistake.label].clone(),
            predicted: names[mistake.predicted].clone(),
            probability: mistake.probability,
        })
        .collect();
    Ok(Some(Classification {
        summary: Summary::of(&measurable, &accuracy),
        confused,
        mistakes,
    }))
}

/// The pictures whose most probable class is not theirs, in order.
fn mistakes(measured: &Measured<Classify>) -> Vec<Mistake> {
    let guesses = measured.guesses.iter().map(|guesses| guesses[0]);
    guesses
        .zip(&measured.targets)
        .enumerate()
        .filter(|(_, ((predicted, _), label))| predicted != *label)
        .map(|(example, ((predicted, probability), &label))| Mistake {
            example,
            label,
            predicted,
            probability,
        })
        .collect()
}

fn print(answer: &Answer, method: &AnyMethod) {
    if let Some(context) = &answer.context {
        let shared = match context.class_specific {
            true => "for each class",
            false => "for all classes",
        };
        out!(
            "{HEADING}{}: {} context vectors {shared}, class name at the {}{HEADING:#}",
            answer.method,
            context.length,
            context.position
        );
        if method.settings::<CoCoOpSettings>().is_some() {
            out!("(as they are before a picture shifts them)");
        }
        out!(
            "\n{HEADING}the words nearest to each vector (distance), and most equal in direction (cosine){HEADING:#}"
        );
        for vector in &context.vectors {
            print_vector(vector);
        }
        out!("");
    }
    if let Some(classification) = &answer.classification {
        print_classification(classification);
    }
}

fn print_vector(vector: &LearnedVector) {
    if let (Some(class), 1) = (&vector.class, vector.place) {
        out!("{class}");
    }
    let line = |words: &[NearWord], value: fn(&NearWord) -> f32| {
        let words: Vec<String> = words
            .iter()
            .map(|word| format!("{} {:.2}", word.word, value(word)))
            .collect();
        words.join(", ")
    };
    let moved = vector.moved.as_ref().map_or_else(String::new, |moved| {
        format!(
            "  moved by {:.3}, cosine {:.3}",
            moved.distance, moved.cosine
        )
    });
    out!("{:>4}{moved}", vector.place);
    let by_distance = line(&vector.nearest_by_distance, |word| word.distance);
    out!("      distance  {by_distance}");
    let by_cosine = line(&vector.nearest_by_cosine, |word| word.cosine);
    out!("      cosine    {by_cosine}");
}

fn print_classification(classification: &Classification) {
    classification.summary.print();
    if classification.confused.is_empty() {
        return;
    }
    out!("\n{HEADING}most often confused{HEADING:#}");
    for pair in &classification.confused {
        out!(
            "{:>4}  {} taken for {}",
            pair.count,
            pair.class,
            pair.predicted
        );
        let pictures = classification.mistakes.iter().filter(|mistake| {
            (&mistake.class, &mistake.predicted) == (&pair.class, &pair.predicted)
        });
        for picture in pictures.take(PICTURES) {
            out!(
                "        {:.0} %  {}",
                100.0 * picture.probability,
                picture.path
            );
        }
        if pair.count > PICTURES {
            out!("        and {} more", pair.count - PICTURES);
        }
    }
}
