//! What can go wrong in the store, sorted by what the caller should do.
//!
//! Guarantees: no message carries a value of a row other than its key; an unreadable row is named.
//! Must not know: tables.

use std::path::PathBuf;
use std::sync::Arc;

use crate::domain::id::{EnvKey, HostLabel};

/// An error of the store. `Clone`, because one failed commit answers many callers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The lease was lost: nothing was written, and the pass has to end.
    #[error("environment {key}: the lease with fence {fence} is no longer held, nothing was written; end this pass")]
    Fenced {
        /// Whose lease.
        key: EnvKey,
        /// The fence that is no longer the newest.
        fence: i64,
    },
    /// Another environment has the host label.
    #[error("host label {label} belongs to environment {by}; choose the unique form for this one")]
    HostTaken {
        /// The label.
        label: HostLabel,
        /// Who has it.
        by: EnvKey,
    },
    /// The database did not answer, or was busy. Try again.
    #[error("{doing}: the database does not answer; try again")]
    Unavailable {
        /// What was attempted.
        doing: &'static str,
        /// What the driver said.
        source: Arc<sqlx::Error>,
    },
    /// The database does not let us in, or not do this.
    #[error("{doing}: the database refuses: {why}; check user, password, database and certificates of store.url")]
    Denied {
        /// What was attempted.
        doing: &'static str,
        /// What it said.
        why: String,
    },
    /// The disk is full: nothing was written.
    #[error("{doing}: the database's disk is full, nothing was written; free or add space, no restart is needed")]
    Full {
        /// What was attempted.
        doing: &'static str,
        /// What the driver said.
        source: Arc<sqlx::Error>,
    },
    /// Every seat is taken, as replicas together count them: nothing was written.
    #[error("environment {key}: every seat is taken (limits.environments, limits.per_repository); it has to wait")]
    NoSeat {
        /// Who wanted one.
        key: EnvKey,
    },
    /// Every slot that nothing stands in is some environment's: nothing was written.
    #[error("environment {key}: every slot is taken, by other environments or by what nobody knows of; it has to wait")]
    NoSlot {
        /// Who wanted one.
        key: EnvKey,
    },
    /// The store belongs to an installation with another secret.
    #[error(
        "the store goes with the secret of another state_dir: what was made with that one cannot be reached with this \
         one; start with that state_dir (restore its file `secret` from the backup), or give this one a store of its own"
    )]
    Foreign,
    /// Another process has the file.
    #[error("{} is in use by {holder}; stop it first, or give this controller another one", path.display())]
    Locked {
        /// The database file.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// The schema was written by a newer program.
    #[error(
        "the store has schema version {found}, this program knows versions up to {known}; run a kagero at least as \
         new as the one that wrote it"
    )]
    TooNew {
        /// The version found.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
    /// A row, or the whole database, cannot be read.
    #[error("table {table}, row {row}: {why}; restore it from a backup, or delete the row and let it be rebuilt")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong with it.
        why: String,
    },
    /// The store's address cannot be used.
    #[error("store {given:?}: {why}; expected sqlite:<path> or postgres://<host>/<database>")]
    Address {
        /// The address, without its password.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// A mistake of the program's: trying again does not help.
    #[error("{doing}: {why}; this is a mistake in kagero, please report it")]
    Bug {
        /// What was attempted.
        doing: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later without anything being changed in the program.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Full { .. })
    }
}

/// Names what was attempted when a driver's error becomes a [`StoreError`].
pub(super) trait Doing<T> {
    fn doing(self, what: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, what: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| classify(what, error))
    }
}

/// Sorts a driver's error.
pub(super) fn classify(doing: &'static str, error: sqlx::Error) -> StoreError {
    enum Kind {
        Unavailable,
        Denied,
        Full,
        Damaged,
        Bug,
    }
    let kind = match &error {
        sqlx::Error::Tls(_) => Kind::Denied,
        // So a certificate arrives that is not believed.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Kind::Denied,
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::BeginFailed
        | sqlx::Error::WorkerCrashed => Kind::Unavailable,
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some("53100") => Kind::Full,
            // A server that has become a standby or was made read-only; a transaction that the server gave up.
            Some("25006" | "25P03" | "25P04") => Kind::Unavailable,
            // No right to do it.
            Some("42501") => Kind::Denied,
            Some(code) if code.len() == 5 => match &code[..2] {
                // Connections, resources, the operator, the system, deadlocks and other rollbacks, locks.
                "08" | "53" | "57" | "58" | "40" | "55" => Kind::Unavailable,
                // Wrong password or user; no such database.
                "28" | "3D" => Kind::Denied,
                "XX" => Kind::Damaged,
                _ => Kind::Bug,
            },
            // SQLite's extended codes keep the primary one in the lowest byte.
            Some(code) => match code.parse::<i32>().map(|code| (code & 0xff, code)) {
                // FULL, and IOERR_SHMSIZE: the shared-memory file could not grow.
                Ok((13, _) | (_, 4874)) => Kind::Full,
                // PERM, BUSY, LOCKED, READONLY, IOERR, CANTOPEN, PROTOCOL.
                Ok((3 | 5 | 6 | 8 | 10 | 14 | 15, _)) => Kind::Unavailable,
                // CORRUPT, NOTADB.
                Ok((11 | 26, _)) => Kind::Damaged,
                _ => Kind::Bug,
            },
            None => Kind::Bug,
        },
        _ => Kind::Bug,
    };
    match kind {
        Kind::Unavailable => StoreError::Unavailable { doing, source: Arc::new(error) },
        Kind::Denied => StoreError::Denied { doing, why: error.to_string() },
        Kind::Full => StoreError::Full { doing, source: Arc::new(error) },
        Kind::Damaged => StoreError::Corrupt { table: "(any)", row: format!("({doing})"), why: error.to_string() },
        Kind::Bug => StoreError::Bug { doing, why: error.to_string() },
    }
}

/// Whether the error says that a unique key exists already.
pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
