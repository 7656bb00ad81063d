//! Examples and a backbone to features.

mod encoder;

pub use encoder::{EncodedPictures, PictureEncoder};
