//! A plan: which methods on which data, with how many shots and seeds.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use contextune::data::Subset;
use serde::{Deserialize, Serialize};

/// A file of experiments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where the runs and the tables go; below the plan's folder unless it is a path from the root.
    pub out: PathBuf,
    /// The model, as for --model; absent: the embedded one.
    pub model: Option<String>,
    /// What to find out.
    #[serde(rename = "experiment")]
    pub experiments: Vec<Experiment>,
    /// The plan as it was written.
    #[serde(skip)]
    pub text: String,
}

/// Every method on every data set, with every number of shots and every seed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Experiment {
    /// Heads its table.
    pub title: String,
    /// What is measured.
    #[serde(default)]
    pub protocol: Protocol,
    /// Data sets to learn from.
    pub data: Vec<PathBuf>,
    /// Data sets to measure on as well, for the transfer protocol.
    #[serde(default)]
    pub to: Vec<PathBuf>,
    /// Methods with their options, as behind `contextune train`: "coop --context-length 4".
    pub methods: Vec<String>,
    /// Pictures of each class; none: all.
    #[serde(default)]
    pub shots: Vec<usize>,
    /// Seeds; without them those that the protocol was published with.
    seeds: Option<Vec<u64>>,
    /// Rates to choose from on validation pictures; without them those of the method's authors.
    pub learning_rates: Option<Vec<f32>>,
    /// Weight decays to choose from with them; without them the recipe's, or with the authors' rates those of the authors.
    pub weight_decays: Option<Vec<f32>>,
    /// For the VTAB protocol: pictures of all classes together, without it 1000.
    examples: Option<usize>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Accuracy on the test split, by shots.
    #[default]
    FewShot,
    /// Learned on the first half of the classes, measured on both halves.
    BaseToNew,
    /// Learned on one data set, measured on others.
    Transfer,
    /// Rates chosen on the validation split, then measured on the test split.
    Fgvc,
    /// A sample of 1,000 pictures: rates chosen on a fifth of it, then learned from all of it and measured on the test
    /// split (Zhai et al. 2019, "A Large-scale Study of Representation Learning with the Visual Task Adaptation Benchmark").
    Vtab,
}

impl Protocol {
    /// Whether rates are chosen on validation pictures.
    pub fn chooses(self) -> bool {
        matches!(self, Self::Fgvc | Self::Vtab)
    }
}

impl Plan {
    /// Reads a plan; its relative paths are below its folder.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the plan {}", path.display()))?;
        let mut plan: Self =
            toml::from_str(&text).with_context(|| format!("{} is not a plan", path.display()))?;
        plan.text = text;
        let folder = std::path::absolute(path)?;
        let folder = folder.parent().unwrap_or(Path::new("/"));
        plan.out = folder.join(&plan.out);
        if let Some(model) = &plan.model
            && folder.join(model).exists()
        {
            plan.model = folder.join(model).to_str().map(str::to_owned);
        }
        for experiment in &mut plan.experiments {
            for data in experiment.data.iter_mut().chain(&mut experiment.to) {
                *data = folder.join(&*data);
            }
        }
        plan.check()
            .with_context(|| format!("the plan {}", path.display()))?;
        Ok(plan)
    }

    fn check(&self) -> Result<()> {
        for experiment in &self.experiments {
            let title = &experiment.title;
            let lists = [
                ("data", experiment.data.is_empty()),
                ("methods", experiment.methods.is_empty()),
                ("seeds", experiment.seeds().is_empty()),
                (
                    "learning-rates",
                    experiment
                        .learning_rates
                        .as_ref()
                        .is_some_and(Vec::is_empty),
                ),
                (
                    "weight-decays",
                    experiment.weight_decays.as_ref().is_some_and(Vec::is_empty),
                ),
            ];
            if let Some((list, _)) = lists.iter().find(|(_, empty)| *empty) {
                bail!("{title:?} lists no {list}");
            }
            match (experiment.protocol, experiment.to.is_empty()) {
                (Protocol::Transfer, true) => {
                    bail!("{title:?} lists no data sets to transfer to: add to = [\"…\"]")
                }
                (Protocol::Transfer, false) | (_, true) => {}
                (_, false) => {
                    bail!(
                        "{title:?} lists data sets to transfer to, but its protocol is not transfer"
                    )
                }
            }
            let rates = experiment.learning_rates.is_some() || experiment.weight_decays.is_some();
            if rates && !experiment.protocol.chooses() {
                bail!(
                    "{title:?} lists rates to choose from, but its protocol is neither fgvc nor vtab"
                );
            }
            match (
                experiment.protocol,
                experiment.examples,
                experiment.shots.is_empty(),
            ) {
                (Protocol::Vtab, _, false) => bail!(
                    "{title:?} lists shots, but the protocol vtab draws examples = 1000 of all classes together"
                ),
                (Protocol::Vtab, Some(0..2), _) => bail!("{title:?} needs at least 2 examples"),
                (Protocol::Vtab, _, _) | (_, None, _) => {}
                (_, Some(_), _) => {
                    bail!("{title:?} lists a number of examples, but its protocol is not vtab")
                }
            }
            if experiment.shots.contains(&0) {
                bail!("{title:?} asks for 0 shots: leave shots out to learn from all pictures");
            }
        }
        Ok(())
    }
}

impl Experiment {
    /// Seeds, the first of them to choose rates by.
    pub fn seeds(&self) -> Vec<u64> {
        let published = || match self.protocol {
            Protocol::Vtab => vec![42, 44, 82, 100, 800], // KMnP/vpt, tune_vtab.py
            _ => vec![1, 2, 3],
        };
        self.seeds.clone().unwrap_or_else(published)
    }

    /// Pictures of all classes together; `None` is all.
    pub fn examples(&self) -> Option<usize> {
        match self.protocol {
            Protocol::Vtab => Some(self.examples.unwrap_or(1000)),
            _ => None,
        }
    }

    /// Whether the validation pictures are learned from once the rates are chosen.
    pub fn refits(&self) -> bool {
        self.protocol == Protocol::Vtab
    }

    /// The classes to learn.
    pub fn subset(&self) -> Subset {
        match self.protocol {
            Protocol::BaseToNew => Subset::Base,
            _ => Subset::All,
        }
    }

    /// All numbers of shots; `None` is all pictures.
    pub fn all_shots(&self) -> Vec<Option<usize>> {
        match self.shots.is_empty() {
            true => vec![None],
            false => self.shots.iter().copied().map(Some).collect(),
        }
    }
}
