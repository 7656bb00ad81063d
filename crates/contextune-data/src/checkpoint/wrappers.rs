//! Models inside other objects: what those put in front of every name.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::{Error, Result};
use super::tensor::TensorTable;

/// A tensor that every model of a family has, by its own name.
const MARKS: [&str; 2] = [
    "visual.conv1.weight",
    "vision_model.embeddings.patch_embedding.weight",
];

/// Returns the tensors under the names that they have in the model, and whether a wrapper had put something in front: `module.` of
/// DistributedDataParallel, `_orig_mod.` of torch.compile, `model.` or `clip.` of a trainer's own class. Its other tensors are left
/// out.
///
/// # Errors
/// Several models of which one would have to be chosen.
pub(super) fn unwrapped(path: &Path, tensors: TensorTable) -> Result<(TensorTable, bool)> {
    let prefix_of = |name: &String| {
        let mut prefixes = MARKS.iter().filter_map(|mark| name.strip_suffix(mark));
        prefixes.next().map(str::to_owned)
    };
    let prefixes: BTreeSet<String> = tensors.keys().filter_map(prefix_of).collect();
    if prefixes.is_empty() || prefixes.contains("") {
        return Ok((tensors, false));
    }
    let prefixes: Vec<String> = prefixes.into_iter().collect();
    let [prefix] = &prefixes[..] else {
        return Err(Error::unsupported(
            path,
            format!("several models, {}", prefixes.join(", ")),
            "save the one that you want under a name of its own",
        ));
    };
    let inside = tensors.into_iter().filter_map(|(name, tensor)| {
        let name = name.strip_prefix(prefix.as_str())?;
        Some((name.to_owned(), tensor))
    });
    Ok((inside.collect(), true))
}
