//! Whether this lane can work here: what `doctor` shows.
//!
//! Guarantees: changes nothing; every problem comes with its next step.
//! Must not know: how it is shown.

use sqlx::postgres::PgConnection;

use crate::cloud::CloudError;
use crate::seed::tools::{CLIENT_PROGRAMS, SERVER_PROGRAMS, Tools};

use super::super::fault;
use super::super::server::{Server, ServerConfig};
use super::PostgresConfig;

/// The oldest server that this lane was made for: `DROP DATABASE … WITH (FORCE)`, trusted extensions.
const OLDEST: i32 = 13;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// Directory and major version of the programs that load seeds.
    pub programs: Result<Tools, String>,
    /// The server; a private cluster that was not made yet is made with the first database.
    pub server: Result<ServerReport, String>,
    /// Seeds that cannot be used, with the cause.
    pub seeds: Vec<String>,
}

/// What was found of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReport {
    /// Its address.
    pub network: String,
    /// What it says of its version.
    pub version: String,
    /// What stands in the way, with the next step; empty: nothing.
    pub problems: Vec<String>,
}

impl ProbeReport {
    /// Whether environments can get databases.
    pub fn is_good(&self) -> bool {
        self.programs.is_ok()
            && self.server.as_ref().is_ok_and(|server| server.problems.is_empty())
            && self.seeds.is_empty()
    }
}

/// Looks. A private cluster is started for it.
pub async fn probe(config: &PostgresConfig) -> ProbeReport {
    let (bin_dir, programs): (_, &[_]) = match &config.server {
        ServerConfig::Private { bin_dir, .. } => (bin_dir, &SERVER_PROGRAMS),
        ServerConfig::External { bin_dir, .. } => (bin_dir, &CLIENT_PROGRAMS),
    };
    let programs = Tools::find(bin_dir.as_deref(), programs).map_err(|error| error.to_string());
    let server = look(config).await.map_err(|error| error.to_string());
    let seeds =
        config.goldens.iter().filter_map(|golden| golden.detect().err()).map(|error| error.to_string()).collect();
    ProbeReport { programs, server, seeds }
}

async fn look(config: &PostgresConfig) -> Result<ServerReport, CloudError> {
    let state_dir = config.state_dir.clone();
    let server = Server::new(config.server.clone(), config.install.clone(), config.secret.clone(), state_dir)?;
    let mut admin = server.administer().await?;
    let network = server.location().network;
    let mut problems = Vec::new();
    if !config.allow.contains(&network) {
        problems.push(format!("{network} is not in the allow-list: add it there if it belongs to staging"));
    }
    let (version, major, superuser, creates_databases, creates_roles) = rights(&mut admin).await?;
    if major < OLDEST {
        problems.push(format!("PostgreSQL {major} is too old: at least {OLDEST} is needed"));
    }
    for (has, right) in [(creates_databases, "CREATEDB"), (creates_roles, "CREATEROLE")] {
        if !has && !superuser {
            problems.push(format!("the administrator lacks {right}: run `ALTER ROLE <administrator> {right}`"));
        }
    }
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT datname::text FROM pg_catalog.pg_database WHERE datallowconn AND datname <> ALL ($1) \
         AND pg_catalog.has_database_privilege('public', oid, 'CONNECT') ORDER BY 1",
    )
    .bind(server.open_databases())
    .fetch_all(&mut admin)
    .await
    .map_err(|error| fault::sql("look at the database server", &error))?;
    if !open.is_empty() {
        problems.push(format!(
            "environments could enter {}: run `REVOKE CONNECT, TEMPORARY ON DATABASE … FROM PUBLIC` for each, or \
             accept them as `open_databases`",
            open.join(", ")
        ));
    }
    Ok(ServerReport { network, version, problems })
}

async fn rights(admin: &mut PgConnection) -> Result<(String, i32, bool, bool, bool), CloudError> {
    sqlx::query_as(
        "SELECT pg_catalog.version(), pg_catalog.current_setting('server_version_num')::int / 10000, \
         rolsuper, rolcreatedb, rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user",
    )
    .fetch_one(admin)
    .await
    .map_err(|error| fault::sql("look at the database server", &error))
}
