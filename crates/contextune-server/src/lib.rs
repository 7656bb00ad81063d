//! HTTP around learned prompts.
//!
//! A request walks through these rooms: `connection` accepts it, one of a bounded number; `guard` asks who sends it;
//! `intake` reads it into bounded memory; `api` knows what is asked; `shelf` holds what can answer; `worker` puts pictures
//! of many requests through the image tower together. `lesson` learns a new prompt from pictures that were sent.

mod answer;
mod api;
mod classifier;
mod connection;
mod guard;
mod intake;
mod lesson;
mod metrics;
mod page;
mod server;
mod shelf;
mod worker;

pub use lesson::{Taught, taught};
pub use server::{Limits, Options, Server};
pub use shelf::{OpenModel, Shelf, ShelfError, name_of};
