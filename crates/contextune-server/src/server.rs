//! The server as a whole: what it is started with, how it runs and how it ends.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::net::TcpListener;

use crate::intake::Memory;
use crate::lesson::Lessons;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::shelf::Shelf;
use crate::state::ServerState;
use crate::token::AccessToken;
use crate::{api, connection, worker};

/// What a server is started with.
pub struct Options {
    /// The access token that clients have to show; absent: none is needed, and only this machine is answered.
    pub token: Option<String>,
    /// Bounds on requests.
    pub limits: Limits,
    /// Folder of the lessons' pictures and runs; absent: nothing can be taught.
    pub taught: Option<PathBuf>,
    /// Root of the feature cache that lessons use.
    pub cache: Option<PathBuf>,
}

/// Learned prompts, ready to be asked.
#[derive(Debug)]
pub struct Server {
    state: Arc<ServerState>,
    worker: JoinHandle<()>,
}

impl Server {
    /// Creates the server and starts its worker thread.
    ///
    /// # Errors
    /// The system cannot start a thread.
    pub fn new(shelf: Shelf, options: Options) -> io::Result<Self> {
        let metrics = Arc::new(Metrics::new());
        let shelf = Arc::new(shelf);
        let limits = options.limits;
        let (queue, worker) = worker::start(limits, Arc::clone(&metrics))?;
        let lessons = options
            .taught
            .map(|folder| Lessons::new(folder, options.cache, limits.pixels, Arc::clone(&shelf)));
        Ok(Self {
            state: Arc::new(ServerState {
                shelf,
                queue,
                memory: Memory::new(limits.memory_bytes()),
                metrics,
                limits,
                token: options.token.as_deref().map(AccessToken::new),
                lessons: lessons.map(Arc::new),
            }),
            worker,
        })
    }

    /// Serves until `stop`. Then requests under way have ten seconds to finish, and a lesson ends after its current epoch and
    /// can be resumed.
    ///
    /// # Errors
    /// The worker thread has panicked; no client can cause this.
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
