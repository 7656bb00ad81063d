//! Builds the icon benchmark: openly licensed emoji art with names, as opaque RGB pictures in CoOp's dataset layout.
//!
//! The way of the data: [`sources`] reads the unpacked packages and says which picture shows which emoji, [`render`]
//! turns a drawing into an opaque picture, [`split`] reads the committed file that says which names and which style
//! pre-training never sees, and [`dataset`] writes the folders. The same inputs give the same bytes.

#![warn(missing_docs)]

pub mod dataset;
pub mod more;
pub mod render;
pub mod sources;
pub mod split;
