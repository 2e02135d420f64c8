//! Writes on GitHub within a window of time, of all replicas (I22).
//!
//! Guarantees: counting and taking one is one act, so that replicas cannot take the last one together; what was
//! written before a restart counts.
//! Must not know: how many are allowed.

use std::time::Duration;

use sqlx::Row as _;

use super::error::{Doing as _, StoreError};
use super::transaction::{Line, Transaction};
use super::{Store, json};
use crate::domain::id::EnvKey;
use crate::domain::time::Timestamp;

impl Store {
    /// Takes a write, if whoever knows the limits allows it in view of those within the window.
    pub async fn take_write<R>(
        &self,
        key: EnvKey,
        now: Timestamp,
        window: Duration,
        judge: impl FnOnce(Vec<(EnvKey, Timestamp)>) -> Result<(), R>,
    ) -> Result<Result<(), R>, StoreError> {
        let doing = "taking a write on GitHub";
        let since = now.minus(window).0;
        let mut transaction = Transaction::write(self.db(), doing).await?;
        transaction.line_up(Line::Writes, doing).await?;
        let rows = sqlx::query("SELECT repo, pr, at FROM writes WHERE at > $1 ORDER BY at")
            .bind(since)
            .fetch_all(transaction.connection())
            .await
            .doing(doing)?;
        let written: Result<Vec<_>, StoreError> =
            rows.iter().map(|row| Ok((json::key(doing, row)?, Timestamp(row.try_get(2).doing(doing)?)))).collect();
        if let Err(refusal) = judge(written?) {
            transaction.rollback(doing).await?;
            return Ok(Err(refusal));
        }
        sqlx::query("DELETE FROM writes WHERE at <= $1")
            .bind(since)
            .execute(transaction.connection())
            .await
            .doing(doing)?;
        sqlx::query("INSERT INTO writes (repo, pr, at) VALUES ($1, $2, $3)")
            .bind(key.repo.0.cast_signed())
            .bind(key.pr.0.cast_signed())
            .bind(now.0)
            .execute(transaction.connection())
            .await
            .doing(doing)?;
        transaction.commit(doing).await?;
        Ok(Ok(()))
    }
}
