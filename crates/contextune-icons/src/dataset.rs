//! Writes the benchmark in CoOp's dataset layout: `NAME/images/…` and `NAME/split_zhou_NAME.json`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::more::{self, Hidden};
use crate::render;
use crate::sources::{self, Drawing, Names, Style};
use crate::split::{Class, Role, Split};

/// The side of the silhouettes' pictures.
const SILHOUETTE_SIDE: usize = 28;
/// The silhouettes' classes in the order of their labels.
const SILHOUETTES: [&str; 10] = [
    "bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra",
];

/// Path relative to `images/`, label, class name: a row of CoOp's split files.
type Item = (String, usize, String);

/// A `split_zhou_*.json` file.
#[derive(Default, Serialize)]
struct CoopSplit {
    train: Vec<Item>,
    val: Vec<Item>,
    test: Vec<Item>,
}

/// How many pictures one dataset has.
#[derive(Debug, PartialEq, Eq)]
pub struct Count {
    /// The dataset's folder name.
    pub dataset: String,
    /// Its classes.
    pub classes: usize,
    /// Pictures of the train split.
    pub train: usize,
    /// Pictures of the val split.
    pub val: usize,
    /// Pictures of the test split.
    pub test: usize,
}

/// Everything that the datasets are made of.
pub struct Builder {
    split: Split,
    names: Names,
    styles: BTreeMap<String, Style>,
    sources: PathBuf,
    side: u32,
}

impl Builder {
    /// Reads the unpacked packages below `sources` and the split file; pictures will be `side` × `side` pixels.
    pub fn new(sources: &Path, split: &Path, side: u32) -> Result<Self> {
        let split = Split::read(split)?;
        let names = Names::read(sources)?;
        let mut styles = BTreeMap::new();
        for style in &split.styles {
            styles.insert(style.clone(), sources::read_style(sources, style, &names)?);
        }
        ensure!(
            styles.contains_key(&split.held_out_style),
            "the held-out style is none of the styles"
        );
        Ok(Self {
            split,
            names,
            styles,
            sources: sources.to_owned(),
            side,
        })
    }

    /// How many concepts each style shows, in the order of the split file.
    pub fn coverage(&self) -> Vec<(&str, usize)> {
        let count = |style: &Style| {
            self.split
                .concepts
                .iter()
                .filter(|c| style.contains_key(&c.code))
                .count()
        };
        self.split
            .styles
            .iter()
            .map(|style| (style.as_str(), count(&self.styles[style])))
            .collect()
    }

    /// Writes `icon-concepts`: one class per name. Train: names of pre-training in every style but the held-out one.
    /// Val: names that it never sees, in the same styles. Test: the held-out names in all styles.
    ///
    /// Beside the split lie `captions.json` (for each train picture its name and its tags) and `held_out_style.json`
    /// (a split with a test part only: names of pre-training in the held-out style).
    pub fn concepts(&self, out: &Path) -> Result<(Count, usize)> {
        let folder = Folder::create(out, "icon-concepts", "IconConcepts")?;
        let concepts = self.write_concepts(&folder)?;
        let dropped = concepts.dropped_tags;
        Ok((concepts.finish(folder)?, dropped))
    }

    /// Writes `icon-pretraining`: `icon-concepts` with more train pictures, of the sets in [`more`], or of those alone
    /// that draw emoji.
    pub fn pretraining(&self, out: &Path, emoji_only: bool) -> Result<Count> {
        let folder = Folder::create(out, "icon-pretraining", "IconPretraining")?;
        let mut concepts = self.write_concepts(&folder)?;
        for set in more::EMOJI_SETS {
            let style = more::read_emoji_set(&self.sources, set, &self.names)?;
            let drawn: Vec<_> = self
                .split
                .concepts
                .iter()
                .filter(|concept| concept.role == Role::Pretrain)
                .filter_map(|concept| Some((concept, style.get(&concept.code)?)))
                .map(|(concept, drawing)| (format!("{set}/{}.png", concept.code), concept, drawing))
                .collect();
            self.draw(
                &folder,
                drawn
                    .iter()
                    .map(|(path, _, drawing)| (path.as_str(), *drawing)),
            )?;
            for (path, concept, _) in drawn {
                let texts = concepts.texts[&concept.name.to_lowercase()].clone();
                concepts.add_train(path, texts);
            }
        }
        let hidden = Hidden::new(&self.split, &self.names);
        let word_sets = more::WORD_SETS.iter().filter(|_| !emoji_only);
        for &(set, ending) in word_sets {
            let words = more::read_word_set(&self.sources, set, ending, &hidden)?;
            let paths: Vec<_> = words
                .iter()
                .map(|word| format!("{set}/{}.png", word.name))
                .collect();
            self.draw(
                &folder,
                paths
                    .iter()
                    .map(String::as_str)
                    .zip(words.iter().map(|w| &w.drawing)),
            )?;
            for (path, word) in paths.into_iter().zip(words) {
                let texts = concepts
                    .texts
                    .get(&word.text)
                    .cloned()
                    .unwrap_or_else(|| vec![word.text]);
                concepts.add_train(path, texts);
            }
        }
        concepts.finish(folder)
    }

    fn write_concepts(&self, folder: &Folder) -> Result<Concepts> {
        let hidden: HashSet<String> = self
            .split
            .concepts
            .iter()
            .filter(|concept| concept.role != Role::Pretrain)
            .map(|concept| concept.name.to_lowercase())
            .collect();
        let mut concepts = Concepts::default();
        for role in [Role::Pretrain, Role::Validation, Role::Retrieval] {
            for concept in self
                .split
                .concepts
                .iter()
                .filter(|concept| concept.role == role)
            {
                let mut texts = vec![concept.name.clone()];
                for tag in self.names.tags.get(&concept.code).into_iter().flatten() {
                    if hidden.contains(&tag.to_lowercase()) {
                        concepts.dropped_tags += usize::from(role == Role::Pretrain);
                    } else if !tag.eq_ignore_ascii_case(&concept.name) {
                        texts.push(tag.clone());
                    }
                }
                let label = concepts.label(&concept.name);
                if role == Role::Pretrain {
                    concepts
                        .texts
                        .insert(concept.name.to_lowercase(), texts.clone());
                }
                for style in &self.split.styles {
                    let held_out = *style == self.split.held_out_style;
                    if held_out && role == Role::Validation {
                        continue;
                    }
                    let Some(path) = self.write_picture(folder, style, &concept.code)? else {
                        continue;
                    };
                    let item = (path.clone(), label, concept.name.clone());
                    match role {
                        Role::Pretrain if held_out => {
                            // A split of its own, whose labels have no gaps.
                            let test = &mut concepts.style_split.test;
                            test.push((path, test.len(), concept.name.clone()));
                        }
                        Role::Pretrain => concepts.add_train(path, texts.clone()),
                        Role::Validation => concepts.split.val.push(item),
                        Role::Retrieval => concepts.split.test.push(item),
                        Role::Unused => {}
                    }
                }
            }
        }
        Ok(concepts)
    }

    /// Draws pictures on all cores.
    fn draw<'a>(
        &self,
        folder: &Folder,
        pictures: impl Iterator<Item = (&'a str, &'a Drawing)>,
    ) -> Result<()> {
        let pictures: Vec<_> = pictures.collect();
        pictures.into_par_iter().try_for_each(|(path, drawing)| {
            let file = render::picture(drawing, self.side, path)
                .with_context(|| format!("cannot draw {path}"))?;
            folder.write_picture(path, &file)
        })
    }

    /// Writes `icon-subgroups` and `icon-subgroups-coarse`: concepts that pre-training never sees, in all styles; and the
    /// coarse one style by style, as `icon-styles/STYLE`.
    pub fn subgroups(&self, out: &Path) -> Result<Vec<Count>> {
        let fine = self.classes(
            out,
            "icon-subgroups",
            "IconSubgroups",
            &self.split.subgroups,
            &self.split.styles,
        )?;
        let coarse = self.classes(
            out,
            "icon-subgroups-coarse",
            "IconSubgroupsCoarse",
            &self.split.coarse,
            &self.split.styles,
        )?;
        let mut counts = vec![fine, coarse];
        for style in &self.split.styles {
            let drawn = |code: &String| self.styles[style].contains_key(code);
            if self
                .split
                .coarse
                .iter()
                .flat_map(|class| &class.train)
                .any(drawn)
            {
                let name = format!("icon-styles/{style}");
                let style = std::slice::from_ref(style);
                counts.push(self.classes(out, &name, "IconStyle", &self.split.coarse, style)?);
            }
        }
        Ok(counts)
    }

    /// Writes the demo's `icon-demo`: pictures of the held-out style only.
    pub fn demo_icons(&self, out: &Path) -> Result<Count> {
        let style = std::slice::from_ref(&self.split.held_out_style);
        self.classes(out, "icon-demo", "IconDemo", &self.split.demo, style)
    }

    fn classes(
        &self,
        out: &Path,
        name: &str,
        title: &str,
        classes: &[Class],
        styles: &[String],
    ) -> Result<Count> {
        let folder = Folder::create(out, name, title)?;
        let mut split = CoopSplit::default();
        for (label, class) in classes.iter().enumerate() {
            for (codes, items) in [
                (&class.train, &mut split.train),
                (&class.val, &mut split.val),
                (&class.test, &mut split.test),
            ] {
                for (code, style) in codes
                    .iter()
                    .flat_map(|code| styles.iter().map(move |style| (code, style)))
                {
                    if let Some(path) = self.write_picture(&folder, style, code)? {
                        items.push((path, label, class.name.clone()));
                    }
                }
            }
        }
        folder.finish(split, classes.len())
    }

    /// Draws the emoji `code` in `style` and returns its path relative to `images/`; `None` if the style lacks it.
    fn write_picture(&self, folder: &Folder, style: &str, code: &str) -> Result<Option<String>> {
        let Some(drawing) = self.styles[style].get(code) else {
            return Ok(None);
        };
        let path = format!("{style}/{code}.png");
        let file = render::picture(drawing, self.side, &path)
            .with_context(|| format!("cannot draw {path}"))?;
        folder.write_picture(&path, &file)?;
        Ok(Some(path))
    }

    /// Writes `animal-silhouettes`: white on black, as the package has them, each picture once.
    ///
    /// At most `limits` = (train, val, test) pictures a class; without limits 50 %, 20 % and 30 %.
    pub fn silhouettes(&self, out: &Path, limits: Option<[usize; 3]>) -> Result<Count> {
        let folder = Folder::create(out, "animal-silhouettes", "AnimalSilhouettes")?;
        let source = self.sources.join("animal-silhouettes");
        let pictures = std::fs::read(source.join("pictures.u8"))
            .context("cannot read the silhouettes' pictures")?;
        let labels = std::fs::read(source.join("labels.u8"))
            .context("cannot read the silhouettes' labels")?;
        let pixels = SILHOUETTE_SIDE * SILHOUETTE_SIDE;
        ensure!(
            pictures.len() == labels.len() * pixels,
            "the silhouettes' pictures and labels differ in number"
        );
        // The order of the hashes is as good as a shuffle, and brings equal pictures together.
        let mut classes = vec![BTreeMap::new(); SILHOUETTES.len()];
        let mut owner = HashMap::new();
        for (index, (picture, &label)) in pictures.chunks_exact(pixels).zip(&labels).enumerate() {
            let Some(class) = classes.get_mut(usize::from(label)) else {
                bail!("silhouette {index} has the label {label}, expected 0 to 9");
            };
            let hash: [u8; 32] = Sha256::digest(picture).into();
            if *owner.entry(hash).or_insert(label) == label {
                class.entry(hash).or_insert((index, picture));
            }
        }
        let mut split = CoopSplit::default();
        for (label, (name, class)) in SILHOUETTES.into_iter().zip(&classes).enumerate() {
            let n = class.len();
            let [train, val, test] = limits.unwrap_or([n / 2, n / 5, n - n / 2 - n / 5]);
            ensure!(
                train + val + test <= n,
                "{name} has only {n} different silhouettes"
            );
            for (place, (index, picture)) in class.values().take(train + val + test).enumerate() {
                let path = format!("{name}/{index:05}.png");
                let rgb: Vec<u8> = picture.iter().flat_map(|value| [*value; 3]).collect();
                folder.write_picture(&path, &render::encode_png(&rgb, SILHOUETTE_SIDE as u32)?)?;
                let items = match place {
                    place if place < train => &mut split.train,
                    place if place < train + val => &mut split.val,
                    _ => &mut split.test,
                };
                items.push((path, label, name.to_owned()));
            }
        }
        folder.finish(split, SILHOUETTES.len())
    }
}

/// A dataset with one class per name while it is gathered.
#[derive(Default)]
struct Concepts {
    split: CoopSplit,
    style_split: CoopSplit,
    captions: BTreeMap<String, Vec<String>>,
    /// For each emoji of pre-training by its name in lower case: its name and its tags.
    texts: HashMap<String, Vec<String>>,
    labels: HashMap<String, usize>,
    dropped_tags: usize,
}

impl Concepts {
    /// The label of `name`, new or known in any case.
    fn label(&mut self, name: &str) -> usize {
        let next = self.labels.len();
        *self.labels.entry(name.to_lowercase()).or_insert(next)
    }

    /// A train picture; the first of its texts is its name.
    fn add_train(&mut self, path: String, texts: Vec<String>) {
        let name = texts[0].clone();
        let label = self.label(&name);
        self.split.train.push((path.clone(), label, name));
        self.captions.insert(path, texts);
    }

    fn finish(self, folder: Folder) -> Result<Count> {
        folder.write_json("captions.json", &self.captions)?;
        folder.write_json("held_out_style.json", &self.style_split)?;
        folder.finish(self.split, self.labels.len())
    }
}

/// The folder of one dataset while it is written.
struct Folder {
    root: PathBuf,
    name: String,
    title: String,
}

impl Folder {
    fn create(out: &Path, name: &str, title: &str) -> Result<Self> {
        let root = out.join(name);
        if root.exists() {
            bail!(
                "{} exists: delete it, or choose another folder",
                root.display()
            );
        }
        Ok(Self {
            root,
            name: name.to_owned(),
            title: title.to_owned(),
        })
    }

    fn write_picture(&self, path: &str, file: &[u8]) -> Result<()> {
        let path = self.root.join("images").join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        std::fs::write(&path, file).with_context(|| format!("cannot write {}", path.display()))
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.root.join(name);
        std::fs::write(&path, serde_json::to_string(value)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn finish(self, split: CoopSplit, classes: usize) -> Result<Count> {
        self.write_json(&format!("split_zhou_{}.json", self.title), &split)?;
        Ok(Count {
            dataset: self.name,
            classes,
            train: split.train.len(),
            val: split.val.len(),
            test: split.test.len(),
        })
    }
}
