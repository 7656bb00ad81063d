//! The methods as subcommands of `train`: one file each, and one line each in [`METHODS`].

mod clip_adapter;
mod cocoop;
mod coop;
mod finetune;
mod image_encoder;
mod kgcoop;
mod linear_probe;
mod pixel;
mod prograd;
mod reprogram;
mod taskres;
mod text_bias;
mod text_transform;
mod tip_adapter;
mod tip_adapter_f;
mod vpt;
mod zeroshot;

use std::fmt::Debug;

use anyhow::Result;
use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};
use contextune::data::{Dataset, Subset};
use contextune::method::Initialisation;
use contextune::model::Model;
use contextune::run::AnyMethod;

use super::common::CommonArguments;
use super::training::TrainingArguments;

/// All methods, in the order of `train --help`. What a method is, and an example, stands in the doc comment of its arguments.
static METHODS: &[Entry] = &[
    entry::<zeroshot::Arguments>("zeroshot"),
    entry::<linear_probe::Arguments>("linear-probe"),
    entry::<coop::Arguments>("coop"),
    entry::<cocoop::Arguments>("cocoop"),
    entry::<kgcoop::Arguments>("kgcoop"),
    entry::<prograd::Arguments>("prograd"),
    entry::<clip_adapter::Arguments>("clip-adapter"),
    entry::<tip_adapter::Arguments>("tip-adapter"),
    entry::<tip_adapter_f::Arguments>("tip-adapter-f"),
    entry::<taskres::Arguments>("taskres"),
    entry::<text_transform::Arguments>("text-transform"),
    entry::<text_bias::Arguments>("text-bias"),
    entry::<image_encoder::Arguments>("image-encoder"),
    entry::<vpt::Arguments>("vpt"),
    entry::<pixel::Arguments>("pixel"),
    entry::<reprogram::Arguments>("reprogram"),
    entry::<finetune::Arguments>("finetune"),
];

/// The arguments of a method.
pub trait MethodArguments: Debug {
    /// Returns the arguments that every method takes.
    fn common(&self) -> &CommonArguments;

    /// Returns how it is trained; `None` where nothing is trained step by step.
    fn training(&self) -> Option<&TrainingArguments>;

    /// Returns the method with its settings, and its initialisation.
    ///
    /// # Errors
    /// Arguments that exclude each other or do not fit the model or the data.
    fn method(&self, setup: &Setup<'_>) -> Result<(AnyMethod, Initialisation)>;
}

/// What settings are resolved for.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// The frozen model.
    pub model: &'a Model,
    /// All of the data set.
    pub dataset: &'a Dataset,
    /// The classes of it that are learned.
    pub subset: Subset,
}

/// A method on the command line.
struct Entry {
    name: &'static str,
    /// Adds its description and its arguments to a command.
    describe: fn(Command) -> Command,
    read: fn(&ArgMatches) -> Result<Box<dyn MethodArguments>, clap::Error>,
}

const fn entry<A: MethodArguments + Args + 'static>(name: &'static str) -> Entry {
    Entry {
        name,
        describe: A::augment_args,
        read: |matches| Ok(Box::new(A::from_arg_matches(matches)?)),
    }
}

/// The method that a command line names, with its arguments.
#[derive(Debug)]
pub struct ChosenMethod(Box<dyn MethodArguments>);

impl ChosenMethod {
    /// Returns its arguments.
    pub fn arguments(&self) -> &dyn MethodArguments {
        &*self.0
    }
}

impl FromArgMatches for ChosenMethod {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let named = matches.subcommand().and_then(|(name, matches)| {
            let entry = METHODS.iter().find(|entry| entry.name == name)?;
            Some((entry, matches))
        });
        match named {
            Some((entry, matches)) => Ok(Self((entry.read)(matches)?)),
            None => Err(clap::Error::raw(
                ErrorKind::MissingSubcommand,
                "a method is needed",
            )),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Subcommand for ChosenMethod {
    fn augment_subcommands(train: Command) -> Command {
        METHODS.iter().fold(train, |train, entry| {
            train.subcommand((entry.describe)(Command::new(entry.name)))
        })
    }

    fn augment_subcommands_for_update(train: Command) -> Command {
        Self::augment_subcommands(train)
    }

    fn has_subcommand(name: &str) -> bool {
        METHODS.iter().any(|entry| entry.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_says_what_it_is_and_gives_an_example_of_itself() {
        let train = ChosenMethod::augment_subcommands(Command::new("train"));
        assert_eq!(train.get_subcommands().count(), METHODS.len());
        for method in train.get_subcommands() {
            let name = method.get_name();
            let long = method.get_long_about().map(ToString::to_string);
            let example = format!("Example: contextune train {name} --data ");
            assert!(long.is_some_and(|long| long.contains(&example)), "{name}");
        }
        train.debug_assert();
    }
}
