//! The page of a run, and the page that compares several.

use std::collections::BTreeSet;

use askama::Template;

use crate::charts::{self, Axes, Line};
use crate::context::LearnedContext;
use crate::gather::{ClassReport, RunReport};
use contextune::evaluate::pairs_by_count;
use contextune::explain::words::NearWord;
use contextune::train::EpochMetrics;

/// Classes in a confusion matrix, at most.
const MATRIX_CLASSES: usize = 40;
/// Confused pairs in the list below it.
const PAIRS: usize = 12;
/// Context vectors in a page, at most.
const VECTORS: usize = 64;
/// Classes whose pictures are open to see when the page opens.
const OPEN: usize = 3;

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage<'a> {
    report: &'a RunReport,
    title: String,
    model: String,
    what: String,
    accuracy: String,
    pictures: usize,
    chance: String,
    bars: Vec<Bar>,
    facts: Vec<(String, &'static str)>,
    curves: Vec<(&'static str, String)>,
    classes: Vec<ClassRow>,
    matrix: Option<String>,
    matrix_classes: usize,
    matrix_cut: bool,
    confused: Vec<(String, String, usize)>,
    context: Option<ContextTable>,
    map: Option<String>,
    version: &'static str,
}

struct Bar {
    name: String,
    percent: String,
    width: String,
    own: bool,
}

impl Bar {
    fn new(name: String, share: f32, own: bool) -> Self {
        Self {
            name,
            percent: percent(share),
            width: width(share),
            own,
        }
    }
}

struct ClassRow {
    name: String,
    share: String,
    width: String,
    before: Option<String>,
    open: bool,
    pictures: Vec<PictureCard>,
}

struct PictureCard {
    name: String,
    thumbnail: Option<String>,
    right: bool,
    taken_for: String,
    guesses: Vec<Guess>,
}

struct Guess {
    name: String,
    percent: String,
    is_true: bool,
}

struct ContextTable {
    class_specific: bool,
    vectors: Vec<VectorRow>,
    left_out: Option<usize>,
}

struct VectorRow {
    class: String,
    place: usize,
    moved: String,
    by_distance: String,
    by_cosine: String,
}

/// A share as the page prints it.
fn percent(share: impl Into<f64>) -> String {
    format!("{:.1} %", 100.0 * share.into())
}

/// A share as the width of a bar.
fn width(share: impl Into<f64>) -> String {
    format!("{:.1}", 100.0 * share.into())
}

fn kilobytes(bytes: u64) -> String {
    format!("{:.1} kB", bytes as f64 / 1e3)
}

impl RunReport {
    /// The page: HTML that needs no other file and no network.
    pub fn page(&self) -> String {
        let pictures = self.classes.iter().map(|class| class.examples).sum();
        let (matrix_labels, confused) = self.confusion();
        let matrix = (matrix_labels.len() > 1).then(|| self.matrix(&matrix_labels));
        let page = RunPage {
            report: self,
            title: format!("{} on {}", self.result.method, self.data_name()),
            model: self.model_name(),
            what: self.sample(),
            accuracy: self
                .result
                .accuracy
                .map_or_else(|| "not measured".to_owned(), percent),
            bars: self.bars(),
            pictures,
            chance: percent(1.0 / self.class_names.len().max(1) as f64),
            facts: self.facts(),
            curves: curves(
                std::slice::from_ref(self),
                std::slice::from_ref(&self.result.method),
            ),
            classes: self.class_rows(),
            matrix,
            matrix_classes: matrix_labels.len(),
            matrix_cut: matrix_labels.len() < self.class_names.len(),
            confused,
            context: self.context.as_ref().map(context_table),
            map: self
                .map
                .as_ref()
                .map(|map| charts::map(map, &self.class_names)),
            version: env!("CARGO_PKG_VERSION"),
        };
        page.render()
            .expect("a page is written into a text, which always takes it")
    }

    fn model_name(&self) -> String {
        let model = self.settings.model.clone();
        model.unwrap_or_else(|| "the embedded model".into())
    }

    /// The data set's folder or file, without its path.
    fn data_name(&self) -> String {
        let data = self.settings.data.as_deref();
        let name = data.and_then(|data| data.file_stem());
        name.map_or_else(
            || "unknown data".into(),
            |name| name.to_string_lossy().into_owned(),
        )
    }

    /// What was learned from.
    fn sample(&self) -> String {
        let result = &self.result;
        let pictures = match (result.shots, result.examples) {
            (Some(1), _) => "1 picture a class".into(),
            (Some(shots), _) => format!("{shots} pictures a class"),
            (None, Some(examples)) => format!("{examples} pictures"),
            (None, None) => "all pictures".into(),
        };
        let classes = match result.subset.as_str() {
            "all" => String::new(),
            subset => format!(" · {subset} classes"),
        };
        format!(
            "{pictures}{classes} · seed {} · recipe {}",
            result.seed, result.recipe
        )
    }

    /// The run and what words come to.
    fn bars(&self) -> Vec<Bar> {
        let own = self.result.accuracy;
        let own = own.map(|share| Bar::new(self.result.method.clone(), share, true));
        let words = self.baselines.iter();
        let words = words.map(|words| Bar::new(words.name.clone(), words.accuracy, false));
        own.into_iter().chain(words).collect()
    }

    fn facts(&self) -> Vec<(String, &'static str)> {
        let result = &self.result;
        let mut facts = vec![
            (result.parameters.to_string(), "trainable parameters"),
            (format!("{:.1} s", result.train_seconds), "of training"),
        ];
        if let Some(bytes) = result.prompt_bytes {
            facts.push((kilobytes(bytes), "prompt file"));
        }
        if let Some(bytes) = result.peak_memory_bytes {
            facts.push((format!("{:.0} MB", bytes as f64 / 1e6), "peak memory"));
        }
        if let Some(last) = self.metrics.last() {
            facts.push((last.epoch.to_string(), "epochs"));
        }
        facts
    }

    fn class_rows(&self) -> Vec<ClassRow> {
        let row = |(place, class): (usize, &ClassReport)| {
            let share = class.share();
            let before = class.baseline_correct;
            let before = before.map(|correct| percent(class.share_of(correct)));
            ClassRow {
                name: class.name.clone(),
                share: format!("{} of {}", percent(share), class.examples),
                width: width(share),
                before,
                open: place < OPEN,
                pictures: self.pictures(class),
            }
        };
        self.classes.iter().enumerate().map(row).collect()
    }

    fn pictures(&self, class: &ClassReport) -> Vec<PictureCard> {
        let name = |label: usize| self.class_names[label].clone();
        let shown = class.shown.iter().map(|example| {
            let first = example.guesses.first().map(|guess| guess.0);
            PictureCard {
                name: example.name.clone(),
                thumbnail: example.thumbnail.clone(),
                right: first == Some(class.label),
                taken_for: first.map(name).unwrap_or_default(),
                guesses: example
                    .guesses
                    .iter()
                    .map(|&(label, probability)| Guess {
                        name: name(label),
                        percent: format!("{:.0} %", 100.0 * probability),
                        is_true: label == class.label,
                    })
                    .collect(),
            }
        });
        shown.collect()
    }

    /// The classes to show in a matrix, in their order, and the pairs that are confused most.
    fn confusion(&self) -> (Vec<usize>, Vec<(String, String, usize)>) {
        let wrong = self
            .taken_for
            .iter()
            .filter(|((label, taken), _)| label != taken);
        let wrong = pairs_by_count(wrong.map(|(&pair, &count)| (pair, count)));
        let pairs = wrong.iter().take(PAIRS).map(|pair| {
            (
                self.class_names[pair.label].clone(),
                self.class_names[pair.predicted].clone(),
                pair.count,
            )
        });
        let pairs = pairs.collect();
        let mut labels: Vec<usize> = Vec::new();
        if self.class_names.len() <= MATRIX_CLASSES {
            labels = (0..self.class_names.len()).collect();
        } else {
            for pair in wrong {
                for class in [pair.label, pair.predicted] {
                    if labels.len() < MATRIX_CLASSES && !labels.contains(&class) {
                        labels.push(class);
                    }
                }
            }
            labels.sort_unstable();
        }
        (labels, pairs)
    }

    fn matrix(&self, labels: &[usize]) -> String {
        let names: Vec<String> = labels
            .iter()
            .map(|&label| self.class_names[label].clone())
            .collect();
        let count =
            |label: usize, taken: usize| self.taken_for.get(&(label, taken)).copied().unwrap_or(0);
        let counts: Vec<usize> = labels
            .iter()
            .flat_map(|&label| labels.iter().map(move |&taken| count(label, taken)))
            .collect();
        charts::matrix(&names, &counts)
    }
}

#[derive(Template)]
#[template(path = "compare.html")]
struct ComparePage {
    title: String,
    about: String,
    bars: Vec<Bar>,
    runs: Vec<ComparedRun>,
    curves: Vec<(&'static str, String)>,
    classes: Vec<(String, Vec<String>)>,
}

struct ComparedRun {
    name: String,
    data: String,
    split: String,
    sample: String,
    parameters: usize,
    seconds: String,
    size: String,
}

/// The page that puts several runs side by side: HTML that needs no other file and no network.
pub fn compare(reports: &[RunReport]) -> String {
    let names = run_names(reports);
    let run = |(report, name): (&RunReport, &String)| ComparedRun {
        name: name.clone(),
        data: report.data_name(),
        split: report.result.split.to_string(),
        sample: report.sample(),
        parameters: report.result.parameters,
        seconds: format!("{:.1} s", report.result.train_seconds),
        size: report
            .result
            .prompt_bytes
            .map_or_else(|| "–".into(), kilobytes),
    };
    let bars = reports.iter().zip(&names);
    let bars = bars
        .filter_map(|(report, name)| Some(Bar::new(name.clone(), report.result.accuracy?, true)));
    let page = ComparePage {
        title: format!("{} runs", reports.len()),
        about: names.join(" · "),
        bars: bars.chain(compared_words(reports)).collect(),
        runs: reports.iter().zip(&names).map(run).collect(),
        curves: curves(reports, &names),
        classes: compared_classes(reports),
    };
    page.render()
        .expect("a page is written into a text, which always takes it")
}

/// What words come to: once where runs were measured with one model on the same pictures of the same classes.
fn compared_words(reports: &[RunReport]) -> Vec<Bar> {
    let place = |report: &RunReport| {
        let settings = &report.settings;
        (
            settings.data.clone(),
            settings.model.clone(),
            settings.subset,
            settings.measure_on,
        )
    };
    let mut places = Vec::new();
    for report in reports {
        if !places.contains(&place(report)) {
            places.push(place(report));
        }
    }
    let of_place = |one: &_| {
        let report = reports.iter().find(|report| place(report) == *one);
        let baselines = report.into_iter().flat_map(|report| {
            report
                .baselines
                .iter()
                .map(move |baseline| (report, baseline))
        });
        let bars = baselines.map(|(report, baseline)| {
            let name = match places.len() {
                1 => baseline.name.clone(),
                _ => format!(
                    "{} ({}, {} split, {})",
                    baseline.name,
                    report.data_name(),
                    report.result.split,
                    report.model_name()
                ),
            };
            Bar::new(name, baseline.accuracy, false)
        });
        bars.collect::<Vec<_>>()
    };
    places.iter().flat_map(of_place).collect()
}

/// The runs' folders, as short as they can be told apart.
fn run_names(reports: &[RunReport]) -> Vec<String> {
    let parts: Vec<Vec<String>> = reports
        .iter()
        .map(|report| {
            let parts = report.folder.components();
            parts
                .map(|part| part.as_os_str().to_string_lossy().into_owned())
                .collect()
        })
        .collect();
    let ending =
        |parts: &[String], count: usize| parts[parts.len().saturating_sub(count)..].join("/");
    let longest = parts.iter().map(Vec::len).max().unwrap_or(1);
    for count in 1..=longest {
        let names: Vec<String> = parts.iter().map(|parts| ending(parts, count)).collect();
        let different: BTreeSet<&String> = names.iter().collect();
        if different.len() == names.len() {
            return names;
        }
    }
    parts.iter().map(|parts| parts.join("/")).collect()
}

/// Loss and training accuracy of all runs that have any, by epoch.
fn curves(reports: &[RunReport], names: &[String]) -> Vec<(&'static str, String)> {
    let lines = |value: fn(&EpochMetrics) -> f64| -> Vec<Line> {
        let trained = reports.iter().zip(names);
        let trained = trained.filter(|(report, _)| report.metrics.len() > 1);
        let line = |(report, name): (&RunReport, &String)| Line {
            name: name.clone(),
            points: report
                .metrics
                .iter()
                .map(|epoch| (epoch.epoch as f64, value(epoch), 0.0))
                .collect(),
        };
        trained.map(line).collect()
    };
    let losses = lines(|epoch| f64::from(epoch.loss));
    if losses.is_empty() {
        return Vec::new();
    }
    let axes = |y| Axes {
        x: "epoch",
        y,
        doubling: false,
    };
    let shares = lines(|epoch| 100.0 * f64::from(epoch.accuracy));
    vec![
        ("loss", charts::lines(&losses, axes("loss"))),
        (
            "accuracy on the training pictures",
            charts::lines(&shares, axes("accuracy in %")),
        ),
    ]
}

/// Accuracy of every class that any run has, by name.
fn compared_classes(reports: &[RunReport]) -> Vec<(String, Vec<String>)> {
    let names: BTreeSet<&str> = reports
        .iter()
        .flat_map(|report| report.classes.iter().map(|class| class.name.as_str()))
        .collect();
    let share = |report: &RunReport, name: &str| {
        let class = report.classes.iter().find(|class| class.name == name);
        class.map_or_else(|| "–".into(), |class| percent(class.share()))
    };
    let row = |name: &str| {
        let shares = reports.iter().map(|report| share(report, name)).collect();
        (name.to_owned(), shares)
    };
    names.into_iter().map(row).collect()
}

fn context_table(context: &LearnedContext) -> ContextTable {
    let words = |words: &[NearWord]| {
        let words: Vec<&str> = words.iter().map(|word| word.word.as_str()).collect();
        words.join(", ")
    };
    let vectors = context
        .vectors
        .iter()
        .take(VECTORS)
        .map(|vector| VectorRow {
            class: vector.class.clone().unwrap_or_default(),
            place: vector.place,
            moved: vector
                .moved
                .map_or_else(|| "–".into(), |moved| format!("{:.3}", moved.distance)),
            by_distance: words(&vector.nearest_by_distance),
            by_cosine: words(&vector.nearest_by_cosine),
        });
    ContextTable {
        class_specific: context.class_specific,
        vectors: vectors.collect(),
        left_out: context
            .vectors
            .len()
            .checked_sub(VECTORS)
            .filter(|&more| more > 0),
    }
}
