//! Instants to remember by name, such as the last complete resync.
//!
//! Guarantees: a mark is durable when `set_mark` returns.
//! Must not know: what the names mean.

use sqlx::Row as _;

use super::Store;
use super::error::{Doing as _, StoreError};

impl Store {
    /// The mark's value, if it was ever set.
    pub async fn mark(&self, name: &str) -> Result<Option<i64>, StoreError> {
        let doing = "reading a mark";
        let row = sqlx::query("SELECT value FROM marks WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.db().reader)
            .await
            .doing(doing)?;
        row.map(|row| row.try_get(0).doing(doing)).transpose()
    }

    /// Sets a mark.
    pub async fn set_mark(&self, name: &str, value: i64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO marks (name, value) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(name)
        .bind(value)
        .execute(&self.db().writer)
        .await
        .doing("setting a mark")?;
        Ok(())
    }
}
