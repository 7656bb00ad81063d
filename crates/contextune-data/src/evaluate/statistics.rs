//! Statistics over several runs.

use serde::{Deserialize, Serialize};

/// Mean and spread over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The standard deviation of these values, as the official scripts print it (divided by their number, not one less).
    pub deviation: f64,
    /// Number of values.
    pub count: usize,
}

impl Spread {
    /// Returns mean and standard deviation; `None` without values.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        if count == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / count as f64;
        let square = |value: &f64| (value - mean).powi(2);
        let deviation = (values.iter().map(square).sum::<f64>() / count as f64).sqrt();
        Some(Self {
            mean,
            deviation,
            count,
        })
    }
}

/// Returns 2 b n / (b + n), the harmonic mean of accuracy on base and new classes (Zhou et al. 2022, "Conditional
/// Prompt Learning", §4.1).
pub fn harmonic_mean(base: f64, new: f64) -> f64 {
    match base + new > 0.0 {
        true => 2.0 * base * new / (base + new),
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_and_harmonic_mean_are_those_of_the_official_scripts() {
        // The example of the official COOP.md: 92.00 % ± 0.15 %.
        let spread = Spread::of(&[91.81, 92.01, 92.17]).unwrap();
        assert!((spread.mean - 92.0).abs() < 0.005 && (spread.deviation - 0.15).abs() < 0.005);
        assert_eq!(Spread::of(&[]), None);
        assert!((harmonic_mean(80.47, 71.69) - 75.83).abs() < 0.005);
        assert_eq!(harmonic_mean(0.0, 0.0), 0.0);
    }
}
