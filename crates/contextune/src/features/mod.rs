//! Examples and a backbone to features, computed once for each (picture, view).

mod cache;
mod encoder;
mod examples;
mod table;

pub use cache::{FeatureCache, KeptEncoding};
pub use encoder::{EncodedBatch, PictureEncoder, PictureReader, Request, View};
pub use examples::{EncodingOptions, EncodingWatcher, ExampleEncoder, FeatureError, Sees, Views};
pub use table::LabelledFeatures;
