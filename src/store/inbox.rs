//! The inbox: deliveries of the webhook, durable before they are acknowledged (I26).
//!
//! Bodies are compressed by the caller's task and written by one task that puts whatever has arrived in the
//! meantime into one commit: the cost of reaching the disk is shared, not waited for one by one.
//!
//! Guarantees: [`Inbox::accept`] returns after the commit, or with an error and nothing stored; of several
//! deliveries with one guid the first is kept, and processing it once is enough.
//! Must not know: what deliveries mean.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use tokio::sync::{mpsc, oneshot, watch};

use super::Db;
use super::error::{Doing as _, StoreError};
use super::inbox_writer::{self, Request};
use super::transaction::Transaction;
use crate::domain::time::Timestamp;

/// Level 1 takes a tenth of the bytes at a price of some 50 µs for 25 KB.
const COMPRESSION_LEVEL: i32 = 1;

/// Larger bodies are compressed off the caller's thread.
const LARGE_BODY: usize = 256 * 1024;

/// How long a claim on a delivery lasts: so long nobody looks, if its replica dies.
pub const CLAIMED: Duration = Duration::from_mins(1);

/// Callers that may wait for the writer; further ones wait to be let in.
const QUEUE: usize = 1_024;

/// A delivery as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// `X-GitHub-Delivery`: the same on every attempt.
    pub guid: String,
    /// `X-GitHub-Event`.
    pub event: String,
    /// The raw body.
    pub body: Bytes,
    /// When it arrived.
    pub received_at: Timestamp,
}

/// What became of a delivery. In every case it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Stored.
    New,
    /// Its guid was stored before.
    Again {
        /// Whether it has been processed already. If not, it still is pending.
        processed: bool,
    },
}

/// A delivery that has not been processed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDelivery {
    /// Its number, in the order of storing.
    pub seq: i64,
    /// `X-GitHub-Delivery`.
    pub guid: String,
    /// `X-GitHub-Event`.
    pub event: String,
    /// The raw body.
    pub body: Bytes,
    /// When it arrived.
    pub received_at: Timestamp,
}

/// How full the inbox is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxCounts {
    /// Not processed yet.
    pub pending: u64,
    /// Processed and not pruned yet.
    pub processed: u64,
    /// When the oldest pending one arrived.
    pub oldest_pending: Option<Timestamp>,
}

/// The inbox. Clones share one writer.
#[derive(Clone)]
pub struct Inbox {
    db: Db,
    requests: mpsc::Sender<Request>,
    arrivals: watch::Receiver<u64>,
}

impl Inbox {
    /// The inbox and its writer, which ends when the last clone of the inbox is gone.
    pub(super) fn start(db: Db) -> (Self, tokio::task::JoinHandle<()>) {
        let (requests, queue) = mpsc::channel(QUEUE);
        let (arrived, arrivals) = watch::channel(0);
        let writer = tokio::spawn(inbox_writer::run(db.clone(), queue, arrived));
        (Self { db, requests, arrivals }, writer)
    }

    /// Stores a delivery. Durable when it returns `Ok`. A dropped future may or may not have stored it.
    pub async fn accept(&self, delivery: Delivery) -> Result<Accepted, StoreError> {
        let size = delivery.body.len();
        let body = if size > LARGE_BODY {
            let body = delivery.body;
            tokio::task::spawn_blocking(move || compress(&body)).await.map_err(|error| bug(error.to_string()))?
        } else {
            compress(&delivery.body)
        }
        .map_err(|error| bug(error.to_string()))?;
        let (answer, answered) = oneshot::channel();
        let request = Request {
            guid: delivery.guid,
            event: delivery.event,
            body,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            received_at: delivery.received_at,
            answer,
        };
        self.requests.send(request).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// The oldest deliveries that have not been processed.
    pub async fn pending(&self, limit: u32) -> Result<Vec<StoredDelivery>, StoreError> {
        self.pending_after(0, limit).await
    }

    /// The oldest deliveries after that number that have not been processed.
    pub async fn pending_after(&self, seq: i64, limit: u32) -> Result<Vec<StoredDelivery>, StoreError> {
        let doing = "reading pending deliveries";
        let rows = sqlx::query(
            "SELECT seq, guid, event, body, size, received_at FROM inbox
             WHERE processed_at IS NULL AND seq > $1 ORDER BY seq LIMIT $2",
        )
        .bind(seq)
        .bind(i64::from(limit))
        .fetch_all(&self.db.reader)
        .await
        .doing(doing)?;
        rows.iter().map(|row| read(row, doing)).collect()
    }

    /// The oldest deliveries that nobody works on, for this holder: others leave them alone for [`CLAIMED`]. A store in a
    /// file has one controller: what comes after the given number is its own anyway.
    pub async fn claim(
        &self,
        after: i64,
        holder: &str,
        limit: u32,
        now: Timestamp,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        let doing = "claiming deliveries";
        let Some(sql) = self.db.dialect.claim() else { return self.pending_after(after, limit).await };
        let rows = sqlx::query(sql)
            .bind(holder)
            .bind(now.plus(CLAIMED).0)
            .bind(now.0)
            .bind(i64::from(limit))
            .fetch_all(&self.db.writer)
            .await
            .doing(doing)?;
        let mut claimed = rows.iter().map(|row| read(row, doing)).collect::<Result<Vec<_>, _>>()?;
        claimed.sort_by_key(|delivery| delivery.seq);
        Ok(claimed)
    }

    /// Prolongs what the holder has claimed and still works on.
    pub async fn keep_claims(&self, seqs: &[i64], holder: &str, now: Timestamp) -> Result<(), StoreError> {
        let doing = "prolonging claims on deliveries";
        if self.db.dialect.claim().is_none() || seqs.is_empty() {
            return Ok(());
        }
        let mut seqs = seqs.to_vec();
        seqs.sort_unstable();
        let mut transaction = Transaction::write(&self.db, doing).await?;
        for seq in seqs {
            sqlx::query("UPDATE inbox SET claimed_until = $1 WHERE seq = $2 AND claimed_by = $3")
                .bind(now.plus(CLAIMED).0)
                .bind(seq)
                .bind(holder)
                .execute(transaction.connection())
                .await
                .doing(doing)?;
        }
        transaction.commit(doing).await
    }

    /// Marks deliveries as processed.
    pub async fn mark_processed(&self, seqs: &[i64], at: Timestamp) -> Result<(), StoreError> {
        let doing = "marking deliveries as processed";
        let mut seqs = seqs.to_vec();
        // In one order for all, as every lock on several rows.
        seqs.sort_unstable();
        let mut transaction = Transaction::write(&self.db, doing).await?;
        for seq in seqs {
            sqlx::query("UPDATE inbox SET processed_at = $1 WHERE seq = $2 AND processed_at IS NULL")
                .bind(at.0)
                .bind(seq)
                .execute(transaction.connection())
                .await
                .doing(doing)?;
        }
        transaction.commit(doing).await
    }

    /// Deletes up to `limit` deliveries that were processed before that time; how many.
    pub async fn prune(&self, processed_before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM inbox WHERE seq IN
             (SELECT seq FROM inbox WHERE processed_at < $1 ORDER BY processed_at LIMIT $2)",
        )
        .bind(processed_before.0)
        .bind(i64::from(limit))
        .execute(&self.db.writer)
        .await
        .doing("pruning the inbox")?;
        Ok(done.rows_affected())
    }

    /// How full the inbox is.
    pub async fn counts(&self) -> Result<InboxCounts, StoreError> {
        let doing = "counting deliveries";
        let row = sqlx::query(
            "SELECT (SELECT COUNT(*) FROM inbox WHERE processed_at IS NULL),
                    (SELECT COUNT(*) FROM inbox WHERE processed_at IS NOT NULL),
                    (SELECT received_at FROM inbox WHERE processed_at IS NULL ORDER BY seq LIMIT 1)",
        )
        .fetch_one(&self.db.reader)
        .await
        .doing(doing)?;
        Ok(InboxCounts {
            pending: row.try_get::<i64, _>(0).doing(doing)?.cast_unsigned(),
            processed: row.try_get::<i64, _>(1).doing(doing)?.cast_unsigned(),
            oldest_pending: row.try_get::<Option<i64>, _>(2).doing(doing)?.map(Timestamp),
        })
    }

    /// Changes whenever new deliveries have been stored by this process. The value counts them.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.arrivals.clone()
    }
}

fn read(row: &AnyRow, doing: &'static str) -> Result<StoredDelivery, StoreError> {
    let seq: i64 = row.try_get(0).doing(doing)?;
    let size: i64 = row.try_get(4).doing(doing)?;
    let body = usize::try_from(size)
        .map_err(|error| error.to_string())
        .and_then(|size| {
            let packed: &[u8] = row.try_get(3).map_err(|error| error.to_string())?;
            zstd::bulk::decompress(packed, size).map_err(|error| error.to_string())
        })
        .map_err(|why| StoreError::Corrupt { table: "inbox", row: seq.to_string(), why })?;
    Ok(StoredDelivery {
        seq,
        guid: row.try_get(1).doing(doing)?,
        event: row.try_get(2).doing(doing)?,
        body: body.into(),
        received_at: Timestamp(row.try_get(5).doing(doing)?),
    })
}

/// Compresses with a context that the thread keeps: making one costs more than compressing 25 KB.
fn compress(body: &[u8]) -> std::io::Result<Vec<u8>> {
    thread_local! {
        static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(COMPRESSION_LEVEL)?),
        };
        compressor.compress(body)
    })
}

fn bug(why: String) -> StoreError {
    StoreError::Bug { doing: "compressing a delivery", why }
}

fn closed() -> StoreError {
    StoreError::Unavailable { doing: "storing a delivery", source: std::sync::Arc::new(sqlx::Error::PoolClosed) }
}
