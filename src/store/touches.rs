//! The newest delivery about each pull request that was looked into.
//!
//! Guarantees: an older delivery never replaces a newer one.
//! Must not know: what follows from a delivery.

use sqlx::Row as _;

use super::Store;
use super::error::{Doing as _, StoreError};
use crate::domain::id::EnvKey;

impl Store {
    /// Notes that the delivery with that number of the inbox is about a pull request.
    pub async fn touch(&self, key: EnvKey, seq: i64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO touches (repo, pr, seq, guid) SELECT $1, $2, seq, guid FROM inbox WHERE seq = $3
             ON CONFLICT (repo, pr) DO UPDATE SET seq = excluded.seq, guid = excluded.guid
             WHERE excluded.seq > touches.seq",
        )
        .bind(key.repo.0.cast_signed())
        .bind(key.pr.0.cast_signed())
        .bind(seq)
        .execute(&self.db().writer)
        .await
        .doing("noting a delivery about a pull request")?;
        Ok(())
    }

    /// The guid of the newest delivery about a pull request, if there was one.
    pub async fn touched_by(&self, key: EnvKey) -> Result<Option<String>, StoreError> {
        let doing = "reading the delivery about a pull request";
        let row = sqlx::query("SELECT guid FROM touches WHERE repo = $1 AND pr = $2")
            .bind(key.repo.0.cast_signed())
            .bind(key.pr.0.cast_signed())
            .fetch_optional(&self.db().reader)
            .await
            .doing(doing)?;
        row.map(|row| row.try_get(0).doing(doing)).transpose()
    }
}
