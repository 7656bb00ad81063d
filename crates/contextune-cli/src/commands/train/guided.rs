//! CoOp whose steps hand-written words guide: the arguments that KgCoOp and ProGrad share.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::text::guided::GuidedSettings;

use super::context::{ContextArguments, LayoutArguments};
use super::methods::Setup;
use super::templates::TemplateArguments;
use super::values::positive;

#[derive(Debug, Args)]
pub struct GuidedArguments {
    #[command(flatten)]
    pub layout: LayoutArguments,
    #[command(flatten)]
    context: ContextArguments,
    #[command(flatten)]
    templates: TemplateArguments,
    /// Factor of the guidance, λ; as published 8 for kgcoop, 1 for prograd.
    #[arg(long, value_name = "FACTOR", value_parser = positive)]
    weight: Option<f64>,
}

impl GuidedArguments {
    /// Returns the factor of the guidance.
    pub fn weight_or(&self, published: f32) -> f32 {
        self.weight.map_or(published, |weight| weight as f32)
    }

    /// Returns the settings with this guidance, and the context's initialisation; `words` initialise it if the arguments name
    /// nothing else.
    pub fn resolve<G>(
        &self,
        guidance: G,
        words: Option<&str>,
        setup: &Setup<'_>,
    ) -> Result<(GuidedSettings<G>, Initialisation)> {
        let (layout, initial) = self.context.resolve(&self.layout, words, setup.model)?;
        let settings = GuidedSettings {
            layout,
            templates: self.templates.lines(setup.dataset)?,
            guidance,
        };
        Ok((settings, initial))
    }
}
