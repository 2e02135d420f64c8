//! Databases on this machine or on a server that the operator names: PostgreSQL, or SQLite files where
//! nothing is installed.
//!
//! Guarantees: see [`crate::cloud::Databases`]. Preparing and dropping happen in background tasks; a
//! listing shows what the server holds and what is underway, or is an error.
//! Must not know: plans, the store, GitHub.

mod cluster;
mod fault;
mod postgres;
mod server;
mod tasks;

pub use cluster::Durability;
pub use postgres::{PostgresConfig, PostgresDatabases, ProbeReport, probe};
pub use server::{PRIVATE_NETWORK, ServerConfig};
