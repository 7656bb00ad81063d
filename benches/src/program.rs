//! Programs measured from outside: peers, and the command `contextune` as users start it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use contextune::train::EpochMetrics;

use crate::Measurement;

/// A whole process runs so many times, after one run that is not timed.
const STARTS: usize = 5;

/// The script `arguments[0]` below `peers/`. What counts is what it prints, or with `whole` the time of its process.
pub fn peer(python: &Path, arguments: &[String], whole: bool) -> Result<Measurement> {
    let script = sources().join("peers").join(&arguments[0]);
    let start = || {
        let mut command = Command::new(python);
        command
            .arg(&script)
            .args(arguments[1..].iter().map(|word| placed(word)));
        command
    };
    let printed = measurement(&mut start())?;
    match whole {
        false => Ok(printed),
        true => repeated(start),
    }
}

/// `contextune` with the words of `command`, timed as a process; see [`crate::table::Ours::Program`].
pub fn contextune(
    preparation: &[Vec<String>],
    command: &[String],
    epochs: Option<(usize, usize)>,
) -> Result<Measurement> {
    let program = contextune_path()?;
    let start = |words: &[String]| {
        let mut command = Command::new(&program);
        command.args(words.iter().map(|word| placed(word)));
        command
    };
    for words in preparation {
        timed(&mut start(words))?;
    }
    // A program of seconds is repeated, one of minutes is not.
    let (seconds, peak_memory_bytes) = timed(&mut start(command))?;
    if seconds < 10.0 {
        return repeated(|| start(command));
    }
    let left = match epochs {
        Some((done, all)) => (all - done) as f64 * seconds_of_an_epoch()?,
        None => 0.0,
    };
    Ok(Measurement {
        seconds: vec![seconds + left],
        peak_memory_bytes,
        flop: None,
    })
}

/// The command that was built with this program.
pub fn contextune_path() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("contextune");
    if !program.exists() {
        bail!(
            "{} is missing: build the whole workspace",
            program.display()
        );
    }
    Ok(program)
}

/// The median, as the run that was just made says.
fn seconds_of_an_epoch() -> Result<f64> {
    let metrics = std::fs::read_to_string(work().join("run/metrics.jsonl"))?;
    let mut seconds = metrics
        .lines()
        .map(|line| Ok(serde_json::from_str::<EpochMetrics>(line)?.seconds))
        .collect::<Result<Vec<_>>>()?;
    seconds.sort_by(f64::total_cmp);
    seconds
        .get(seconds.len() / 2)
        .copied()
        .context("the run has no epoch")
}

/// What a process prints about itself, as its last line.
pub fn measurement(command: &mut Command) -> Result<Measurement> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let output = String::from_utf8(output.stdout)?;
    let line = output.lines().last().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("{command:?} printed {line:?}"))
}

/// Seconds from a process's start to its end, and the most memory that it was seen to hold.
fn timed(command: &mut Command) -> Result<(f64, u64)> {
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let outcome = loop {
        if let Ok(status) = std::fs::read_to_string(&status) {
            peak = peak.max(high_water(&status));
        }
        if let Some(outcome) = child.try_wait()? {
            break outcome;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    if !outcome.success() {
        bail!("{command:?} failed");
    }
    Ok((started.elapsed().as_secs_f64(), peak))
}

fn high_water(status: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    1024 * kibibytes.unwrap_or(0)
}

/// `STARTS` processes one after the other.
fn repeated(start: impl Fn() -> Command) -> Result<Measurement> {
    let runs = (0..STARTS)
        .map(|_| timed(&mut start()))
        .collect::<Result<Vec<_>>>()?;
    Ok(Measurement {
        seconds: runs.iter().map(|(seconds, _)| *seconds).collect(),
        peak_memory_bytes: runs.iter().map(|(_, peak)| *peak).max().unwrap_or(0),
        flop: None,
    })
}

/// The folder that this program and its peers share, as `peers/common.py` says.
pub fn work() -> PathBuf {
    let cache = std::env::var_os("CONTEXTUNE_TEST_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    cache
        .unwrap_or_else(|| home().join(".cache/contextune-tests"))
        .join("peers")
}

/// The folder of the benchmarks.
pub fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn placed(word: &str) -> String {
    word.replace("WORK", &work().to_string_lossy())
        .replace("BENCHES", &sources().to_string_lossy())
}
