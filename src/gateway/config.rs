//! What the gateway is told at its start.
//!
//! Guarantees: every limit and every time-out has a default that is safe on the open internet.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

/// What the gateway is told at its start.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// Where it listens. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Previews are `<label>.<domain>`.
    pub domain: String,
    /// Threads, each with its own runtime and its own listening socket.
    pub threads: NonZeroUsize,
    /// How the public reaches it.
    pub scheme: Scheme,
    /// What stands in front of it.
    pub front: Front,
    /// Where pull requests are read: pages link there.
    pub forge_url: String,
    /// How much of everything.
    pub limits: Limits,
    /// How long for everything.
    pub timeouts: Timeouts,
}

/// How the public reaches the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS, which ends in front of the gateway.
    Https,
}

/// What stands in front of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// Nothing: the peer is the client.
    Direct,
    /// One load balancer that appends the client's address to `X-Forwarded-For`, and no other way in.
    LoadBalancer,
}

/// How much of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Clients' connections and WebSockets at once, each thread having an equal share. Further connections
    /// wait to be accepted.
    pub connections: usize,
    /// Connections of one thread to one upstream.
    pub upstream_connections: usize,
    /// Of these, how many may wait for the next request.
    pub idle_upstream_connections: usize,
    /// Size of a request's line and headers.
    pub header_bytes: usize,
}

/// How long for everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the end of one answer, or the start of a connection, to the end of the next request's headers.
    /// Longer than the 60 s for which an AWS load balancer keeps idle connections, so that it never sends
    /// a request into a connection that is being closed.
    pub request_headers: Duration,
    /// To reach an upstream.
    pub connect: Duration,
    /// From the last sign of life of the request's body to the first of the answer.
    pub answer: Duration,
    /// Between two parts of an answer's body. Long, for event streams without heartbeats.
    pub answer_body: Duration,
    /// Without a byte in either direction of a WebSocket.
    pub tunnel: Duration,
    /// For which an upstream connection waits for the next request.
    pub idle_upstream: Duration,
    /// For which requests may still end at a shutdown.
    pub drain: Duration,
}

impl GatewayConfig {
    /// Defaults for everything but the address and the domain.
    pub fn new(listen: SocketAddr, domain: impl Into<String>) -> Self {
        Self {
            listen,
            domain: domain.into(),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            scheme: Scheme::Http,
            front: Front::Direct,
            forge_url: "https://github.com".to_owned(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Scheme {
    /// As in a link.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that a link need not name.
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            upstream_connections: 1_024,
            idle_upstream_connections: 256,
            header_bytes: 64 * 1024,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request_headers: Duration::from_secs(75),
            connect: Duration::from_secs(5),
            answer: Duration::from_mins(2),
            answer_body: Duration::from_hours(1),
            tunnel: Duration::from_hours(1),
            idle_upstream: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}
