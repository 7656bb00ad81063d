//! HTTP around learned prompts.
//!
//! A request walks through these rooms: `connection` accepts it, one of a bounded number; `guard` asks who sends it (`token`
//! is the secret); `intake` reads it into bounded memory; `api` knows what is asked; `shelf` holds what can answer; `worker`
//! puts pictures of many requests through the image tower together. `lesson` learns a new prompt from pictures that were sent.
//! `state` is what all requests share, `limits` are its bounds.

mod answer;
mod api;
mod classifier;
mod connection;
mod guard;
mod intake;
mod lesson;
mod limits;
mod metrics;
mod page;
mod server;
mod shelf;
mod state;
mod token;
mod worker;

pub use lesson::{Taught, taught};
pub use limits::Limits;
pub use server::{Options, Server};
pub use shelf::{OpenModel, Shelf, ShelfError, name_of};
