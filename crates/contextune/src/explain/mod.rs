//! What learned context vectors mean: the words they lie near to, and how far learning moved them.

pub mod movement;
pub mod words;
