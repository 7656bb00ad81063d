//! What can be wrong with a checkpoint.

use std::path::{Path, PathBuf};

/// Why a model could not be opened, read, written or fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A healthy file of another kind.
    #[error("{} is {what}, not a CLIP checkpoint: {advice}", path.display())]
    NotACheckpoint {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What to do.
        advice: String,
    },
    /// A model, but of an architecture that the towers cannot run.
    #[error("{} holds {what}; {advice}", path.display())]
    UnsupportedModel {
        /// The file or folder.
        path: PathBuf,
        /// The family or property that is not supported.
        what: String,
        /// What to do.
        advice: String,
    },
    /// A file whose bytes contradict its format, such as one cut short.
    #[error("{} is damaged: {what}; download or copy it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The contradiction.
        what: String,
    },
    /// A configuration that is not JSON, lacks a field or has an impossible value.
    #[error("{}: {what}", path.display())]
    Config {
        /// The file that holds the configuration.
        path: PathBuf,
        /// What is wrong and what is expected.
        what: String,
    },
    /// A weight of the model is not in the file.
    #[error("{}: the tensor {name} is missing, so this is not a complete CLIP model; use the file as it was published", path.display())]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor, as this format calls it.
        name: String,
    },
    /// The file has a weight that the model would not use: leaving it out would give wrong features.
    #[error("{}: the tensor {name} does not belong to a CLIP model, so this is another architecture; use a plain CLIP", path.display())]
    UnknownTensor {
        /// The file.
        path: PathBuf,
        /// The tensor, as this format calls it.
        name: String,
    },
    /// A weight has another shape than the rest of the model implies.
    #[error("{}: the tensor {name} has shape {found:?} where the model needs {expected:?}", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor, as this format calls it.
        name: String,
        /// Shape in the file.
        found: Vec<usize>,
        /// Shape that follows from the architecture.
        expected: Vec<usize>,
    },
    /// A weight is stored as integers (a quantised model).
    #[error("{}: the tensor {name} is stored as {element}; only floating-point weights can be read, use the unquantised model", path.display())]
    NotFloat {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its element type.
        element: &'static str,
    },
    /// A weight is NaN or infinite, in the file or after rounding to half precision.
    #[error("{}: the tensor {name} has the value {value} at element {index}; every weight must be finite", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Position in row-major order.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A factor on cosines that no float holds.
    #[error("{}: logit_scale is {scale}, whose exponential is infinite: training has diverged; CLIP models end at 4.6, which is a factor of 100", path.display())]
    LogitScale {
        /// The file.
        path: PathBuf,
        /// The logarithm of the factor.
        scale: f32,
    },
    /// The model is not on the hub, or not for this user.
    #[error(
        "the hub has no public model {id} (HTTP {status} from {endpoint}): check the spelling; a private or gated model needs an access token in HF_TOKEN"
    )]
    HubNotFound {
        /// The id asked for.
        id: String,
        /// The hub.
        endpoint: String,
        /// HTTP status.
        status: u16,
    },
    /// The hub could not be reached or broke off.
    #[error(
        "{id} could not be fetched from {endpoint}: {reason}; check the network and try again (a partial download is continued), or pass a downloaded folder"
    )]
    HubUnreachable {
        /// The id asked for.
        id: String,
        /// The hub.
        endpoint: String,
        /// What failed.
        reason: String,
    },
    /// Offline, and the cache does not hold the whole model.
    #[error("{id} is not in the cache {}: fetch it once with the network on, or pass a downloaded folder", cache.display())]
    HubOffline {
        /// The id asked for.
        id: String,
        /// The cache folder.
        cache: PathBuf,
    },
    /// A hub id, where the library was built without the feature `hub`.
    #[error(
        "{id} is neither a file nor a folder, and this build cannot download from the Hugging Face hub: pass a downloaded folder, or build with the feature `hub`"
    )]
    HubUnavailable {
        /// The id.
        id: String,
    },
    /// A text that cannot be a hub id.
    #[error("{id:?} is neither a file or folder nor a hub id of the form owner/name")]
    HubId {
        /// The text.
        id: String,
    },
}

/// Result of this module.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    pub(super) fn config(path: &Path, what: impl Into<String>) -> Self {
        Self::Config {
            path: path.to_owned(),
            what: what.into(),
        }
    }

    pub(super) fn not_a_checkpoint(
        path: &Path,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::NotACheckpoint {
            path: path.to_owned(),
            what: what.into(),
            advice: advice.into(),
        }
    }

    pub(super) fn unsupported(
        path: &Path,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self::UnsupportedModel {
            path: path.to_owned(),
            what: what.into(),
            advice: advice.into(),
        }
    }
}
