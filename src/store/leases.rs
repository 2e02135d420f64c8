//! Leases: one pass per environment at a time, and a fence against those who come back too late.
//!
//! Guarantees: at every acquisition the fence rises; it is never used twice, also not after a release or a
//! restart. Every write that a pass makes checks the fence in the same transaction (I10), so a holder that
//! was paused past its time can write nothing.
//! Must not know: what a pass does.

use std::time::Duration;

use sqlx::Row as _;

use super::Store;
use super::error::{Doing as _, StoreError};
use super::transaction::Transaction;
use crate::domain::id::EnvKey;
use crate::domain::time::Timestamp;

/// The right to work on one environment until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The environment.
    pub key: EnvKey,
    /// Who holds it.
    pub holder: String,
    /// The number of this acquisition.
    pub fence: i64,
    /// When others may take it.
    pub expires_at: Timestamp,
}

impl Lease {
    pub(super) fn lost(&self) -> StoreError {
        StoreError::Fenced { key: self.key, fence: self.fence }
    }
}

impl Store {
    /// Takes the environment's lease, unless somebody (the same holder included) has it and it has not
    /// expired.
    pub async fn acquire(
        &self,
        key: EnvKey,
        holder: &str,
        ttl: Duration,
        now: Timestamp,
    ) -> Result<Option<Lease>, StoreError> {
        let doing = "taking a lease";
        let expires_at = now.plus(ttl);
        // fetch_all, here and wherever something is written: a single fetch stops before the commit.
        let rows = sqlx::query(
            "INSERT INTO leases (repo, pr, fence, holder, expires_at) VALUES ($1, $2, 1, $3, $4)
             ON CONFLICT (repo, pr) DO UPDATE
             SET fence = leases.fence + 1, holder = excluded.holder, expires_at = excluded.expires_at
             WHERE leases.holder IS NULL OR leases.expires_at <= $5
             RETURNING fence",
        )
        .bind(key.repo.0.cast_signed())
        .bind(key.pr.0.cast_signed())
        .bind(holder)
        .bind(expires_at.0)
        .bind(now.0)
        .fetch_all(&self.db().writer)
        .await
        .doing(doing)?;
        match rows.first() {
            Some(row) => {
                let fence = row.try_get(0).doing(doing)?;
                Ok(Some(Lease { key, holder: holder.to_owned(), fence, expires_at }))
            }
            None => Ok(None),
        }
    }

    /// Prolongs a lease that is still held. A lease that has expired but was taken by nobody is held.
    pub async fn renew(&self, lease: &Lease, ttl: Duration, now: Timestamp) -> Result<Lease, StoreError> {
        let expires_at = now.plus(ttl);
        let done =
            sqlx::query("UPDATE leases SET expires_at = $1 WHERE repo = $2 AND pr = $3 AND fence = $4 AND holder = $5")
                .bind(expires_at.0)
                .bind(lease.key.repo.0.cast_signed())
                .bind(lease.key.pr.0.cast_signed())
                .bind(lease.fence)
                .bind(lease.holder.as_str())
                .execute(&self.db().writer)
                .await
                .doing("renewing a lease")?;
        if done.rows_affected() == 0 {
            return Err(lease.lost());
        }
        Ok(Lease { expires_at, ..lease.clone() })
    }

    /// Frees what a holder had that is known to have ended: nobody has to wait until its leases and its claims on
    /// deliveries expire.
    pub async fn inherit(&self, ended: &str) -> Result<(), StoreError> {
        let doing = "taking over from the controller before";
        let mut transaction = Transaction::write(self.db(), doing).await?;
        for sql in [
            "UPDATE leases SET holder = NULL WHERE holder = $1",
            "UPDATE inbox SET claimed_until = NULL WHERE claimed_by = $1 AND processed_at IS NULL",
        ] {
            sqlx::query(sql).bind(ended).execute(transaction.connection()).await.doing(doing)?;
        }
        transaction.commit(doing).await
    }

    /// Gives a lease back. Giving back a lost one does nothing.
    pub async fn release_lease(&self, lease: &Lease) -> Result<(), StoreError> {
        sqlx::query("UPDATE leases SET holder = NULL WHERE repo = $1 AND pr = $2 AND fence = $3 AND holder = $4")
            .bind(lease.key.repo.0.cast_signed())
            .bind(lease.key.pr.0.cast_signed())
            .bind(lease.fence)
            .bind(lease.holder.as_str())
            .execute(&self.db().writer)
            .await
            .doing("giving a lease back")?;
        Ok(())
    }
}
