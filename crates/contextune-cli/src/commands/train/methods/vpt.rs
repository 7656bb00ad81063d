//! `contextune train vpt`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::image::vpt::{Depth, InitialPrompts, Location, Pooling, VptSettings};
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::training::TrainingArguments;
use crate::commands::train::values::{named, share};
use crate::options::WrongUsage;

/// Tokens or pixels inside a frozen vision transformer, and a linear classifier behind it (VPT); learns from pictures.
///
/// Example: contextune train vpt --data photos --tokens 10 --depth deep
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Prompt tokens; the border in pixels for pad, channels for below. Without it 10, or one for each class with --initial.
    #[arg(long)]
    tokens: Option<usize>,
    /// Where prompts begin: random, or one for each class from the class tokens of its training pictures:
    /// final-class-token (behind the last layer), class-tokens-without-last (entering each layer) or
    /// class-tokens-without-first (leaving it).
    #[arg(long, default_value = "random", value_parser = named::<InitialPrompts>)]
    initial: InitialPrompts,
    /// The layers that prompts enter: shallow (the first), deep (each), shared (each, the same prompts), first-N,
    /// first-N-only (prompts leave again), last-N or last-N-as-published (the official code loses the first patches).
    /// Without it deep, and shallow for prompts made of pixels.
    #[arg(long)]
    depth: Option<Depth>,
    /// What a prompt is: prepend (tokens), add (a summand for each token), add-1 (one for all), prepend-pixel,
    /// prepend-pixel-gaussian, prepend-pixel-normalised, pad (a border of pixels) or below (channels).
    #[arg(long, default_value = "prepend", value_parser = named::<Location>)]
    location: Location,
    /// What is classified: class-token, image, prompt or image-and-prompt.
    #[arg(long, default_value = "class-token", value_parser = named::<Pooling>)]
    pooling: Pooling,
    /// Learn prompts of this width and a linear layer from them to the tower's width.
    #[arg(long, value_name = "WIDTH")]
    project: Option<usize>,
    /// Share of the prompts' elements that a step leaves out; as published .1 for deep prompts, here 0 unless given.
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    dropout: f32,
    #[command(flatten)]
    training: TrainingArguments,
}

impl MethodArguments for Arguments {
    fn common(&self) -> &CommonArguments {
        &self.common
    }

    fn training(&self) -> Option<&TrainingArguments> {
        Some(&self.training)
    }

    fn method(&self, setup: &Setup<'_>) -> Result<(AnyMethod, Initialisation)> {
        let classes = setup.dataset.subset(setup.subset).class_names.len();
        let settings = self.settings(classes)?;
        Ok((settings.into(), Initialisation::Random))
    }
}

impl Arguments {
    fn settings(&self, classes: usize) -> Result<VptSettings> {
        /// If nothing else is said.
        const TOKENS: usize = 10;
        if matches!(self.location, Location::Add | Location::Add1) && self.tokens.is_some() {
            let as_many = "with --location add and add-1 there are as many summands as tokens, or one: leave --tokens out";
            return Err(WrongUsage(as_many.into()).into());
        }
        let of_pixels = !matches!(
            self.location,
            Location::Prepend | Location::Add | Location::Add1
        );
        let usual = if of_pixels {
            Depth::Shallow
        } else {
            Depth::Deep
        };
        let tokens = match self.initial {
            InitialPrompts::Random => TOKENS,
            _ => classes,
        };
        Ok(VptSettings {
            tokens: self.tokens.unwrap_or(tokens),
            depth: self.depth.unwrap_or(usual),
            location: self.location,
            pooling: self.pooling,
            project: self.project,
            dropout: self.dropout,
            initial: self.initial,
        })
    }
}
