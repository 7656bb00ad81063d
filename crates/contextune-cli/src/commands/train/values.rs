//! Parsers of argument values.

use contextune::data::Split;
use serde::de::DeserializeOwned;

/// Parses a split that a result may be measured on.
pub fn measured_split(name: &str) -> Result<Split, String> {
    match crate::examples::split(name) {
        Ok(Split::Train) | Err(_) => Err("a result is measured on test or val".into()),
        split => split,
    }
}

/// Parses a value by its name in files.
pub fn named<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// Parses a number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value.is_finite() => Ok(value),
        _ => Err("a positive number is needed".into()),
    }
}

/// Parses a number of at least 0.
pub fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value >= 0.0 && value.is_finite() => Ok(value),
        _ => Err("a number from 0 on is needed".into()),
    }
}

/// Parses a number from 0 to 1.
pub fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a number from 0 to 1 is needed".into()),
    }
}

/// Pictures per step; `None` means all.
#[derive(Clone, Copy, Debug)]
pub struct BatchSize(pub Option<usize>);

/// Parses a positive number or `full`.
pub fn batch_size(text: &str) -> Result<BatchSize, String> {
    match text {
        "full" => Ok(BatchSize(None)),
        _ => match text.parse() {
            Ok(size) if size > 0 => Ok(BatchSize(Some(size))),
            _ => Err("a batch size is a positive number or \"full\"".into()),
        },
    }
}
