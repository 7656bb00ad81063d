//! What all requests share.

use std::sync::Arc;

use crate::intake::Memory;
use crate::lesson::Lessons;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::shelf::Shelf;
use crate::token::AccessToken;
use crate::worker::Queue;

/// What all requests share.
#[derive(Debug)]
pub(crate) struct ServerState {
    pub shelf: Arc<Shelf>,
    pub queue: Queue,
    pub memory: Memory,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    /// Absent: requests need no token.
    pub token: Option<AccessToken>,
    /// Absent: nothing can be taught.
    pub lessons: Option<Arc<Lessons>>,
}
