//! One worker for one name at a time, over all processes that use the server.
//!
//! The lock belongs to a session: if its process dies, the server lets it go, and a listing can tell work
//! in progress from work broken off.
//!
//! Guarantees: waiting for a lock ends.
//! Must not know: what is done under it.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use sqlx::postgres::PgConnection;

use crate::cloud::CloudError;

use super::super::fault;

/// Sets our locks apart from those of others in the maintenance database: `kage`.
const SPACE: i32 = i32::from_be_bytes(*b"kage");

/// The longest that a lock is waited for: longer than any clone, shorter than a person's patience.
const PATIENCE: &str = "10min";

fn key(name: &str) -> i32 {
    let hash = Sha256::digest(name);
    i32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// Waits for the name.
pub async fn take(connection: &mut PgConnection, what: &str, name: &str) -> Result<(), CloudError> {
    let failed = |error: sqlx::Error| fault::sql(format!("{what}: wait for others who work on it"), &error);
    sqlx::query("SELECT pg_catalog.set_config('lock_timeout', $1, false)")
        .bind(PATIENCE)
        .execute(&mut *connection)
        .await
        .map_err(failed)?;
    sqlx::query("SELECT pg_catalog.pg_advisory_lock($1, $2)")
        .bind(SPACE)
        .bind(key(name))
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}

/// Lets go of the name.
pub async fn release(connection: &mut PgConnection, what: &str, name: &str) -> Result<(), CloudError> {
    sqlx::query("SELECT pg_catalog.pg_advisory_unlock($1, $2)")
        .bind(SPACE)
        .bind(key(name))
        .execute(connection)
        .await
        .map_err(|error| fault::sql(what, &error))?;
    Ok(())
}

/// Names that someone works on.
pub struct Busy(BTreeSet<i32>);

impl Busy {
    /// Reads them.
    pub async fn read(connection: &mut PgConnection, what: &str) -> Result<Self, CloudError> {
        let keys: Vec<i32> = sqlx::query_scalar(
            "SELECT objid::bigint::bit(32)::int FROM pg_catalog.pg_locks \
             WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid::bigint = $1",
        )
        .bind(i64::from(SPACE))
        .fetch_all(connection)
        .await
        .map_err(|error| fault::sql(what, &error))?;
        Ok(Self(keys.into_iter().collect()))
    }

    /// Whether someone works on the name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains(&key(name))
    }
}
