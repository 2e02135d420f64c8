//! Brakes, each with its row in the journal.
//!
//! Guarantees: setting or taking off a brake and its row in the journal are one act (I25); a brake whose time is over
//! is not given out.
//! Must not know: what a brake stops.

use sqlx::Row as _;

use super::error::{Doing as _, StoreError};
use super::transaction::Transaction;
use super::{Store, journal, json};
use crate::domain::brake::{Brake, BrakeKind};
use crate::domain::id::{EnvKey, PrNumber, RepoId};
use crate::domain::time::Timestamp;

/// Stands for all environments.
const EVERYWHERE: EnvKey = EnvKey { repo: RepoId(0), pr: PrNumber(0) };

impl Store {
    /// Brakes that are on.
    pub async fn brakes(&self, now: Timestamp) -> Result<Vec<Brake>, StoreError> {
        let doing = "reading the brakes";
        let rows = sqlx::query("SELECT repo, pr, brake FROM brakes WHERE until_at > $1 ORDER BY kind, repo, pr")
            .bind(now.0)
            .fetch_all(&self.db().reader)
            .await
            .doing(doing)?;
        rows.iter()
            .map(|row| json::read("brakes", json::key(doing, row)?, &row.try_get::<String, _>(2).doing(doing)?))
            .collect()
    }

    /// Sets a brake, in place of one of the same kind for the same environment.
    pub async fn set_brake(&self, brake: &Brake) -> Result<(), StoreError> {
        let doing = "setting a brake";
        let key = brake.key.unwrap_or(EVERYWHERE);
        let text = json::write(doing, brake)?;
        let mut transaction = Transaction::write(self.db(), doing).await?;
        sqlx::query(
            "INSERT INTO brakes (kind, repo, pr, brake, until_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (kind, repo, pr) DO UPDATE SET brake = excluded.brake, until_at = excluded.until_at",
        )
        .bind(brake.kind.word())
        .bind(key.repo.0.cast_signed())
        .bind(key.pr.0.cast_signed())
        .bind(text.as_str())
        .bind(brake.until.0)
        .execute(transaction.connection())
        .await
        .doing(doing)?;
        transaction.announce(key, doing).await?;
        journal::note(transaction, key, brake.kind.word(), &text, brake.at, doing).await
    }

    /// Takes a brake off: whether one was on.
    pub async fn lift_brake(&self, kind: BrakeKind, of: Option<EnvKey>, now: Timestamp) -> Result<bool, StoreError> {
        let doing = "taking a brake off";
        let key = of.unwrap_or(EVERYWHERE);
        let mut transaction = Transaction::write(self.db(), doing).await?;
        let done = sqlx::query("DELETE FROM brakes WHERE kind = $1 AND repo = $2 AND pr = $3 AND until_at > $4")
            .bind(kind.word())
            .bind(key.repo.0.cast_signed())
            .bind(key.pr.0.cast_signed())
            .bind(now.0)
            .execute(transaction.connection())
            .await
            .doing(doing)?;
        if done.rows_affected() == 0 {
            transaction.rollback(doing).await?;
            return Ok(false);
        }
        transaction.announce(key, doing).await?;
        journal::note(transaction, key, kind.end(), "{}", now, doing).await?;
        Ok(true)
    }
}
