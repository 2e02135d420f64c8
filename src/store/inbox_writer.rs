//! The inbox's only writer: group commit.
//!
//! Guarantees: one statement, and so one commit, for everything that has arrived while the commit before it
//! was under way; nobody is answered before the commit; one delivery that the database refuses does not
//! take the others of its group with it.
//! Must not know: what deliveries mean.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use sqlx::pool::PoolConnection;
use sqlx::{Any, AssertSqlSafe, Row as _};
use tokio::sync::{mpsc, oneshot, watch};

use super::Db;
use super::error::Doing as _;
use super::error::{StoreError, classify, is_duplicate};
use super::inbox::Accepted;
use super::transaction::Transaction;
use crate::domain::time::Timestamp;

/// Deliveries in one commit. Each size is a prepared statement of its own; sqlx keeps a hundred.
const GROUP: usize = 64;

/// Groups written before others may have the connection.
const TURNS: usize = 16;

const DOING: &str = "storing a delivery";

/// A delivery on its way to the writer.
pub(super) struct Request {
    pub(super) guid: String,
    pub(super) event: String,
    pub(super) body: Vec<u8>,
    pub(super) size: i64,
    pub(super) received_at: Timestamp,
    pub(super) answer: oneshot::Sender<Result<Accepted, StoreError>>,
}

/// Writes until the last sender is gone.
pub(super) async fn run(db: Db, mut queue: mpsc::Receiver<Request>, arrived: watch::Sender<u64>) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        // Kept while there is more to write: handing it back and forth costs as much as a small commit.
        let mut connection = match db.writer.acquire().await {
            Ok(connection) => Some(connection),
            Err(error) => {
                let error = classify(DOING, error);
                let outcomes = group.iter().map(|_| Err(error.clone())).collect();
                answer(&mut group, outcomes, &arrived);
                continue;
            }
        };
        for turn in 1..=TURNS {
            let outcomes = store(&db, &mut connection, &group).await;
            answer(&mut group, outcomes, &arrived);
            while turn < TURNS
                && connection.is_some()
                && group.len() < GROUP
                && let Ok(request) = queue.try_recv()
            {
                group.push(request);
            }
            if group.is_empty() {
                break;
            }
        }
    }
}

fn answer(group: &mut Vec<Request>, outcomes: Vec<Result<Accepted, StoreError>>, arrived: &watch::Sender<u64>) {
    let new = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Accepted::New))).count() as u64;
    for (request, outcome) in group.drain(..).zip(outcomes) {
        // A caller that has gone away needs no answer.
        let _ = request.answer.send(outcome);
    }
    if new > 0 {
        arrived.send_modify(|count| *count += new);
    }
}

/// Stores a group; the outcomes in the same order. The connection is given up where the group has to be taken
/// apart.
async fn store(
    db: &Db,
    connection: &mut Option<PoolConnection<Any>>,
    group: &[Request],
) -> Vec<Result<Accepted, StoreError>> {
    let mut guids = HashSet::with_capacity(group.len());
    if let Some(open) = connection
        && group.iter().all(|request| guids.insert(request.guid.as_str()))
    {
        match insert(&group.iter().collect::<Vec<_>>(), "").execute(&mut **open).await {
            Ok(_) => return group.iter().map(|_| Ok(Accepted::New)).collect(),
            Err(error) if is_duplicate(&error) => {}
            Err(error) => {
                let error = classify(DOING, error);
                if group.len() == 1 || error.is_transient() {
                    return group.iter().map(|_| Err(error.clone())).collect();
                }
            }
        }
    }
    *connection = None;
    let mut outcomes = Vec::with_capacity(group.len());
    for request in group {
        outcomes.push(store_one(db, request).await);
    }
    outcomes
}

/// Stores a delivery whose guid may be known.
async fn store_one(db: &Db, request: &Request) -> Result<Accepted, StoreError> {
    let mut transaction = Transaction::write(db, DOING).await?;
    let done =
        insert(&[request], " ON CONFLICT (guid) DO NOTHING").execute(transaction.connection()).await.doing(DOING)?;
    if done.rows_affected() == 1 {
        transaction.commit(DOING).await?;
        return Ok(Accepted::New);
    }
    let row = sqlx::query("SELECT processed_at FROM inbox WHERE guid = $1")
        .bind(request.guid.as_str())
        .fetch_optional(transaction.connection())
        .await
        .doing(DOING)?;
    let processed = match row {
        Some(row) => row.try_get::<Option<i64>, _>(0).doing(DOING)?.is_some(),
        // Pruned between the two statements, which takes having been processed.
        None => true,
    };
    transaction.rollback(DOING).await?;
    Ok(Accepted::Again { processed })
}

/// One insert of all rows.
fn insert<'q>(rows: &[&'q Request], conflict: &'static str) -> sqlx::query::Query<'q, Any, sqlx::any::AnyArguments> {
    static STATEMENTS: LazyLock<HashMap<(usize, &'static str), Arc<str>>> = LazyLock::new(|| {
        let plain = (1..=GROUP).map(|rows| (rows, ""));
        plain.chain([(1, " ON CONFLICT (guid) DO NOTHING")]).map(|shape| (shape, statement(shape).into())).collect()
    });
    let shape = (rows.len(), conflict);
    let sql = STATEMENTS.get(&shape).cloned().unwrap_or_else(|| statement(shape).into());
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for row in rows {
        query = query
            .bind(row.guid.as_str())
            .bind(row.event.as_str())
            .bind(row.body.as_slice())
            .bind(row.size)
            .bind(row.received_at.0);
    }
    query
}

fn statement((rows, conflict): (usize, &str)) -> String {
    let mut sql = "INSERT INTO inbox (guid, event, body, size, received_at) VALUES ".to_owned();
    for row in 0..rows {
        let first = row * 5 + 1;
        let comma = if row == 0 { "" } else { ", " };
        // Writing to a String cannot fail.
        let _ = write!(sql, "{comma}(${first}, ${}, ${}, ${}, ${})", first + 1, first + 2, first + 3, first + 4);
    }
    sql.push_str(conflict);
    sql
}
