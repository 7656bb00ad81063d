//! Contextune learns prompts for frozen vision–language models.
//!
//! The modules are stations on the way of the data: pictures ([`image`]), texts ([`text`]) and the examples of a data set
//! ([`data`]) go through frozen networks ([`backbone`], read by [`checkpoint`]) and become [`features`]; a prompt
//! ([`prompt`]) is what is learned ([`train`]) so that an [`objective`] on those features falls; [`evaluate`] says how
//! well, a [`run`] keeps it all, and a [`report`] shows it.

pub mod backbone;
pub mod features;
mod indices;
pub mod model;
pub mod objective;
pub mod pretrain;
pub mod prompt;
#[cfg(feature = "report")]
pub mod report;
pub mod run;
pub mod train;

pub use contextune_data::{architecture, checkpoint, data, evaluate, image, pickle, text};

use contextune_data::files;
