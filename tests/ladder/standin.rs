//! The stand-in for GitHub and the demo's shop: what the other tests and the demo rely on.

mod api;
mod client;
mod hooks;
mod page;
mod shop;
pub(crate) mod whole;
