//! Few-shot samples that the official code has drawn and kept: `split_fewshot/shot_{n}-seed_{s}.pkl`.
//!
//! A pickle of `{"train": [Datum, ...], "val": [Datum, ...]}`. A `Datum` has `_impath`, `_label` and `_classname`; its
//! paths are those of the machine that drew the sample.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::dataset::{Dataset, Example};
use super::error::{DataError, Result};
use super::split::Split;
use crate::pickle::{Handle, Pickle, Value};

/// The folder of such files in a data set's folder.
pub(super) const FOLDER: &str = "split_fewshot";

/// Largest file that is read; 16 pictures of each class of ImageNet take a twentieth.
const MAX_BYTES: u64 = 64 << 20;

/// Returns the sample that a data set's folder has for these shots and this seed.
pub(super) fn find(folder: &Path, shots: usize, seed: u64) -> Option<PathBuf> {
    let path = folder.join(format!("shot_{shots}-seed_{seed}.pkl"));
    path.is_file().then_some(path)
}

/// Returns the examples of `dataset` that the file lists, in its order: train and val.
pub(super) fn read(
    path: &Path,
    dataset: &Dataset,
    shots: usize,
) -> Result<(Vec<Example>, Vec<Example>)> {
    let wrong = |what: String| DataError::FewShotFile {
        path: path.to_owned(),
        what,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(DataError::io(path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(wrong("it is larger than 64 MiB".to_owned()));
    }
    let pickle = Pickle::parse(&bytes).map_err(|error| wrong(error.to_string()))?;
    let sample = Sample {
        pickle: &pickle,
        dataset,
        shots,
    };
    let train = sample.examples(Split::Train).map_err(wrong)?;
    if train.is_empty() {
        return Err(wrong("it has no training pictures".to_owned()));
    }
    let is_whole = dataset
        .published
        .is_some_and(|published| published.validates_on_test())
        && pickle.get(pickle.root(), "val").is_none();
    let val = match is_whole {
        true => dataset.val.clone(),
        false => sample.examples(Split::Val).map_err(wrong)?,
    };
    Ok((train, val))
}

/// A value, or what is wrong with the file.
type Checked<T> = std::result::Result<T, String>;

struct Sample<'a> {
    pickle: &'a Pickle,
    dataset: &'a Dataset,
    shots: usize,
}

impl Sample<'_> {
    /// Returns the examples under the key of a split.
    fn examples(&self, split: Split) -> Checked<Vec<Example>> {
        let list = self
            .pickle
            .get(self.pickle.root(), &split.to_string())
            .and_then(|list| self.pickle.sequence(list))
            .ok_or_else(|| format!("it holds no dict with a list of {split} pictures"))?;
        let known = self.dataset.split(split);
        let by_name: HashMap<String, &Example> = known
            .iter()
            .map(|example| (self.dataset.input_name(&example.input), example))
            .collect();
        let mut counts = vec![0; self.dataset.class_names.len()];
        let mut examples = Vec::new();
        for (place, &datum) in list.iter().enumerate() {
            let (listed, label) = self
                .datum(datum)
                .map_err(|what| format!("entry {place} of {split} {what}"))?;
            let example = below_the_pictures(listed, &by_name).ok_or_else(|| {
                format!(
                    "{listed:?} is not among the {split} pictures: the sample is of another split"
                )
            })?;
            if example.label != label {
                return Err(format!(
                    "{listed:?} has label {label}, but {} here: the sample is of another split",
                    example.label
                ));
            }
            counts[label] += 1;
            if counts[label] > self.shots {
                return Err(format!(
                    "it has more than {} {split} pictures of {:?}",
                    self.shots, self.dataset.class_names[label]
                ));
            }
            examples.push(example.clone());
        }
        Ok(examples)
    }

    /// Reads path and label of a `Datum`, whose class must be that of the label.
    fn datum(&self, datum: Handle) -> Checked<(&str, usize)> {
        let attribute = |name: &str| {
            let attributes = self.pickle.attributes(datum).unwrap_or_default();
            let mut named = attributes.iter().rev();
            named
                .find(|(key, _)| self.pickle.text(*key) == Some(name))
                .map(|(_, value)| *value)
        };
        let text = |name: &str| attribute(name).and_then(|value| self.pickle.text(value));
        let (Some(path), Some(class_name), Some(label)) = (
            text("_impath"),
            text("_classname"),
            attribute("_label").and_then(|value| self.pickle.int(value)),
        ) else {
            return Err(format!(
                "is no Datum with _impath, _label and _classname, but {}",
                self.kind(datum)
            ));
        };
        let class_names = &self.dataset.class_names;
        let known = usize::try_from(label)
            .ok()
            .and_then(|label| Some((label, class_names.get(label)?)));
        match known {
            None => Err(format!(
                "has label {label}, but there are {} classes",
                class_names.len()
            )),
            Some((label, known)) if known != class_name => Err(format!(
                "calls label {label} {class_name:?}, but it is {known:?} here"
            )),
            Some((label, _)) => Ok((path, label)),
        }
    }

    /// Describes a value that should be a `Datum`.
    fn kind(&self, handle: Handle) -> String {
        match (self.pickle.call(handle), self.pickle.value(handle)) {
            (Some((global, _)), _) => format!("a {}.{}", global.module, global.name),
            (None, Value::Object(_)) => "an object".to_owned(),
            (None, _) => "a plain value".to_owned(),
        }
    }
}

/// Returns the example whose name is the longest end of a path of another machine.
fn below_the_pictures<'a>(
    listed: &str,
    by_name: &HashMap<String, &'a Example>,
) -> Option<&'a Example> {
    let find = |listed: &str| {
        let starts = listed.match_indices('/').map(|(slash, _)| slash + 1);
        std::iter::once(0)
            .chain(starts)
            .find_map(|start| by_name.get(&listed[start..]).copied())
    };
    // Windows joins with either sign; elsewhere a name may hold a backslash.
    find(&listed.replace('\\', "/")).or_else(|| find(listed))
}
