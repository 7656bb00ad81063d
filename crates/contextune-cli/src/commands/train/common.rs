//! The arguments of every method: model, data, what is drawn of them, and the run folder.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use contextune::data::LearnFrom;
use contextune::data::{Split, Subset};
use contextune::method::Initialisation;
use contextune::method::RecipeName;
use contextune::run::AnyMethod;
use contextune::run::{RunFolder, Settings};

use super::values::{measured_split, named};
use crate::options::{ModelArguments, PictureArguments};

#[derive(Debug, Args)]
pub struct CommonArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// A folder of class folders, a published data set, or a features file.
    #[arg(long)]
    pub data: PathBuf,
    /// Training pictures of each class, drawn as the official code draws them; without it all.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    shots: Option<u32>,
    /// Sample N images in total (fixed across seeds), split 80/20 into train/val. VTAB-1k: 1000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..), conflicts_with = "shots")]
    examples: Option<u32>,
    /// Which pictures to learn from: train, or those to choose settings by as well.
    #[arg(long, default_value = "train", value_parser = named::<LearnFrom>, value_name = "train|train-and-val")]
    learn_from: LearnFrom,
    /// Which pictures to measure the result on: test, or val to choose settings by it.
    #[arg(long, default_value = "test", value_parser = measured_split, value_name = "test|val")]
    measure_on: Split,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seed of the split of a data set that has none; without it --seed.
    #[arg(long, value_name = "SEED")]
    split_seed: Option<u64>,
    /// Which classes, for the base-to-new protocol: all, base or new.
    #[arg(long, default_value_t, value_parser = crate::examples::subset)]
    pub subset: Subset,
    /// Folder for the run; without it runs/METHOD-DATA.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace the run folder if it exists.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    pictures: PictureArguments,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

impl CommonArguments {
    /// Returns the seed to open the data set with.
    pub fn split_seed(&self) -> u64 {
        self.split_seed.unwrap_or(self.seed)
    }

    /// Returns the settings of a run of this method, with the recipe unchanged.
    pub fn settings(
        &self,
        method: AnyMethod,
        initial: Initialisation,
        recipe: RecipeName,
    ) -> Result<Settings> {
        let data = std::path::absolute(&self.data)?;
        let shots = self.shots.map(|shots| shots as usize);
        Ok(Settings {
            model: self.model.model.as_deref().map(absolute_model),
            activation: self.model.activation.map(Into::into),
            examples: self.examples.map(|examples| examples as usize),
            learn_from: self.learn_from,
            measure_on: self.measure_on,
            seed: self.seed,
            split_seed: self.split_seed,
            subset: self.subset,
            exif: self.pictures.exif,
            strict: self.pictures.strict,
            initial,
            ..Settings::new(data, method, shots, recipe)
        })
    }

    /// Creates the run folder.
    pub fn folder(&self, settings: &Settings) -> Result<RunFolder> {
        let out = self.out.clone().unwrap_or_else(|| {
            let data = self.data.file_stem().unwrap_or_default().to_string_lossy();
            PathBuf::from("runs").join(format!("{}-{data}", settings.method.name()))
        });
        Ok(RunFolder::create(&out, settings, self.force)?)
    }
}

/// Makes a model's path absolute, so that a run can be resumed from anywhere; hub ids stay as they are.
pub fn absolute_model(name: &str) -> String {
    match Path::new(name).exists() {
        true => std::path::absolute(name)
            .ok()
            .and_then(|path| path.to_str().map(str::to_owned))
            .unwrap_or_else(|| name.to_owned()),
        false => name.to_owned(),
    }
}
