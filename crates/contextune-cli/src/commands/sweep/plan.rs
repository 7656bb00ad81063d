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
    /// Seeds.
    #[serde(default = "published_seeds")]
    pub seeds: Vec<u64>,
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
}

fn published_seeds() -> Vec<u64> {
    vec![1, 2, 3]
}

impl Plan {
    /// Reads a plan; its relative paths are below its folder.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the plan {}", path.display()))?;
        let mut plan: Self =
            toml::from_str(&text).with_context(|| format!("{} is not a plan", path.display()))?;
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
                ("seeds", experiment.seeds.is_empty()),
            ];
            if let Some((list, _)) = lists.iter().find(|(_, empty)| *empty) {
                bail!("{title:?} lists no {list}");
            }
            match (experiment.protocol, experiment.to.is_empty()) {
                (Protocol::Transfer, true) => {
                    bail!("{title:?} lists no data sets to transfer to: add to = [\"…\"]")
                }
                (Protocol::FewShot | Protocol::BaseToNew, false) => {
                    bail!(
                        "{title:?} lists data sets to transfer to, but its protocol is not transfer"
                    )
                }
                _ => {}
            }
            if experiment.shots.contains(&0) {
                bail!("{title:?} asks for 0 shots: leave shots out to learn from all pictures");
            }
        }
        Ok(())
    }
}

impl Experiment {
    /// The classes to learn.
    pub fn subset(&self) -> Subset {
        match self.protocol {
            Protocol::BaseToNew => Subset::Base,
            Protocol::FewShot | Protocol::Transfer => Subset::All,
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
