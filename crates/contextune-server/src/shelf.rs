//! What can answer: learned prompts and the words of their models, by name.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use burn::tensor::Device;
use contextune::backbone::Activation;
use contextune::method::RecipeName;
use contextune::method::text::zeroshot::ZeroShotSettings;
use contextune::model::{Model, ModelError, ModelOptions, is_missing};
use contextune::run::{LearnError, Learned, RunError, RunFolder, RunResult, Settings};
use contextune::task::Classify;
use contextune::text::TEMPLATE;

/// What the words of the first model go by; those of another add its name.
const ZERO_SHOT: &str = "zero-shot";

/// A frozen model that several entries may share.
#[derive(Debug)]
pub(crate) struct Backbone {
    /// Its place among the models.
    pub number: usize,
    /// As the user names it; absent: the embedded one.
    pub source: Option<String>,
    pub activation: Option<Activation>,
    /// Name of the entry that answers with its words; absent: it knows no words.
    pub zero_shot: Option<String>,
    pub model: Model,
}

/// A learned prompt in its folder.
#[derive(Debug)]
pub(crate) struct LearnedEntry {
    pub folder: RunFolder,
    pub learned: Learned,
    /// Absent where nothing was measured.
    pub result: Option<RunResult>,
    /// Whether it was taught through this server.
    pub taught: bool,
}

/// Something that answers.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Unique on the shelf.
    pub name: String,
    pub backbone: Arc<Backbone>,
    /// Absent: the model's own words.
    pub learned: Option<LearnedEntry>,
    /// How its pictures are read, and what its method is given of them.
    pub settings: Settings,
}

/// Learned prompts and the words of their models, by name.
#[derive(Debug)]
pub struct Shelf {
    entries: RwLock<Vec<Arc<Entry>>>,
    /// Where the models of runs may lie that are not where they were.
    moved: Option<String>,
    backbones: Vec<Arc<Backbone>>,
    device: Device,
}

/// Why something cannot be added to the shelf.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShelfError {
    /// The name is taken.
    #[error("two models would be called {name}: give one of them another name, as in other={}", run.display())]
    SameName {
        /// The name.
        name: String,
        /// The second run.
        run: PathBuf,
    },
    /// The run's path ends in no name, as the root folder's.
    #[error("{} has no name of its own: give it one, as in photos={}", run.display(), run.display())]
    NoName {
        /// The run.
        run: PathBuf,
    },
    /// The run cannot be used.
    #[error(transparent)]
    Learned(#[from] LearnError),
    /// The model cannot be opened.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl From<RunError> for ShelfError {
    fn from(error: RunError) -> Self {
        Self::Learned(error.into())
    }
}

/// Opens the model of a name; without one the embedded model.
pub type OpenModel<'a> = dyn FnMut(Option<&str>, ModelOptions) -> Result<Model, ModelError> + 'a;

impl Shelf {
    /// Creates an empty shelf.
    pub fn new(device: Device) -> Self {
        Self {
            entries: RwLock::default(),
            backbones: Vec::new(),
            moved: None,
            device,
        }
    }

    /// Takes `model` for runs whose own model is no longer where they say; its fingerprint tells whether it is theirs.
    pub fn find_moved_in(&mut self, model: &str) {
        self.moved = Some(model.to_owned());
    }

    /// Adds a run behind the other runs, or if it was `taught` through this server behind everything.
    ///
    /// # Errors
    /// The run is not finished, its model cannot be opened or is not the one it was learned with, or the name is taken.
    pub fn add_run(
        &mut self,
        name: &str,
        run: &Path,
        taught: bool,
        open: &mut OpenModel<'_>,
    ) -> Result<(), ShelfError> {
        let settings: Settings = RunFolder::open(run)?.run_settings()?;
        let options = settings.model_options();
        let source = match (&settings.model, self.moved.clone()) {
            (Some(model), Some(moved)) if is_missing(model) => Some(moved),
            (model, _) => model.clone(),
        };
        let backbone = self.backbone(source.as_deref(), options, open)?;
        self.add_learned(name, run, taught, &backbone)
    }

    /// Adds a model and its zero-shot entry, unless they are there already.
    ///
    /// # Errors
    /// The model cannot be opened.
    pub fn add_model(
        &mut self,
        source: Option<&str>,
        options: ModelOptions,
        open: &mut OpenModel<'_>,
    ) -> Result<(), ShelfError> {
        self.backbone(source, options, open).map(drop)
    }

    /// Adds a run that was learned with one of the shelf's models.
    ///
    /// # Errors
    /// The run is not finished or was learned with another model, or the name is taken.
    pub(crate) fn add_learned(
        &self,
        name: &str,
        run: &Path,
        taught: bool,
        backbone: &Arc<Backbone>,
    ) -> Result<(), ShelfError> {
        let learned = Learned::open(run, &self.device)?;
        learned.check_model(&backbone.model)?;
        let class_names = learned.class_names()?;
        // What does not fit is said now, not to the first who asks.
        learned.predictor::<Classify>(&backbone.model, class_names)?;
        let folder = RunFolder::open(run)?;
        let entry = Entry {
            name: name.to_owned(),
            backbone: Arc::clone(backbone),
            settings: learned.settings.clone(),
            learned: Some(LearnedEntry {
                result: folder.result()?,
                folder,
                learned,
                taught,
            }),
        };
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.iter().any(|other| other.name == name) {
            return Err(ShelfError::SameName {
                name: name.to_owned(),
                run: run.to_owned(),
            });
        }
        // The first entry answers unless another is asked for, so a lesson must not become the first.
        let place = match taught {
            true => entries.len(),
            false => entries.partition_point(|other| {
                let run = other.learned.as_ref();
                run.is_some_and(|run| !run.taught)
            }),
        };
        entries.insert(place, Arc::new(entry));
        Ok(())
    }

    fn backbone(
        &mut self,
        source: Option<&str>,
        options: ModelOptions,
        open: &mut OpenModel<'_>,
    ) -> Result<Arc<Backbone>, ShelfError> {
        let same = |backbone: &&Arc<Backbone>| {
            backbone.source.as_deref() == source && backbone.activation == options.activation
        };
        if let Some(backbone) = self.backbones.iter().find(same) {
            return Ok(Arc::clone(backbone));
        }
        let model = open(source, options)?;
        let zero_shot = model
            .text_config()
            .is_ok()
            .then(|| self.name_of_words(source));
        let backbone = Arc::new(Backbone {
            number: self.backbones.len(),
            source: source.map(ToOwned::to_owned),
            activation: options.activation,
            zero_shot: zero_shot.clone(),
            model,
        });
        if let Some(name) = zero_shot {
            let settings = Settings {
                model: backbone.source.clone(),
                activation: backbone.activation,
                // As browsers show it.
                exif: true,
                ..Settings::new(PathBuf::new(), words(TEMPLATE), None, RecipeName::Published)
            };
            let entry = Entry {
                name,
                backbone: Arc::clone(&backbone),
                learned: None,
                settings,
            };
            self.entries
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Arc::new(entry));
        }
        self.backbones.push(Arc::clone(&backbone));
        Ok(backbone)
    }

    /// Returns a free name for the zero-shot entry of a model.
    fn name_of_words(&self, source: Option<&str>) -> String {
        let first = match (self.backbones.is_empty(), source) {
            (true, _) => ZERO_SHOT.to_owned(),
            (false, None) => format!("{ZERO_SHOT}:embedded"),
            (false, Some(source)) => format!("{ZERO_SHOT}:{source}"),
        };
        let mut name = first.clone();
        let mut number = 1;
        while self.find(Some(&name)).is_some() {
            number += 1;
            name = format!("{first}:{number}");
        }
        name
    }

    /// Returns all entries: runs, zero-shot entries, then what was taught.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.clone()
    }

    /// Returns the entry called `name`, or without a name the first.
    pub(crate) fn find(&self, name: Option<&str>) -> Option<Arc<Entry>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let found = match name {
            Some(name) => entries.iter().find(|entry| entry.name == name),
            None => entries.first(),
        };
        found.cloned()
    }

    /// Counts the learned prompts.
    pub fn learned(&self) -> usize {
        let entries = self.entries();
        entries
            .iter()
            .filter(|entry| entry.learned.is_some())
            .count()
    }
}

/// Returns the zero-shot method; `templates` has one template per line.
pub(crate) fn words(templates: &str) -> ZeroShotSettings {
    ZeroShotSettings {
        templates: templates.to_owned(),
    }
}

/// Returns the default name of a run: the last component of its path.
///
/// # Errors
/// The path ends in no name.
pub fn name_of(run: &Path) -> Result<String, ShelfError> {
    let found = run.canonicalize().ok();
    let name = found.as_deref().unwrap_or(run).file_name();
    match name {
        Some(name) => Ok(name.to_string_lossy().into_owned()),
        None => Err(ShelfError::NoName { run: run.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_goes_by_the_name_of_its_folder() {
        let name = |path: &str| name_of(Path::new(path)).unwrap();
        assert_eq!(name("runs/photos"), "photos");
        assert_eq!(name("runs/photos/"), "photos");
        assert_eq!(name("runs/photos/."), "photos");
        assert_eq!(name("photos.v2"), "photos.v2");
        // The folder itself is asked where the path does not say.
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("my run");
        std::fs::create_dir_all(run.join("below")).unwrap();
        assert_eq!(name_of(&run.join("below").join("..")).unwrap(), "my run");
        for nameless in ["/", "nowhere/.."] {
            let error = name_of(Path::new(nameless)).unwrap_err();
            assert!(matches!(error, ShelfError::NoName { .. }), "{error}");
        }
    }

    #[test]
    fn words_of_further_models_have_names_of_their_own() {
        let device = Device::flex();
        let mut shelf = Shelf::new(device.clone());
        let mut opened = 0;
        let mut open = |_: Option<&str>, options: ModelOptions| {
            opened += 1;
            Model::open(None, options, &device, |_| ())
        };
        let with = |activation| ModelOptions {
            activation,
            ..ModelOptions::default()
        };
        for (source, activation) in [
            (None, None),
            (Some("elsewhere"), None),
            (None, Some(Activation::Gelu)),
            // These are there already.
            (None, None),
            (Some("elsewhere"), None),
        ] {
            shelf
                .add_model(source, with(activation), &mut open)
                .unwrap();
        }
        shelf
            .add_model(Some("elsewhere"), with(Some(Activation::Gelu)), &mut open)
            .unwrap();
        assert_eq!(opened, 4);
        let names: Vec<String> = shelf
            .entries()
            .iter()
            .map(|entry| entry.name.clone())
            .collect();
        assert_eq!(
            names,
            [
                "zero-shot",
                "zero-shot:elsewhere",
                "zero-shot:embedded",
                "zero-shot:elsewhere:2"
            ]
        );
        assert_eq!(shelf.learned(), 0);
        assert_eq!(shelf.find(None).unwrap().name, "zero-shot");
        assert!(shelf.find(Some("nobody")).is_none());
    }
}
