//! The journal: every mutating call, before and after (I25).
//!
//! Guarantees: append-only; a row is durable before the call it announces; each row carries the SHA-256 of
//! the row before it and of its own content, so that [`Store::verify_journal`] finds a row that was changed
//! or taken out.
//! Must not know: what the calls do.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::error::{Doing as _, StoreError};
use super::leases::Lease;
use super::transaction::{Line, Transaction};
use super::{Store, json};
use crate::domain::id::EnvKey;
use crate::domain::time::Timestamp;

/// What the first row points to.
const GENESIS: &str = "genesis";

/// How many rows a verification holds in memory.
const PAGE: i64 = 1_000;

/// Identifies the row that was written before a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct JournalId(pub i64);

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRow {
    /// Its number.
    pub id: JournalId,
    /// The environment.
    pub key: EnvKey,
    /// The fence of the lease under which it was made.
    pub fence: i64,
    /// The kind of step.
    pub kind: String,
    /// What was asked for.
    pub detail: serde_json::Value,
    /// When it began.
    pub began_at: Timestamp,
    /// How and when it ended; `None`: not known.
    pub ended: Option<(String, Timestamp)>,
}

/// What a verification found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalCheck {
    /// Every one of so many rows follows from the one before it.
    Intact(u64),
    /// The first row that does not.
    Broken(JournalId),
}

/// A row as it is hashed.
struct Entry<'a> {
    begin_id: Option<i64>,
    key: EnvKey,
    fence: i64,
    kind: &'a str,
    content: &'a str,
    at: i64,
}

impl Entry<'_> {
    fn hash(&self, previous: &str) -> String {
        let mut hasher = Sha256::new();
        let numbers = format!(
            "{} {} {} {} {}",
            self.begin_id.unwrap_or_default(),
            self.key.repo.0,
            self.key.pr.0,
            self.fence,
            self.at
        );
        for part in [previous, &numbers, self.kind, self.content] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        hex::encode(hasher.finalize())
    }
}

impl Store {
    /// Announces a call. Durable when it returns.
    pub async fn begin(
        &self,
        lease: &Lease,
        kind: &str,
        detail: serde_json::Value,
        at: Timestamp,
    ) -> Result<JournalId, StoreError> {
        let doing = "announcing a call in the journal";
        let transaction = Transaction::fenced(self.db(), lease, doing).await?;
        let content = json::write(doing, &detail)?;
        let entry = Entry { begin_id: None, key: lease.key, fence: lease.fence, kind, content: &content, at: at.0 };
        append(transaction, &entry, doing).await
    }

    /// Notes how a call ended. Not fenced: the truth is written also by those who came too late.
    pub async fn finish(&self, id: JournalId, outcome: &str, at: Timestamp) -> Result<(), StoreError> {
        let doing = "noting a call's end in the journal";
        let mut transaction = Transaction::write(self.db(), doing).await?;
        let row = sqlx::query("SELECT repo, pr, fence, kind FROM journal WHERE seq = $1 AND begin_id IS NULL")
            .bind(id.0)
            .fetch_optional(transaction.connection())
            .await
            .doing(doing)?;
        let Some(row) = row else {
            transaction.rollback(doing).await?;
            return Err(StoreError::Bug { doing, why: format!("no call has number {}", id.0) });
        };
        let kind: String = row.try_get(3).doing(doing)?;
        // What an agent or a provider said may hold a NUL, which PostgreSQL takes for no text.
        let outcome = outcome.replace('\0', "\u{fffd}");
        let entry = Entry {
            begin_id: Some(id.0),
            key: json::key(doing, &row)?,
            fence: row.try_get(2).doing(doing)?,
            kind: &kind,
            content: &outcome,
            at: at.0,
        };
        append(transaction, &entry, doing).await?;
        Ok(())
    }

    /// Calls after that one that began at that time or later, oldest first.
    pub async fn calls(&self, after: JournalId, since: Timestamp, limit: u32) -> Result<Vec<JournalRow>, StoreError> {
        let doing = "reading the journal";
        let rows = sqlx::query(
            "SELECT b.repo, b.pr, b.seq, b.fence, b.kind, b.content, b.at, e.content, e.at
             FROM journal b LEFT JOIN journal e ON e.begin_id = b.seq
             WHERE b.seq > $1 AND b.at >= $2 AND b.begin_id IS NULL ORDER BY b.seq LIMIT $3",
        )
        .bind(after.0)
        .bind(since.0)
        .bind(i64::from(limit))
        .fetch_all(&self.db().reader)
        .await
        .doing(doing)?;
        rows.iter().map(|row| read(row, doing)).collect()
    }

    /// An environment's calls, newest first.
    pub async fn journal(&self, key: EnvKey, limit: u32) -> Result<Vec<JournalRow>, StoreError> {
        let doing = "reading the journal";
        let rows = sqlx::query(
            "SELECT b.repo, b.pr, b.seq, b.fence, b.kind, b.content, b.at, e.content, e.at
             FROM journal b LEFT JOIN journal e ON e.begin_id = b.seq
             WHERE b.repo = $1 AND b.pr = $2 AND b.begin_id IS NULL ORDER BY b.seq DESC LIMIT $3",
        )
        .bind(key.repo.0.cast_signed())
        .bind(key.pr.0.cast_signed())
        .bind(i64::from(limit))
        .fetch_all(&self.db().reader)
        .await
        .doing(doing)?;
        rows.iter().map(|row| read(row, doing)).collect()
    }

    /// Follows the chain from its beginning.
    pub async fn verify_journal(&self) -> Result<JournalCheck, StoreError> {
        let doing = "verifying the journal";
        let mut previous = GENESIS.to_owned();
        let mut last = 0_i64;
        let mut count = 0_u64;
        loop {
            let rows = sqlx::query(
                "SELECT repo, pr, seq, begin_id, fence, kind, content, at, previous, hash FROM journal
                 WHERE seq > $1 ORDER BY seq LIMIT $2",
            )
            .bind(last)
            .bind(PAGE)
            .fetch_all(&self.db().reader)
            .await
            .doing(doing)?;
            if rows.is_empty() {
                return Ok(JournalCheck::Intact(count));
            }
            for row in &rows {
                last = row.try_get(2).doing(doing)?;
                let kind: String = row.try_get(5).doing(doing)?;
                let content: String = row.try_get(6).doing(doing)?;
                let entry = Entry {
                    begin_id: row.try_get(3).doing(doing)?,
                    key: json::key(doing, row)?,
                    fence: row.try_get(4).doing(doing)?,
                    kind: &kind,
                    content: &content,
                    at: row.try_get(7).doing(doing)?,
                };
                let claimed: String = row.try_get(9).doing(doing)?;
                if row.try_get::<String, _>(8).doing(doing)? != previous || entry.hash(&previous) != claimed {
                    return Ok(JournalCheck::Broken(JournalId(last)));
                }
                previous = claimed;
                count += 1;
            }
        }
    }
}

/// Notes an act that takes place in this transaction: its beginning and its end are one with it.
pub(super) async fn note(
    mut transaction: Transaction,
    key: EnvKey,
    kind: &str,
    content: &str,
    at: Timestamp,
    doing: &'static str,
) -> Result<(), StoreError> {
    let begin = Entry { begin_id: None, key, fence: 0, kind, content, at: at.0 };
    let JournalId(begun) = chain(&mut transaction, &begin, doing).await?;
    chain(&mut transaction, &Entry { begin_id: Some(begun), content: "ok", ..begin }, doing).await?;
    transaction.commit(doing).await
}

async fn append(mut transaction: Transaction, entry: &Entry<'_>, doing: &'static str) -> Result<JournalId, StoreError> {
    let id = chain(&mut transaction, entry, doing).await?;
    transaction.commit(doing).await?;
    Ok(id)
}

async fn chain(transaction: &mut Transaction, entry: &Entry<'_>, doing: &'static str) -> Result<JournalId, StoreError> {
    transaction.line_up(Line::Journal, doing).await?;
    let tail = sqlx::query("SELECT hash FROM journal ORDER BY seq DESC LIMIT 1")
        .fetch_optional(transaction.connection())
        .await
        .doing(doing)?;
    let previous = match tail {
        Some(row) => row.try_get(0).doing(doing)?,
        None => GENESIS.to_owned(),
    };
    let seq = sqlx::query(
        "INSERT INTO journal (begin_id, repo, pr, fence, kind, content, at, previous, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING seq",
    )
    .bind(entry.begin_id)
    .bind(entry.key.repo.0.cast_signed())
    .bind(entry.key.pr.0.cast_signed())
    .bind(entry.fence)
    .bind(entry.kind)
    .bind(entry.content)
    .bind(entry.at)
    .bind(previous.as_str())
    .bind(entry.hash(&previous))
    .fetch_one(transaction.connection())
    .await
    .doing(doing)?
    .try_get(0)
    .doing(doing)?;
    Ok(JournalId(seq))
}

fn read(row: &AnyRow, doing: &'static str) -> Result<JournalRow, StoreError> {
    let key = json::key(doing, row)?;
    let id = JournalId(row.try_get(2).doing(doing)?);
    let content: String = row.try_get(5).doing(doing)?;
    let outcome: Option<String> = row.try_get(7).doing(doing)?;
    let ended_at: Option<i64> = row.try_get(8).doing(doing)?;
    Ok(JournalRow {
        id,
        key,
        fence: row.try_get(3).doing(doing)?,
        kind: row.try_get(4).doing(doing)?,
        detail: json::read("journal", id.0, &content)?,
        began_at: Timestamp(row.try_get(6).doing(doing)?),
        ended: outcome.zip(ended_at.map(Timestamp)),
    })
}
