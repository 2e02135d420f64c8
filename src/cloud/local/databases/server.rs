//! The PostgreSQL server that environments share: how it is reached as its administrator.
//!
//! Guarantees: a private cluster that died is started again on the way; a server that cannot be reached is
//! an error to try again, never an empty answer.
//! Must not know: what is done there.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use tokio::sync::Mutex;

use crate::cloud::postgres::session;
use crate::cloud::{CloudError, DatabaseAccess};
use crate::domain::id::InstallId;
use crate::domain::observed::Location;
use crate::domain::owned::name_prefix;
use crate::domain::server_address::{ServerAddress, Tls, bracketed};
use crate::seed::name::RoleNames;
use crate::seed::scram;
use crate::seed::tools::{CLIENT_PROGRAMS, RunAs, Tools};

use super::cluster::{Cluster, ClusterConfig, Durability, Running};
use super::fault;

/// What a private cluster is called where a server's `host:port` would stand: its port may change.
pub const PRIVATE_NETWORK: &str = "private";

/// The database that administration is done from.
const MAINTENANCE: &str = "postgres";

/// Which server.
#[derive(Debug, Clone)]
pub enum ServerConfig {
    /// One that Kagero makes and runs.
    Private {
        /// Where PostgreSQL's programs are; `None`: the newest that is found.
        bin_dir: Option<PathBuf>,
        /// Whom to run as where we are root; `None`: `postgres`, else `nobody`.
        user: Option<String>,
        /// What a power cut may cost.
        durability: Durability,
    },
    /// One that is there already.
    External {
        /// `postgres://admin:password@host:port/postgres`: a role with CREATEDB and CREATEROLE.
        admin_url: SecretString,
        /// Where psql and `pg_restore` are; `None`: the newest that is found.
        bin_dir: Option<PathBuf>,
        /// Databases of that server that everybody may enter and that the operator accepts as such.
        open_databases: Vec<String>,
    },
}

/// A server.
pub struct Server {
    install: InstallId,
    secret: SecretString,
    state_dir: PathBuf,
    kind: Kind,
}

enum Kind {
    Private { cluster: Box<Cluster>, running: Box<Mutex<Option<Running>>>, admin: String },
    External { address: Box<ServerAddress>, bin_dir: Option<PathBuf>, open_databases: Vec<String> },
}

/// Where a server listens.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Name, address, or directory of a socket.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How connections are secured.
    pub tls: Tls,
    /// Directories to make visible to a sandboxed process.
    pub paths: Vec<PathBuf>,
}

impl Server {
    /// Describes one; nothing is touched.
    pub fn new(
        config: ServerConfig,
        install: InstallId,
        secret: SecretString,
        state_dir: PathBuf,
    ) -> Result<Self, CloudError> {
        let kind = match config {
            ServerConfig::Private { bin_dir, user, durability } => {
                let admin = format!("{}admin", name_prefix(&install, '_'));
                let password = scram::password(&secret, &admin);
                let state_dir = state_dir.clone();
                let cluster = ClusterConfig { state_dir, bin_dir, user, durability, admin: admin.clone(), password };
                Kind::Private { cluster: Box::new(Cluster::new(cluster)), running: Box::new(Mutex::new(None)), admin }
            }
            ServerConfig::External { admin_url, bin_dir, open_databases } => {
                let address = ServerAddress::parse(admin_url.expose_secret())
                    .map_err(|error| fault::denied("read the address of the database server", error.to_string()))?;
                Kind::External { address: Box::new(address), bin_dir, open_databases }
            }
        };
        Ok(Self { install, secret, state_dir, kind })
    }

    /// The installation that works on it.
    pub fn install(&self) -> &InstallId {
        &self.install
    }

    /// The secret that passwords are computed from.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// Where everything on it is.
    pub fn location(&self) -> Location {
        let network = match &self.kind {
            Kind::Private { .. } => PRIVATE_NETWORK.to_owned(),
            Kind::External { address, .. } => address.authority(),
        };
        Location { account: self.state_dir.display().to_string(), region: "local".to_owned(), network }
    }

    /// Databases of other people that everybody may enter, and that is accepted.
    pub fn open_databases(&self) -> &[String] {
        match &self.kind {
            Kind::Private { .. } => &[],
            Kind::External { open_databases, .. } => open_databases,
        }
    }

    /// A session of the administrator, for statements about roles and whole databases.
    pub async fn administer(&self) -> Result<PgConnection, CloudError> {
        self.connect(None).await
    }

    /// A session of the administrator inside a database.
    pub async fn enter(&self, database: &str) -> Result<PgConnection, CloudError> {
        self.connect(Some(database)).await
    }

    async fn connect(&self, database: Option<&str>) -> Result<PgConnection, CloudError> {
        let what =
            format!("connect to the database server{}", database.map_or_else(String::new, |d| format!(" for {d}")));
        match &self.kind {
            Kind::External { address, .. } => {
                let database = database.unwrap_or(&address.database);
                session::open(session::options(address, database)).await.map_err(|error| fault::sql(&what, &error))
            }
            Kind::Private { admin, .. } => {
                let options = |running: &Running| self.private_options(running, admin, database.unwrap_or(MAINTENANCE));
                match session::open(options(&self.running(Trust::Memory).await?)).await {
                    Err(sqlx::Error::Io(_)) => session::open(options(&self.running(Trust::Nothing).await?))
                        .await
                        .map_err(|error| fault::sql(&what, &error)),
                    other => other.map_err(|error| fault::sql(&what, &error)),
                }
            }
        }
    }

    /// What the administrator commits is on its way to the disk before it is believed, unlike what
    /// environments commit: a database that was said to be ready must still be so after a crash.
    fn private_options(&self, running: &Running, admin: &str, database: &str) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(running.port)
            .username(admin)
            .password(scram::password(&self.secret, admin).expose_secret())
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .options([("synchronous_commit", "on")])
    }

    /// The private cluster, started if need be. After a start, PUBLIC's rights on the cluster's own
    /// databases are taken away.
    async fn running(&self, trust: Trust) -> Result<Running, CloudError> {
        let Kind::Private { cluster, running, admin } = &self.kind else {
            return Err(fault::bug("start the database server", "it is not a private one"));
        };
        let mut memory = running.lock().await;
        if let (Trust::Memory, Some(known)) = (trust, memory.as_ref()) {
            return Ok(known.clone());
        }
        let now = cluster.ensure_running().await?;
        let what = "shut the private PostgreSQL's own databases";
        let options = self.private_options(&now, admin, MAINTENANCE);
        let mut connection = session::open(options).await.map_err(|error| fault::sql(what, &error))?;
        session::run(&mut connection, what, crate::seed::database::shut_own_databases()).await?;
        *memory = Some(now.clone());
        Ok(now)
    }

    /// Stops a private cluster; another's server is left alone.
    pub async fn stop(&self) -> Result<(), CloudError> {
        match &self.kind {
            Kind::External { .. } => Ok(()),
            Kind::Private { cluster, running, .. } => {
                let mut memory = running.lock().await;
                *memory = None;
                cluster.stop().await
            }
        }
    }

    /// Where clients other than the administrator find it.
    pub async fn endpoint(&self) -> Result<Endpoint, CloudError> {
        match &self.kind {
            Kind::Private { .. } => {
                let running = self.running(Trust::Memory).await?;
                let host = "127.0.0.1".to_owned();
                Ok(Endpoint { host, port: running.port, tls: Tls::disabled(), paths: vec![running.socket_dir] })
            }
            Kind::External { address, .. } => Ok(Endpoint {
                host: address.host.clone(),
                port: address.port,
                tls: address.tls.clone(),
                paths: Vec::new(),
            }),
        }
    }

    /// The programs that load seeds, and whom to run them as.
    pub async fn loaders(&self) -> Result<(Tools, Option<RunAs>), CloudError> {
        match &self.kind {
            Kind::Private { .. } => self.running(Trust::Memory).await.map(|running| (running.tools, running.run_as)),
            Kind::External { bin_dir, .. } => {
                let what = "find PostgreSQL's programs";
                let tools =
                    Tools::find(bin_dir.as_deref(), &CLIENT_PROGRAMS).map_err(|error| fault::tools(what, &error))?;
                let run_as = RunAs::choose(None).map_err(|error| fault::tools(what, &error))?;
                Ok((tools, run_as))
            }
        }
    }

    /// A directory for short-lived files.
    pub fn scratch(&self) -> PathBuf {
        match &self.kind {
            // Entered by the user that the cluster runs as.
            Kind::Private { .. } => self.state_dir.join("postgres"),
            Kind::External { .. } => std::env::temp_dir(),
        }
    }

    /// The addresses of a database for its roles.
    pub async fn access(&self, database: &str, roles: &RoleNames) -> Result<DatabaseAccess, CloudError> {
        let endpoint = self.endpoint().await?;
        let url = |role: &str| {
            let password = scram::password(&self.secret, role);
            let (host, port) = (bracketed(&endpoint.host), endpoint.port);
            let query = endpoint.tls.query();
            format!("postgres://{role}:{}@{host}:{port}/{database}?{query}", password.expose_secret())
        };
        Ok(DatabaseAccess {
            application_url: url(&roles.application),
            migration_url: url(&roles.migration),
            paths: endpoint.paths,
        })
    }
}

/// Whether what was known of a private cluster is still believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    Memory,
    Nothing,
}
