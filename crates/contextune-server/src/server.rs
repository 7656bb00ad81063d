//! The server as a whole: what it is started with, and what its requests share.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use burn::tensor::Device;
use tokio::net::TcpListener;

use crate::guard::Token;
use crate::intake::Memory;
use crate::lesson::Lessons;
use crate::metrics::Metrics;
use crate::shelf::Shelf;
use crate::worker::{self, Queue};
use crate::{api, connection};

/// Bytes of all requests together that have arrived and are not yet answered.
const ALL_REQUESTS: usize = 128 << 20;
/// The most that one request may have; in base64 a picture takes a third more.
const REQUEST: usize = 32 << 20;
/// The most pictures that one request may have.
pub(crate) const MOST_PICTURES: usize = 64;

/// What a server is started with.
pub struct Options {
    /// What a client has to show; absent: nothing, and only this machine is answered.
    pub token: Option<String>,
    /// Bounds.
    pub limits: Limits,
    /// Where lessons keep pictures and runs; absent: nothing can be taught.
    pub taught: Option<PathBuf>,
    /// Root of the feature cache that lessons use.
    pub cache: Option<PathBuf>,
    /// Where tensors live.
    pub device: Device,
}

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
    /// Bytes of a whole request.
    pub(crate) fn request_bytes(&self) -> usize {
        REQUEST.max(2 * self.picture_bytes)
    }

    /// Pictures in a request: no more than could ever find a place in the queue.
    pub(crate) fn pictures(&self) -> usize {
        MOST_PICTURES.min(self.waiting)
    }
}

/// Learned prompts, ready to be asked.
#[derive(Debug)]
pub struct Server {
    state: Arc<State>,
    worker: JoinHandle<()>,
}

/// What requests share.
#[derive(Debug)]
pub(crate) struct State {
    pub shelf: Arc<Shelf>,
    pub queue: Queue,
    pub memory: Memory,
    pub metrics: Arc<Metrics>,
    pub limits: Limits,
    pub token: Option<Token>,
    pub lessons: Option<Arc<Lessons>>,
}

impl Server {
    /// Starts the thread that computes.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn new(shelf: Shelf, options: Options) -> io::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let shelf = Arc::new(shelf);
        let limits = options.limits;
        let (queue, worker) = worker::start(options.device, limits, Arc::clone(&metrics))?;
        let lessons = options
            .taught
            .map(|folder| Lessons::new(folder, options.cache, limits.pixels, Arc::clone(&shelf)));
        Ok(Self {
            state: Arc::new(State {
                shelf,
                queue,
                memory: Memory::new(ALL_REQUESTS.max(2 * limits.request_bytes())),
                metrics,
                limits,
                token: options.token.as_deref().map(Token::new),
                lessons: lessons.map(Arc::new),
            }),
            worker,
        })
    }

    /// Serves until `stop`; then there are ten seconds for what is under way, and a lesson ends after its epoch and can be
    /// resumed.
    ///
    /// # Errors
    /// None that a client can cause.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let Self { state, worker } = self;
        let router = api::router(Arc::clone(&state));
        let metrics = Arc::clone(&state.metrics);
        let lessons = state.lessons.clone();
        let stop = async {
            stop.await;
            if let Some(lessons) = &lessons {
                lessons.stop();
            }
        };
        connection::serve(listener, router, metrics, stop).await;
        drop(state); // with the last sender the worker's queue ends
        let joined = tokio::task::spawn_blocking(move || {
            if let Some(lessons) = lessons {
                lessons.join();
            }
            worker.join()
        })
        .await;
        match joined {
            Ok(Ok(())) => Ok(()),
            _ => Err(io::Error::other("the thread that computes has failed")),
        }
    }
}
