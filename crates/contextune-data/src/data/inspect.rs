//! What is in a data set, and what is wrong with it: counts, sizes, unreadable pictures, and copies that stand in two splits or
//! in two classes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use serde::{Serialize, Serializer};

use super::class_names::distinct_names;
use super::dataset::{Dataset, Input};
use super::error::{DataWarning, shortened};
use super::features_file::FeaturesFile;
use super::split::Split;
use crate::files;
use crate::image::{self, DecodeOptions, Format, ImageError, Miniature, PlanarRgb, Preprocess};

/// A class with fewer training or test examples is worth a warning.
const FEW: usize = 5;
/// A largest class with this many times the training examples of the smallest is worth a warning.
const IMBALANCE: usize = 10;

/// What [`inspect`] found.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// Examples of each class, by label.
    pub classes: Vec<ClassCounts>,
    /// Absent where the data set is a features file.
    pub pictures: Option<PictureFacts>,
    /// Absent where the data set is of pictures.
    pub features: Option<FeatureFacts>,
    /// Examples that are the same or nearly the same: pictures by how they look, features by their values. First those in
    /// several splits, then those in several classes.
    pub copies: Vec<Copies>,
    /// Problems that a user should mend, the worst first.
    pub findings: Vec<Finding>,
    /// For each class, small squares of pictures spread over it, as many as were asked for and can be read.
    #[serde(skip)]
    pub samples: Vec<Vec<PlanarRgb>>,
}

/// Examples of a class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassCounts {
    /// Its name, with the label where the name alone is not enough.
    pub name: String,
    /// To learn from.
    pub train: usize,
    /// To choose settings by.
    pub val: usize,
    /// To measure on.
    pub test: usize,
}

/// The pictures of a data set, each counted once.
#[derive(Clone, Debug, Serialize)]
pub struct PictureFacts {
    /// How many can be read.
    pub readable: usize,
    /// Width and height in pixels of those with the smallest area, the median and the largest; absent if none can be read.
    pub sizes: Option<[[u32; 2]; 3]>,
    /// How many there are of each format.
    pub formats: BTreeMap<String, usize>,
    /// Those that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// A picture that cannot be read.
#[derive(Clone, Debug, Serialize)]
pub struct Unreadable {
    /// Its path below the data set.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The rows of a features file.
#[derive(Clone, Debug, Serialize)]
pub struct FeatureFacts {
    /// Number of rows, further views included.
    pub rows: usize,
    /// Width of a feature.
    pub width: usize,
    /// Of the model that made them, if the file says so.
    pub fingerprint: Option<String>,
}

/// Examples that are the same or nearly the same.
#[derive(Clone, Debug, Serialize)]
pub struct Copies {
    /// Whether they are equal byte by byte.
    pub identical: bool,
    /// Whether they stand in several splits.
    pub across_splits: bool,
    /// Whether they stand in several classes.
    pub across_classes: bool,
    /// Where they stand, two or more.
    pub examples: Vec<Copy>,
}

/// One of several copies.
#[derive(Clone, Debug, Serialize)]
pub struct Copy {
    /// What the data set calls it.
    pub path: String,
    /// Its split.
    pub split: Split,
    /// Name of its class.
    pub class: String,
}

/// Something about a data set that hurts what is learned from it or what is measured on it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// Pictures that cannot be read.
    Unreadable {
        /// How many.
        count: usize,
    },
    /// Groups of copies with examples in several splits.
    CopiesAcrossSplits {
        /// How many.
        groups: usize,
    },
    /// Groups of copies with examples in several classes.
    CopiesAcrossClasses {
        /// How many.
        groups: usize,
    },
    /// Classes with few examples in a split.
    FewExamples {
        /// The split: train or test.
        split: Split,
        /// Name and number of examples of each such class.
        classes: Vec<(String, usize)>,
    },
    /// A class with many times the training examples of another.
    Imbalance {
        /// Name and number of training examples of the largest class.
        largest: (String, usize),
        /// Name and number of training examples of the smallest class.
        smallest: (String, usize),
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { count } => write!(
                f,
                "{count} picture(s) cannot be read and are left out when training: replace or remove them"
            ),
            Self::CopiesAcrossSplits { groups } => write!(
                f,
                "{groups} group(s) of copies stand in more than one split: what is measured on a picture that was learned from says nothing; keep each in one split"
            ),
            Self::CopiesAcrossClasses { groups } => write!(
                f,
                "{groups} group(s) of copies stand in more than one class: one of the labels is probably wrong"
            ),
            Self::FewExamples { split, classes } => {
                let counts: Vec<_> = classes
                    .iter()
                    .map(|(name, count)| format!("{name} has {count}"))
                    .collect();
                let what = match split {
                    Split::Test => "accuracy on so few examples is chance",
                    _ => "so few examples teach little",
                };
                write!(f, "{split}: {what}: {}", shortened(&counts))
            }
            Self::Imbalance { largest, smallest } => write!(
                f,
                "{} has {} training examples and {} has {}: the model will favour the large classes; draw the same number of shots of each",
                largest.0, largest.1, smallest.0, smallest.1
            ),
        }
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Looks at every example of `dataset` once, on all threads; `progress` hears how many of how many are done. For each class
/// `samples` pictures are kept as squares of `side` pixels.
///
/// # Panics
/// If `side` is 0.
pub fn inspect(
    dataset: &Dataset,
    samples: usize,
    side: u32,
    progress: impl Fn(usize, usize) + Sync,
) -> Inspection {
    let listed = Listed::of(dataset);
    let mut inspection = Inspection {
        classes: listed.class_counts(),
        pictures: None,
        features: None,
        copies: Vec::new(),
        findings: Vec::new(),
        samples: vec![Vec::new(); listed.names.len()],
    };
    let groups = match &dataset.features {
        Some(file) => {
            inspection.features = Some(FeatureFacts {
                rows: file.rows(),
                width: file.width(),
                fingerprint: file.fingerprint().map(str::to_owned),
            });
            groups_of_rows(file, &listed.inputs, progress)
        }
        None => {
            let (seen, unreadable) = listed.see(samples, side, progress);
            let groups = groups_of_pictures(&seen);
            inspection.pictures = Some(PictureFacts::of(&seen, unreadable));
            for picture in seen {
                let (_, label) = listed.places[picture.index][0];
                inspection.samples[label].extend(picture.sample);
            }
            groups
        }
    };
    inspection.copies = listed.copies(groups);
    inspection.findings = findings(&inspection);
    inspection
}

/// Every picture or row once, with all the places where it stands.
struct Listed<'a> {
    dataset: &'a Dataset,
    names: Vec<String>,
    inputs: Vec<&'a Input>,
    /// Split and label.
    places: Vec<Vec<(Split, usize)>>,
}

impl<'a> Listed<'a> {
    fn of(dataset: &'a Dataset) -> Self {
        // Pictures that are validation and test by agreement are no copies.
        let val_is_test = dataset.warnings.contains(&DataWarning::ValIsTest);
        let mut index_of: HashMap<&Input, usize> = HashMap::new();
        let mut listed = Self {
            dataset,
            names: distinct_names(&dataset.class_names),
            inputs: Vec::new(),
            places: Vec::new(),
        };
        for split in Split::ALL {
            if split == Split::Val && val_is_test {
                continue;
            }
            for example in dataset.split(split) {
                let index = *index_of
                    .entry(&example.input)
                    .or_insert(listed.inputs.len());
                if index == listed.inputs.len() {
                    listed.inputs.push(&example.input);
                    listed.places.push(Vec::new());
                }
                listed.places[index].push((split, example.label));
            }
        }
        listed
    }

    fn class_counts(&self) -> Vec<ClassCounts> {
        let [train, val, test] = Split::ALL.map(|split| self.dataset.class_counts(split));
        let names = self.names.iter().enumerate();
        names
            .map(|(label, name)| ClassCounts {
                name: name.clone(),
                train: train[label],
                val: val[label],
                test: test[label],
            })
            .collect()
    }

    /// Decodes every picture once; those that cannot be read come second.
    fn see(
        &self,
        samples: usize,
        side: u32,
        progress: impl Fn(usize, usize) + Sync,
    ) -> (Vec<Seen>, Vec<Unreadable>) {
        let is_sample = self.spread(samples);
        let square = Preprocess::new(side);
        let done = AtomicUsize::new(0);
        let outcomes: Vec<Result<Seen, Unreadable>> = self
            .inputs
            .par_iter()
            .enumerate()
            .map(|(index, input)| {
                let sample = is_sample[index].then_some(&square);
                let outcome = Seen::open(index, input, sample);
                progress(done.fetch_add(1, Ordering::Relaxed) + 1, self.inputs.len());
                outcome.map_err(|error| Unreadable {
                    path: self.dataset.input_name(input),
                    reason: error.to_string(),
                })
            })
            .collect();
        let (mut seen, mut unreadable) = (Vec::new(), Vec::new());
        for outcome in outcomes {
            match outcome {
                Ok(picture) => seen.push(picture),
                Err(picture) => unreadable.push(picture),
            }
        }
        (seen, unreadable)
    }

    /// Chooses `samples` inputs of each class, spread evenly over it; returns for each input whether it was chosen.
    fn spread(&self, samples: usize) -> Vec<bool> {
        let mut of_class = vec![Vec::new(); self.names.len()];
        for (index, places) in self.places.iter().enumerate() {
            of_class[places[0].1].push(index);
        }
        let mut chosen = vec![false; self.inputs.len()];
        for inputs in of_class {
            let count = samples.min(inputs.len());
            for sample in 0..count {
                chosen[inputs[sample * inputs.len() / count]] = true;
            }
        }
        chosen
    }

    /// Returns the groups that stand in more than one place.
    fn copies(&self, groups: impl IntoIterator<Item = Group>) -> Vec<Copies> {
        let mut copies: Vec<Copies> = groups
            .into_iter()
            .map(|group| {
                let places = group.inputs.iter().flat_map(|&index| {
                    let here = move |&(split, label)| (index, split, label);
                    self.places[index].iter().map(here)
                });
                let places: Vec<(usize, Split, usize)> = places.collect();
                let (_, first_split, first_label) = places[0];
                let copy = |&(index, split, label): &(usize, Split, usize)| Copy {
                    path: self.dataset.input_name(self.inputs[index]),
                    split,
                    class: self.names[label].clone(),
                };
                Copies {
                    identical: group.identical,
                    across_splits: places.iter().any(|&(_, split, _)| split != first_split),
                    across_classes: places.iter().any(|&(_, _, label)| label != first_label),
                    examples: places.iter().map(copy).collect(),
                }
            })
            .filter(|copies| copies.examples.len() > 1)
            .collect();
        copies.sort_by_key(|copies| (!copies.across_splits, !copies.across_classes));
        copies
    }
}

/// Inputs that are the same.
struct Group {
    inputs: Vec<usize>,
    identical: bool,
}

/// What was seen of a picture.
struct Seen {
    index: usize,
    format: Format,
    size: [u32; 2],
    bytes: blake3::Hash,
    miniature: Miniature,
    sample: Option<PlanarRgb>,
}

impl Seen {
    /// Reads and decodes a picture, the `index`-th; a `sample` of it is kept.
    fn open(index: usize, input: &Input, sample: Option<&Preprocess>) -> Result<Self, ImageError> {
        let Input::Picture(path) = input else {
            unreachable!("a data set without a features file lists pictures");
        };
        let options = DecodeOptions::default();
        let bytes = image::read(path, &options)?;
        let picture = image::decode(&bytes, &options)?.into_rgb();
        Ok(Self {
            index,
            format: Format::recognise(&bytes)?,
            size: [picture.width(), picture.height()],
            bytes: blake3::hash(&bytes),
            sample: sample.map(|square| square.apply(&picture)),
            miniature: Miniature::of(picture),
        })
    }
}

impl PictureFacts {
    fn of(seen: &[Seen], unreadable: Vec<Unreadable>) -> Self {
        let mut formats = BTreeMap::new();
        let mut sizes = Vec::with_capacity(seen.len());
        for picture in seen {
            *formats.entry(picture.format.to_string()).or_default() += 1;
            sizes.push(picture.size);
        }
        sizes.sort_by_key(|&[width, height]| u64::from(width) * u64::from(height));
        let sizes = match &sizes[..] {
            [] => None,
            [smallest, .., largest] => Some([*smallest, sizes[sizes.len() / 2], *largest]),
            [only] => Some([*only; 3]),
        };
        Self {
            readable: seen.len(),
            sizes,
            formats,
            unreadable,
        }
    }
}

/// Groups pictures by what they show; a picture without a copy is a group of its own.
fn groups_of_pictures(seen: &[Seen]) -> Vec<Group> {
    let mut sets = DisjointSets::new(seen.len());
    let mut first_with: HashMap<blake3::Hash, usize> = HashMap::with_capacity(seen.len());
    let mut distinct = Vec::new();
    for (place, picture) in seen.iter().enumerate() {
        match first_with.get(&picture.bytes) {
            Some(&first) => sets.join(first, place),
            None => {
                first_with.insert(picture.bytes, place);
                distinct.push(place);
            }
        }
    }

    // Copies have almost the same mean: each picture is compared with those behind it as far as a copy can be.
    let miniature = |place: usize| &seen[place].miniature;
    distinct.sort_by(|&left, &right| miniature(left).mean().total_cmp(&miniature(right).mean()));
    let near = Mutex::new(sets); // as they are found: of a thousand copies there are half a million pairs
    distinct.par_iter().enumerate().for_each(|(order, &place)| {
        let this = miniature(place);
        let reach = this.mean() + this.reach();
        let behind = distinct[order + 1..].iter();
        for &other in behind.take_while(|&&other| miniature(other).mean() <= reach) {
            if this.is_copy_of(miniature(other)) {
                near.lock()
                    .expect("no thread panics with it")
                    .join(place, other);
            }
        }
    });
    let sets = near.into_inner().expect("no thread panicked with it");
    let groups = sets.into_groups().into_iter();
    groups
        .map(|places| Group {
            identical: places
                .iter()
                .all(|&place| seen[place].bytes == seen[places[0]].bytes),
            inputs: places.into_iter().map(|place| seen[place].index).collect(),
        })
        .collect()
}

/// Groups rows by their values; a row without a copy is a group of its own.
fn groups_of_rows(
    file: &FeaturesFile,
    inputs: &[&Input],
    progress: impl Fn(usize, usize) + Sync,
) -> Vec<Group> {
    let mut inputs_of: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
    let mut feature = vec![0.0; file.width()];
    for (index, input) in inputs.iter().enumerate() {
        let Input::FeatureRow(row) = input else {
            unreachable!("a features file lists rows");
        };
        file.read_row(*row, &mut feature);
        let bytes = files::bytes_of(&feature, f32::to_le_bytes);
        let key = *blake3::hash(&bytes).as_bytes();
        inputs_of.entry(key).or_default().push(index);
        progress(index + 1, inputs.len());
    }
    let groups = inputs_of.into_values();
    groups
        .map(|inputs| Group {
            inputs,
            identical: true,
        })
        .collect()
}

/// Numbers from 0 in sets that can be joined.
struct DisjointSets {
    /// A number of the same set that is not larger; its own for the smallest.
    smaller: Vec<usize>,
}

impl DisjointSets {
    fn new(count: usize) -> Self {
        Self {
            smaller: (0..count).collect(),
        }
    }

    fn smallest(&mut self, mut number: usize) -> usize {
        while self.smaller[number] != number {
            self.smaller[number] = self.smaller[self.smaller[number]];
            number = self.smaller[number];
        }
        number
    }

    fn join(&mut self, left: usize, right: usize) {
        let (left, right) = (self.smallest(left), self.smallest(right));
        self.smaller[left.max(right)] = left.min(right);
    }

    /// Returns the sets in the order of their smallest numbers, each ascending.
    fn into_groups(mut self) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for number in 0..self.smaller.len() {
            groups
                .entry(self.smallest(number))
                .or_default()
                .push(number);
        }
        groups.into_values().collect()
    }
}

/// Lists what a user should mend, the worst first.
fn findings(inspection: &Inspection) -> Vec<Finding> {
    let mut findings = Vec::new();
    let unreadable = inspection
        .pictures
        .as_ref()
        .map_or(0, |facts| facts.unreadable.len());
    if unreadable > 0 {
        findings.push(Finding::Unreadable { count: unreadable });
    }
    let groups = |across: fn(&Copies) -> bool| {
        inspection
            .copies
            .iter()
            .filter(|copies| across(copies))
            .count()
    };
    let across_splits = groups(|copies| copies.across_splits);
    if across_splits > 0 {
        findings.push(Finding::CopiesAcrossSplits {
            groups: across_splits,
        });
    }
    let across_classes = groups(|copies| copies.across_classes);
    if across_classes > 0 {
        findings.push(Finding::CopiesAcrossClasses {
            groups: across_classes,
        });
    }
    let counts = |count: fn(&ClassCounts) -> usize| -> Vec<(String, usize)> {
        let classes = inspection.classes.iter();
        classes
            .map(|class| (class.name.clone(), count(class)))
            .filter(|&(_, count)| count > 0) // opening the data set has told of classes without any
            .collect()
    };
    let train = counts(|class| class.train);
    for (split, counts) in [
        (Split::Train, &train),
        (Split::Test, &counts(|class| class.test)),
    ] {
        let few = counts.iter().filter(|(_, count)| *count < FEW);
        let classes: Vec<_> = few.cloned().collect();
        if !classes.is_empty() {
            findings.push(Finding::FewExamples { split, classes });
        }
    }
    let by_count = |(_, count): &&(String, usize)| *count;
    if let (Some(largest), Some(smallest)) = (
        train.iter().max_by_key(by_count),
        train.iter().min_by_key(by_count),
    ) && largest.1 >= IMBALANCE * smallest.1
    {
        findings.push(Finding::Imbalance {
            largest: largest.clone(),
            smallest: smallest.clone(),
        });
    }
    findings
}
