//! Training on the screen: a bar and figures in a terminal, a line now and then elsewhere.

use std::time::{Duration, Instant};

use contextune::train::{EpochMetrics, Progress};
use indicatif::ProgressBar;

use crate::screen::Screen;
use crate::words;

/// Where there is no terminal, a line at most so often.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// In a terminal, figures are renewed at most so often: a step may take a millisecond.
const FIGURES_EVERY: Duration = Duration::from_millis(100);
/// An epoch that takes longer tells its steps.
const LONG_EPOCH: Duration = Duration::from_secs(1);
/// Characters of the curve of the loss, at most.
const CURVE: usize = 12;

/// What a run's training looks like so far.
#[derive(Debug)]
pub struct Training {
    screen: Screen,
    bar: ProgressBar,
    /// Whether it is told in lines where bars cannot be seen.
    lines: bool,
    started: Instant,
    shown: Option<Instant>,
    /// The first step that was seen: a resumed run begins in the middle.
    first_step: Option<usize>,
    losses: Curve,
    epoch_started: Instant,
    /// Sum and number of the losses since then.
    epoch_losses: (f64, usize),
    /// Of the last whole epoch.
    metrics: Option<EpochMetrics>,
}

impl Training {
    /// Nothing was seen yet; with `lines` it is told in lines where bars cannot be seen.
    pub fn new(screen: &Screen, lines: bool) -> Self {
        Self {
            screen: screen.clone(),
            bar: screen.wordy_bar("train"),
            lines: lines && !screen.shows_bars(),
            started: Instant::now(),
            shown: None,
            first_step: None,
            losses: Curve::default(),
            epoch_started: Instant::now(),
            epoch_losses: (0.0, 0),
            metrics: None,
        }
    }

    /// After a step.
    pub fn step(&mut self, progress: Progress, loss: f32) {
        if self.first_step.is_none() {
            self.first_step = Some(progress.step);
            self.bar.set_length(progress.steps as u64);
        }
        self.bar.set_position(progress.step as u64 + 1);
        self.losses.push(loss);
        self.epoch_losses.0 += f64::from(loss);
        self.epoch_losses.1 += 1;
        let mean = (self.epoch_losses.0 / self.epoch_losses.1 as f64) as f32;
        let steps = progress.steps / progress.epochs.max(1);
        let step = progress.step - progress.epoch * steps + 1;
        let whole_epoch = step == steps; // its own figures come in a moment
        if !whole_epoch && self.is_due(self.shown.unwrap_or(self.started)) {
            let mut epoch = format!("epoch {}/{}", progress.epoch + 1, progress.epochs);
            if self.epoch_started.elapsed() >= LONG_EPOCH {
                epoch += &format!(", step {step}/{steps}");
            }
            self.show(&epoch, mean);
        }
    }

    /// After an epoch, of so many.
    pub fn epoch(&mut self, metrics: &EpochMetrics, epochs: usize) {
        self.epoch_started = Instant::now();
        self.epoch_losses = (0.0, 0);
        self.metrics = Some(metrics.clone());
        if metrics.epoch == epochs || self.shown.is_none_or(|shown| self.is_due(shown)) {
            self.show(&format!("epoch {}/{epochs}", metrics.epoch), metrics.loss);
        }
    }

    /// Takes the bar off the screen.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Whether there is something to show again that was shown then.
    fn is_due(&self, shown: Instant) -> bool {
        let every = match self.lines {
            true => LINE_EVERY,
            false => FIGURES_EVERY,
        };
        shown.elapsed() >= every
    }

    fn show(&mut self, epoch: &str, loss: f32) {
        self.shown = Some(Instant::now());
        let left = self
            .time_left()
            .map(|left| format!("{} left", words::duration(left)));
        let (accuracy, rate) = match &self.metrics {
            Some(metrics) => (
                format!("  accuracy {:.1} %", 100.0 * metrics.accuracy),
                format!("  rate {:.1e}", metrics.lr),
            ),
            None => (String::new(), String::new()),
        };
        if self.lines {
            let left = left.map_or_else(String::new, |left| format!("  {left}"));
            let line = format!("{epoch}  loss {loss:.3}{accuracy}{rate}{left}");
            self.screen.remark(line);
            return;
        }
        let left = left.map_or_else(String::new, |left| format!(", {left}"));
        let memory = memory_stats::memory_stats().map_or_else(String::new, |memory| {
            format!("  {}", words::bytes(memory.physical_mem as u64))
        });
        let curve = self.losses.drawn();
        self.bar.set_message(format!(
            "{epoch}{left}\n{:13}loss {loss:.3} {curve}{accuracy}{rate}{memory}",
            ""
        ));
    }

    /// What the steps to come take if they take as long as those so far.
    fn time_left(&self) -> Option<Duration> {
        let done = self.bar.position();
        let seen = done.saturating_sub(self.first_step? as u64);
        let to_come = self.bar.length()?.saturating_sub(done);
        let a_step = self.started.elapsed().as_secs_f64() / seen.max(1) as f64;
        Some(Duration::from_secs_f64(a_step * to_come as f64))
    }
}

/// The course of a number in a few characters, however many values it had.
#[derive(Debug)]
struct Curve {
    /// Sum and number of values that follow each other.
    bins: Vec<(f64, usize)>,
    /// Values in a bin.
    values: usize,
}

impl Default for Curve {
    fn default() -> Self {
        Self {
            bins: Vec::with_capacity(CURVE),
            values: 1,
        }
    }
}

impl Curve {
    /// When all bins are full, two become one.
    fn push(&mut self, value: f32) {
        let last_is_full = self.bins.last().is_none_or(|bin| bin.1 == self.values);
        if last_is_full && self.bins.len() == CURVE {
            let pairs = self.bins.chunks(2);
            self.bins = pairs
                .map(|pair| {
                    pair.iter()
                        .fold((0.0, 0), |sum, bin| (sum.0 + bin.0, sum.1 + bin.1))
                })
                .collect();
            self.values *= 2;
        }
        if last_is_full {
            self.bins.push((0.0, 0));
        }
        if let Some(bin) = self.bins.last_mut() {
            bin.0 += f64::from(value);
            bin.1 += 1;
        }
    }

    /// A block for each bin, as high as its mean lies between the lowest and the highest.
    fn drawn(&self) -> String {
        const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let means: Vec<f64> = self
            .bins
            .iter()
            .map(|(sum, count)| sum / *count as f64)
            .collect();
        let lowest = means.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let scale = 7.0 / (highest - lowest).max(f64::MIN_POSITIVE);
        let block = |mean: f64| BLOCKS[((mean - lowest) * scale).round() as usize];
        means.into_iter().map(block).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_of_any_length_fits_and_falls_as_its_values_do() {
        let mut curve = Curve::default();
        assert_eq!(curve.drawn(), "");
        for value in (0..1000).rev() {
            curve.push(value as f32);
            assert!(curve.bins.len() <= CURVE);
        }
        let drawn = curve.drawn();
        assert!(drawn.starts_with('█') && drawn.ends_with('▁'), "{drawn}");
        assert!(drawn.chars().is_sorted_by(|a, b| a >= b), "{drawn}");
    }
}
