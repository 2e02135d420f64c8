//! Databases on this machine or on a server that the operator names: PostgreSQL, or SQLite files where
//! nothing is installed.
//!
//! Guarantees: see [`crate::cloud::Databases`]. Preparing and dropping happen in background tasks; a
//! listing shows what the server holds and what is underway, or is an error.
//! Must not know: plans, the store, GitHub.

mod cluster;
mod golden;
mod postgres;
mod server;
mod sqlite;
mod tasks;

use async_trait::async_trait;

use crate::cloud::postgres::fault;
use crate::cloud::{CloudError, DatabaseAccess, DatabaseBirth, Databases};
use crate::domain::desired::DatabaseSpec;
use crate::domain::id::DatabaseId;
use crate::domain::observed::{Database, Listing, Residue};
use crate::domain::owned::{Owned, OwnedResidue};
use crate::domain::policy::Engine;

pub use cluster::Durability;
pub use postgres::{PostgresConfig, PostgresDatabases, ProbeReport, ServerReport, probe};
pub use server::{PRIVATE_NETWORK, ServerConfig};
pub use sqlite::{HOST_NETWORK, SqliteConfig, SqliteDatabases};

/// Both engines: which one a database is on follows from its specification, and later from its id.
#[derive(Clone)]
pub struct LocalDatabases {
    postgres: Option<PostgresDatabases>,
    sqlite: SqliteDatabases,
}

impl LocalDatabases {
    /// Takes the lanes together; PostgreSQL only where the operator has set it up.
    pub fn new(postgres: Option<PostgresDatabases>, sqlite: SqliteDatabases) -> Self {
        Self { postgres, sqlite }
    }

    fn of_engine(&self, what: &str, engine: Engine) -> Result<&dyn Databases, CloudError> {
        match engine {
            Engine::Sqlite => Ok(&self.sqlite),
            Engine::Postgres => match &self.postgres {
                Some(postgres) => Ok(postgres),
                None => Err(fault::denied(
                    what,
                    "PostgreSQL is not set up in kagero.toml; set it up, or use `engine: sqlite`",
                )),
            },
        }
    }

    fn of_id(&self, what: &str, id: &str) -> Result<&dyn Databases, CloudError> {
        if id.starts_with(postgres::ID_PREFIX) {
            self.of_engine(what, Engine::Postgres)
        } else if id.starts_with(sqlite::ID_PREFIX) {
            self.of_engine(what, Engine::Sqlite)
        } else {
            Err(fault::bug(what, format!("{id} is not an id of this provider")))
        }
    }
}

#[async_trait]
impl Databases for LocalDatabases {
    async fn list(&self) -> Result<Listing<Database>, CloudError> {
        let mut all = self.sqlite.list().await?;
        if let Some(postgres) = &self.postgres {
            let more = postgres.list().await?;
            all.items.extend(more.items);
            all.complete &= more.complete;
        }
        Ok(all)
    }

    async fn prepare(&self, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        let what = format!("prepare database {}", birth.database.name);
        self.of_engine(&what, birth.database.engine)?.prepare(birth).await
    }

    async fn stop(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        let what = format!("stop database {}", database.name());
        self.of_id(&what, database.id().as_str())?.stop(database).await
    }

    async fn delete(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        let what = format!("drop database {}", database.name());
        self.of_id(&what, database.id().as_str())?.delete(database).await
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        let mut all = self.sqlite.residue().await?;
        if let Some(postgres) = &self.postgres {
            let more = postgres.residue().await?;
            all.items.extend(more.items);
            all.complete &= more.complete;
        }
        Ok(all)
    }

    async fn clear_away(&self, golden: &OwnedResidue) -> Result<(), CloudError> {
        let what = format!("drop golden {}", golden.name());
        self.of_id(&what, golden.id().id())?.clear_away(golden).await
    }

    async fn access(&self, database: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        let what = format!("address database {}", database.name);
        self.of_engine(&what, database.engine)?.access(database).await
    }
}
