//! The lanes `rds`, `rds-pitr` and `aurora`: a server of its own for each environment, restored from a golden snapshot, to the
//! newest point in time of a golden instance, or cloned from a golden cluster.
//!
//! Guarantees: see [`crate::cloud::Databases`]. Every default that a restore would take over from its source is overridden.
//! A server is ready once it was settled inside ([`settling`]); its administrator's password is made by RDS, and is read only
//! to settle it.
//! Must not know: plans, the store, GitHub.

mod changes;
mod clone;
mod restore;
mod server;
mod settling;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use secrecy::{ExposeSecret as _, SecretString};

use self::server::{Found, Server};
use self::settling::Settling;
use super::connection::Connection;
use super::error::refused;
use super::pace::Pace;
use super::rules::golden::Golden;
use super::rules::network::Network;
use super::rules::status::Status;
use crate::clock::Clock;
use crate::cloud::lanes::INSTANCE_PREFIX;
use crate::cloud::postgres::restored::Endpoint;
use crate::cloud::{CloudError, DatabaseAccess, DatabaseBirth, Databases, ErrorClass, nothing, unknown_residue};
use crate::domain::desired::DatabaseSpec;
use crate::domain::id::{DatabaseId, InstallId, SeedName};
use crate::domain::observed::{Database, Listing, Location, Residue};
use crate::domain::owned::{Owned, OwnedResidue};
use crate::domain::server_address::{Tls, bracketed};
use crate::seed::name::DatabaseName;
use crate::seed::scram;

/// Instances that are looked at together before they are deleted: the last one's turn comes while that look is to be believed.
const TOGETHER: usize = 20;

/// The settings of these lanes.
#[derive(Debug, Clone)]
pub struct RdsSettings {
    /// This installation.
    pub install: InstallId,
    /// The network.
    pub vpc: String,
    /// The subnet group that instances are put into.
    pub subnet_group: String,
    /// What parameter groups are called, without the engine's name and major version.
    pub parameter_group: String,
    /// The seeds that are on RDS.
    pub goldens: BTreeMap<SeedName, Golden>,
    /// The key that administrators' passwords are encrypted with; `None`: the account's own.
    pub key: Option<String>,
    /// What roles' passwords are computed from.
    pub secret: SecretString,
    /// How connections are secured.
    pub tls: Tls,
    /// Instances on a page of a listing: 20 to 100.
    pub page: i32,
}

impl RdsSettings {
    /// As many as RDS allows.
    pub const PAGE: i32 = 100;
}

/// Databases on RDS. Cheap to clone.
#[derive(Clone)]
pub struct RdsDatabases {
    inner: Arc<Inner>,
}

struct Inner {
    aws: Connection,
    settings: RdsSettings,
    network: Network,
    pace: Pace,
    clock: Arc<dyn Clock>,
    /// By the server's own id, which another one of the same name does not have.
    settled: Mutex<HashMap<String, Settling>>,
    /// By the database's name.
    endpoints: Mutex<HashMap<String, Endpoint>>,
}

/// The identifier of a database's server: RDS allows hyphens and no underscores, PostgreSQL's names are the other way
/// round, and neither kind of ours has both.
fn identifier_of(name: &str) -> String {
    name.replace('_', "-")
}

fn name_of(identifier: &str) -> String {
    identifier.replace('-', "_")
}

impl RdsDatabases {
    /// Databases in that network. Whoever calls has seen that the ground is staging's.
    pub fn new(aws: Connection, settings: RdsSettings, network: Network, clock: Arc<dyn Clock>) -> Self {
        let (settled, endpoints) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { aws, settings, network, pace: Pace::default(), clock, settled, endpoints }) }
    }
}

impl Inner {
    /// The database that a server is; `None` if it has no id that could be one, which no listing should show.
    fn described(self: &Arc<Self>, server: &Server, members: &[(String, Status)]) -> Option<Database> {
        let name = name_of(&server.identifier);
        let tags = server.tags.owner();
        if let Some(endpoint) = &server.endpoint {
            lock(&self.endpoints).insert(name.clone(), endpoint.clone());
        }
        Some(Database {
            id: id_of(&server.resource).ok()?,
            state: self.state(server, members, &name, tags.as_ref()),
            name,
            tags,
            location: Location {
                account: server.account.clone(),
                region: self.aws.region.clone(),
                network: server.network.clone().unwrap_or_default(),
            },
            can_stop: true,
            slot: self.network.slot_of(server.groups.iter().map(String::as_str)),
            read_at: self.clock.now(),
        })
    }

    /// Forgets what is not there any more, as a complete listing has shown.
    fn forget_others(&self, servers: &[Server]) {
        let resources: HashSet<&str> = servers.iter().map(|server| server.resource.as_str()).collect();
        lock(&self.settled).retain(|resource, how| *how == Settling::GoesOn || resources.contains(resource.as_str()));
        let names: HashSet<String> = servers.iter().map(|server| name_of(&server.identifier)).collect();
        lock(&self.endpoints).retain(|name, _| names.contains(name));
    }

    async fn access(&self, database: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        let what = format!("address database {}", database.name);
        let golden = self.golden(&what, &database.seed)?;
        let name = DatabaseName::parse(&self.settings.install, &database.name)
            .map_err(|error| refused(ErrorClass::Bug, &what, error.to_string()))?;
        let known = lock(&self.endpoints).get(&database.name).cloned();
        let at = if let Some(at) = known {
            at
        } else {
            let found = self.find(&what, &identifier_of(&database.name)).await?;
            let at = found.and_then(|found| found.endpoint);
            at.ok_or_else(|| refused(ErrorClass::Retry, &what, "it has no address yet"))?
        };
        let url = |role: &str| {
            let password = scram::password(&self.settings.secret, role);
            let (host, database, query) = (bracketed(&at.host), &golden.database, self.settings.tls.query());
            format!("postgres://{role}:{}@{host}:{}/{database}?{query}", password.expose_secret(), at.port)
        };
        let roles = name.roles();
        let paths = Vec::new();
        Ok(DatabaseAccess { application_url: url(&roles.application), migration_url: url(&roles.migration), paths })
    }

    fn golden(&self, what: &str, seed: &SeedName) -> Result<&Golden, CloudError> {
        let missing = || format!("there is no seed {seed} with a snapshot in kagero.toml");
        self.settings.goldens.get(seed).ok_or_else(|| refused(ErrorClass::Denied, what, missing()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn id_of(resource: &str) -> Result<DatabaseId, CloudError> {
    DatabaseId::parse(format!("{INSTANCE_PREFIX}{resource}"))
        .map_err(|error| refused(ErrorClass::Bug, format!("name database {resource}"), error.to_string()))
}

#[async_trait]
impl Databases for RdsDatabases {
    async fn list(&self) -> Result<Listing<Database>, CloudError> {
        let at = self.inner.clock.now();
        let Found { servers, members, mut complete } = self.inner.servers().await?;
        let mut items = Vec::with_capacity(servers.len());
        for server in &servers {
            match self.inner.described(server, &members) {
                Some(database) => items.push(database),
                None => complete = false,
            }
        }
        if complete {
            self.inner.forget_others(&servers);
        }
        Ok(Listing { items, complete, at })
    }

    async fn prepare(&self, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        self.inner.restore(birth).await
    }

    async fn stop(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        self.inner.stop(database).await
    }

    async fn delete(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        self.inner.delete(database).await
    }

    async fn delete_all(&self, databases: &[Owned<DatabaseId>]) -> Vec<Result<(), CloudError>> {
        let mut done = Vec::with_capacity(databases.len());
        for some in databases.chunks(TOGETHER) {
            done.extend(self.inner.delete_all(some).await);
        }
        done
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        Ok(nothing())
    }

    async fn clear_away(&self, golden: &OwnedResidue) -> Result<(), CloudError> {
        Err(unknown_residue(golden))
    }

    async fn access(&self, database: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        self.inner.access(database).await
    }
}
