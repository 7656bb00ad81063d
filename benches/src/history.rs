//! What came out of a row, printed and appended to the history.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::Measurement;
use crate::table::Row;

/// One line of the history.
#[derive(Debug, Serialize)]
pub struct Outcome {
    row: &'static str,
    what: &'static str,
    /// Seconds since 1970.
    when: u64,
    /// The medians.
    seconds: f64,
    peer_seconds: Option<f64>,
    /// The peer's median over ours.
    ratio: Option<f64>,
    goal: f64,
    /// The operations that the work needs at least over the rate of matrix products, in seconds.
    floor_seconds: Option<f64>,
    peak_memory_bytes: u64,
    peer_peak_memory_bytes: Option<u64>,
}

impl Outcome {
    /// `rate` is the measured FLOP/s of matrix products; of several peers the fastest counts.
    pub fn new(row: &Row, rate: f64, ours: &[Measurement], peers: &[Vec<Measurement>]) -> Self {
        let seconds = median(ours);
        let fastest = peers
            .iter()
            .filter(|measurements| !measurements.is_empty())
            .min_by(|a, b| median(a).total_cmp(&median(b)));
        let peer_seconds = fastest.map(|peer| row.peer_factor * median(peer));
        let flop = ours.first().and_then(|m| m.flop);
        Self {
            row: row.name,
            what: row.what,
            when: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_secs()),
            seconds,
            peer_seconds,
            ratio: peer_seconds.map(|peer| peer / seconds),
            goal: row.goal,
            floor_seconds: flop.map(|flop| flop / rate),
            peak_memory_bytes: peak(ours),
            peer_peak_memory_bytes: fastest.map(|peer| peak(peer)),
        }
    }
}

/// Appends an outcome to the history.
pub fn append(outcome: &impl Serialize, path: &Path) -> Result<()> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    let line = serde_json::to_string(outcome)? + "\n";
    file.write_all(line.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "{:<20} {:>9.4} s, {:.0} MB",
            self.row,
            self.seconds,
            megabytes(self.peak_memory_bytes)
        )?;
        if let Some(floor) = self.floor_seconds {
            write!(f, ", floor {floor:.4} s")?;
        }
        if let (Some(peer), Some(ratio), Some(memory)) =
            (self.peer_seconds, self.ratio, self.peer_peak_memory_bytes)
        {
            write!(
                f,
                "; peer {peer:.3} s, {:.0} MB; {ratio:.2} times as fast (goal {})",
                megabytes(memory),
                self.goal
            )?;
        }
        Ok(())
    }
}

fn median(measurements: &[Measurement]) -> f64 {
    let mut seconds: Vec<f64> = measurements
        .iter()
        .flat_map(|measurement| measurement.seconds.iter().copied())
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
}

fn peak(measurements: &[Measurement]) -> u64 {
    let peaks = measurements.iter().map(|m| m.peak_memory_bytes);
    peaks.max().unwrap_or(0)
}
