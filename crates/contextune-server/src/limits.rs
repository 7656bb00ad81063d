//! Bounds that keep the server answering whatever it is sent.

use std::time::Duration;

/// Bytes of all request bodies together that are held at a time.
const ALL_REQUESTS: usize = 128 << 20;
/// Bytes of one request body, where two of the largest pictures are smaller; base64 adds a third to a picture.
const REQUEST: usize = 32 << 20;
/// The most pictures that one request may have.
pub(crate) const MOST_PICTURES: usize = 64;

/// Bounds that keep the server answering whatever it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a picture.
    pub picture_bytes: usize,
    /// Pixels that a picture may declare, width x height.
    pub pixels: u64,
    /// Pictures that may wait to be answered, of all requests.
    pub waiting: usize,
    /// For a body to arrive, and again for its answer.
    pub patience: Duration,
}

impl Limits {
    /// Returns the most bytes that one request may have.
    pub(crate) fn request_bytes(&self) -> usize {
        REQUEST.max(2 * self.picture_bytes)
    }

    /// Returns the most bytes that all requests may have together while they wait for their answers.
    pub(crate) fn memory_bytes(&self) -> usize {
        ALL_REQUESTS.max(2 * self.request_bytes())
    }

    /// Returns the most pictures that one request may have: no more than fit into the queue.
    pub(crate) fn pictures(&self) -> usize {
        MOST_PICTURES.min(self.waiting)
    }
}
