//! The frozen networks, one file each.
//!
//! [`transformer`] offers the block in parts; exactly two walks use it: [`plain`] (a batch of equal sequences, any mask)
//! and the forest walk behind [`TextTower::encode`] (prompts that share rows, laid out by [`PromptLayout`]).

pub mod alexnet;
mod clip;
mod composed;
mod efficientnet;
mod forest;
mod frozen;
mod fused;
mod kinds;
mod layout;
pub mod plain;
mod positions;
mod resnet;
mod text_tower;
pub mod transformer;
mod vit;

pub use clip::{Clip, ImageTower, PixelNormalisation};
pub use contextune_kernel::vector_instructions;

pub use contextune_data::architecture::{
    Activation, EfficientNetConfig, ImageTowerConfig, InvertedResidual, ModelConfig, PlainVit,
    PositionResizing, ResNetConfig, TextTowerConfig, VitConfig, VitFamily,
};
pub use efficientnet::EfficientNet;
pub use layout::{Node, PromptLayout, Row};
pub use resnet::ModifiedResNet;
pub use text_tower::{PreparedPrompts, TextTower};
pub use vit::VisionTransformer;

/// What a tower refuses to run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackboneError {
    /// A prompt has more rows than the tower has positions.
    #[error("a prompt has {rows} tokens, start and end included; this model takes at most {limit}")]
    PromptTooLong {
        /// Rows of the prompt.
        rows: usize,
        /// Context length of the tower.
        limit: usize,
    },
    /// A token id that the embedding table does not have.
    #[error(
        "token id {id} is beyond this model's vocabulary of {vocabulary}: the tokenizer belongs to another model"
    )]
    UnknownToken {
        /// The id.
        id: u32,
        /// Rows of the embedding table.
        vocabulary: usize,
    },
}
