//! `contextune train linear-probe`.

use anyhow::Result;
use clap::Args;
use contextune::method::Initialisation;
use contextune::method::feature::linear_probe::LinearProbeSettings;
use contextune::run::AnyMethod;

use super::{MethodArguments, Setup};
use crate::commands::train::common::CommonArguments;
use crate::commands::train::training::TrainingArguments;
use crate::commands::train::values::positive;

/// Logistic regression on image features, its strength chosen on the validation pictures.
///
/// Example: contextune train linear-probe --data photos --shots 16
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    common: CommonArguments,
    /// Inverse strength of the penalty, scikit-learn's C; without it searched as CoOp's authors do.
    #[arg(long, value_name = "C", value_parser = positive)]
    c: Option<f64>,
}

impl MethodArguments for Arguments {
    fn common(&self) -> &CommonArguments {
        &self.common
    }

    fn training(&self) -> Option<&TrainingArguments> {
        None
    }

    fn method(&self, _setup: &Setup<'_>) -> Result<(AnyMethod, Initialisation)> {
        let settings = LinearProbeSettings { c: self.c };
        Ok((settings.into(), Initialisation::Random))
    }
}
