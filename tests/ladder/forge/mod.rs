//! The real client of GitHub against servers that answer as GitHub does, and as it should not. Every request
//! is checked against GitHub's own description of its API (see `server`).

mod access;
mod failures;
mod pages;
mod requests;
pub mod server;
mod words;
