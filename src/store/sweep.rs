//! What sweeps remember: marks on orphans, what was listed last, what was taken away lately.
//!
//! Guarantees: what a method has returned from is durable; marks of one sweep are written together.
//! Must not know: what is an orphan.

use std::time::Duration;

use sqlx::Row as _;

use super::error::{Doing as _, StoreError};
use super::transaction::Transaction;
use super::{Store, json};
use crate::domain::mark::{Mark, Subject};
use crate::domain::time::Timestamp;

impl Store {
    /// Every mark.
    pub async fn sweep_marks(&self) -> Result<Vec<Mark>, StoreError> {
        let doing = "reading the marks of sweeps";
        let rows = sqlx::query("SELECT kind, id, mark FROM sweep_marks ORDER BY kind, id")
            .fetch_all(&self.db().reader)
            .await
            .doing(doing)?;
        rows.iter()
            .map(|row| {
                let id: String = row.try_get(1).doing(doing)?;
                json::read("sweep_marks", id, &row.try_get::<String, _>(2).doing(doing)?)
            })
            .collect()
    }

    /// Sets marks and lifts others.
    pub async fn put_sweep_marks(&self, set: &[Mark], lift: &[Subject]) -> Result<(), StoreError> {
        let doing = "keeping the marks of a sweep";
        let mut transaction = Transaction::write(self.db(), doing).await?;
        for mark in set {
            sqlx::query(
                "INSERT INTO sweep_marks (kind, id, mark) VALUES ($1, $2, $3)
                 ON CONFLICT (kind, id) DO UPDATE SET mark = excluded.mark",
            )
            .bind(mark.subject.kind())
            .bind(mark.subject.id())
            .bind(json::write(doing, mark)?)
            .execute(transaction.connection())
            .await
            .doing(doing)?;
        }
        for subject in lift {
            sqlx::query("DELETE FROM sweep_marks WHERE kind = $1 AND id = $2")
                .bind(subject.kind())
                .bind(subject.id())
                .execute(transaction.connection())
                .await
                .doing(doing)?;
        }
        transaction.commit(doing).await
    }

    /// How many resources sweeps have taken away within that time.
    pub async fn sweep_removals(&self, now: Timestamp, within: Duration) -> Result<usize, StoreError> {
        let doing = "counting what sweeps have taken away";
        let count: i64 = sqlx::query("SELECT COUNT(*) FROM sweep_removals WHERE at > $1")
            .bind(now.minus(within).0)
            .fetch_one(&self.db().reader)
            .await
            .doing(doing)?
            .try_get(0)
            .doing(doing)?;
        Ok(usize::try_from(count).unwrap_or_default())
    }

    /// Notes that a sweep is about to take something away; what is older than that time is forgotten.
    pub async fn note_sweep_removal(
        &self,
        subject: &Subject,
        now: Timestamp,
        keep: Duration,
    ) -> Result<(), StoreError> {
        let doing = "noting what a sweep takes away";
        let mut transaction = Transaction::write(self.db(), doing).await?;
        sqlx::query("DELETE FROM sweep_removals WHERE at <= $1")
            .bind(now.minus(keep).0)
            .execute(transaction.connection())
            .await
            .doing(doing)?;
        sqlx::query("INSERT INTO sweep_removals (kind, id, at) VALUES ($1, $2, $3)")
            .bind(subject.kind())
            .bind(subject.id())
            .bind(now.0)
            .execute(transaction.connection())
            .await
            .doing(doing)?;
        transaction.commit(doing).await
    }

    /// What the last sweep that was believed has listed, as it was given.
    pub async fn last_sweep<T: serde::de::DeserializeOwned>(&self) -> Result<Option<T>, StoreError> {
        let doing = "reading what the last sweep has listed";
        let row = sqlx::query("SELECT counts FROM sweep_last WHERE one = 1")
            .fetch_optional(&self.db().reader)
            .await
            .doing(doing)?;
        row.map(|row| json::read("sweep_last", 1, &row.try_get::<String, _>(0).doing(doing)?)).transpose()
    }

    /// Keeps what a sweep has listed.
    pub async fn put_last_sweep<T: serde::Serialize>(&self, counts: &T) -> Result<(), StoreError> {
        let doing = "keeping what a sweep has listed";
        sqlx::query(
            "INSERT INTO sweep_last (one, counts) VALUES (1, $1)
             ON CONFLICT (one) DO UPDATE SET counts = excluded.counts",
        )
        .bind(json::write(doing, counts)?)
        .execute(&self.db().writer)
        .await
        .doing(doing)?;
        Ok(())
    }
}
