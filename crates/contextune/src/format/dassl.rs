//! `prompt_learner/model.pth.tar-N`: prompts of CoOp and CoCoOp as their official code saves them.
//!
//! The official trainers run in Dassl, whose `save_checkpoint` (`dassl/utils/torchtools.py`) writes by `torch.save` a
//! dict with the state dict of the prompt learner, the epoch, and the states of optimizer and scheduler; a text file
//! `checkpoint` beside it names the newest. The state dict holds, beside what is learned, the embeddings of the frozen
//! tokens around it: `token_prefix` (start) and `token_suffix` (class name, full stop, end, padding). The official code
//! ignores those when it loads the file; they tell whether model and class names are those of the training. Where the
//! class name stands is not in the file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::backbone::{BackboneError, TextTower};
use crate::checkpoint::{self, Precision, TorchArchive, TorchWriter};
use crate::files::replace_with;
use crate::method::text::cocoop::META_NET;
use crate::method::text::coop::{CONTEXT, Placeholder};
use crate::parameters::{ParameterError, Parameters};
use crate::pickle::Item;

/// Folder of the prompt learner's checkpoints in a run's folder.
const FOLDER: &str = "prompt_learner";
/// Folders of methods whose prompts reach into the towers. They are looked into to say what is there.
const OTHER_FOLDERS: [&str; 2] = ["MultiModalPromptLearner", "VLPromptLearner"];
/// Text file that names the newest checkpoint of its folder.
const NEWEST: &str = "checkpoint";
/// Most bytes of that file.
const LONGEST_NAME: u64 = 4096;

const TOKEN_PREFIX: &str = "token_prefix";
const TOKEN_SUFFIX: &str = "token_suffix";
const ADVICE: &str =
    "pass the prompt_learner/model.pth.tar-N of a CoOp or CoCoOp run, or its folder";

/// Methods that the state dict tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DasslFamily {
    /// A context alone: CoOp, and KgCoOp and ProGrad, which learn the same parameter under another loss.
    CoOp,
    /// A context and a network that shifts it for each image.
    CoCoOp,
}

/// A prompt that Dassl saved.
#[derive(Clone, Debug)]
pub struct DasslCheckpoint {
    /// What kind of prompt it is.
    pub family: DasslFamily,
    /// The learned tensors, f32: `ctx` `[M, d]` or, class-specific, `[K, M, d]`; for CoCoOp also
    /// `meta_net.linear1.weight` `[h, D]`, `meta_net.linear1.bias` `[h]`, `meta_net.linear2.weight` `[d, h]` and
    /// `meta_net.linear2.bias` `[d]`.
    pub parameters: Parameters,
    /// Context vectors of a prompt, M.
    pub context_length: usize,
    /// Whether each class has a context of its own.
    pub class_specific: bool,
    /// Width of the text tower that it was learned with, d.
    pub width: usize,
    /// Number of classes that it was learned with, K, if the file says so.
    pub classes: Option<usize>,
    /// Epochs that were trained, if the file says so.
    pub epoch: Option<usize>,
    /// The embedding of the start token in front of each class, `[K, 1, d]` row-major, if the file has it.
    pub token_prefix: Option<Vec<f32>>,
    /// The embeddings behind each class's context, `[K, T − 1 − M, d]` row-major, if the file has them.
    pub token_suffix: Option<Vec<f32>>,
}

/// Why a prompt cannot be read or written in Dassl's format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DasslError {
    /// The parameters cannot be read.
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    /// The file or folder cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A PyTorch file that is damaged or of a kind that cannot be read, a tensor that is not finite.
    #[error(transparent)]
    Checkpoint(checkpoint::Error),
    /// A healthy file or folder of another kind.
    #[error("{} is {what}, not a prompt that Dassl saved: {advice}", path.display())]
    NotAPrompt {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// A prompt of a method that changes the towers.
    #[error(
        "{} holds a prompt of {method}, which is not supported yet; prompts of CoOp, CoCoOp, KgCoOp and ProGrad are",
        path.display()
    )]
    UnsupportedMethod {
        /// The file.
        path: PathBuf,
        /// The method.
        method: &'static str,
    },
    /// Learned tensors that are no prompt of CoOp or CoCoOp.
    #[error("{}: {problem}; {ADVICE}", path.display())]
    WrongTensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        problem: String,
    },
    /// A prompt that the official code could not load.
    #[error("the prompt cannot be written for Dassl: {problem}")]
    NotExportable {
        /// What is wrong with it.
        problem: String,
    },
    /// A class prompt does not fit the text tower.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
}

impl From<checkpoint::Error> for DasslError {
    fn from(error: checkpoint::Error) -> Self {
        match error {
            checkpoint::Error::NotACheckpoint { path, what, .. } => Self::NotAPrompt {
                path,
                what,
                advice: ADVICE,
            },
            other => Self::Checkpoint(other),
        }
    }
}

impl DasslCheckpoint {
    /// Reads a file, or the newest one of a run's folder or of `prompt_learner/` in it.
    ///
    /// Both containers of PyTorch and every floating-point precision are read; the states of optimizer and scheduler
    /// are skipped, and nothing in the file is executed.
    ///
    /// # Errors
    /// See [`DasslError`]: another kind of file, tensors that contradict each other, NaN.
    pub fn open(path: &Path, device: &Device) -> Result<Self, DasslError> {
        let path = &newest(path)?;
        let archive = TorchArchive::open(path)?;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in archive.tensors()? {
            // What DataParallel puts in front.
            let plain = name.trim_start_matches("module.").to_owned();
            if tensors.insert(plain, tensor).is_some() {
                return Err(DasslError::WrongTensors {
                    path: path.clone(),
                    problem: format!("it has the tensor {name} both with and without \"module.\""),
                });
            }
        }
        if let Some(method) = unsupported_method(tensors.keys().map(String::as_str)) {
            return Err(DasslError::UnsupportedMethod {
                path: path.clone(),
                method,
            });
        }
        let shapes = tensors
            .iter()
            .map(|(name, tensor)| (&**name, tensor.shape()))
            .collect();
        let dimensions = inspect(&shapes).map_err(|problem| DasslError::WrongTensors {
            path: path.clone(),
            problem,
        })?;
        let mut parameters = Parameters::default();
        for (name, tensor) in &tensors {
            if !matches!(&**name, TOKEN_PREFIX | TOKEN_SUFFIX) {
                parameters.insert_data(name, tensor.shape(), tensor.read()?, device);
            }
        }
        let frozen = |name: &str| {
            let tensor = tensors.get(name);
            tensor.map(|tensor| tensor.read()).transpose()
        };
        let pickle = archive.pickle();
        let epoch = pickle
            .get(pickle.root(), "epoch")
            .and_then(|epoch| usize::try_from(pickle.int(epoch)?).ok());
        Ok(Self {
            family: dimensions.family,
            parameters,
            context_length: dimensions.context_length,
            class_specific: dimensions.class_specific,
            width: dimensions.width,
            classes: dimensions.classes,
            epoch,
            token_prefix: frozen(TOKEN_PREFIX)?,
            token_suffix: frozen(TOKEN_SUFFIX)?,
        })
    }
}

/// A prompt to be written for the official code.
#[derive(Clone, Copy, Debug)]
pub struct DasslExport<'a> {
    /// The learned tensors under the official names, as [`DasslCheckpoint::parameters`].
    pub parameters: &'a Parameters,
    /// The text tower that they were learned with.
    pub text: &'a TextTower,
    /// The prompts of the K classes.
    pub placeholders: &'a [Placeholder],
    /// Epochs that were trained; the official code asks for a prompt by this number (`--load-epoch`).
    pub epoch: usize,
    /// Precision of all tensors. The official code takes both.
    pub precision: Precision,
}

impl DasslExport<'_> {
    /// Writes `prompt_learner/model.pth.tar-N` and `prompt_learner/checkpoint` in `folder`, which the official code
    /// takes as `--model-dir`; returns the path of the former. What was there under these names is replaced.
    ///
    /// `torch.load` reads the file with `weights_only=True` too: optimizer and scheduler are `None`. The official code
    /// has to be told where the class name stands, as in training (`TRAINER.COOP.CLASS_TOKEN_POSITION`).
    ///
    /// # Errors
    /// Tensors that the official code does not have or whose shapes contradict the classes; a value that is not finite;
    /// a folder that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, DasslError> {
        let not_exportable = |problem| DasslError::NotExportable { problem };
        let length = self.text.config().context_length;
        let width = self.text.config().width;
        let classes = self.placeholders.len();
        // Shapes before the suffix is known: it depends on the number of context vectors.
        let mut shapes: BTreeMap<&str, &[usize]> = self
            .parameters
            .names()
            .filter_map(|name| Some((name, self.parameters.shape(name)?)))
            .collect();
        let prefix_shape = [classes, 1, width];
        shapes.insert(TOKEN_PREFIX, &prefix_shape);
        let Dimensions { context_length, .. } = inspect(&shapes).map_err(not_exportable)?;

        let mut first = Vec::new();
        let mut rest = Vec::new();
        for Placeholder { ids, .. } in self.placeholders {
            self.text.check_length(ids.len())?;
            self.text.check_tokens(ids.iter().copied())?;
            if ids.len() < 1 + context_length {
                return Err(not_exportable(format!(
                    "a class prompt has {} tokens, too few for {context_length} context vectors",
                    ids.len()
                )));
            }
            first.extend(&ids[..1]);
            rest.extend(&ids[1 + context_length..]);
            rest.extend(std::iter::repeat_n(0, length - ids.len()));
        }
        let suffix_shape = [classes, length - 1 - context_length, width];

        let mut file = TorchWriter::new(self.precision);
        let mut state = Vec::new();
        let mut put = |name: &str, shape: &[usize], values: Vec<f32>| {
            state.push((name.to_owned(), file.tensor(name, shape, values)));
        };
        // In PyTorch's order: own parameters, own buffers, those of the modules below.
        if let Some(shape) = self.parameters.shape(CONTEXT) {
            put(CONTEXT, shape, self.parameters.data(CONTEXT)?);
        }
        put(TOKEN_PREFIX, &prefix_shape, self.embeddings(&first));
        put(TOKEN_SUFFIX, &suffix_shape, self.embeddings(&rest));
        for name in META_NET {
            if let Some(shape) = self.parameters.shape(name) {
                put(name, shape, self.parameters.data(name)?);
            }
        }
        let contents = Item::Dict(vec![
            ("state_dict".into(), Item::OrderedDict(state)),
            ("epoch".into(), Item::count(self.epoch)),
            ("optimizer".into(), Item::None),
            ("scheduler".into(), Item::None),
            ("val_result".into(), Item::None),
        ]);

        let folder = folder.join(FOLDER);
        fs::create_dir_all(&folder).map_err(io_error(&folder))?;
        let name = format!("model.pth.tar-{}", self.epoch);
        let path = folder.join(&name);
        file.write(&path, &contents)?;
        // Last, so that it never names a file that is not there.
        let newest = folder.join(NEWEST);
        replace_with(&newest, format!("{name}\n").as_bytes()).map_err(io_error(&newest))?;
        Ok(path)
    }

    /// Rows of the token embedding, row-major.
    fn embeddings(&self, ids: &[u32]) -> Vec<f32> {
        self.text.embed(ids).into_data().iter().collect()
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DasslError {
    let path = path.to_owned();
    move |source| DasslError::Io { path, source }
}

/// The file itself, or the one that the text file of a folder names.
fn newest(path: &Path) -> Result<PathBuf, DasslError> {
    if !path.metadata().map_err(io_error(path))?.is_dir() {
        return Ok(path.to_owned());
    }
    let not_a_prompt = |path: &Path, what: String| DasslError::NotAPrompt {
        path: path.to_owned(),
        what,
        advice: ADVICE,
    };
    let below = [FOLDER].into_iter().chain(OTHER_FOLDERS);
    let candidates = std::iter::once(path.to_owned()).chain(below.map(|name| path.join(name)));
    let Some(folder) = candidates
        .into_iter()
        .find(|folder| folder.join(NEWEST).is_file())
    else {
        return Err(not_a_prompt(
            path,
            format!("a folder without {FOLDER}/{NEWEST}"),
        ));
    };
    let list = folder.join(NEWEST);
    let mut text = String::new();
    File::open(&list)
        .and_then(|file| file.take(LONGEST_NAME).read_to_string(&mut text))
        .map_err(io_error(&list))?;
    let name = text.lines().next().unwrap_or_default().trim();
    // A name alone: the file lies in this folder.
    if Path::new(name).file_name().is_none_or(|file| file != name) {
        return Err(not_a_prompt(
            &list,
            format!("a text whose first line {name:?} is not the name of a file beside it"),
        ));
    }
    let file = folder.join(name);
    match file.is_file() {
        true => Ok(file),
        false => Err(not_a_prompt(
            &list,
            format!("a text that names {name:?}, which is not beside it"),
        )),
    }
}

/// A method that is known but whose prompts cannot be used, by its tensors.
fn unsupported_method<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<&'static str> {
    let has = |part: &str| names.clone().any(|name| name.split('.').any(|p| p == part));
    let starts = |start: &str| {
        let mut names = names.clone();
        names.any(|name| {
            let name = name.strip_prefix("prompt_learner.").unwrap_or(name);
            name.starts_with(start)
        })
    };
    if has("compound_prompts_text") || has("compound_prompt_projections") || starts("proj.") {
        Some("MaPLe")
    } else if has("VPT") || has("VPT_shallow") {
        Some("IVLP or PromptSRC")
    } else if has("text_feature_residuals") || has("base_text_features") {
        Some("TaskRes")
    } else {
        None
    }
}

/// What the shapes of a prompt learner's tensors tell.
struct Dimensions {
    family: DasslFamily,
    context_length: usize,
    class_specific: bool,
    width: usize,
    classes: Option<usize>,
}

/// Checks that the tensors are those of a prompt learner and agree with each other; else says what is wrong.
fn inspect(shapes: &BTreeMap<&str, &[usize]>) -> Result<Dimensions, String> {
    let known = [CONTEXT, TOKEN_PREFIX, TOKEN_SUFFIX];
    let is_known = |name: &str| known.contains(&name) || META_NET.contains(&name);
    let Some(context) = shapes.get(CONTEXT) else {
        let names: Vec<&str> = shapes.keys().copied().take(3).collect();
        return Err(format!(
            "it has no tensor {CONTEXT} (but {}, …)",
            names.join(", ")
        ));
    };
    if let Some(name) = shapes.keys().find(|name| !is_known(name)) {
        return Err(format!(
            "it has the tensor {name}, which CoOp and CoCoOp do not have"
        ));
    }
    if let Some((name, shape)) = shapes.iter().find(|(_, shape)| shape.contains(&0)) {
        return Err(format!("the tensor {name} of shape {shape:?} is empty"));
    }
    let (own_classes, context_length, width) = match **context {
        [length, width] => (None, length, width),
        [classes, length, width] => (Some(classes), length, width),
        _ => {
            return Err(format!(
                "{CONTEXT} has shape {context:?}, not [M, d] or [K, M, d]"
            ));
        }
    };

    let mut classes = own_classes;
    for name in [TOKEN_PREFIX, TOKEN_SUFFIX] {
        let Some(shape) = shapes.get(name) else {
            continue;
        };
        let [rows, _, row_width] = **shape else {
            return Err(format!("{name} has shape {shape:?}, not [K, tokens, d]"));
        };
        let expected = *classes.get_or_insert(rows);
        if (rows, row_width) != (expected, width) {
            return Err(format!(
                "{name} is for {rows} classes and width {row_width}, the other tensors for {expected} and {width}"
            ));
        }
    }

    let family = if META_NET.iter().any(|name| shapes.contains_key(name)) {
        let shape = |name: &str| {
            let shape = shapes.get(name).copied();
            shape.ok_or_else(|| format!("it has a meta_net, but without {name}"))
        };
        let [weight1, bias1, weight2, bias2] = META_NET;
        let hidden = *shape(bias1)?.first().unwrap_or(&0);
        let feature_width = *shape(weight1)?.last().unwrap_or(&0);
        for (name, expected) in [
            (weight1, &[hidden, feature_width][..]),
            (bias1, &[hidden]),
            (weight2, &[width, hidden]),
            (bias2, &[width]),
        ] {
            let found = shape(name)?;
            if found != expected {
                return Err(format!(
                    "{name} has shape {found:?}, needed is {expected:?}"
                ));
            }
        }
        if own_classes.is_some() {
            return Err(format!(
                "{CONTEXT} has shape {context:?}: CoCoOp shares one context [M, d] among the classes"
            ));
        }
        DasslFamily::CoCoOp
    } else {
        DasslFamily::CoOp
    };
    Ok(Dimensions {
        family,
        context_length,
        class_specific: own_classes.is_some(),
        width,
        classes,
    })
}
