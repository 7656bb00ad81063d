//! Contextune learns prompts for frozen vision–language models.
//!
//! The modules are stations on the way of the data: pictures ([`image`]), texts ([`text`]) and the examples of a data set
//! ([`data`]) go through frozen networks ([`backbone`], read by [`checkpoint`]) and become [`features`]; a prompt
//! ([`prompt`]) is what is learned ([`train`]) so that an [`objective`] on those features falls; [`evaluate`] says how
//! well, a [`run`] keeps it all, and a [`report`] shows it.

pub mod backbone;
pub mod checkpoint;
pub mod data;
pub mod evaluate;
pub mod features;
mod files;
pub mod image;
mod indices;
pub mod model;
pub mod objective;
pub mod pickle;
pub mod pretrain;
pub mod prompt;
pub mod report;
pub mod run;
pub mod text;
pub mod train;
