//! PostgreSQL servers as an administrator sees them, whoever has made them.
//!
//! Guarantees: what goes wrong is sorted by what the caller should do; nothing that is secret is told.
//! Must not know: which provider a server belongs to.

pub mod fault;
pub mod restored;
pub mod roles;
pub mod session;
