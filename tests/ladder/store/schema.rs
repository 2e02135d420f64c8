//! Old schemas are carried over with their data, also by two replicas at once; newer ones are left alone.

use std::collections::BTreeMap;

use kagero::store::{Store, StoreError};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqlSafeStr as _};

use super::Place;
use super::place::on_both;

/// The released migrations by number: name and text.
fn released() -> BTreeMap<i64, (String, String)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/migrations");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let (number, name) = stem.split_once('_').unwrap();
            (number.parse().unwrap(), (name.to_owned(), std::fs::read_to_string(&path).unwrap()))
        })
        .collect()
}

/// The text as a database takes it.
fn filled(place: &Place, text: &str) -> String {
    let (serial, bytes) = if place.is_postgres() {
        (" BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY", " BYTEA ")
    } else {
        (" INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT", " BLOB ")
    };
    text.replace(" SERIAL_KEY", serial).replace(" BYTES ", bytes)
}

/// What a program of long ago has left: its schema, with one row in every table. The tables' names.
async fn left_by_an_old_program(place: &Place, newest: i64) -> Vec<String> {
    let mut connection = place.connect().await;
    let migrations = released().into_iter().take_while(|(number, _)| *number <= newest);
    let migrations = migrations.map(|(number, (name, text))| {
        let sql = AssertSqlSafe(filled(place, &text)).into_sql_str();
        Migration::new(number, name.into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect()).run(&mut connection).await.unwrap();

    let columns = if place.is_postgres() {
        "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations' AND is_identity = 'NO'"
    } else {
        "SELECT m.name, c.name, c.type FROM sqlite_master m, pragma_table_info(m.name) c
         WHERE m.type = 'table' AND m.name NOT LIKE '%sql%'"
    };
    let mut tables: BTreeMap<String, Vec<(String, &str)>> = BTreeMap::new();
    for row in sqlx::query(columns).fetch_all(&mut connection).await.unwrap() {
        let kind: String = row.get(2);
        let value = match kind.to_ascii_lowercase().as_str() {
            "text" => "'1'",
            "bytea" => "'\\x31'",
            _ => "1",
        };
        tables.entry(row.get(0)).or_default().push((row.get(1), value));
    }
    for (table, columns) in &tables {
        let names: Vec<_> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let values: Vec<_> = columns.iter().map(|(_, value)| *value).collect();
        let insert = format!("INSERT INTO {table} ({}) VALUES ({})", names.join(", "), values.join(", "));
        sqlx::query(AssertSqlSafe(insert)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    tables.into_keys().collect()
}

#[tokio::test]
async fn every_migration_runs_on_data_also_for_two_replicas_at_once() {
    for newest in released().into_keys() {
        on_both(async |place| {
            let tables = left_by_an_old_program(&place, newest).await;
            assert!(tables.len() >= 10, "{tables:?}");
            if place.is_postgres() {
                let opened = futures::future::join_all((0..4).map(|_| Store::open(&place.url))).await;
                for store in opened {
                    store.unwrap().close().await;
                }
            } else {
                place.open().await.close().await;
            }
            for table in tables {
                let count = place.number(&format!("SELECT COUNT(*) FROM {table}")).await;
                assert_eq!(count, 1, "{table} after migration {newest} on {}", place.kind());
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_first_start_of_several_replicas_makes_one_schema() {
    let place = Place::postgres().await;
    let opened = futures::future::join_all((0..4).map(|_| Store::open(&place.url))).await;
    for store in opened {
        store.unwrap().close().await;
    }
    let number = released().len();
    assert_eq!(place.number("SELECT COUNT(*) FROM _sqlx_migrations").await, i64::try_from(number).unwrap());
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    on_both(async |place| {
        place.open().await.close().await;
        let digest = if place.is_postgres() { "'\\x00'" } else { "x'00'" };
        place
            .sql(&format!(
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (900, 'later', TRUE, {digest}, 0); INSERT INTO leases VALUES (1, 1, 1, 'somebody', 1)"
            ))
            .await;
        let Err(error) = Store::open(&place.url).await else { panic!("a newer schema was opened") };
        assert!(matches!(error, StoreError::TooNew { found: 900, known } if known < 900), "{error:?}");
        assert!(error.to_string().contains("900"), "{error}");
        let untouched = "SELECT COUNT(*) FROM leases WHERE holder = 'somebody'";
        assert_eq!(place.number(untouched).await, 1, "something was written");
    })
    .await;
}
