//! Times and sizes as a person would say them.

use std::time::Duration;

/// Seconds, minutes, or hours and minutes.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {} min", minutes % 60),
    }
}

/// A size on disk or in memory.
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.0} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_the_unit_that_a_person_would_use() {
        let said =
            [0, 59, 61, 3_599, 3_600, 90_000].map(|time| duration(Duration::from_secs(time)));
        assert_eq!(
            said,
            ["0 s", "59 s", "1 min", "59 min", "1 h 0 min", "25 h 0 min"]
        );
        let said = [0, 999, 1_000, 12_345_678, 1_230_000_000].map(bytes);
        assert_eq!(said, ["0 B", "999 B", "1 kB", "12 MB", "1.2 GB"]);
    }
}
