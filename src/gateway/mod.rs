//! The gateway: maps a preview's host name to its environment and shows a page while there is nothing to
//! map to.
//!
//! Guarantees: upstreams come only from the route table, never from a request; a host name never shows
//! another environment's content; nothing that passes is held in memory as a whole; every answer keeps
//! search engines out.
//! Must not know: plans, GitHub, the store's tables.
//!
//! A request's way: [`listen`] accepts it on one of several single-threaded runtimes, [`serve`] finds its
//! [`host`] and its [`route`], and then either `forward` carries it to the application over a connection
//! of `pool` (`tunnel` for WebSockets, `headers` for what is stripped and added), or `answer` shows a page
//! of [`crate::report::page`], which `events` keeps current.

mod answer;
mod body;
pub mod config;
mod events;
mod forward;
mod headers;
pub mod host;
pub mod listen;
mod meter;
mod pool;
pub mod route;
mod serve;
mod tunnel;

pub use config::{Front, GatewayConfig, Limits, Scheme, Timeouts};
pub use listen::{Gateway, GatewayError, GatewayHandle};
pub use route::{Destination, Route, RouteTable};
