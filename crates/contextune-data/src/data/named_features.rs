//! Features of pictures and texts by their names: what a frozen teacher thought of them.
//!
//! | tensor | shape, type | names of its rows, in the metadata |
//! |---|---|---|
//! | `image_features` | `[N, W]` f32 | `paths` (JSON list of N) |
//! | `text_features` | `[M, D]` f32 | `texts` (JSON list of M) |
//!
//! One of the two may be absent.

use std::collections::HashMap;
use std::path::Path;

use safetensors::SafeTensors;

use super::error::{DataError, Result};
use crate::files::finite_values;

/// What a file of named features holds.
#[derive(Debug)]
pub struct NamedFeatures {
    /// Features of pictures, by path.
    pub images: Option<NamedRows>,
    /// Features of texts.
    pub texts: Option<NamedRows>,
}

/// Rows of features with a name each.
#[derive(Debug)]
pub struct NamedRows {
    /// A name for each row.
    pub names: Vec<String>,
    /// Elements of a row.
    pub width: usize,
    values: Vec<f32>,
}

impl NamedRows {
    /// Returns the rows one after another, `[names, width]` in row-major order.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns the row of each name.
    pub fn places(&self) -> HashMap<&str, usize> {
        let rows = self.names.iter().enumerate();
        rows.map(|(row, name)| (name.as_str(), row)).collect()
    }
}

impl NamedFeatures {
    /// Reads the whole file.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::Damaged`] for no readable safetensors file, [`DataError::MissingEntry`] if it has
    /// neither tensor or rows without names, [`DataError::WrongEntry`] for a wrong type or shape and what is not finite.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(DataError::io(path))?;
        let damaged = |error: safetensors::SafeTensorError| DataError::Damaged {
            path: path.to_owned(),
            what: format!("it is no readable safetensors file ({error})"),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let missing = |missing: &'static str| DataError::MissingEntry {
            path: path.to_owned(),
            missing,
            found: file.names().into_iter().map(str::to_owned).collect(),
        };
        let rows = |tensor: &str, key: &'static str| -> Result<Option<NamedRows>> {
            let Ok(view) = file.tensor(tensor) else {
                return Ok(None);
            };
            let wrong = |what: String| DataError::WrongEntry {
                path: path.to_owned(),
                entry: tensor.to_owned(),
                what,
            };
            let names = header.metadata().as_ref().and_then(|texts| texts.get(key));
            let names: Vec<String> = serde_json::from_str(names.ok_or_else(|| missing(key))?)
                .map_err(|error| wrong(format!("has {key} that are no JSON list: {error}")))?;
            let &[count, width] = view.shape() else {
                return Err(wrong(format!(
                    "has shape {:?}, not two dimensions",
                    view.shape()
                )));
            };
            if count != names.len() {
                return Err(wrong(format!("has {count} rows but {} {key}", names.len())));
            }
            let values = finite_values(tensor, &view)
                .map_err(|problem| wrong(format!("cannot be used: {problem}")))?;
            Ok(Some(NamedRows {
                names,
                width,
                values,
            }))
        };
        let (images, texts) = (
            rows("image_features", "paths")?,
            rows("text_features", "texts")?,
        );
        match images.is_none() && texts.is_none() {
            true => Err(missing("image_features or text_features")),
            false => Ok(Self { images, texts }),
        }
    }
}
