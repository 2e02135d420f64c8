//! The store: facts, ledger, inbox, leases, journal. The only place that speaks SQL to it.
//!
//! One file per table. SQLite (WAL, every commit reaches the disk, one writer, one controller per file) or
//! PostgreSQL behind the same statements; `dialect.rs` holds the differences.
//!
//! Guarantees: what a method has returned from is durable; a write of a stale lease's holder writes nothing
//! (I10); an unreadable row is an error that names it; a schema newer than this program is left alone.
//! Must not know: what the facts mean, GitHub, any cloud.

mod brakes;
mod builds;
mod dialect;
mod error;
mod inbox;
mod inbox_writer;
mod installation;
mod journal;
mod json;
mod leases;
mod leaving;
mod ledger;
mod lock;
mod marks;
mod news;
mod open;
mod postgres;
mod pulls;
mod records;
mod repos;
mod sweep;
mod time;
mod touches;
mod transaction;
mod writes;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use secrecy::SecretString;
use sqlx::AnyPool;

use dialect::Dialect;
pub use error::StoreError;
pub use inbox::{Accepted, CLAIMED, Delivery, Inbox, InboxCounts, StoredDelivery};
pub use journal::{JournalCheck, JournalId, JournalRow};
pub use leases::Lease;
use lock::FileLock;
pub use news::{Listener, News};
pub use records::Readings;

/// Connections. On PostgreSQL both pools are one.
#[derive(Clone)]
struct Db {
    dialect: Dialect,
    /// On SQLite a single connection, so that writers queue here instead of failing on the file's lock.
    writer: AnyPool,
    reader: AnyPool,
    /// SQLite only.
    lock: Option<Arc<FileLock>>,
    /// This opening of the store, among all that work on it.
    replica: Arc<str>,
    /// PostgreSQL only: where the server is.
    server: Option<SecretString>,
}

/// The store. Clones share its connections.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    db: Db,
    inbox: Inbox,
    /// The inbox's writer.
    writer: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Store {
    /// The webhook's deliveries.
    pub fn inbox(&self) -> &Inbox {
        &self.0.inbox
    }

    fn db(&self) -> &Db {
        &self.0.db
    }
}
