//! Names of classes: lists that users give, and what every list must hold to.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::{DataError, Result};

/// Longest list of classes that is read; that of ImageNet-21k is a tenth.
const MAX_LIST_BYTES: u64 = 8 << 20;

/// Class names from what a user types: a file with one name a line, or names separated by commas.
///
/// An argument that names a file is read as one; a name in a file may contain commas. Where every line starts with a
/// WordNet id, as in the `classnames.txt` of ImageNet ("n01440764 tench"), the id is left out. Names keep their
/// spelling without outer blanks.
///
/// # Errors
/// [`DataError::ClassList`] for a list without names, with a blank one, or a file that is not there or no text;
/// [`DataError::SameName`] for two equal names.
pub fn class_list(argument: &str) -> Result<Vec<String>> {
    let path = Path::new(argument);
    let in_file = path.is_file();
    let text = if in_file {
        read_list(path)?
    } else {
        argument.to_owned()
    };
    let wrong = |what: &str| DataError::ClassList {
        source_name: argument.to_owned(),
        what: what.to_owned(),
    };
    if text.trim().is_empty() {
        return Err(wrong(
            "no class names; give them as a,b,c or as a file with one a line",
        ));
    }
    let looks_like_a_file =
        path.components().count() > 1 || path.extension() == Some("txt".as_ref());
    if !in_file && !text.contains(',') && looks_like_a_file {
        return Err(wrong(
            "there is no such file; give a file with one class name a line, or names as a,b,c",
        ));
    }

    let mut names: Vec<String> = if in_file {
        let text = text.trim_start_matches('\u{feff}').trim_end();
        text.lines().map(|line| line.trim().to_owned()).collect()
    } else {
        text.split(',').map(|name| name.trim().to_owned()).collect()
    };
    if names.iter().all(|name| without_wordnet_id(name).is_some()) {
        for name in &mut names {
            *name = without_wordnet_id(name).unwrap_or_default().to_owned();
        }
    }
    check(argument, &names)?;
    Ok(names)
}

fn read_list(path: &Path) -> Result<String> {
    let file = File::open(path).map_err(DataError::io(path))?;
    let mut bytes = Vec::new();
    file.take(MAX_LIST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(DataError::io(path))?;
    let is_too_long = bytes.len() as u64 > MAX_LIST_BYTES;
    let text = String::from_utf8(bytes).ok().filter(|_| !is_too_long);
    text.ok_or_else(|| DataError::ClassList {
        source_name: path.display().to_string(),
        what: "the file is no UTF-8 text of at most 8 MiB; give one class name a line".to_owned(),
    })
}

/// The rest of a line that starts with `n` and eight digits.
fn without_wordnet_id(line: &str) -> Option<&str> {
    let (id, name) = line.split_once(' ')?;
    let digits = id.strip_prefix('n')?;
    let is_id = digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_id.then_some(name.trim())
}

/// Refuses blank names and two names that would give one prompt.
pub(super) fn check(source_name: &str, names: &[String]) -> Result<()> {
    let mut seen: HashMap<String, &String> = HashMap::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        // As prompts see it: `_` becomes a space, the tokenizer lowers case and joins blanks.
        let spoken = name.replace('_', " ").to_lowercase();
        let spoken = spoken.split_whitespace().collect::<Vec<_>>().join(" ");
        if spoken.is_empty() {
            return Err(DataError::NoName {
                source_name: source_name.to_owned(),
                what: format!("class {} of {}", index + 1, names.len()),
            });
        }
        if let Some(first) = seen.insert(spoken, name) {
            return Err(DataError::SameName {
                source_name: source_name.to_owned(),
                first: first.clone(),
                second: name.clone(),
            });
        }
    }
    Ok(())
}
