//! Names of classes: lists that users give, and what every list must hold to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use unicode_normalization::UnicodeNormalization as _;

use super::error::{DataError, DataWarning, Result};
use crate::text::class_words;

/// Longest list of classes that is read; that of ImageNet-21k is a tenth.
const MAX_LIST_BYTES: u64 = 8 << 20;

/// Reads class names from what a user types: a file with one name a line, or names separated by commas.
///
/// An argument that names a file is read as one; a name in a file may contain commas. Where every line starts with a
/// WordNet id, as in the `classnames.txt` of ImageNet ("n01440764 tench"), the id is left out and two classes may have one
/// name, as there. Names keep their spelling without outer blanks.
///
/// # Errors
/// [`DataError::ClassList`] for a list without names, with a blank one, or a file that is not there or no text;
/// [`DataError::SameName`] for two equal names without ids.
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
        lines(&text)
    } else {
        text.split(',').map(|name| name.trim().to_owned()).collect()
    };
    if names.iter().all(|name| without_wordnet_id(name).is_some()) {
        for name in &mut names {
            *name = without_wordnet_id(name).unwrap_or_default().to_owned();
        }
        // The ids told the classes apart; what is left to check is that none is blank.
        check_published(argument, &names)?;
    } else {
        check(argument, &names)?;
    }
    Ok(names)
}

/// Returns the lines of a list without outer blanks, and without blank lines at its end.
pub(super) fn read_lines(path: &Path) -> Result<Vec<String>> {
    Ok(lines(&read_list(path)?))
}

fn lines(text: &str) -> Vec<String> {
    let text = text.trim_start_matches('\u{feff}').trim_end();
    // Lines end in \n, \r\n or, from old Macs, \r.
    let lines = text.lines().flat_map(|line| line.split('\r'));
    lines.map(|line| line.trim().to_owned()).collect()
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
        what:
            "the file is no UTF-8 text of at most 8 MiB; write a plain list with one entry a line"
                .to_owned(),
    })
}

/// Returns whether a folder or the start of a line is named as ImageNet's classes are: `n` and eight digits.
pub(super) fn is_wordnet_id(text: &str) -> bool {
    text.strip_prefix('n')
        .is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the rest of a line that starts with a WordNet id.
fn without_wordnet_id(line: &str) -> Option<&str> {
    let (id, name) = line.split_once(' ')?;
    is_wordnet_id(id).then_some(name.trim())
}

/// Returns the names by which results tell the classes apart: a name that several classes have is followed by the label
/// of each, as in "sunglasses (837)".
pub fn distinct_names(class_names: &[String]) -> Vec<String> {
    let mut classes_of: HashMap<&str, usize> = HashMap::with_capacity(class_names.len());
    for name in class_names {
        *classes_of.entry(name).or_default() += 1;
    }
    class_names
        .iter()
        .enumerate()
        .map(|(label, name)| match classes_of[name.as_str()] {
            1 => name.clone(),
            _ => format!("{name} ({label})"),
        })
        .collect()
}

/// Refuses blank names and two names that would give one prompt; `source_name` says where they stand, for the error.
///
/// # Errors
/// [`DataError::NoName`] and [`DataError::SameName`].
pub fn check(source_name: &str, names: &[String]) -> Result<()> {
    match equal_names(source_name, names)?.first() {
        None => Ok(()),
        Some(&(first, second)) => Err(DataError::SameName {
            source_name: source_name.to_owned(),
            first: first.to_owned(),
            second: second.to_owned(),
        }),
    }
}

/// Refuses blank names; two that would give one prompt are only warned of, because nobody can change a published list.
pub(super) fn check_published(source_name: &str, names: &[String]) -> Result<Option<DataWarning>> {
    let equal = equal_names(source_name, names)?;
    let names: Vec<String> = equal.iter().map(|(_, name)| (*name).to_owned()).collect();
    Ok((!names.is_empty()).then_some(DataWarning::SameNames { names }))
}

/// Returns every name that gives the same prompt as an earlier one, as (earlier, later).
fn equal_names<'a>(source_name: &str, names: &'a [String]) -> Result<Vec<(&'a str, &'a str)>> {
    let mut seen: HashMap<String, &str> = HashMap::with_capacity(names.len());
    let mut equal = Vec::new();
    for (index, name) in names.iter().enumerate() {
        // As a model reads it: the tokenizer composes accents, lowers case and joins blanks.
        let spoken: String = class_words(name).nfc().collect();
        let spoken = spoken.to_lowercase();
        let spoken = spoken.split_whitespace().collect::<Vec<_>>().join(" ");
        if spoken.is_empty() {
            return Err(DataError::NoName {
                source_name: source_name.to_owned(),
                what: format!("class {} of {}", index + 1, names.len()),
            });
        }
        match seen.entry(spoken) {
            Entry::Occupied(first) => equal.push((*first.get(), name.as_str())),
            Entry::Vacant(place) => {
                place.insert(name);
            }
        }
    }
    Ok(equal)
}
