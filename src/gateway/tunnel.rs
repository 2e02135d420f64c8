//! WebSockets: bytes in both directions, as they come.
//!
//! Guarantees: an end that closes its direction leaves the other one open; a tunnel ends with either
//! connection, when nothing passes for long, and when the gateway stops.
//! Must not know: what passes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;

use super::meter::Present;
use super::serve::Worker;

const BUFFER: usize = 16 * 1024;

/// Joins both connections once both have been switched over.
pub(super) fn spawn(worker: &Worker, client: OnUpgrade, upstream: OnUpgrade, seat: OwnedSemaphorePermit) {
    let present = Present::of(&worker.meter.tunnels);
    let stop = worker.stop.clone();
    let patience = worker.timeouts.tunnel;
    worker.tasks.spawn(async move {
        let joined = async {
            let (client, upstream) = tokio::try_join!(client, upstream).map_err(io::Error::other)?;
            join(client, upstream, patience).await
        };
        tokio::select! {
            ended = joined => if let Err(error) = ended {
                tracing::debug!(error = %error, "a WebSocket ended");
            },
            () = stop.cancelled() => {}
        }
        drop((present, seat));
    });
}

async fn join(client: Upgraded, upstream: Upgraded, patience: Duration) -> io::Result<()> {
    let passed = Arc::new(AtomicBool::new(false));
    let mut client = Watched { inner: TokioIo::new(client), passed: Arc::clone(&passed) };
    let mut upstream = Watched { inner: TokioIo::new(upstream), passed: Arc::clone(&passed) };
    let copied = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER);
    let silent = async {
        loop {
            tokio::time::sleep(patience).await;
            if !passed.swap(false, Ordering::Relaxed) {
                return;
            }
        }
    };
    tokio::select! {
        copied = copied => copied.map(|_| ()),
        () = silent => Err(io::Error::new(io::ErrorKind::TimedOut, "nothing passed for too long")),
    }
}

/// Notes that something was read.
struct Watched {
    inner: TokioIo<Upgraded>,
    passed: Arc<AtomicBool>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() {
            self.passed.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
