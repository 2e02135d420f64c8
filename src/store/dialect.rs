//! The few places where SQLite and PostgreSQL differ.
//!
//! Guarantees: every other file of the store is written once, for both.
//! Must not know: tables.

/// Which database is behind the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Begins a transaction that reads before it writes. SQLite must take the write lock at once: a lock
    /// taken later fails when another writer was faster.
    pub(super) fn begin_write(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// Begins a transaction whose reads all see the same instant.
    pub(super) fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// Appended to a `SELECT` whose row must not change before the transaction ends.
    pub(super) fn lock_row(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// Makes a transaction wait until no other is in that line, and keeps others out until its end. SQLite has one
    /// writer anyway.
    pub(super) fn line_up(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT pg_advisory_xact_lock($1, $2)"),
        }
    }

    /// Announces something to the other replicas when the transaction is committed. A SQLite file has no others.
    pub(super) fn announce(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT pg_notify($1, $2)"),
        }
    }

    /// Asks the server for its time, in milliseconds since 1970. A file has no clock.
    pub(super) fn time(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"),
        }
    }

    /// Claims deliveries that nobody works on, without waiting for those who claim at the same time. A SQLite file has
    /// one controller.
    pub(super) fn claim(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some(
                "UPDATE inbox SET claimed_by = $1, claimed_until = $2 WHERE seq IN
                 (SELECT seq FROM inbox WHERE processed_at IS NULL AND (claimed_until IS NULL OR claimed_until <= $3)
                  ORDER BY seq LIMIT $4 FOR UPDATE SKIP LOCKED)
                 RETURNING seq, guid, event, body, size, received_at",
            ),
        }
    }

    /// Fills the two type names in that differ.
    pub(super) fn migration(self, sql: &str) -> String {
        let (serial, bytes) = match self {
            Self::Sqlite => ("INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", "BLOB"),
            Self::Postgres => ("BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", "BYTEA"),
        };
        sql.replace(" SERIAL_KEY", &format!(" {serial}")).replace(" BYTES ", &format!(" {bytes} "))
    }
}
