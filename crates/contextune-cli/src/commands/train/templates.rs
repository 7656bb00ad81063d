//! The words around class names.

use anyhow::Result;
use clap::Args;
use contextune::data::Dataset;
use contextune::text::{TEMPLATE, TemplateSet};

#[derive(Debug, Args)]
pub struct TemplateArguments {
    /// A template such as "a photo of a {}.", a file with one a line, or a named set (openai-7, openai-80, …); several are
    /// averaged as features. Without it the published template of the data set, or "a photo of a {}.".
    #[arg(long)]
    templates: Option<String>,
}

impl TemplateArguments {
    /// Returns whether templates were given.
    pub fn are_given(&self) -> bool {
        self.templates.is_some()
    }

    /// Returns the templates, one per line.
    pub fn lines(&self, dataset: &Dataset) -> Result<String> {
        let argument = match &self.templates {
            Some(templates) => templates,
            None => dataset.published_template().unwrap_or(TEMPLATE),
        };
        Ok(TemplateSet::from_argument(argument)?.lines())
    }
}
