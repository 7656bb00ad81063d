//! Contextune learns prompts for frozen vision–language models.
//!
//! The modules are stations on the way of the data: frozen networks ([`backbone`]) turn pictures and texts into
//! features; a prompt ([`prompt`]) is what is learned ([`train`]) so that an [`objective`] on those features falls.

pub mod backbone;
pub mod objective;
pub mod prompt;
pub mod train;
