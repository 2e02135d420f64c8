//! The connection, the same for PostgreSQL and SQLite.

use std::time::Duration;

use anyhow::Context as _;
use sqlx::AnyPool;
use sqlx::any::AnyPoolOptions;

/// A database and what kind it is.
#[derive(Clone)]
pub struct Database {
    pub pool: AnyPool,
    pub engine: Engine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Postgres,
    Sqlite,
}

impl Engine {
    /// As it is shown, and as the names of migrations have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        }
    }

    /// Lets several workers pick orders at once, where the engine can.
    pub fn skip_locked(self) -> &'static str {
        match self {
            Self::Postgres => "FOR UPDATE SKIP LOCKED",
            Self::Sqlite => "",
        }
    }
}

/// Connects to what `DATABASE_URL` names.
pub async fn connect() -> anyhow::Result<Database> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL is not set: it names the database")?;
    let engine = match url.split(':').next() {
        Some("postgres" | "postgresql") => Engine::Postgres,
        Some("sqlite") => Engine::Sqlite,
        _ => anyhow::bail!("DATABASE_URL must begin with postgres: or sqlite:"),
    };
    sqlx::any::install_default_drivers();
    let options = AnyPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(5));
    let pool = options.connect(&url).await.context("the database does not answer")?;
    Ok(Database { pool, engine })
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
