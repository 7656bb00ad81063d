//! Connections: how many there are, how long their heads and their silence may take, how they end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;

use crate::metrics::Metrics;

/// Open connections; more wait in the system's queue.
const CONNECTIONS: usize = 512;
/// What a connection reads ahead at most, in bytes.
const READ_AHEAD: usize = 64 << 10;
/// For the head of a request, and between two requests.
const HEAD: Duration = Duration::from_secs(20);
/// For a client to take up a part of its answer.
const UNREAD: Duration = Duration::from_secs(30);
/// For what is under way when the server is stopped.
const FAREWELL: Duration = Duration::from_secs(10);
/// After an error of the system, as when it has no more file handles.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then finishes what is under way. When it returns, no connection is left.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()>,
) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(READ_AHEAD);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = async {
            let place = Arc::clone(&free).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut stop => break,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Answers are small: waiting for more of them only delays.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(UNREAD));
        let service = TowerToHyperService::new(router.clone());
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = graceful.watch(connection);
        let open = metrics.connection();
        connections.spawn(async move {
            // A client that breaks the protocol or goes away ends its own connection alone.
            let _ = connection.await;
            drop((open, place));
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(FAREWELL) => {}
    }
    connections.shutdown().await;
}
