//! Takes orders through payment, packing and shipping, one step at a time and the newest first: a visitor's
//! own order moves while they look.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};

use crate::database::{Database, now};

const PACE: Duration = Duration::from_millis(900);
/// How long an order rests in each state.
const REST_MS: i64 = 2500;

/// Works until `ended`.
pub async fn run(database: &Database, ended: impl Future<Output = ()>) -> anyhow::Result<()> {
    let mut ended = std::pin::pin!(ended);
    let mut handled = 0;
    tracing::info!("the worker has begun on {}", database.engine.as_str());
    loop {
        handled += step(database).await?;
        beat(database, handled).await?;
        tokio::select! {
            () = &mut ended => break,
            () = tokio::time::sleep(PACE) => {}
        }
    }
    tracing::info!("the worker has ended after {handled} orders");
    Ok(())
}

/// Moves one order that has rested; how many there were.
async fn step(database: &Database) -> anyhow::Result<i64> {
    let sql = format!(
        "UPDATE orders SET updated_at = $1, \
             status = CASE status WHEN 'new' THEN 'paid' WHEN 'paid' THEN 'packed' ELSE 'shipped' END \
         WHERE id IN (SELECT id FROM orders WHERE status IN ('new', 'paid', 'packed') AND updated_at < $2 \
                      ORDER BY updated_at DESC, id DESC LIMIT 1 {}) \
         RETURNING id, status",
        database.engine.skip_locked()
    );
    let now = now();
    let rows = sqlx::query(AssertSqlSafe(sql)).bind(now).bind(now - REST_MS).fetch_all(&database.pool).await?;
    for row in &rows {
        let (id, status): (i64, String) = (row.try_get("id")?, row.try_get("status")?);
        tracing::info!("order {id} is {status}");
    }
    Ok(i64::try_from(rows.len())?)
}

/// Shows on the page that somebody works.
async fn beat(database: &Database, handled: i64) -> anyhow::Result<()> {
    let upsert = sqlx::query(
        "INSERT INTO worker_beat (name, seen_at, handled) VALUES ('worker', $1, $2) \
         ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, handled = excluded.handled",
    );
    upsert.bind(now()).bind(handled).execute(&database.pool).await?;
    Ok(())
}
