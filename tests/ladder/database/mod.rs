//! The database lanes against a real PostgreSQL and real files.
//!
//! Needs PostgreSQL 13 or newer: `apt-get install postgresql`.

mod crash;
mod external;
mod goldens;
pub mod harness;
mod lifecycle;
mod refusals;
mod seeds;
mod server;
mod sqlite;
mod tls;
