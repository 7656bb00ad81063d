//! `contextune serve`: learned prompts over HTTP, and a page to try them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use contextune::model::ModelOptions;
use contextune_server::{Limits, Options, Server, Shelf, Taught, name_of, taught};
use tokio::net::TcpListener;

use crate::errors;
use crate::options::{Context, ModelArguments, WrongUsage, open_model};
use crate::output::note;

/// How often the user's wish to stop is looked for.
const GLANCE: Duration = Duration::from_millis(100);

/// Serve learned prompts over HTTP, with a page to try them and to teach new ones.
///
/// Open the address that it prints in a browser. Programs ask POST /v1/predict; /openapi.json describes everything. Without a run
/// the words of the model answer.
///
/// Example: contextune serve runs/photos pets=runs/coop-16
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Run folders; NAME=FOLDER gives one another name than its folder's. The first answers unless a request names another.
    #[arg(value_name = "RUN")]
    runs: Vec<String>,
    #[command(flatten)]
    model: ModelArguments,
    /// Internet address and port, port 0 for a free one. Only this machine can reach a loopback address such as 127.0.0.1.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8321")]
    listen: SocketAddr,
    /// What clients have to show as `Authorization: Bearer TOKEN`; the page asks for it. Needed for an address that others can
    /// reach.
    #[arg(long, env = "CONTEXTUNE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Largest picture, in megabytes.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    max_picture_mb: u32,
    /// Largest picture, in millions of pixels.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_megapixels: u32,
    /// Pictures that may wait; a request that finds the queue full is told to come again.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queue: u32,
    /// Seconds to wait for a request to arrive, and again for its answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    timeout: u32,
    /// Where the page's lessons keep pictures and runs; what is there already is served too.
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "contextune-taught",
        conflicts_with = "no_teach"
    )]
    taught: PathBuf,
    /// Answer only; nothing can be taught.
    #[arg(long)]
    no_teach: bool,
}

/// Serves until Ctrl-C.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    check(&arguments)?;
    // Models may take long to open: a port that is taken is said before.
    let listener = std::net::TcpListener::bind(arguments.listen).with_context(|| {
        format!(
            "cannot listen on {}: choose another address or port with --listen",
            arguments.listen
        )
    })?;
    listener.set_nonblocking(true)?;
    let shelf = shelf(&arguments, context)?;
    let options = Options {
        token: arguments.token,
        limits: Limits {
            picture_bytes: arguments.max_picture_mb as usize * 1_000_000,
            pixels: u64::from(arguments.max_megapixels) * 1_000_000,
            waiting: arguments.queue as usize,
            patience: Duration::from_secs(arguments.timeout.into()),
        },
        taught: (!arguments.no_teach).then_some(arguments.taught),
        cache: context.cache.clone(),
    };
    let learned = shelf.learned();
    let server = Server::new(shelf, options).context("cannot start the server")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the server")?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let prompts = match learned {
            0 => "no learned prompt: words answer".to_owned(),
            1 => "1 learned prompt".to_owned(),
            many => format!("{many} learned prompts"),
        };
        // Nobody could use the server without: not even --quiet hides it.
        note!("serving on http://{address} ({prompts}); Ctrl-C stops");
        let _gentle = context
            .interrupt
            .gentle("answering what has been asked, ending a lesson after its epoch; Ctrl-C again stops at once");
        server
            .serve(listener, wanted(context))
            .await
            .context("the server failed")
    })
}

/// Until the user wants to stop.
async fn wanted(context: &Context) {
    while !context.interrupt.is_wanted() {
        tokio::time::sleep(GLANCE).await;
    }
}

/// Whoever can reach the address could use the machine and its runs.
fn check(arguments: &Arguments) -> Result<()> {
    let problem = match &arguments.token {
        None if !arguments.listen.ip().is_loopback() => {
            "others can reach this address: give a token that clients have to show (--token, or CONTEXTUNE_TOKEN)"
        }
        Some(token) if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) => {
            "a token is made of ASCII letters, digits and signs"
        }
        _ if arguments.model.activation.is_some()
            && arguments.model.model.is_none()
            && !arguments.runs.is_empty() =>
        {
            "--activation belongs to --model; runs have their own"
        }
        _ => return Ok(()),
    };
    Err(WrongUsage(problem.into()).into())
}

/// Everything that is served: runs, models, and what was taught before.
fn shelf(arguments: &Arguments, context: &Context) -> Result<Shelf> {
    let mut shelf = Shelf::new(context.device.clone());
    if let Some(model) = &arguments.model.model {
        shelf.find_moved_in(model);
    }
    let mut open = |name: Option<&str>, options: ModelOptions| open_model(name, options, context);
    for argument in &arguments.runs {
        let (name, run) = match argument.split_once('=') {
            // A folder may well have = in its name.
            Some((name, run)) if !name.is_empty() && !Path::new(argument).exists() => {
                (name.to_owned(), PathBuf::from(run))
            }
            _ => (name_of(Path::new(argument))?, PathBuf::from(argument)),
        };
        shelf.add_run(&name, &run, false, &mut open)?;
    }
    if arguments.runs.is_empty() || arguments.model.model.is_some() {
        let options = ModelOptions {
            activation: arguments.model.activation.map(Into::into),
            normalization: None,
        };
        shelf.add_model(arguments.model.model.as_deref(), options, &mut open)?;
    }
    if !arguments.no_teach {
        for Taught {
            name,
            run,
            is_finished,
        } in taught(&arguments.taught)
        {
            if !is_finished {
                context.screen.remark(format!(
                    "the lesson {name} was not finished; go on with: contextune resume {}",
                    run.display()
                ));
                continue;
            }
            if let Err(error) = shelf.add_run(&name, &run, true, &mut open) {
                let reason = errors::text(&error.into());
                context
                    .screen
                    .remark(format!("what was taught as {name} is left out: {reason}"));
            }
        }
    }
    Ok(shelf)
}
