//! A disk that fills up: after so many rows nothing more can be written, until there is room again.
//!
//! Triggers in the real file refuse the writes, so that the store meets its own database's error in the middle of its
//! own transactions.

use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

/// See the module's documentation.
pub struct Fuse {
    connection: SqliteConnection,
}

/// What a write is refused with.
pub const FULL: &str = "the simulated disk is full";

/// More than any story writes.
const PLENTY: i64 = 1_000_000_000;

/// Rows in one transaction, at most.
const LARGEST: i64 = 12;

impl Fuse {
    /// Puts one into the store's file.
    pub async fn put(file: &std::path::Path) -> Self {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
        let tables = "SELECT name FROM sqlite_schema
                      WHERE type = 'table' AND name NOT LIKE '%sqlx%' AND name NOT LIKE 'sqlite%'";
        let tables = sqlx::query(tables).fetch_all(&mut connection).await.unwrap();
        let mut sql = format!("CREATE TABLE fuse (rows BIGINT NOT NULL); INSERT INTO fuse VALUES ({PLENTY});");
        for table in tables {
            let table: String = table.get(0);
            for act in ["INSERT", "UPDATE", "DELETE"] {
                let _ = write!(
                    sql,
                    "CREATE TRIGGER fuse_{act}_{table} BEFORE {act} ON {table} BEGIN
                       SELECT RAISE(ABORT, '{FULL}') FROM fuse WHERE rows <= 0;
                       UPDATE fuse SET rows = rows - 1;
                     END;"
                );
            }
        }
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        Self { connection }
    }

    /// So many more rows can be written.
    pub async fn leave(&mut self, rows: i64) {
        sqlx::query("UPDATE fuse SET rows = $1").bind(rows).execute(&mut self.connection).await.unwrap();
    }

    /// There is room again.
    pub async fn make_room(&mut self) {
        self.leave(PLENTY).await;
    }

    /// Whether a write may have been refused: less room is left than the largest of our transactions takes.
    pub async fn is_full(&mut self) -> bool {
        let left: i64 = sqlx::query("SELECT rows FROM fuse").fetch_one(&mut self.connection).await.unwrap().get(0);
        left < LARGEST
    }
}
