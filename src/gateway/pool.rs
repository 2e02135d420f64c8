//! One thread's connections to upstreams.
//!
//! Guarantees: a connection serves one environment at one address and no other, even where an address
//! comes to belong to another environment; connections are bounded per upstream, and those that nobody
//! uses are closed.
//! Must not know: routes, requests' meaning.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use metrics::Counter;
use tokio::net::TcpStream;

use super::body::RequestBody;
use super::config::{Limits, Timeouts};
use crate::domain::id::EnvUid;

/// What a connection serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The environment's uid, which is a number of 80 bits.
    environment: u128,
    address: SocketAddr,
}

/// One thread's connections to upstreams.
pub(super) struct Pool {
    upstreams: Mutex<HashMap<Key, Upstream>>,
    /// Rises twice within the time that a connection may wait for its next request.
    beat: AtomicU64,
    most_open: usize,
    most_idle: usize,
    connect: Duration,
    idle: Duration,
    connects: Counter,
}

#[derive(Default)]
struct Upstream {
    open: usize,
    idle: Vec<Idle>,
}

struct Idle {
    sender: SendRequest<RequestBody>,
    since: u64,
}

/// A connection that carries one request.
pub(super) struct Lease {
    pool: Arc<Pool>,
    key: Key,
    sender: SendRequest<RequestBody>,
    /// Whether it was made for this request.
    pub made: Made,
}

/// Where a leased connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// It was made for this request.
    Now,
    /// It has carried others, and its other end may just be closing it.
    Before,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoConnection {
    #[error("the application at {0} does not accept connections")]
    Refused(SocketAddr, #[source] io::Error),
    #[error("the application at {0} does not accept connections in time")]
    TimedOut(SocketAddr),
    #[error("{1} connections to the application at {0} are busy")]
    AllBusy(SocketAddr, usize),
}

impl Key {
    pub(super) fn new(uid: &EnvUid, address: SocketAddr) -> Self {
        // A uid is 20 hexadecimal digits by construction.
        Self { environment: u128::from_str_radix(uid.as_str(), 16).unwrap_or(u128::MAX), address }
    }
}

impl Pool {
    pub(super) fn new(limits: &Limits, timeouts: &Timeouts, connects: Counter) -> Arc<Self> {
        Arc::new(Self {
            upstreams: Mutex::default(),
            beat: AtomicU64::new(0),
            most_open: limits.upstream_connections,
            most_idle: limits.idle_upstream_connections,
            connect: timeouts.connect,
            idle: timeouts.idle_upstream,
            connects,
        })
    }

    /// A connection that has carried a request before, or a new one.
    pub(super) async fn lease(self: &Arc<Self>, key: Key) -> Result<Lease, NoConnection> {
        while let Some(sender) = self.take_idle(key) {
            if !sender.is_ready() {
                // Its task may not have run since the last answer's end. If that was not it, it is still
                // busy with that request's body, or closed.
                tokio::task::yield_now().await;
            }
            if sender.is_ready() {
                return Ok(Lease { pool: Arc::clone(self), key, sender, made: Made::Before });
            }
        }
        // Boxed, as it is rare: what every request carries along stays small.
        Box::pin(self.connect(key)).await
    }

    /// A new connection.
    pub(super) async fn connect(self: &Arc<Self>, key: Key) -> Result<Lease, NoConnection> {
        let open = self.open(key)?;
        let stream = tokio::time::timeout(self.connect, TcpStream::connect(key.address))
            .await
            .map_err(|_| NoConnection::TimedOut(key.address))?
            .map_err(|error| NoConnection::Refused(key.address, error))?;
        stream.set_nodelay(true).map_err(|error| NoConnection::Refused(key.address, error))?;
        self.connects.increment(1);
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| NoConnection::Refused(key.address, io::Error::other(error)))?;
        tokio::spawn(async move {
            // Whoever waits for the answer is told of a failure; there is nobody else to tell.
            let _ = connection.with_upgrades().await;
            drop(open);
        });
        Ok(Lease { pool: Arc::clone(self), key, sender, made: Made::Now })
    }

    /// Closes connections that nobody has used for a while, for ever.
    pub(super) async fn evict(self: Arc<Self>) {
        let mut beats = tokio::time::interval((self.idle / 2).max(Duration::from_millis(1)));
        loop {
            beats.tick().await;
            let now = self.beat.fetch_add(1, Ordering::Relaxed) + 1;
            self.upstreams().retain(|_, upstream| {
                upstream.idle.retain(|idle| now - idle.since <= 2 && !idle.sender.is_closed());
                upstream.open > 0 || !upstream.idle.is_empty()
            });
        }
    }

    fn take_idle(&self, key: Key) -> Option<SendRequest<RequestBody>> {
        // The one used last: the others may then grow old and go.
        Some(self.upstreams().get_mut(&key)?.idle.pop()?.sender)
    }

    fn open(self: &Arc<Self>, key: Key) -> Result<Open, NoConnection> {
        let mut upstreams = self.upstreams();
        let upstream = upstreams.entry(key).or_default();
        if upstream.open >= self.most_open {
            return Err(NoConnection::AllBusy(key.address, self.most_open));
        }
        upstream.open += 1;
        Ok(Open { pool: Arc::clone(self), key })
    }

    fn upstreams(&self) -> MutexGuard<'_, HashMap<Key, Upstream>> {
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Sends the request. The inner error gives it back if nothing of it was sent.
    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<hyper::body::Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.sender.try_send_request(request)
    }

    /// Keeps the connection for the next request. Only after a whole answer; otherwise drop the lease,
    /// which closes the connection.
    pub(super) fn give_back(self) {
        let Self { pool, key, sender, .. } = self;
        let since = pool.beat.load(Ordering::Relaxed);
        let mut upstreams = pool.upstreams();
        if let Some(upstream) = upstreams.get_mut(&key)
            && upstream.idle.len() < pool.most_idle
            && !sender.is_closed()
        {
            upstream.idle.push(Idle { sender, since });
        }
    }
}

/// Counts an open connection for as long as it is.
struct Open {
    pool: Arc<Pool>,
    key: Key,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(upstream) = self.pool.upstreams().get_mut(&self.key) {
            upstream.open -= 1;
        }
    }
}
