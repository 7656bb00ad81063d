//! Contextune measured against its peers, side by side: each measurement is a process of its own, ours and the peer's in
//! turn, and what counts is the ratio of their medians.

mod floor;
mod history;
mod load;
mod model;
mod ours;
mod program;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use serde::{Deserialize, Serialize};

use table::{Ours, Row, Size};

#[global_allocator]
static ALLOCATOR: contextune_allocator::MiMalloc = contextune_allocator::MiMalloc;

/// Measure Contextune against its peers.
///
/// All rows: cargo run --release -p contextune-benches -- run
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The rows that there are.
    List,
    /// Measure rows (all of them if none is named) and append what came out to the history.
    Run {
        rows: Vec<String>,
        /// Python with PyTorch, open_clip and ONNX Runtime; without it only our side is measured.
        #[arg(long, env = "CONTEXTUNE_PYTHON")]
        python: Option<PathBuf>,
        /// Sides take turns so many times.
        #[arg(long, default_value_t = 1)]
        rounds: usize,
        /// Sizes for a check in a minute instead of those of the table.
        #[arg(long)]
        small: bool,
        /// Where the outcome is appended.
        #[arg(long, default_value = "benches/history.jsonl")]
        history: PathBuf,
    },
    /// Measure how time and memory grow with classes, context length, batch and pictures; ours alone.
    Growth {
        /// Where the outcome is appended.
        #[arg(long, default_value = "benches/history.jsonl")]
        history: PathBuf,
    },
    /// Serve a prompt to many clients at once, some of them hostile, and hold every answer against what `predict` says.
    Load {
        /// Clients at a time.
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
        clients: u16,
        /// For how long.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// Where the outcome is appended.
        #[arg(long, default_value = "benches/history.jsonl")]
        history: PathBuf,
    },
    /// Make what a row reads, unless it is there.
    #[command(hide = true)]
    Prepare {
        row: String,
        #[arg(long)]
        small: bool,
    },
    /// One side of a row, in this process; prints a line of JSON.
    #[command(hide = true)]
    Measure {
        row: String,
        #[arg(long)]
        small: bool,
    },
}

/// What a measuring process prints.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Measurement {
    /// One for each repetition.
    pub seconds: Vec<f64>,
    /// The most memory that the process held.
    pub peak_memory_bytes: u64,
    /// Floating-point operations that the work needs at least; only ours says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flop: Option<f64>,
}

fn main() -> Result<()> {
    contextune_allocator::keep_pages();
    match Arguments::parse().command {
        Action::List => {
            for row in table::rows(Size::Published) {
                println!("{:<24}{}", row.name, row.what);
            }
            Ok(())
        }
        Action::Growth { history } => run(&table::growth(), None, 1, Size::Published, &history),
        Action::Load {
            clients,
            seconds,
            history,
        } => {
            let outcome = load::run(clients.into(), seconds)?;
            println!("{outcome}");
            history::append(&outcome, &history)
        }
        Action::Prepare { row, small } => ours::prepare(&find(&row, size(small))?.ours),
        Action::Measure { row, small } => {
            let row = find(&row, size(small))?;
            println!("{}", serde_json::to_string(&ours::measure(&row.ours)?)?);
            Ok(())
        }
        Action::Run {
            rows,
            python,
            rounds,
            small,
            history,
        } => {
            let size = size(small);
            let rows = match rows.is_empty() {
                true => table::rows(size),
                false => rows
                    .iter()
                    .map(|name| find(name, size))
                    .collect::<Result<_>>()?,
            };
            run(&rows, python.as_deref(), rounds, size, &history)
        }
    }
}

fn size(small: bool) -> Size {
    match small {
        true => Size::Small,
        false => Size::Published,
    }
}

fn find(name: &str, size: Size) -> Result<Row> {
    let mut rows = table::rows(size).into_iter().chain(table::growth());
    rows.find(|row| row.name == name)
        .with_context(|| format!("no row is named {name:?}; `list` shows them"))
}

fn run(
    rows: &[Row],
    python: Option<&Path>,
    rounds: usize,
    size: Size,
    history: &Path,
) -> Result<()> {
    ensure!(rounds > 0, "--rounds must be at least 1");
    let mut rate = 0.0_f64;
    for row in rows {
        let mut ours = Vec::new();
        let mut peers: Vec<Vec<Measurement>> = vec![Vec::new(); row.peers.len()];
        for _ in 0..rounds {
            rate = rate.max(floor::matrix_product_rate());
            // The peers come first: they make what both sides read.
            if let Some(python) = python {
                for (peer, results) in row.peers.iter().zip(&mut peers) {
                    results.push(program::peer(python, peer, row.whole_process)?);
                }
            }
            ours.push(measure_ours(row, size, python)?);
        }
        let outcome = history::Outcome::new(row, rate, &ours, &peers);
        println!("{outcome}");
        history::append(&outcome, history)?;
    }
    Ok(())
}

fn measure_ours(row: &Row, size: Size, python: Option<&Path>) -> Result<Measurement> {
    if let Ours::Program {
        scripts,
        preparation,
        command,
        epochs,
    } = &row.ours
    {
        for script in scripts {
            let python = python.context("this row needs --python")?;
            program::peer(python, script, false)?;
        }
        return program::contextune(preparation, command, *epochs);
    }
    let this_program = std::env::current_exe()?;
    let with = |action| {
        let mut command = Command::new(&this_program);
        command.args([action, row.name]);
        if size == Size::Small {
            command.arg("--small");
        }
        command
    };
    let prepared = with("prepare").status()?;
    ensure!(prepared.success(), "{} could not be prepared", row.name);
    program::measurement(&mut with("measure"))
}
