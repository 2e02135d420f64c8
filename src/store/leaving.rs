//! The moment at which an environment begins to leave.
//!
//! Guarantees: as those of [`super::ledger`]; counting those that left and adding one is one act.
//! Must not know: how many may leave.

use sqlx::Row as _;

use super::error::{Doing as _, StoreError};
use super::leases::Lease;
use super::ledger::not_enrolled;
use super::transaction::{Line, Transaction};
use super::{Store, json};
use crate::domain::ledger::Left;
use crate::domain::time::Timestamp;

impl Store {
    /// Notes that the environment is being taken away, and why. The first time counts.
    pub async fn leave(&self, lease: &Lease, left: &Left) -> Result<(), StoreError> {
        let doing = "noting that an environment leaves";
        let transaction = Transaction::fenced(self.db(), lease, doing).await?;
        note_leaving(transaction, lease, left, doing).await
    }

    /// As [`Store::leave`], if whoever knows the limits allows it in view of those that left since that time, and of how
    /// many live. Counting them and adding one is one act, whichever replicas do it at the same time.
    pub async fn leave_counted<R>(
        &self,
        lease: &Lease,
        left: &Left,
        since: Timestamp,
        judge: impl FnOnce(&[Left], usize) -> Result<(), R>,
    ) -> Result<Result<(), R>, StoreError> {
        let doing = "noting that an environment leaves";
        let mut transaction = Transaction::fenced(self.db(), lease, doing).await?;
        transaction.line_up(Line::Leaving, doing).await?;
        let rows =
            sqlx::query("SELECT repo, pr, standing, left_for FROM ledgers WHERE standing = 'live' OR standing_at > $1")
                .bind(since.0)
                .fetch_all(transaction.connection())
                .await
                .doing(doing)?;
        let (mut live, mut lately) = (0, Vec::new());
        for row in &rows {
            let standing: String = row.try_get(2).doing(doing)?;
            if standing == "live" {
                live += 1;
            } else if let Some(text) = row.try_get::<Option<String>, _>(3).doing(doing)? {
                let other: Left = json::read("ledgers", json::key(doing, row)?, &text)?;
                lately.extend((other.at > since).then_some(other));
            }
        }
        if let Err(refusal) = judge(&lately, live) {
            transaction.rollback(doing).await?;
            return Ok(Err(refusal));
        }
        note_leaving(transaction, lease, left, doing).await.map(Ok)
    }
}

async fn note_leaving(
    mut transaction: Transaction,
    lease: &Lease,
    left: &Left,
    doing: &'static str,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "UPDATE ledgers
         SET left_for = CASE WHEN standing = 'live' THEN $1 ELSE left_for END,
             standing_at = CASE WHEN standing = 'live' THEN $2 ELSE standing_at END,
             standing = CASE WHEN standing = 'live' THEN 'leaving' ELSE standing END
         WHERE repo = $3 AND pr = $4",
    )
    .bind(json::write(doing, left)?)
    .bind(left.at.0)
    .bind(lease.key.repo.0.cast_signed())
    .bind(lease.key.pr.0.cast_signed())
    .execute(transaction.connection())
    .await
    .doing(doing)?;
    if done.rows_affected() == 0 {
        transaction.rollback(doing).await?;
        return Err(not_enrolled(doing, lease.key));
    }
    transaction.announce(lease.key, doing).await?;
    transaction.commit(doing).await
}
