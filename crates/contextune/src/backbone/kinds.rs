//! What the operations on frozen layers are told, and where they run.

use std::sync::Arc;

use burn::tensor::Device;
use contextune_kernel::depthwise;

/// Whether the operations here stand for this device: they work in the memory of the processor.
pub(super) fn stand_for(device: &Device) -> bool {
    device.clone().inner() == Device::flex()
}

/// How many keys of its own sequence, from the first on, each query sees, `[B · Tq]`, at least one; `None`: all.
pub(super) type Seen = Option<Arc<[usize]>>;

/// Whether what is below zero becomes zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rectify {
    /// It stays.
    No,
    /// It becomes zero.
    Yes,
    /// It becomes zero, and what is above six becomes six.
    Six,
}

impl Rectify {
    /// What is above it becomes it.
    pub(super) fn ceiling(self) -> f32 {
        match self {
            Self::No | Self::Yes => f32::INFINITY,
            Self::Six => depthwise::CEILING,
        }
    }
}
