//! Transactions that end cleanly in every case.
//!
//! Guarantees: what is not committed is rolled back, also when the future is dropped half-way or the
//! database has given the transaction up by itself (disk full): then the connection is closed instead of
//! being used again. A fenced transaction exists only while the lease is held.
//! Must not know: what is written.

use std::sync::Arc;

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Row as _};

use super::Db;
use super::dialect::Dialect;
use super::error::{Doing as _, StoreError};
use super::leases::Lease;
use super::news;
use crate::domain::id::EnvKey;

/// A transaction in progress. sqlx's own counts depth on the client's side and loses count when SQLite rolls
/// back by itself; this one does not count.
pub(super) struct Transaction {
    connection: PoolConnection<Any>,
    dialect: Dialect,
    replica: Arc<str>,
    open: bool,
}

/// Where transactions of all replicas pass one by one. A transaction lines up once at the most, and locks its lease
/// before: so no two wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// The end of the journal's chain.
    Journal = 1,
    /// Who has a seat.
    Seats = 2,
    /// Who builds.
    Builds = 3,
    /// Writes on GitHub.
    Writes = 4,
    /// Environments that begin to leave.
    Leaving = 5,
}

/// Apart from the locks of others in the same database.
const LINES: i32 = 0x6b61_6765;

impl Transaction {
    /// For reads that belong together.
    pub(super) async fn read(db: &Db, doing: &'static str) -> Result<Self, StoreError> {
        let connection = db.reader.acquire().await.doing(doing)?;
        Self::begin(db, connection, db.dialect.begin_read(), doing).await
    }

    /// For reads and writes that belong together.
    pub(super) async fn write(db: &Db, doing: &'static str) -> Result<Self, StoreError> {
        let connection = db.writer.acquire().await.doing(doing)?;
        Self::begin(db, connection, db.dialect.begin_write(), doing).await
    }

    /// For writes that only the holder of the lease may make: the fence is checked in the transaction and
    /// cannot change before its end.
    pub(super) async fn fenced(db: &Db, lease: &Lease, doing: &'static str) -> Result<Self, StoreError> {
        let mut transaction = Self::write(db, doing).await?;
        let sql = format!("SELECT fence, holder FROM leases WHERE repo = $1 AND pr = $2{}", db.dialect.lock_row());
        let row = sqlx::query(AssertSqlSafe(sql))
            .bind(lease.key.repo.0.cast_signed())
            .bind(lease.key.pr.0.cast_signed())
            .fetch_optional(transaction.connection())
            .await
            .doing(doing)?;
        let held = match row {
            Some(row) => {
                let fence: i64 = row.try_get(0).doing(doing)?;
                let holder: Option<String> = row.try_get(1).doing(doing)?;
                fence == lease.fence && holder.as_deref() == Some(lease.holder.as_str())
            }
            None => false,
        };
        if held {
            Ok(transaction)
        } else {
            transaction.rollback(doing).await?;
            Err(lease.lost())
        }
    }

    async fn begin(
        db: &Db,
        connection: PoolConnection<Any>,
        statement: &'static str,
        doing: &'static str,
    ) -> Result<Self, StoreError> {
        let mut transaction = Self { connection, dialect: db.dialect, replica: Arc::clone(&db.replica), open: true };
        transaction.run(statement, doing).await?;
        Ok(transaction)
    }

    /// Waits for the transactions before it in that line.
    pub(super) async fn line_up(&mut self, line: Line, doing: &'static str) -> Result<(), StoreError> {
        if let Some(sql) = self.dialect.line_up() {
            sqlx::query(sql).bind(LINES).bind(line as i32).execute(self.connection()).await.doing(doing)?;
        }
        Ok(())
    }

    /// Tells the other replicas of a change, once it is committed.
    pub(super) async fn announce(&mut self, key: EnvKey, doing: &'static str) -> Result<(), StoreError> {
        if let Some(sql) = self.dialect.announce() {
            let text = news::write(&self.replica, key);
            sqlx::query(sql).bind(news::CHANNEL).bind(text).execute(self.connection()).await.doing(doing)?;
        }
        Ok(())
    }

    /// What statements run on.
    pub(super) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }

    /// Makes it durable.
    pub(super) async fn commit(mut self, doing: &'static str) -> Result<(), StoreError> {
        self.run("COMMIT", doing).await?;
        self.open = false;
        Ok(())
    }

    /// Gives it up and keeps the connection. Dropping gives up as well, at the price of the connection.
    pub(super) async fn rollback(mut self, doing: &'static str) -> Result<(), StoreError> {
        self.run("ROLLBACK", doing).await?;
        self.open = false;
        Ok(())
    }

    async fn run(&mut self, statement: &'static str, doing: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(statement).execute(&mut *self.connection).await.doing(doing)?;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.open {
            self.connection.close_on_drop();
        }
    }
}
