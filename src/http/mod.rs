//! HTTP of the controller: webhook endpoint, API, health and metrics.
//!
//! Guarantees: a webhook is durable before it is acknowledged; everything but the webhook, health and
//! metrics needs the token.
//! Must not know: providers, GitHub's API.

pub mod api;
pub mod auth;
pub mod brakes;
pub mod intake;
pub mod listen;
pub mod router;
pub mod webhook;
