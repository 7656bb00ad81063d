//! What the outputs of a frozen model mean, for methods that put pixels in front of it.

use anyhow::Result;
use clap::{Args, ValueEnum};
use contextune::method::image::source::Target;
use contextune::objective::label_map::LabelMapping;

use super::methods::Setup;
use super::templates::TemplateArguments;
use super::values::named;
use crate::options::WrongUsage;

/// What the outputs of a frozen model mean.
#[derive(Debug, Args)]
pub struct TargetArguments {
    /// words (a class is what its words say; a CLIP) or labels (a class is one of the labels that the model was pretrained
    /// with). Without it words where the model has them.
    #[arg(long, value_enum)]
    target: Option<TargetArgument>,
    #[command(flatten)]
    templates: TemplateArguments,
    /// Which label a class gets: first, random, frequent (the label that the model gives most often to its pictures) or
    /// iterative (found anew before every epoch). Without it iterative.
    #[arg(long, value_parser = named::<LabelMapping>, conflicts_with_all = ["templates", "label_map"])]
    mapping: Option<LabelMapping>,
    /// The number of the label of each class, separated by commas, in the order of the classes.
    #[arg(
        long,
        value_name = "LABELS",
        value_delimiter = ',',
        conflicts_with = "templates"
    )]
    label_map: Option<Vec<usize>>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TargetArgument {
    Words,
    Labels,
}

impl TargetArguments {
    /// Resolves the target for this model and data set.
    pub fn resolve(&self, setup: &Setup<'_>) -> Result<Target> {
        let usual = match (&setup.model.config().text, &self.mapping, &self.label_map) {
            (Some(_), None, None) => TargetArgument::Words,
            _ => TargetArgument::Labels,
        };
        let mapped = self.mapping.is_some() || self.label_map.is_some();
        match self.target.unwrap_or(usual) {
            TargetArgument::Words if mapped => {
                Err(WrongUsage("--mapping and --label-map go with --target labels".into()).into())
            }
            TargetArgument::Labels if self.templates.are_given() => {
                Err(WrongUsage("--templates goes with --target words".into()).into())
            }
            TargetArgument::Words => Ok(Target::Words {
                templates: self.templates.lines(setup.dataset)?,
            }),
            TargetArgument::Labels => Ok(Target::Labels {
                mapping: match (&self.label_map, &self.mapping) {
                    (Some(labels), _) => LabelMapping::Given(labels.clone()),
                    (None, Some(mapping)) => mapping.clone(),
                    (None, None) => LabelMapping::Iterative,
                },
            }),
        }
    }
}
