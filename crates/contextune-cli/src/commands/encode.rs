//! `contextune encode`: pictures and texts to features in a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contextune::data::{self, FeatureRows, NamedTensor, Split, TensorValues};
use contextune::method::text::zeroshot;
use contextune::text::{Overlong, TemplateSet};

use crate::examples;
use crate::options::{Context, ModelArguments, PictureArguments, WrongUsage, values};
use crate::output::{self, out};

/// Write features of pictures and texts to a safetensors file.
///
/// The file holds image_features (with labels and splits where they come from --data) and text_features, not of unit length,
/// in the order of the arguments; with --classes and --templates also the ensembled classifier (D × K).
///
/// Example: contextune encode --data photos --out photos.safetensors
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A data set: what is written can be given to --data of other commands in its place.
    #[arg(long, conflicts_with = "images")]
    data: Option<PathBuf>,
    /// Loose pictures.
    #[arg(long, num_args = 1.., value_name = "PATH")]
    images: Vec<PathBuf>,
    /// Texts, one a line.
    #[arg(long, value_name = "FILE", conflicts_with = "classes")]
    texts: Option<PathBuf>,
    /// Class names, separated by commas or one a line in a file.
    #[arg(long, requires = "templates")]
    classes: Option<String>,
    /// A template, a file with one a line, or a named set.
    #[arg(long, requires = "classes")]
    templates: Option<String>,
    /// Cut texts that are too long for the model, instead of stopping.
    #[arg(long)]
    truncate: bool,
    /// The file to write.
    #[arg(long)]
    out: PathBuf,
    /// Seed of the split of a data set that has none.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    pictures: PictureArguments,
    /// Print what was written as JSON.
    #[arg(long)]
    json: bool,
}

/// A tensor on its way into a file.
struct Rows {
    name: &'static str,
    shape: [usize; 2],
    values: Vec<f32>,
}

impl Rows {
    fn tensor(&self) -> NamedTensor<'_> {
        NamedTensor {
            name: self.name,
            shape: &self.shape,
            values: TensorValues::F32(&self.values),
        }
    }
}

/// Encodes and writes.
pub fn run(arguments: Arguments, context: &Context) -> Result<()> {
    if arguments.data.is_none()
        && arguments.images.is_empty()
        && arguments.texts.is_none()
        && arguments.classes.is_none()
    {
        let message = "there is nothing to encode: give --data, --images, --texts or --classes";
        return Err(WrongUsage(message.into()).into());
    }
    let model = arguments.model.open(context)?;
    let width = model.config().embedding_width;
    let mut others = Vec::new();
    if let Some(path) = &arguments.texts {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let lines: Vec<&str> = text.lines().collect();
        let tower = model.text_tower()?;
        let tokenizer = model.tokenizer()?;
        let overlong = match arguments.truncate {
            true => Overlong::Truncate,
            false => Overlong::Refuse,
        };
        let prompts = lines
            .iter()
            .map(|line| tokenizer.tokenize(line, tower.config().context_length, overlong))
            .collect::<Result<Vec<_>, _>>()?;
        others.push(Rows {
            name: "text_features",
            shape: [lines.len(), width],
            values: values(tower.encode_frozen(&prompts)?)?,
        });
    }
    if let (Some(classes), Some(templates)) = (&arguments.classes, &arguments.templates) {
        let classes = data::class_list(classes)?;
        let templates = TemplateSet::from_argument(templates)?;
        let tower = model.text_tower()?;
        let classifier = zeroshot::classifier(&tower, &*model.tokenizer()?, &classes, &templates)?;
        others.push(Rows {
            name: "classifier",
            shape: [width, classes.len()],
            values: values(classifier.transpose())?,
        });
    }
    let pictures = match &arguments.data {
        Some(path) => write_data_set(path, &others, &model, &arguments, context)?,
        None => {
            if !arguments.images.is_empty() {
                let (kept, rows) = examples::encode_paths(
                    &arguments.images,
                    &model,
                    &PictureArguments {
                        strict: true,
                        ..arguments.pictures.clone()
                    },
                    context,
                )?;
                others.push(Rows {
                    name: "image_features",
                    shape: [kept.len(), width],
                    values: values(rows)?,
                });
            }
            let tensors: Vec<_> = others.iter().map(Rows::tensor).collect();
            let metadata = BTreeMap::from([("fingerprint".to_owned(), model.fingerprint()?)]);
            data::write_tensors(&arguments.out, &tensors, &metadata)?;
            arguments.images.len()
        }
    };
    if arguments.json {
        let tensors: BTreeMap<_, _> = others.iter().map(|rows| (rows.name, rows.shape)).collect();
        let answer = serde_json::json!({
            "out": arguments.out.to_string_lossy(), "pictures": pictures, "width": width, "tensors": tensors,
        });
        out!("{answer}");
    } else {
        out!(
            "{pictures} pictures, width {width}: {}",
            output::path(&arguments.out)
        );
    }
    Ok(())
}

/// Features of all pictures of a data set, as a features file; returns how many there are.
fn write_data_set(
    path: &Path,
    others: &[Rows],
    model: &contextune::model::Model,
    arguments: &Arguments,
    context: &Context,
) -> Result<usize> {
    let dataset = examples::open(path, arguments.seed, context)?;
    if dataset.features.is_some() {
        bail!("{} holds features already", path.display());
    }
    let mut all = Vec::new();
    let mut splits = Vec::new();
    for split in Split::ALL {
        all.extend_from_slice(dataset.split(split));
        splits.extend(std::iter::repeat_n(split, dataset.split(split).len()));
    }
    let paths = all
        .iter()
        .map(|example| match &example.input {
            data::Input::Picture(path) => Ok(path.clone()),
            _ => bail!("{} has examples that are no pictures", path.display()),
        })
        .collect::<Result<Vec<_>>>()?;
    let (kept, rows) = examples::encode_paths(&paths, model, &arguments.pictures, context)?;
    let labels: Vec<usize> = kept.iter().map(|&index| all[index].label).collect();
    let splits: Vec<Split> = kept.iter().map(|&index| splits[index]).collect();
    let names: Vec<String> = kept
        .iter()
        .map(|&index| dataset.input_name(&all[index].input))
        .collect();
    let tensors: Vec<_> = others.iter().map(Rows::tensor).collect();
    FeatureRows {
        image_features: &values(rows)?,
        width: model.config().embedding_width,
        labels: &labels,
        splits: Some(&splits),
        class_names: &dataset.class_names,
        paths: Some(&names),
        fingerprint: Some(&model.fingerprint()?),
        published: dataset.published,
        others: &tensors,
        ..FeatureRows::default()
    }
    .write(&arguments.out)?;
    Ok(kept.len())
}
