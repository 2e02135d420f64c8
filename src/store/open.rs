//! Opening and closing: address, lock, connections, migrations.
//!
//! Guarantees: a second controller on the same SQLite file is refused by name before it touches the file; the
//! kernel frees the lock whatever happens to its holder. Migrations run in order, each in a transaction, by one
//! replica at a time; a newer schema is refused before anything is written.
//! Must not know: tables, but for clearing leases that nobody can hold any more.

use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _, SqlSafeStr as _};

use super::dialect::Dialect;
use super::error::{Doing as _, StoreError, classify};
use super::inbox::Inbox;
use super::lock::FileLock;
use super::{Db, Inner, Store, postgres};

/// Every migration ever released, oldest first. A released one is never edited.
pub(super) const MIGRATIONS: [(i64, &str, &str); 5] = [
    (1, "first", include_str!("migrations/0001_first.sql")),
    (2, "replicas", include_str!("migrations/0002_replicas.sql")),
    (3, "sweep", include_str!("migrations/0003_sweep.sql")),
    (4, "touches", include_str!("migrations/0004_touches.sql")),
    (5, "slots", include_str!("migrations/0005_slots.sql")),
];

/// Readers on SQLite.
const READERS: u32 = 4;

impl Store {
    /// Opens `sqlite:<path>` or `postgres://…`. Makes the SQLite file and its directories.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let db = match url.split_once(':') {
            Some(("sqlite", rest)) => open_sqlite(rest.strip_prefix("//").unwrap_or(rest)).await?,
            Some(("postgres" | "postgresql", _)) => open_postgres(url).await?,
            _ => return Err(address(url, "the scheme is not known")),
        };
        if db.lock.is_some() {
            // Nobody else has the file open, so no lease of before can be held by anyone.
            sqlx::query("UPDATE leases SET holder = NULL WHERE holder IS NOT NULL")
                .execute(&db.writer)
                .await
                .doing("clearing leases of the process before")?;
        }
        let (inbox, writer) = Inbox::start(db.clone());
        Ok(Self(Arc::new(Inner { db, inbox, writer: Mutex::new(Some(writer)) })))
    }

    /// Opens a store to read what is in it, also beside a controller that works on it: no lock is taken, nothing is made
    /// or migrated, and whatever would write fails.
    pub async fn open_for_reading(url: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let db = match url.split_once(':') {
            Some(("sqlite", rest)) => read_sqlite(rest.strip_prefix("//").unwrap_or(rest))?,
            Some(("postgres" | "postgresql", _)) => read_postgres(url)?,
            _ => return Err(address(url, "the scheme is not known")),
        };
        check_schema(&db, url).await?;
        let (inbox, writer) = Inbox::start(db.clone());
        Ok(Self(Arc::new(Inner { db, inbox, writer: Mutex::new(Some(writer)) })))
    }

    /// Closes every connection and frees the file. Writes in progress are finished; later calls fail.
    pub async fn close(&self) {
        self.0.db.close().await;
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            writer.abort();
            let _ = writer.await;
        }
        if let Some(lock) = &self.0.db.lock {
            lock.free();
        }
    }
}

impl Db {
    async fn close(&self) {
        self.writer.close().await;
        self.reader.close().await;
    }
}

async fn open_sqlite(path: &str) -> Result<Db, StoreError> {
    if path.is_empty() || path.starts_with(":memory:") {
        return Err(address(&format!("sqlite:{path}"), "a file is needed: memory does not survive a crash"));
    }
    let path = std::path::absolute(path).map_err(|error| address(path, &error.to_string()))?;
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)
            .map_err(|error| address(&path.display().to_string(), &format!("its directory: {error}")))?;
    }
    let lock = FileLock::take(&path)?;
    let url = SqliteConnectOptions::new().filename(&path).create_if_missing(true).to_url_lossy();
    let options = AnyConnectOptions::from_str(url.as_str()).doing("opening the store")?.disable_statement_logging();
    // Makes the file and switches it to WAL. Not by a pool: that would try again and again, and then hide the
    // reason behind a time-out.
    let mut first = options.connect().await.doing("opening the store")?;
    set_up(&mut first).await.doing("opening the store")?;
    migrate(first, Dialect::Sqlite).await?;
    let writer = sqlite_pool(1).connect_lazy_with(options.clone());
    let reader = sqlite_pool(READERS).connect_lazy_with(options);
    Ok(Db { dialect: Dialect::Sqlite, writer, reader, lock: Some(Arc::new(lock)), replica: replica(), server: None })
}

fn sqlite_pool(connections: u32) -> sqlx::pool::PoolOptions<sqlx::Any> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(postgres::PATIENCE)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(|connection, _| Box::pin(set_up(connection)))
}

async fn set_up(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA busy_timeout = 5000"] {
        sqlx::raw_sql(pragma).execute(&mut *connection).await?;
    }
    Ok(())
}

async fn open_postgres(url: &str) -> Result<Db, StoreError> {
    let doing = "opening the store";
    let server = postgres::address(url)?;
    let options = postgres::options(&server).doing(doing)?;
    let first = options.connect().await.doing(doing)?;
    migrate(first, Dialect::Postgres).await?;
    let pool = postgres::pool(options);
    let (writer, reader) = (pool.clone(), pool);
    Ok(Db { dialect: Dialect::Postgres, writer, reader, lock: None, replica: replica(), server: Some(server) })
}

fn read_sqlite(path: &str) -> Result<Db, StoreError> {
    let path = std::path::absolute(path).map_err(|error| address(path, &error.to_string()))?;
    if !path.is_file() {
        return Err(address(&path.display().to_string(), "there is no such file"));
    }
    let url = SqliteConnectOptions::new().filename(&path).read_only(true).to_url_lossy();
    let options = AnyConnectOptions::from_str(url.as_str()).doing("opening the store")?.disable_statement_logging();
    let pool = AnyPoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(postgres::PATIENCE)
        .after_connect(|connection, _| {
            Box::pin(async { sqlx::raw_sql("PRAGMA busy_timeout = 5000").execute(connection).await.map(drop) })
        })
        .connect_lazy_with(options);
    let (writer, reader) = (pool.clone(), pool);
    Ok(Db { dialect: Dialect::Sqlite, writer, reader, lock: None, replica: replica(), server: None })
}

fn read_postgres(url: &str) -> Result<Db, StoreError> {
    let server = postgres::address(url)?;
    let pool = postgres::reading_pool(postgres::options(&server).doing("opening the store")?);
    let (writer, reader) = (pool.clone(), pool);
    Ok(Db { dialect: Dialect::Postgres, writer, reader, lock: None, replica: replica(), server: Some(server) })
}

/// Whether this program knows what lies there.
async fn check_schema(db: &Db, url: &str) -> Result<(), StoreError> {
    let doing = "reading the store's schema version";
    let read = sqlx::query("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(&db.reader).await;
    if matches!(&read, Err(sqlx::Error::Database(error)) if error.message().contains("_sqlx_migrations")) {
        return Err(address(url, "there are no records of kagero"));
    }
    let found: Option<i64> = read.doing(doing)?.try_get(0).doing(doing)?;
    let known = MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or_default();
    match found {
        Some(found) if found > known => Err(StoreError::TooNew { found, known }),
        _ => Ok(()),
    }
}

/// A name for this opening of the store.
fn replica() -> Arc<str> {
    hex::encode(rand::random::<[u8; 8]>()).into()
}

/// On a connection of its own: a migration may take longer than any statement of ours ever should.
async fn migrate(mut connection: AnyConnection, dialect: Dialect) -> Result<(), StoreError> {
    let doing = "migrating the store";
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        let sql = AssertSqlSafe(dialect.migration(sql)).into_sql_str();
        Migration::new(version, name.into(), MigrationType::Simple, sql, false)
    });
    let done = Migrator::with_migrations(migrations.into()).run(&mut connection).await;
    connection.close().await.doing(doing)?;
    match done {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(found)) => {
            let known = MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or_default();
            Err(StoreError::TooNew { found, known })
        }
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Err(classify(doing, error)),
        Err(MigrateError::VersionMismatch(version) | MigrateError::Dirty(version)) => Err(StoreError::Corrupt {
            table: "_sqlx_migrations",
            row: version.to_string(),
            why: "the migration that was applied is not the one of this program".to_owned(),
        }),
        Err(error) => Err(StoreError::Bug { doing, why: error.to_string() }),
    }
}

/// An address that cannot be used, without what might be a password in it.
fn address(given: &str, why: &str) -> StoreError {
    let given = match given.split_once('@') {
        Some((_, behind)) => format!("…@{behind}"),
        None => given.to_owned(),
    };
    StoreError::Address { given, why: why.to_owned() }
}
