//! Contextune learns prompts for frozen vision–language models.
//!
//! The modules in the order in which data walk through them: pictures ([`image`]), texts ([`text`]) and the examples of a data
//! set ([`data`]) become [`input`]s of frozen networks ([`backbone`], built from [`parameters`] that a [`checkpoint`] holds; a
//! [`model`] is one with all that belongs to it). A [`task`] says what is to be done with an input and how good an answer is; a
//! [`method`] says what is learned so that an [`objective`] falls, and [`train`] holds the loop. [`mod@format`] keeps what was
//! learned, a [`run`] keeps how, [`explain`] says what it means.

pub mod backbone;
pub mod explain;
pub mod format;
mod indices;
pub mod input;
pub mod method;
pub mod model;
pub mod objective;
pub mod parameters;
pub mod pretrain;
pub mod run;
pub mod task;
pub mod train;

pub use burn;
pub use contextune_data::{architecture, checkpoint, data, evaluate, image, pickle, text};

use contextune_data::files;
