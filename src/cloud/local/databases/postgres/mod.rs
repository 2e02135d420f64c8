//! The lane `template`: a database per environment, cloned from a golden on a shared PostgreSQL server.
//!
//! Every change to a name happens under an advisory lock of that name on the server, so that several
//! controllers may work on it. Everything that is made can be attributed from its first instant
//! ([`crate::seed::marker`]), and every step may be done again: a crash is mended by the next request.
//!
//! Guarantees: see [`crate::cloud::Databases`]; an environment's database is ready only once it has been
//! checked that its roles can enter no other.
//! Must not know: plans, the store, GitHub.

mod drop;
mod golden;
mod list;
mod lock;
mod prepare;
mod probe;
mod residue;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;
use sqlx::postgres::PgConnection;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::cloud::{CloudError, DatabaseAccess, DatabaseBirth, Databases, cannot_stop};
use crate::domain::desired::DatabaseSpec;
use crate::domain::id::{DatabaseId, InstallId, SeedName};
use crate::domain::observed::{Database, DatabaseState, Listing, Residue};
use crate::domain::owned::{Owned, OwnedResidue};
use crate::seed::golden::{Digests, Golden};
use crate::seed::name::DatabaseName;
use crate::seed::role::RoleLimits;

use super::fault;
use super::server::{Server, ServerConfig};
use super::tasks::{Begin, Tasks};

pub use probe::{ProbeReport, ServerReport, probe};

/// The settings of this lane.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// Which server.
    pub server: ServerConfig,
    /// Kagero's state directory.
    pub state_dir: PathBuf,
    /// This installation.
    pub install: InstallId,
    /// What roles' passwords are computed from. A private cluster is bound to it.
    pub secret: SecretString,
    /// The golden data.
    pub goldens: Vec<Golden>,
    /// Servers that may be changed at all, as `host:port` or [`super::PRIVATE_NETWORK`].
    pub allow: Vec<String>,
    /// What one environment may use up.
    pub limits: RoleLimits,
    /// How many databases are cloned or dropped at once.
    pub at_once: usize,
}

/// The lane `template` on PostgreSQL.
#[derive(Clone)]
pub struct PostgresDatabases {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    goldens: BTreeMap<SeedName, Golden>,
    digests: Digests,
    allow: Vec<String>,
    limits: RoleLimits,
    seats: Semaphore,
    tasks: Tasks,
    clock: Arc<dyn Clock>,
    /// A session kept for listings, which are frequent.
    reader: tokio::sync::Mutex<Option<PgConnection>>,
}

impl PostgresDatabases {
    /// Sets the lane up; neither server nor files are touched yet.
    pub fn new(config: PostgresConfig, clock: Arc<dyn Clock>) -> Result<Self, CloudError> {
        let server = Server::new(config.server, config.install, config.secret, config.state_dir)?;
        let goldens = config.goldens.into_iter().map(|golden| (golden.name.clone(), golden)).collect();
        let seats = Semaphore::new(config.at_once.max(1));
        let (limits, allow) = (config.limits, config.allow);
        let inner = Inner {
            server,
            goldens,
            digests: Digests::default(),
            allow,
            limits,
            seats,
            tasks: Tasks::default(),
            clock,
            reader: tokio::sync::Mutex::new(None),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Loads every golden that is not loaded yet, so that the first environment need not wait for it.
    pub async fn load_goldens(&self) -> Result<(), CloudError> {
        let mut connection = self.inner.server.administer().await?;
        for golden in self.inner.goldens.values() {
            self.inner.ensure_golden(&mut connection, golden).await?;
        }
        Ok(())
    }

    /// Stops a private cluster; a server named by the operator is left alone.
    pub async fn stop(&self) -> Result<(), CloudError> {
        self.inner.server.stop().await
    }
}

/// What the ids of this provider begin with.
pub(super) const ID_PREFIX: &str = "postgres:";

fn id_of(name: &str) -> Result<DatabaseId, CloudError> {
    DatabaseId::parse(format!("{ID_PREFIX}{name}"))
        .map_err(|error| fault::bug(format!("name database {name}"), error.to_string()))
}

impl Inner {
    fn golden(&self, what: &str, seed: &SeedName) -> Result<&Golden, CloudError> {
        self.goldens.get(seed).ok_or_else(|| {
            let known: Vec<&str> = self.goldens.keys().map(SeedName::as_str).collect();
            fault::denied(what, format!("there is no seed {seed} in kagero.toml (there are: {})", known.join(", ")))
        })
    }

    fn parse(&self, what: &str, name: &str) -> Result<DatabaseName, CloudError> {
        DatabaseName::parse(self.server.install(), name).map_err(|error| fault::bug(what, error.to_string()))
    }

    /// Whether the server is one that may be changed.
    fn allowed(&self, what: &str) -> Result<(), CloudError> {
        let network = self.server.location().network;
        if self.allow.contains(&network) {
            return Ok(());
        }
        Err(fault::denied(
            what,
            format!("the server {network} is not in the allow-list; add it there if it belongs to staging"),
        ))
    }
}

#[async_trait]
impl Databases for PostgresDatabases {
    async fn list(&self) -> Result<Listing<Database>, CloudError> {
        let at = self.inner.clock.now();
        let before = self.inner.tasks.snapshot();
        let found = self.inner.find().await?;
        let location = self.inner.server.location();
        let items = self.inner.tasks.overlay(before, found, |name| {
            let (name, location) = (name.to_owned(), location.clone());
            let id = id_of(&name).ok()?;
            Some(Database {
                id,
                name,
                tags: None,
                location,
                state: DatabaseState::Preparing,
                can_stop: false,
                slot: None,
                read_at: at,
            })
        });
        Ok(Listing { items, complete: true, at })
    }

    async fn prepare(&self, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        let DatabaseBirth { tags, database, .. } = birth;
        let what = format!("prepare database {}", database.name);
        let name = self.inner.parse(&what, &database.name)?;
        if tags.install != *self.inner.server.install() {
            return Err(fault::bug(what, format!("it is for installation {}", tags.install)));
        }
        self.inner.allowed(&what)?;
        let golden = self.inner.golden(&what, &database.seed)?.clone();
        let id = id_of(name.as_str())?;
        if let Begin::Now(run) = self.inner.tasks.begin_prepare(name.as_str(), tags)? {
            let (inner, tags) = (Arc::clone(&self.inner), tags.clone());
            tokio::spawn(async move {
                let outcome = inner.prepare(&name, &tags, &golden, &run.overtaken).await;
                if let Err(error) = &outcome {
                    tracing::warn!(env.uid = %tags.uid, database.name = %name, error = %error, "a database could not be prepared");
                }
                inner.tasks.prepared(&run, &outcome);
            });
        }
        Ok(id)
    }

    async fn stop(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        Err(cannot_stop(database))
    }

    async fn delete(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        let what = format!("drop database {}", database.name());
        if !database.is_fresh(self.inner.clock.now()) {
            return Err(fault::retry(what, "it was read too long ago to rest a drop on; list the databases again"));
        }
        let name = self.inner.parse(&what, database.name())?;
        if id_of(name.as_str())? != *database.id() {
            return Err(fault::bug(what, format!("its id is {}, which does not go with its name", database.id())));
        }
        self.inner.allowed(&what)?;
        if let Begin::Now(run) = self.inner.tasks.begin_drop(name.as_str(), database.tags()) {
            let (inner, tags) = (Arc::clone(&self.inner), database.tags().clone());
            tokio::spawn(async move {
                let outcome = inner.take_away(&name, &tags).await;
                if let Err(error) = &outcome {
                    tracing::warn!(env.uid = %tags.uid, database.name = %name, error = %error, "a database could not be dropped");
                }
                inner.tasks.dropped(&run, &outcome);
            });
        }
        Ok(())
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        let at = self.inner.clock.now();
        Ok(Listing { items: self.inner.list_goldens().await?, complete: true, at })
    }

    async fn clear_away(&self, golden: &OwnedResidue) -> Result<(), CloudError> {
        let what = format!("drop golden {}", golden.name());
        if !golden.is_fresh(self.inner.clock.now()) {
            return Err(fault::retry(what, "it was read too long ago to rest a drop on; list the goldens again"));
        }
        self.inner.drop_golden(&what, golden).await
    }

    async fn access(&self, database: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        let name = self.inner.parse(&format!("address database {}", database.name), &database.name)?;
        self.inner.server.access(name.as_str(), &name.roles()).await
    }
}
