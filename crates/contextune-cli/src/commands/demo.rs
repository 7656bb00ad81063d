//! `contextune demo`: the main job on what is in the box.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contextune::data::Split;
use contextune::method::RecipeName;
use contextune::method::image::vpt::VptSettings;
use contextune::method::text::coop::{ContextLayout, Position};
use contextune::method::text::zeroshot::ZeroShotSettings;
use contextune::model::{Model, ModelOptions};
use contextune::run::{RunFolder, Settings};
use contextune::text::{TEMPLATE, TemplateSet};
use include_dir::{Dir, include_dir};

use super::{report, train};
use crate::examples;
use crate::options::Context;
use crate::output::{self, out};
use crate::style::HEADING;
use crate::watch::Watch;

/// Pictures with their licences: icons in a style that the model never saw, and silhouettes.
static DATA: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../assets/demo");
/// The tasks in it, and what they are.
const TASKS: [(&str, &str); 2] = [
    (
        "icon-demo",
        "icons in a style and of things that the model never saw",
    ),
    (
        "animal-silhouettes",
        "white animal shapes, far from what the model saw",
    ),
];
/// Training pictures of each class.
const SHOTS: [usize; 3] = [1, 4, 16];
/// Context vectors of a prompt.
const CONTEXT_VECTORS: usize = 16;
/// Where everything goes, below the current folder.
const FOLDER: &str = "contextune-demo";

/// Classify real pictures zero-shot, learn a prompt from a few of them, and see that it is better.
///
/// Works offline, with the model and the pictures in this program; everything is written below ./contextune-demo.
///
/// Example: contextune demo
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Learn prompts inside the image tower as well (VPT): about a minute more.
    #[arg(long)]
    visual: bool,
    /// Print the results as JSON, one object a task.
    #[arg(long)]
    json: bool,
}

/// What one task showed, as shares of the test pictures.
#[derive(Debug, serde::Serialize)]
struct Outcome {
    task: &'static str,
    classes: usize,
    test_pictures: usize,
    best_template: String,
    best_template_accuracy: f32,
    ensemble_accuracy: f32,
    coop: Vec<(usize, f32)>,
    /// With a context for each class.
    class_specific_coop: (usize, f32),
    /// Tokens in the image tower and a linear classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    vpt: Option<(usize, f32)>,
    /// What the run with one context and the most pictures looks like.
    #[serde(serialize_with = "output::serialize_some_path")]
    page: Option<PathBuf>,
    #[serde(serialize_with = "output::serialize_path")]
    runs: PathBuf,
}

/// Runs both tasks.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    let folder = Path::new(FOLDER);
    let data = folder.join("data");
    std::fs::create_dir_all(&data)
        .and_then(|()| DATA.extract(&data))
        .with_context(|| format!("cannot write the demo's pictures to {}", data.display()))?;
    let model = Model::open(None, ModelOptions::default(), &context.device, |_| ())?;
    for (task, about) in TASKS {
        context.screen.remark(format!("{task}: {about}"));
        let outcome = run_task(task, arguments.visual, folder, &model, context)?;
        match arguments.json {
            true => out!("{}", serde_json::to_string(&outcome)?),
            false => print(&outcome),
        }
    }
    Ok(())
}

fn run_task(
    task: &'static str,
    visual: bool,
    folder: &Path,
    model: &Model,
    context: &Context,
) -> Result<Outcome> {
    let data = &folder.join("data").join(task);
    let dataset = examples::open(data, 1, context)?;
    let runs = folder.join("runs").join(task);
    let run = |name: &str, settings: Settings| -> Result<f32> {
        let folder = RunFolder::create(&runs.join(name), &settings, true)?;
        let watch = Watch::new(context);
        let learned = train::learn(&settings, &dataset, model, &folder, context, &watch)?;
        let accuracy = learned.result.accuracy;
        accuracy.context("the pictures in the box cannot be measured on")
    };

    // Every template is tried on the test pictures: the best of them is as good as guessing right can get.
    let ensemble = TemplateSet::from_argument("openai-7")?;
    let mut single: Vec<String> = ensemble
        .templates()
        .iter()
        .map(ToString::to_string)
        .collect();
    let all = single.join("\n");
    single.push(TEMPLATE.into());
    let mut best = (String::new(), -1.0);
    for template in single {
        let accuracy = run("zeroshot-template", zeroshot(data, template.clone()))?;
        if accuracy > best.1 {
            best = (template, accuracy);
        }
    }
    run("zeroshot-template", zeroshot(data, best.0.clone()))?;
    let ensemble_accuracy = run("zeroshot-ensemble", zeroshot(data, all))?;
    let by_shots = SHOTS
        .into_iter()
        .map(|shots| {
            let settings = coop(data, shots, false);
            Ok((shots, run(&format!("coop-{shots}-shots"), settings)?))
        })
        .collect::<Result<_>>()?;
    let most = SHOTS[SHOTS.len() - 1];
    let class_specific_coop = run(
        &format!("coop-class-specific-{most}-shots"),
        coop(data, most, true),
    )?;
    let page = {
        let run = RunFolder::open(&runs.join(format!("coop-{most}-shots")))?;
        report::write(
            &run,
            None,
            model,
            &dataset,
            context,
            &Watch::without_remarks(context),
        )
    };
    let vpt = match visual {
        true => Some((most, run(&format!("vpt-{most}-shots"), vpt(data, most))?)),
        false => None,
    };
    Ok(Outcome {
        task,
        classes: dataset.class_names.len(),
        test_pictures: dataset.split(Split::Test).len(),
        best_template: best.0,
        best_template_accuracy: best.1,
        ensemble_accuracy,
        coop: by_shots,
        class_specific_coop: (most, class_specific_coop),
        vpt,
        page,
        runs,
    })
}

/// Words, one template a line.
fn zeroshot(data: &Path, templates: String) -> Settings {
    let method = ZeroShotSettings { templates };
    Settings::new(data.into(), method, None, RecipeName::Published)
}

/// CoOp with one context for all classes or one for each.
fn coop(data: &Path, shots: usize, class_specific: bool) -> Settings {
    let layout = ContextLayout {
        length: CONTEXT_VECTORS,
        class_specific,
        position: Position::End,
        published_words: None,
    };
    Settings::new(data.into(), layout, Some(shots), RecipeName::Fast)
}

/// Prompts in each layer of the image tower.
fn vpt(data: &Path, shots: usize) -> Settings {
    let method = VptSettings::default();
    Settings::new(data.into(), method, Some(shots), RecipeName::Fast)
}

fn print(outcome: &Outcome) {
    out!(
        "\n{HEADING}{}: {} classes, {} test pictures{HEADING:#}",
        outcome.task,
        outcome.classes,
        outcome.test_pictures
    );
    let line = |what: &str, accuracy: f32| {
        let filled = (accuracy * 40.0).round() as usize;
        out!(
            "  {what:<38} {:>5.1} %  {}",
            100.0 * accuracy,
            "█".repeat(filled)
        );
    };
    let best = format!("zero-shot, \"{}\"", outcome.best_template);
    line(&best, outcome.best_template_accuracy);
    line("zero-shot, 7 templates together", outcome.ensemble_accuracy);
    for (shots, accuracy) in &outcome.coop {
        let pictures = if *shots == 1 { "picture" } else { "pictures" };
        line(&format!("CoOp, {shots} {pictures} a class"), *accuracy);
    }
    let (shots, accuracy) = outcome.class_specific_coop;
    line(
        &format!("CoOp, {shots} pictures, context per class"),
        accuracy,
    );
    if let Some((shots, accuracy)) = outcome.vpt {
        line(&format!("VPT, {shots} pictures a class"), accuracy);
    }
    out!("  runs: {}", output::path(&outcome.runs));
    if let Some(page) = &outcome.page {
        out!("  to look at: {}", output::path(page));
    }
}
