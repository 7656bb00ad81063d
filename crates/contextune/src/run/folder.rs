//! The folder itself: what is written and read, and how a kill does no harm.
//!
//! ```text
//! run.toml             all settings, resolved
//! command.txt          the command that made it, where there was one
//! prompt.safetensors   what was learned
//! metrics.jsonl        a line an epoch
//! result.json          accuracy, on the test split unless the settings say otherwise
//! report.html          what it learned, to look at
//! evaluations/         accuracy on other data, where a sweep measured it
//! resume/              the training state, while the run is unfinished
//! ```
//!
//! Every file is written beside its place and renamed into it: a kill leaves the old or the new state.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files::{bytes_of, finite_values, replace_with};
use crate::parameters::{ParameterError, Parameters, elements_of};
use crate::train::{OptimizerState, TrainingState};

const SETTINGS: &str = "run.toml";
const PROMPT: &str = "prompt.safetensors";
const METRICS: &str = "metrics.jsonl";
const RESULT: &str = "result.json";
const REPORT: &str = "report.html";
const COMMAND: &str = "command.txt";
const RESUME: &str = "resume";
const EVALUATIONS: &str = "evaluations";
const STATE: &str = "state.safetensors";

/// A folder that holds one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

/// What goes wrong with run folders.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The folder is there already.
    #[error("{} exists already: choose another folder, or replace this one", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Not a run folder.
    #[error("{} is not a run folder: it has no {SETTINGS}", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// Nothing is learned yet.
    #[error("{} has no prompt yet: it was not learned to the end, and can be resumed", path.display())]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// The prompt was imported without class names.
    #[error(
        "{} has no class names, because it was imported without: import it again with them, or measure it on the classes of a data set",
        path.display()
    )]
    NoClasses {
        /// The folder.
        path: PathBuf,
    },
    /// The model is not the one that the prompt was learned with.
    #[error(
        "the prompt in {} was learned with another model: its fingerprint is {learned_with:.12}…, that of {} is {found:.12}…",
        path.display(), model.as_deref().unwrap_or("the embedded model")
    )]
    OtherModel {
        /// The folder.
        path: PathBuf,
        /// Fingerprint in the prompt.
        learned_with: String,
        /// The model of the settings.
        model: Option<String>,
        /// Its fingerprint.
        found: String,
    },
    /// A file of the run cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of the run does not hold what it should.
    #[error("{} is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl RunFolder {
    /// Makes the folder with its settings in it; a kill leaves the old folder, the new one, or none. A folder that is there
    /// already is replaced only if `force`.
    pub fn create(path: &Path, settings: &impl Serialize, force: bool) -> Result<Self, RunError> {
        if path.exists() {
            if !force {
                return Err(RunError::Exists { path: path.into() });
            }
            if !path.join(SETTINGS).is_file() && !is_empty_folder(path) {
                return Err(RunError::NotARun { path: path.into() });
            }
        }
        let beside = |what: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{}.{what}", std::process::id()));
            PathBuf::from(name)
        };
        let (new, old) = (beside("new"), beside("old"));
        fs::create_dir_all(&new).map_err(at(&new))?;
        Self { path: new.clone() }.write_settings(settings)?;
        if path.exists() {
            fs::rename(path, &old).map_err(at(path))?;
        }
        fs::rename(&new, path).map_err(at(path))?;
        if old.exists() {
            fs::remove_dir_all(&old).map_err(at(&old))?;
        }
        Ok(Self { path: path.into() })
    }

    /// A run that is there.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        match path.join(SETTINGS).is_file() {
            true => Ok(Self { path: path.into() }),
            false => Err(RunError::NotARun { path: path.into() }),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the learned prompt is or will be.
    pub fn prompt_file(&self) -> PathBuf {
        self.path.join(PROMPT)
    }

    /// Size of the prompt file; `None` while there is none.
    pub fn prompt_bytes(&self) -> Option<u64> {
        let file = fs::metadata(self.prompt_file()).ok()?;
        Some(file.len())
    }

    fn write_settings(&self, settings: &impl Serialize) -> Result<(), RunError> {
        let path = self.path.join(SETTINGS);
        let text = toml::to_string(settings).map_err(|error| RunError::Damaged {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        replace_with(&path, text.as_bytes()).map_err(at(&path))
    }

    /// The settings the run was made with.
    pub fn settings<S: DeserializeOwned>(&self) -> Result<S, RunError> {
        let text = self.settings_text()?;
        toml::from_str(&text).map_err(|error| RunError::Damaged {
            path: self.path.join(SETTINGS),
            problem: error.to_string(),
        })
    }

    /// The settings as they stand there.
    pub fn settings_text(&self) -> Result<String, RunError> {
        let path = self.path.join(SETTINGS);
        fs::read_to_string(&path).map_err(at(&path))
    }

    /// Keeps the command that made the run.
    pub fn write_command(&self, command: &str) -> Result<(), RunError> {
        let path = self.path.join(COMMAND);
        replace_with(&path, format!("{command}\n").as_bytes()).map_err(at(&path))
    }

    /// The command that made the run, if it was kept.
    pub fn command(&self) -> Option<String> {
        let text = fs::read_to_string(self.path.join(COMMAND)).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// Where the page that shows the run is or will be.
    pub fn report_file(&self) -> PathBuf {
        self.path.join(REPORT)
    }

    /// Writes the page that shows the run.
    pub fn write_report(&self, page: &str) -> Result<PathBuf, RunError> {
        let path = self.report_file();
        replace_with(&path, page.as_bytes()).map_err(at(&path))?;
        Ok(path)
    }

    /// Writes the metrics of all epochs so far.
    pub fn write_metrics(&self, metrics: &[impl Serialize]) -> Result<(), RunError> {
        let path = self.path.join(METRICS);
        let mut text = String::new();
        for epoch in metrics {
            text.push_str(&json(epoch, &path)?);
            text.push('\n');
        }
        replace_with(&path, text.as_bytes()).map_err(at(&path))
    }

    /// The metrics of all epochs so far, oldest first; none if nothing was written.
    pub fn metrics<M: DeserializeOwned>(&self) -> Result<Vec<M>, RunError> {
        let path = self.path.join(METRICS);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        text.lines()
            .map(|line| serde_json::from_str(line).map_err(damaged(&path)))
            .collect()
    }

    /// Writes the outcome and forgets the training state: the run is finished.
    pub fn finish(&self, result: &impl Serialize) -> Result<(), RunError> {
        let path = self.path.join(RESULT);
        let text = json(result, &path)?;
        replace_with(&path, text.as_bytes()).map_err(at(&path))?;
        let resume = self.path.join(RESUME);
        match resume.exists() {
            true => fs::remove_dir_all(&resume).map_err(at(&resume)),
            false => Ok(()),
        }
    }

    /// The outcome, if the run is finished.
    pub fn result<R: DeserializeOwned>(&self) -> Result<Option<R>, RunError> {
        let path = self.path.join(RESULT);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(damaged(&path))
    }

    /// Keeps what the finished run came to on other data than its own, under a name.
    pub fn write_evaluation(
        &self,
        name: &str,
        evaluation: &impl Serialize,
    ) -> Result<(), RunError> {
        let folder = self.path.join(EVALUATIONS);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let path = folder.join(name).with_extension("json");
        let text = json(evaluation, &path)?;
        replace_with(&path, text.as_bytes()).map_err(at(&path))
    }

    /// What was kept under this name.
    pub fn evaluation<E: DeserializeOwned>(&self, name: &str) -> Result<Option<E>, RunError> {
        let path = self
            .path
            .join(EVALUATIONS)
            .join(name)
            .with_extension("json");
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        serde_json::from_str(&text)
            .map(Some)
            .map_err(damaged(&path))
    }

    /// Writes the training state after a whole epoch.
    pub fn save_state(&self, state: &TrainingState) -> Result<(), RunError> {
        let folder = self.path.join(RESUME);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let path = folder.join(STATE);
        let bytes = state_to_bytes(state).map_err(damaged(&path))?;
        replace_with(&path, &bytes).map_err(at(&path))
    }

    /// What is wrong with the settings.
    pub(super) fn damaged_settings(&self, problem: impl ToString) -> RunError {
        RunError::Damaged {
            path: self.path.join(SETTINGS),
            problem: problem.to_string(),
        }
    }

    /// What is wrong with the training state.
    pub(super) fn damaged_state(&self, problem: impl ToString) -> RunError {
        RunError::Damaged {
            path: self.path.join(RESUME).join(STATE),
            problem: problem.to_string(),
        }
    }

    /// The training state to go on from, if the run is unfinished and has one.
    pub fn state(&self, device: &Device) -> Result<Option<TrainingState>, RunError> {
        let path = self.path.join(RESUME).join(STATE);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fs::read(&path).map_err(at(&path))?;
        state_from_bytes(&bytes, device)
            .map(Some)
            .map_err(|problem| RunError::Damaged { path, problem })
    }
}

fn state_to_bytes(state: &TrainingState) -> Result<Vec<u8>, StateError> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut add = |name: String, shape: &[usize], values: Vec<f32>| {
        let bytes = bytes_of(&values, f32::to_le_bytes);
        tensors.push((name, shape.to_vec(), bytes));
    };
    for name in state.parameters.names() {
        let shape = state.parameters.require_any(name)?;
        let group = match state.parameters.is_constant(name) {
            true => "constants",
            false => "parameters",
        };
        add(
            format!("{group}/{name}"),
            shape,
            state.parameters.data(name)?,
        );
    }
    for (group, moments) in [
        ("first", &state.optimizer.first),
        ("second", &state.optimizer.second),
    ] {
        for (name, moment) in moments {
            let name = format!("{group}/{name}");
            let values = elements_of(&name, moment.clone())?;
            add(name, &[values.len()], values);
        }
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let counters = [
        ("epochs_done", state.epochs_done),
        ("steps", state.optimizer.steps),
    ];
    let counters = counters
        .map(|(name, count)| (name.to_owned(), count.to_string()))
        .into();
    Ok(safetensors::serialize(views, Some(counters))?)
}

/// Why a training state cannot be written.
#[derive(Debug, thiserror::Error)]
enum StateError {
    #[error(transparent)]
    Parameters(#[from] ParameterError),
    #[error(transparent)]
    File(#[from] safetensors::SafeTensorError),
}

fn state_from_bytes(bytes: &[u8], device: &Device) -> Result<TrainingState, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let counter = |name: &str| -> Result<usize, String> {
        header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(name))
            .and_then(|count| count.parse().ok())
            .ok_or_else(|| format!("it does not say {name}"))
    };
    let (epochs_done, steps) = (counter("epochs_done")?, counter("steps")?);
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut parameters = Parameters::default();
    let mut moments = Parameters::default();
    for (name, view) in file.iter() {
        let values = finite_values(name, &view)?;
        match name.split_once('/') {
            Some(("parameters", name)) => {
                parameters.insert_data(name, view.shape(), values, device);
            }
            Some(("constants", name)) => {
                parameters.insert_data(name, view.shape(), values, device);
                parameters.hold_constant(name);
            }
            Some(("first" | "second", _)) => {
                moments.insert_data(name, &[values.len()], values, device);
            }
            _ => return Err(format!("the tensor {name} does not belong here")),
        }
    }
    let moments_of = |group: &str| -> Result<BTreeMap<String, Tensor<1>>, String> {
        let names = moments
            .names()
            .filter_map(|name| Some((name, name.strip_prefix(group)?)));
        names
            .map(|(name, parameter)| {
                let moment = moments.get::<1>(name).map_err(|error| error.to_string())?;
                Ok((parameter.to_owned(), moment))
            })
            .collect()
    };
    let optimizer = OptimizerState {
        steps,
        first: moments_of("first/")?,
        second: moments_of("second/")?,
    };
    Ok(TrainingState {
        epochs_done,
        parameters,
        optimizer,
    })
}

fn json(value: &impl Serialize, path: &Path) -> Result<String, RunError> {
    serde_json::to_string(value).map_err(damaged(path))
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RunError + use<> {
    let path = path.to_owned();
    |source| RunError::Io { path, source }
}

fn damaged<E: ToString>(path: &Path) -> impl FnOnce(E) -> RunError + use<E> {
    let path = path.to_owned();
    move |error| RunError::Damaged {
        path,
        problem: error.to_string(),
    }
}
