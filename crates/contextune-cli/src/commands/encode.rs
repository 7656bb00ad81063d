use anyhow::Result;
use crate::options::Context;
/// x
#[derive(Debug, clap::Args)]
pub struct Arguments {}
pub fn run(_: Arguments, _: &Context) -> Result<()> { unimplemented!() }

/// Rows of features by the names that the metadata gives them.
pub struct NamedRows {
    /// Paths and their `image_features`, one after another.
    pub images: Option<(Vec<String>, Vec<f32>)>,
    /// Texts and their `text_features`, one after another.
    pub texts: Option<(Vec<String>, Vec<f32>)>,
}

/// Reads a file of features whose rows are named in its metadata: `paths` for images, `texts` for texts.
pub fn read_named_rows(path: &std::path::Path, width: usize) -> Result<NamedRows> {
    use anyhow::{Context as _, bail};
    use safetensors::{Dtype, SafeTensors};
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let damaged = || format!("{} is no readable safetensors file", path.display());
    let (_, header) = SafeTensors::read_metadata(&bytes).with_context(damaged)?;
    let file = SafeTensors::deserialize(&bytes).with_context(damaged)?;
    let rows = |tensor: &str, key: &str| -> Result<Option<(Vec<String>, Vec<f32>)>> {
        let Ok(view) = file.tensor(tensor) else {
            return Ok(None);
        };
        let names = header.metadata().as_ref().and_then(|metadata| metadata.get(key));
        let Some(names) = names else {
            bail!("{} has {tensor} but no metadata {key} that names its rows", path.display());
        };
        let names: Vec<String> = serde_json::from_str(names)
            .with_context(|| format!("{key} in {} is no JSON list", path.display()))?;
        if view.dtype() != Dtype::F32 || view.shape() != [names.len(), width] {
            bail!(
                "{tensor} in {} is {:?} of shape {:?}; needed is F32 of shape [{}, {width}], the width of the model's joint space",
                path.display(), view.dtype(), view.shape(), names.len()
            );
        }
        let values: Vec<f32> = view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect();
        if let Some(row) = values.iter().position(|value| !value.is_finite()) {
            bail!("row {} of {tensor} in {} is not finite", row / width, path.display());
        }
        Ok(Some((names, values)))
    };
    let named = NamedRows {
        images: rows("image_features", "paths")?,
        texts: rows("text_features", "texts")?,
    };
    if named.images.is_none() && named.texts.is_none() {
        bail!("{} has neither image_features nor text_features", path.display());
    }
    Ok(named)
}
