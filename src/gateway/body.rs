//! The bodies that pass through: requests on their way in, answers on their way out.
//!
//! Guarantees: a body is passed on piece by piece as fast as the other side takes it; an answer that
//! breaks off breaks off for the client too; a connection is kept only after a whole answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::pool::Lease;

/// A request's body on its way to the application.
pub(super) struct RequestBody {
    client: Option<Incoming>,
    progress: Progress,
}

/// Counts the pieces of a request's body.
#[derive(Clone, Default)]
pub(super) struct Progress(Option<Arc<AtomicU64>>);

/// What the client gets.
pub(super) enum AnswerBody {
    /// Of our own.
    Whole(Option<Bytes>),
    /// The application's.
    Upstream(UpstreamBody),
    /// A stream of our own events.
    Events(Pin<Box<dyn Stream<Item = Bytes> + Send>>),
}

/// The application's answer on its way to the client.
pub(super) struct UpstreamBody {
    upstream: Incoming,
    lease: Option<Lease>,
    patience: Duration,
    silence: Option<Pin<Box<Sleep>>>,
}

/// An answer that breaks off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenOff {
    #[error("the application's answer broke off")]
    Upstream(#[source] hyper::Error),
    #[error("the application's answer stopped for {0:?}")]
    Silence(Duration),
}

impl RequestBody {
    pub(super) fn new(client: Incoming) -> Self {
        if client.is_end_stream() {
            return Self::empty();
        }
        Self { client: Some(client), progress: Progress(Some(Arc::default())) }
    }

    pub(super) fn empty() -> Self {
        Self { client: None, progress: Progress(None) }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl Progress {
    pub(super) fn pieces(&self) -> u64 {
        self.0.as_ref().map_or(0, |pieces| pieces.load(Ordering::Relaxed))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(client) = &mut this.client else { return Poll::Ready(None) };
        let frame = Pin::new(client).poll_frame(cx);
        if let (Poll::Ready(_), Some(pieces)) = (&frame, &this.progress.0) {
            pieces.fetch_add(1, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.client.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.client.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl AnswerBody {
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    pub(super) fn empty() -> Self {
        Self::Whole(None)
    }
}

impl UpstreamBody {
    pub(super) fn new(upstream: Incoming, lease: Lease, patience: Duration) -> Self {
        let mut body = Self { upstream, lease: Some(lease), patience, silence: None };
        if body.upstream.is_end_stream() {
            body.end();
        }
        body
    }

    fn end(&mut self) {
        self.silence = None;
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Events(events) => {
                events.as_mut().poll_next(cx).map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
            }
            Self::Upstream(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Events(_) => false,
            Self::Upstream(body) => body.upstream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Events(_) => SizeHint::default(),
            Self::Upstream(body) => body.upstream.size_hint(),
        }
    }
}

impl UpstreamBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match Pin::new(&mut self.upstream).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.silence = None;
                if self.upstream.is_end_stream() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.lease = None;
                Poll::Ready(Some(Err(BrokenOff::Upstream(error))))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let patience = self.patience;
                let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                match silence.as_mut().poll(cx) {
                    Poll::Ready(()) => {
                        self.lease = None;
                        Poll::Ready(Some(Err(BrokenOff::Silence(patience))))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }
}
