//! Loose pictures on the command line.

use std::io::{self, BufRead};
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
    /// Pictures, or folders of pictures; `-` reads such paths from standard input, one a line.
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

/// The paths of a list; blank lines do not count.
fn listed(list: impl BufRead) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in list.lines() {
        let line = line.context("cannot read the paths on standard input")?;
        if !line.trim().is_empty() {
            paths.push(PathBuf::from(line.trim_end_matches('\r')));
        }
    }
    match paths.is_empty() {
        false => Ok(paths),
        true => bail!("standard input lists no pictures: write one path a line to it"),
    }
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
    }
}
