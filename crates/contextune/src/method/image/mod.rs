//! What is learned in front of or inside the image tower.

pub mod finetune;
pub mod image_encoder;
pub mod pixel;
pub mod reprogram;
pub mod side;
pub mod source;
pub mod vpt;
