//! Accepting connections for the controller's own HTTP.
//!
//! Guarantees: connections are bounded, and one that has not sent a whole head in time is closed, so that slow
//! or silent clients neither keep others out for long nor hold memory; a stop lets requests that are under way
//! end.
//! Must not know: what is answered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Before the next connection when one could not be accepted.
const AFTER_TROUBLE: Duration = Duration::from_millis(100);

/// Bounds on what clients may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once. Further ones wait until one ends.
    pub connections: usize,
    /// From the start of a connection, or the end of an answer, to the end of the next request's head.
    pub head: Duration,
    /// Bytes of a head.
    pub head_bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        // GitHub gives up after 10 s.
        Self { connections: 1_024, head: Duration::from_secs(10), head_bytes: 64 * 1024 }
    }
}

/// Answers until told to stop, and then until the requests that are under way have ended.
pub async fn serve(listener: TcpListener, app: Router, bounds: Bounds, stop: CancellationToken) {
    let mut http = http1::Builder::new();
    // A client may end its half of the connection once it has asked.
    http.half_close(true).max_header_size(bounds.head_bytes).timer(TokioTimer::new()).header_read_timeout(bounds.head);
    let seats = Arc::new(Semaphore::new(bounds.connections.clamp(1, Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    let accepting = async {
        // A seat is taken first: whoever finds none waits in the kernel's queue.
        while let Ok(seat) = Arc::clone(&seats).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let connection = connection(http.clone(), stream, app.clone(), stop.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(seat);
                    });
                }
                Err(error) => {
                    if !is_of_one_connection(&error) {
                        tracing::error!(%error, "no connection can be accepted; is the limit of open files too low?");
                        tokio::time::sleep(AFTER_TROUBLE).await;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(http: http1::Builder, stream: TcpStream, app: Router, stop: CancellationToken) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let app =
        tower::ServiceExt::map_request(app, |request: hyper::Request<hyper::body::Incoming>| request.map(Body::new));
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended");
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
