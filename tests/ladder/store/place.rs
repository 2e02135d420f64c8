//! Where a store's records are: a SQLite file, or a database of its own on a real PostgreSQL.

use std::sync::atomic::{AtomicU32, Ordering};

use kagero::store::Store;
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _};

use crate::database::harness::{admin, admin_options, shop, sql};

/// An empty database for a store.
pub struct Place {
    pub url: String,
    postgres: Option<String>,
    _directory: tempfile::TempDir,
}

impl Place {
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = super::url(directory.path());
        Self { url, postgres: None, _directory: directory }
    }

    /// A database that belongs to a role which may do nothing else.
    pub async fn postgres() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("store_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let lane = shop();
        let port = admin_options(&lane).await.get_port();
        let mut superuser = admin(&lane, "postgres").await;
        sql(&mut superuser, format!("CREATE ROLE {name} LOGIN PASSWORD 'keeper'")).await.unwrap();
        sql(&mut superuser, format!("CREATE DATABASE {name} OWNER {name}")).await.unwrap();
        let url = format!("postgres://{name}:keeper@127.0.0.1:{port}/{name}?sslmode=disable");
        Self { url, postgres: Some(name), _directory: tempfile::tempdir().unwrap() }
    }

    pub async fn both() -> [Self; 2] {
        [Self::sqlite(), Self::postgres().await]
    }

    /// Says in the output of a failure which of both it was.
    #[allow(clippy::print_stderr, reason = "for whoever reads the failure")]
    pub async fn open(&self) -> Store {
        eprintln!("store: {}", self.kind());
        Store::open(&self.url).await.unwrap()
    }

    pub fn kind(&self) -> &'static str {
        if self.postgres.is_some() { "PostgreSQL" } else { "SQLite" }
    }

    pub fn is_postgres(&self) -> bool {
        self.postgres.is_some()
    }

    /// A session behind the store's back.
    pub async fn connect(&self) -> AnyConnection {
        sqlx::any::install_default_drivers();
        let options: AnyConnectOptions = self.url.parse().unwrap();
        if self.is_postgres() {
            return options.connect().await.unwrap();
        }
        AnyConnection::connect(&format!("{}?mode=rwc", self.url)).await.unwrap()
    }

    /// Runs statements behind the store's back.
    pub async fn sql(&self, statements: &str) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// The number that a question has for an answer.
    pub async fn number(&self, question: &str) -> i64 {
        let mut connection = self.connect().await;
        let row = sqlx::query(AssertSqlSafe(question.to_owned())).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        row.get(0)
    }

    /// The superuser, inside the store's database on PostgreSQL.
    pub async fn superuser(&self) -> PgConnection {
        admin(&shop(), self.postgres.as_deref().unwrap()).await
    }
}

/// Runs a test on both, one after the other.
pub async fn on_both(test: impl AsyncFn(Place)) {
    for place in Place::both().await {
        test(place).await;
    }
}
