//! `contextune doctor`: whether everything that the other commands need is there.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use burn::tensor::Tensor;
use contextune::backbone::vector_instructions;
use contextune::checkpoint::hub;
use contextune::input::FeatureCache;
use contextune::model::{Model, ModelOptions};
use contextune::run::available_memory_bytes;
use contextune::text::Overlong;
use serde::Serialize;

use crate::errors;
use crate::options::{Context, devices, values};
use crate::output::out;
use crate::style::{ERROR, GOOD, WARNING};
use crate::words;

/// Less memory than this is short for a large model.
const LITTLE_MEMORY: u64 = 2_000_000_000;

/// Check this machine: processor, memory, devices, caches and the embedded model, and say what to do where something is wrong.
///
/// Ends with status 1 if something is broken. With --device it computes on that device.
///
/// Example: contextune doctor
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer {
    version: &'static str,
    /// Whether nothing is broken.
    healthy: bool,
    checks: Vec<Check>,
}

/// What was looked at.
#[derive(Serialize)]
struct Check {
    what: &'static str,
    state: State,
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Broken,
}

impl Check {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            state: State::Ok,
            found: found.into(),
            advice: None,
        }
    }

    fn warning(self, advice: impl Into<String>) -> Self {
        Self {
            state: State::Warning,
            advice: Some(advice.into()),
            ..self
        }
    }

    fn broken(what: &'static str, error: &anyhow::Error, advice: impl Into<String>) -> Self {
        Self {
            what,
            state: State::Broken,
            found: errors::text(error),
            advice: Some(advice.into()),
        }
    }
}

/// Checks and prints.
pub fn run(arguments: &Arguments, context: &Context) -> Result<()> {
    let checks = vec![
        program(),
        processor(),
        memory(),
        Check::ok("devices", devices().join(", ")),
        feature_cache(context.cache.as_deref()),
        hub_cache(),
        embedded_model(context),
    ];
    let broken = checks
        .iter()
        .filter(|check| check.state == State::Broken)
        .count();
    let answer = Answer {
        version: env!("CARGO_PKG_VERSION"),
        healthy: broken == 0,
        checks,
    };
    match arguments.json {
        true => out!("{}", serde_json::to_string(&answer)?),
        false => print(&answer),
    }
    match broken {
        0 => Ok(()),
        _ => bail!(
            "{broken} of {} checks found something broken",
            answer.checks.len()
        ),
    }
}

fn program() -> Check {
    let found = format!("contextune {}", env!("CARGO_PKG_VERSION"));
    match cfg!(debug_assertions) {
        false => Check::ok("program", found),
        true => Check::ok("program", format!("{found}, built for debugging"))
            .warning("it is slow: build it with --release"),
    }
}

fn processor() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = rayon::current_num_threads();
    let with = |instructions| format!("{cores} core(s), {threads} thread(s), {instructions}");
    match vector_instructions() {
        Some(instructions) => Check::ok("processor", with(instructions)),
        None => Check::ok("processor", with("no vector instructions that are used"))
            .warning("image towers will be slow: use a processor with AVX2, AVX-512 or NEON"),
    }
}

fn memory() -> Check {
    match available_memory_bytes() {
        None => Check::ok("memory", "this system does not tell how much is free"),
        Some(free) => {
            let check = Check::ok("memory", format!("{} free", words::bytes(free)));
            match free < LITTLE_MEMORY {
                true => check.warning("close other programs before you use a large model, or use small batches (--batch-size)"),
                false => check,
            }
        }
    }
}

fn feature_cache(root: Option<&Path>) -> Check {
    const WHAT: &str = "feature cache";
    let Some(root) = root else {
        return Check::ok(WHAT, "none").warning(
            "every picture is encoded in every run: leave --no-cache out, or say --cache FOLDER",
        );
    };
    match look_into(root) {
        Ok(found) => Check::ok(WHAT, found),
        Err(error) => Check::broken(
            WHAT,
            &error,
            "say with --cache or CONTEXTUNE_CACHE which folder to use instead",
        ),
    }
}

/// What the cache holds, after writing to it.
fn look_into(root: &Path) -> Result<String> {
    let probe = root.join(format!("doctor.{}.partial", std::process::id()));
    std::fs::create_dir_all(root)
        .and_then(|()| std::fs::write(&probe, b""))
        .and_then(|()| std::fs::remove_file(&probe))
        .with_context(|| format!("cannot write to {}", root.display()))?;
    let kept =
        FeatureCache::kept(root).with_context(|| format!("cannot read {}", root.display()))?;
    let features: usize = kept.iter().map(|encoding| encoding.features).sum();
    let bytes = kept.iter().map(|encoding| encoding.bytes).sum();
    Ok(format!(
        "{}: {features} features, {}",
        root.display(),
        words::bytes(bytes)
    ))
}

fn hub_cache() -> Check {
    const WHAT: &str = "hub cache";
    let Some(options) = hub::Options::from_env() else {
        return Check::ok(WHAT, "there is no home folder to keep models in")
            .warning("set HF_HOME to a folder to use models of the hub");
    };
    let place = options.cache.display();
    match hub::cached(&options) {
        Ok(models) => {
            let size = words::bytes(models.iter().map(|model| model.bytes).sum());
            let offline = if options.offline {
                ", offline (HF_HUB_OFFLINE)"
            } else {
                ""
            };
            Check::ok(
                WHAT,
                format!("{place}: {} model(s), {size}{offline}", models.len()),
            )
        }
        Err(error) => Check::broken(
            WHAT,
            &error.into(),
            "make the folder readable, or set HF_HOME to another",
        ),
    }
}

fn embedded_model(context: &Context) -> Check {
    const WHAT: &str = "embedded model";
    let started = Instant::now();
    match encode_both(context) {
        Ok(()) => {
            let milliseconds = started.elapsed().as_millis();
            Check::ok(
                WHAT,
                format!("opened, a picture and a text encoded in {milliseconds} ms"),
            )
        }
        Err(error) => Check::broken(
            WHAT,
            &error,
            "try --device cpu; if that fails too, please report it with this output",
        ),
    }
}

/// Encodes a grey picture and a text with the embedded model.
fn encode_both(context: &Context) -> Result<()> {
    let model = Model::open(None, ModelOptions::default(), &context.device, |_| ())?;
    let side = model.config().image.image_size();
    let grey = Tensor::full([1, 3, side, side], 0.5, &context.device);
    let picture = model
        .image_tower()?
        .forward(model.normalisation().forward(grey));
    let limit = model.text_config()?.context_length;
    let text = model
        .tokenizer()?
        .tokenize("a photo of a cat.", limit, Overlong::Refuse)?;
    let text = model.text_tower()?.encode_frozen(&[text])?;
    for (what, feature) in [("picture", picture), ("text", text)] {
        let feature = values(feature)?;
        ensure!(
            feature.len() == model.config().embedding_width
                && feature.iter().all(|value| value.is_finite()),
            "the feature of a {what} is not what it should be"
        );
    }
    Ok(())
}

fn print(answer: &Answer) {
    for check in &answer.checks {
        let (style, state) = match check.state {
            State::Ok => (GOOD, "ok"),
            State::Warning => (WARNING, "warning"),
            State::Broken => (ERROR, "broken"),
        };
        out!(
            "{style}{state:<8}{style:#} {:<15} {}",
            check.what,
            check.found
        );
        if let Some(advice) = &check.advice {
            out!("{:24} {advice}", "");
        }
    }
}
