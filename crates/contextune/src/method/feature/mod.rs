//! What is learned behind the frozen towers, on their features.

pub mod clip_adapter;
pub mod linear_probe;
pub mod taskres;
pub mod text_tuning;
pub mod tip_adapter;
