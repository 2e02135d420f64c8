//! The gateway: maps a preview's host name to its environment and shows a page while there is nothing to
//! map to.
//!
//! Guarantees: upstreams come only from the route table, never from a request; a host name never shows
//! another environment's content.
//! Must not know: plans, GitHub, the store's tables.

pub mod route;
