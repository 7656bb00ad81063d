//! Loose pictures on the command line.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use contextune::data::is_picture;

use crate::options::WrongUsage;

/// Stands for a list of paths on standard input.
const STANDARD_INPUT: &str = "-";

/// Loose pictures: files, folders with pictures in them, or a list on standard input.
#[derive(Clone, Debug, Args)]
pub struct PicturePaths {
    /// Pictures, or folders of pictures; `-` reads such paths from standard input, one a line or as `find -print0` writes them.
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

impl PicturePaths {
    /// The pictures themselves and those directly in the folders.
    pub fn pictures(&self) -> Result<Vec<PathBuf>> {
        let is_list = |path: &PathBuf| path.as_os_str() == STANDARD_INPUT;
        if self.paths.iter().filter(|path| is_list(path)).count() > 1 {
            let message = "standard input can be read once: give `-` once";
            return Err(WrongUsage(message.into()).into());
        }
        let mut pictures = Vec::new();
        for path in &self.paths {
            if is_list(path) {
                for listed in listed(io::stdin().lock())? {
                    pictures.extend(at(listed)?);
                }
            } else {
                pictures.extend(at(path.clone())?);
            }
        }
        Ok(pictures)
    }
}

/// The paths of a list, one a line or, as `find -print0` writes them, each ended by a zero byte; blank lines do not count.
fn listed(mut list: impl Read) -> Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    list.read_to_end(&mut bytes)
        .context("cannot read the paths on standard input")?;
    let end = if bytes.contains(&0) { 0 } else { b'\n' };
    let lines = bytes.split(|byte| *byte == end).map(|line| match end {
        0 => line,
        _ => line.strip_suffix(b"\r").unwrap_or(line),
    });
    let paths = lines
        .filter(|line| !line.trim_ascii().is_empty())
        .map(path_of)
        .collect::<Result<Vec<_>>>()?;
    match paths.is_empty() {
        false => Ok(paths),
        true => bail!("standard input lists no pictures: write one path a line to it"),
    }
}

/// A path of any bytes, where the system knows such paths.
#[cfg(unix)]
fn path_of(bytes: &[u8]) -> Result<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;

    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Result<PathBuf> {
    let text = std::str::from_utf8(bytes);
    Ok(text
        .context("the paths on standard input are not UTF-8")?
        .into())
}

/// A picture itself, or those directly in a folder.
fn at(path: PathBuf) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path]);
    }
    let mut inside = in_folder(&path)?;
    if inside.is_empty() {
        bail!(
            "{} has no pictures in it (png, jpg, jpeg, webp, gif, bmp)",
            path.display()
        );
    }
    inside.sort();
    Ok(inside)
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", folder.display()))?
            .path();
        if path.is_file() && is_picture(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_path_a_line() {
        let paths = listed("a b.png\r\n\n ./c.jpg\n".as_bytes()).unwrap();
        assert_eq!(paths, [Path::new("a b.png"), Path::new(" ./c.jpg")]);
        assert!(listed("\n \n".as_bytes()).is_err());
        let paths = listed(&b"two\nlines.png\0c.jpg\0"[..]).unwrap();
        assert_eq!(paths, [Path::new("two\nlines.png"), Path::new("c.jpg")]);
    }
}
