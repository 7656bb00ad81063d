//! Files beside the weights of a model.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::{Error, Result};

/// Returns the path of a file in a folder, if it exists.
pub(super) fn existing_file(folder: &Path, name: &str) -> Option<PathBuf> {
    Some(folder.join(name)).filter(|path| path.is_file())
}

/// Reads a JSON file of at most 16 MB, far more than any configuration or index has.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    const LIMIT: u64 = 16 << 20;
    let file = File::open(path).map_err(Error::io(path))?;
    let mut text = String::new();
    file.take(LIMIT)
        .read_to_string(&mut text)
        .map_err(Error::io(path))?;
    serde_json::from_str(&text)
        .map_err(|error| Error::config(path, format!("not the JSON that is expected: {error}")))
}
