//! What there is to show of a finished run.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::context::{LearnedContext, learned_context};
use crate::grounds::Grounds;
use crate::map::Map;
use crate::{ReportError, pictures};
use contextune::data::{Dataset, Input, Split, distinct_names};
use contextune::evaluate::Accuracy;
use contextune::image::DecodeOptions;
use contextune::input::{EncodingWatcher, Examples, InputKind, Views};
use contextune::method::MethodError;
use contextune::method::text::zeroshot;
use contextune::model::Model;
use contextune::run::{self, AnyMeasured, Learned, RunResult, Settings};
use contextune::task::{Classify, Measured, Predictor, Task as _, TaskDataset};
use contextune::text::{TEMPLATE, TemplateSet};
use contextune::train::EpochMetrics;

/// Pictures of a class that are shown: the surest of those classified wrongly and of those classified rightly.
const WRONG: usize = 4;
const RIGHT: usize = 2;
/// Pictures in a page, at most: those of the classes with the lowest accuracy.
const PICTURES: usize = 240;
/// Pictures on the map, at most.
const ON_MAP: usize = 600;
/// Words shown for a context vector.
const WORDS: usize = 5;
/// Words tell what a model knows without learning: the template of the data set, and these averaged.
const ENSEMBLE: &str = "openai-7";

/// Everything that the page of a run shows.
#[derive(Debug)]
pub struct RunReport {
    /// Its folder.
    pub folder: PathBuf,
    /// The command that made it, if it is known.
    pub command: Option<String>,
    /// Its settings.
    pub settings: Settings,
    /// The settings as they stand in the folder.
    pub settings_text: String,
    /// What it came to.
    pub result: RunResult,
    /// Of every epoch.
    pub metrics: Vec<EpochMetrics>,
    /// What hand-written words come to on the same pictures.
    pub baselines: Vec<Baseline>,
    /// Every class with measured pictures, the one with the lowest accuracy first.
    pub classes: Vec<ClassReport>,
    /// Names of all classes, no two alike.
    pub class_names: Vec<String>,
    /// How often pictures of one class were taken for another, or rightly for their own.
    pub taken_for: BTreeMap<(usize, usize), usize>,
    /// What the context vectors are near to, for methods that have some.
    pub context: Option<LearnedContext>,
    /// Pictures and classes in two dimensions, for methods that compare both.
    pub map: Option<Map>,
    /// What a prompt of pixels looks like, a `data:` address.
    pub prompt_picture: Option<String>,
}

/// Words, and what they come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// The words.
    pub name: String,
    /// Share of right answers.
    pub accuracy: f32,
}

/// A class on the measured pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassReport {
    /// Its label.
    pub label: usize,
    /// Its name, unlike all others.
    pub name: String,
    /// Right answers.
    pub correct: usize,
    /// Pictures, at least one.
    pub examples: usize,
    /// Right answers of the first of the [baselines](RunReport::baselines).
    pub baseline_correct: Option<usize>,
    /// Some of its pictures: wrong ones first, the surest first.
    pub shown: Vec<Example>,
}

/// A picture, and what it was taken for.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Its path below the data set, or its row.
    pub name: String,
    /// The picture, small, as a `data:` address; absent where there are only features.
    pub thumbnail: Option<String>,
    /// The most probable classes with their probabilities.
    pub guesses: Vec<(usize, f32)>,
}

impl ClassReport {
    /// Share of right answers.
    pub fn share(&self) -> f64 {
        self.share_of(self.correct)
    }

    /// The share that so many of its pictures are.
    pub fn share_of(&self, pictures: usize) -> f64 {
        pictures as f64 / self.examples as f64
    }
}

impl RunReport {
    /// Measures and collects a run that classifies.
    ///
    /// # Errors
    /// A run that is not finished, and whatever cannot be read.
    pub fn gather(
        grounds: &Grounds<'_>,
        watcher: &dyn EncodingWatcher,
    ) -> Result<Self, ReportError> {
        let Grounds {
            folder,
            model,
            cache,
            ..
        } = *grounds;
        let learned = Learned::open(folder.path(), model.device())?;
        let whole: &dyn Any = grounds.dataset;
        let Some(whole) = whole.downcast_ref::<Dataset>() else {
            let task = learned.method().task();
            return Err(ReportError::NoPage { task });
        };
        let Some(result) = folder.result::<RunResult>()? else {
            let path = folder.path().to_owned();
            return Err(ReportError::Unfinished { path });
        };
        let settings = &learned.settings;
        let split = result.split;
        let dataset = match split {
            Split::Test => whole.subset(settings.subset),
            Split::Train | Split::Val => {
                Classify::sample(whole, &settings.sampling(), &mut |text| {
                    watcher.remark(text)
                })?
            }
        };
        let class_names = distinct_names(&dataset.class_names);
        let classes = class_names.len();

        let examples = dataset.split(split);
        let predictor = learned.predictor::<Classify>(model, &dataset.class_names)?;
        let again;
        let known = grounds.measured.and_then(AnyMeasured::of::<Classify>);
        let measured = match (known, result.accuracy) {
            (Some(measured), _) => measured,
            (None, None) => {
                again = Measured {
                    examples: Vec::new(),
                    targets: Vec::new(),
                    guesses: Vec::new(),
                };
                &again
            }
            (None, Some(then)) => {
                let encoder = run::encoder(settings, model, cache.map(Path::to_owned))?;
                again = Measured::new(&predictor, &dataset, split, &encoder, watcher)?;
                let now = again.accuracy(classes).share();
                if now != then {
                    watcher.remark(format!(
                        "the pictures of {} have changed since the run was measured: {:.1} % of them are right now, {:.1} % were then",
                        dataset.root.display(), 100.0 * now, 100.0 * then
                    ));
                }
                &again
            }
        };
        let Measured {
            targets: labels,
            guesses,
            ..
        } = measured;

        let needs = settings.method.needs(model.config());
        let image_features = match needs.input {
            _ if measured.examples.is_empty() => None,
            InputKind::Pixels { .. } if model.config().text.is_none() => None,
            _ => {
                let encoder = run::feature_encoder(settings, model, cache.map(Path::to_owned))?;
                let inputs: Vec<&Input> = examples.iter().map(|example| &example.input).collect();
                let (kept, inputs) =
                    encoder.inputs(dataset.place(), &inputs, Views::Whole, watcher)?;
                let labels = kept
                    .iter()
                    .map(|&example| examples[example].label)
                    .collect();
                Some(Examples::new(inputs, labels))
            }
        };
        // Methods that need no words learn from class names that no text tower takes.
        let words = image_features.as_ref().and_then(|features| {
            Words::of(model, &dataset, features).unwrap_or_else(|error| {
                watcher.remark(format!("the page does not say what words come to: {error}"));
                None
            })
        });

        let mut taken_for = BTreeMap::new();
        for (guesses, &label) in guesses.iter().zip(labels) {
            *taken_for.entry((label, guesses[0].0)).or_default() += 1;
        }
        let decoding = DecodeOptions {
            honour_exif: settings.exif,
            ..DecodeOptions::default()
        };
        let shown = Shown {
            dataset: &dataset,
            examples: measured
                .examples
                .iter()
                .map(|&index| &examples[index].input)
                .collect(),
            guesses,
            labels,
            decoding: &decoding,
        };
        let map = match (&words, &image_features) {
            (Some(words), Some(features)) => words.map(&predictor, features, model)?,
            _ => None,
        };
        let prompt_picture = predictor.prompt().picture(predictor.parameters())?;
        Ok(Self {
            folder: folder.path().to_owned(),
            command: folder.command(),
            settings_text: folder.settings_text()?,
            metrics: folder.metrics()?,
            baselines: words
                .iter()
                .flat_map(|words| words.baselines.clone())
                .collect(),
            classes: shown.classes(&class_names, words.as_ref().map(|words| &words.accuracy)),
            taken_for,
            context: learned_context(&learned, model, WORDS)?,
            map,
            prompt_picture: prompt_picture.map(pictures::of_tensor).transpose()?,
            class_names,
            settings: learned.settings,
            result,
        })
    }
}

/// What hand-written words come to.
struct Words {
    baselines: Vec<Baseline>,
    /// Of the first baseline.
    accuracy: Accuracy,
    /// What classifies by it.
    predictor: Predictor<Classify>,
}

impl Words {
    /// `None` for a model without words.
    fn of(
        model: &Model,
        dataset: &Dataset,
        features: &Examples<usize>,
    ) -> Result<Option<Self>, ReportError> {
        if model.config().text.is_none() {
            return Ok(None);
        }
        let template = dataset.published_template().unwrap_or(TEMPLATE);
        let measured = |templates: String| -> Result<_, ReportError> {
            let predictor = zeroshot::predictor(model, &dataset.class_names, &templates)?;
            let accuracy = predictor.accuracy(features)?;
            Ok((predictor, accuracy))
        };
        let (predictor, accuracy) = measured(template.to_owned())?;
        let ensemble = TemplateSet::from_argument(ENSEMBLE).map_err(MethodError::from)?;
        let (_, together) = measured(ensemble.lines())?;
        let baselines = vec![
            Baseline {
                name: format!("zero-shot, “{template}”"),
                accuracy: accuracy.share(),
            },
            Baseline {
                name: format!(
                    "zero-shot, {} templates together",
                    ensemble.templates().len()
                ),
                accuracy: together.share(),
            },
        ];
        Ok(Some(Self {
            baselines,
            accuracy,
            predictor,
        }))
    }

    /// Where pictures, words and learned classes lie, if the learned classes have features.
    fn map(
        &self,
        learned: &Predictor<Classify>,
        features: &Examples<usize>,
        model: &Model,
    ) -> Result<Option<Map>, ReportError> {
        let classes_of = |predictor: &Predictor<Classify>| {
            predictor.prompt().class_features(predictor.parameters())
        };
        let (Some(words), Some(learned)) = (classes_of(&self.predictor)?, classes_of(learned)?)
        else {
            return Ok(None);
        };
        let every = features.count().div_ceil(ON_MAP).max(1);
        let which: Vec<(usize, usize)> = (0..features.count())
            .step_by(every)
            .map(|picture| (picture, 0))
            .collect();
        if which.len() < 2 {
            return Ok(None);
        }
        let labels: Vec<usize> = which
            .iter()
            .map(|&(picture, _)| features.targets[picture])
            .collect();
        let images = features.inputs.select(&which, model.device())?.features()?;
        Ok(Some(Map::new(
            images,
            &labels,
            words.features(),
            learned.features().inner(),
        )?))
    }
}

/// Pictures to choose from.
struct Shown<'a> {
    dataset: &'a Dataset,
    /// What was measured, N inputs.
    examples: Vec<&'a Input>,
    guesses: &'a [Vec<(usize, f32)>],
    labels: &'a [usize],
    decoding: &'a DecodeOptions,
}

impl Shown<'_> {
    /// Every class that has pictures, with some of them.
    fn classes(&self, names: &[String], words: Option<&Accuracy>) -> Vec<ClassReport> {
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (example, &label) in self.labels.iter().enumerate() {
            members.entry(label).or_default().push(example);
        }
        let is_right = |&&example: &&usize| self.guesses[example][0].0 == self.labels[example];
        let mut classes: Vec<(ClassReport, Vec<usize>)> = members
            .into_iter()
            .map(|(label, members)| {
                let report = ClassReport {
                    label,
                    name: names[label].clone(),
                    correct: members.iter().filter(is_right).count(),
                    examples: members.len(),
                    baseline_correct: words.map(|words| words.per_class[label].0),
                    shown: Vec::new(),
                };
                (report, members)
            })
            .collect();
        classes.sort_by(|(a, _), (b, _)| a.share().total_cmp(&b.share()));
        let mut left = PICTURES;
        for (class, members) in &mut classes {
            let surest = |right: bool, count: usize| {
                let mut some: Vec<usize> = members
                    .iter()
                    .filter(|example| is_right(example) == right)
                    .copied()
                    .collect();
                some.sort_by(|&a, &b| self.guesses[b][0].1.total_cmp(&self.guesses[a][0].1));
                some.truncate(count);
                some
            };
            let chosen = [surest(false, WRONG), surest(true, RIGHT)].concat();
            class.shown = chosen
                .into_iter()
                .take(left)
                .map(|example| self.example(example))
                .collect();
            left -= class.shown.len();
        }
        classes.into_iter().map(|(class, _)| class).collect()
    }

    fn example(&self, example: usize) -> Example {
        let input = self.examples[example];
        Example {
            name: self.dataset.input_name(input),
            thumbnail: match input {
                // It could be read a moment ago; a page without it is better than none.
                Input::Picture(path) => pictures::thumbnail(path, self.decoding).ok(),
                _ => None,
            },
            guesses: self.guesses[example].clone(),
        }
    }
}
