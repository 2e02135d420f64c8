//! Environments whose commit is being built: never more than are allowed, over all replicas.
//!
//! Guarantees: counting and taking a turn is one act; a turn is ended only by whoever looked after it was taken.
//! Must not know: how commits are built, who waits.

use std::time::Duration;

use sqlx::Row as _;

use super::error::{Doing as _, StoreError};
use super::leases::Lease;
use super::transaction::{Line, Transaction};
use super::{Store, json};
use crate::domain::id::EnvKey;
use crate::domain::time::Timestamp;

/// By how much the clocks of replicas may differ.
const SKEW: Duration = Duration::from_mins(1);

impl Store {
    /// Takes a turn at building, or says that all are taken. One that is held already is kept.
    pub async fn take_build(&self, lease: &Lease, most: u32, at: Timestamp) -> Result<bool, StoreError> {
        let doing = "taking a turn at building";
        let (repo, pr) = (lease.key.repo.0.cast_signed(), lease.key.pr.0.cast_signed());
        let mut transaction = Transaction::fenced(self.db(), lease, doing).await?;
        transaction.line_up(Line::Builds, doing).await?;
        let others: i64 = sqlx::query("SELECT COUNT(*) FROM builds WHERE NOT (repo = $1 AND pr = $2)")
            .bind(repo)
            .bind(pr)
            .fetch_one(transaction.connection())
            .await
            .doing(doing)?
            .try_get(0)
            .doing(doing)?;
        if others >= i64::from(most) {
            transaction.rollback(doing).await?;
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO builds (repo, pr, began_at) VALUES ($1, $2, $3)
             ON CONFLICT (repo, pr) DO UPDATE SET began_at = excluded.began_at",
        )
        .bind(repo)
        .bind(pr)
        .bind(at.0)
        .execute(transaction.connection())
        .await
        .doing(doing)?;
        transaction.commit(doing).await?;
        Ok(true)
    }

    /// Ends a turn that was taken before that time: somebody has looked since, and nothing was being built.
    pub async fn end_build(&self, key: EnvKey, looked_at: Timestamp) -> Result<(), StoreError> {
        // One of the future was taken before the clock was put back.
        sqlx::query("DELETE FROM builds WHERE repo = $1 AND pr = $2 AND (began_at < $3 OR began_at > $4)")
            .bind(key.repo.0.cast_signed())
            .bind(key.pr.0.cast_signed())
            .bind(looked_at.0)
            .bind(looked_at.plus(SKEW).0)
            .execute(&self.db().writer)
            .await
            .doing("ending a turn at building")?;
        Ok(())
    }

    /// Who has a turn.
    pub async fn builds(&self) -> Result<Vec<EnvKey>, StoreError> {
        let doing = "reading who builds";
        let rows = sqlx::query("SELECT repo, pr FROM builds ORDER BY repo, pr")
            .fetch_all(&self.db().reader)
            .await
            .doing(doing)?;
        rows.iter().map(|row| json::key(doing, row)).collect()
    }
}
