//! Old schemas are carried over with their data; newer ones are left alone.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqlSafeStr as _};

use super::{open, url};
use crate::store::dialect::Dialect;
use crate::store::open::MIGRATIONS;
use crate::store::{Store, StoreError};

async fn connect(directory: &tempfile::TempDir) -> sqlx::SqliteConnection {
    let path = directory.path().join("state/kagero.db");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap()
}

/// Puts one row into every table, whatever its columns, and returns the tables' names.
async fn fill(connection: &mut sqlx::SqliteConnection) -> Vec<String> {
    let tables = sqlx::query("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%sql%'")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    let names: Vec<String> = tables.iter().map(|row| row.get(0)).collect();
    for table in &names {
        let columns = sqlx::query(AssertSqlSafe(format!("PRAGMA table_info({table})")))
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        let columns: Vec<(String, String)> = columns.iter().map(|row| (row.get(1), row.get(2))).collect();
        let list = |part: fn(&(String, String)) -> String| columns.iter().map(part).collect::<Vec<_>>().join(", ");
        let insert = format!(
            "INSERT INTO {table} ({}) VALUES ({})",
            list(|(name, _)| name.clone()),
            list(|(_, kind)| if kind == "TEXT" { "'1'" } else { "1" }.to_owned())
        );
        sqlx::query(AssertSqlSafe(insert)).execute(&mut *connection).await.unwrap();
    }
    names
}

#[tokio::test]
async fn every_migration_runs_on_data() {
    for applied in 1..=MIGRATIONS.len() {
        let directory = tempfile::tempdir().unwrap();
        let mut connection = connect(&directory).await;
        let some = MIGRATIONS[..applied].iter().map(|(version, name, sql)| {
            let sql = AssertSqlSafe(Dialect::Sqlite.migration(sql)).into_sql_str();
            Migration::new(*version, (*name).into(), MigrationType::Simple, sql, false)
        });
        Migrator::with_migrations(some.collect()).run(&mut connection).await.unwrap();
        let tables = fill(&mut connection).await;
        assert!(tables.len() >= 10, "{tables:?}");
        connection.close().await.unwrap();

        let store = open(&directory).await;
        for table in tables {
            let count = sqlx::query(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}")))
                .fetch_one(&store.db().reader)
                .await
                .unwrap();
            assert_eq!(count.get::<i64, _>(0), 1, "{table} after migration {applied}");
        }
        store.close().await;
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    open(&directory).await.close().await;
    let mut connection = connect(&directory).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (900, 'later', TRUE, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let before = std::fs::read(directory.path().join("state/kagero.db")).unwrap();

    let Err(error) = Store::open(&url(&directory)).await else { panic!("a newer schema was opened") };
    assert!(matches!(error, StoreError::TooNew { found: 900, known } if known < 900), "{error:?}");
    assert!(error.to_string().contains("900"), "{error}");
    assert_eq!(std::fs::read(directory.path().join("state/kagero.db")).unwrap(), before);
}

#[test]
fn both_dialects_fill_every_type_in() {
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        for (_, name, sql) in MIGRATIONS {
            let filled: String =
                dialect.migration(sql).lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
            assert!(!filled.contains("SERIAL_KEY") && !filled.contains("BYTES"), "{name} for {dialect:?}");
        }
    }
}
