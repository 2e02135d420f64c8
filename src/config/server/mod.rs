//! `kagero.toml`, valid: what the operator has decided. It always wins over what a repository says.
//!
//! Guarantees: every value is usable as it stands; paths are absolute; secrets have been read; the list of
//! repositories is not empty.

mod keys;
mod read;

use crate::domain::network::Placements;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;

use crate::domain::id::{InstallId, SeedName};
use crate::domain::policy::{
    AllowList, Engine, Labels, Lane, Limits, LinkBase, Pace, Policy, RemovalLimits, RepoConfig,
};

use super::explain::Row;
use super::secret::Secret;

pub use keys::SERVER;
pub use read::parse_server;

/// The longest that an environment lives, whatever its repository asks for (I15).
const MAX_AGE: std::time::Duration = std::time::Duration::from_hours(24 * 90);

/// The operator's configuration.
#[derive(Debug, Clone)]
pub struct Server {
    /// `name`: this installation's name.
    pub install: InstallId,
    /// `[listen]`: where we listen.
    pub listen: Listen,
    /// `public_url`: where people and GitHub reach the controller. Ends without a slash.
    pub public_url: String,
    /// `[gateway]`: where previews are reached.
    pub gateway: Gateway,
    /// `[store]`: where records are kept.
    pub store: Store,
    /// `state_dir`: where machines, databases and clones live on this host.
    pub state_dir: PathBuf,
    /// `[github]`: the App.
    pub github: GitHub,
    /// `[compute]`: what machines are.
    pub compute: Compute,
    /// `[database.postgres]`: the server that databases are cloned on; `None` if there is neither a table
    /// nor a seed for it.
    pub postgres: Option<Postgres>,
    /// `[database.rds]`: how instances on RDS are made.
    pub rds: Rds,
    /// `[seeds.<name>]`: golden data.
    pub seeds: BTreeMap<SeedName, Seed>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[pace]`.
    pub pace: Pace,
    /// `[sweep]`.
    pub sweep: Sweep,
    /// `[labels]`.
    pub labels: Labels,
    /// `repositories`: `owner/name` or `owner/*`; never empty.
    pub repositories: Vec<String>,
    /// `[secrets]`: handed to repositories that name them.
    pub secrets: BTreeMap<String, Secret>,
    /// `allow.database_servers`: `host:port` of servers outside this host that databases may be dropped on.
    pub database_servers: Vec<String>,
    /// For the log at start: things that are allowed but should be put right.
    pub warnings: Vec<String>,
    pub(super) explained: Vec<Row>,
}

/// How orphans are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// What a sweep by itself does.
    pub mode: SweepMode,
    /// Between two of them.
    pub every: std::time::Duration,
    /// How much may be taken away before somebody has to look.
    pub removals: RemovalLimits,
}

/// What a sweep by itself does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepMode {
    /// It marks orphans, and takes away those whose mark is old.
    Apply,
    /// It only tells.
    Report,
    /// Nothing: whoever has this set runs `kagero sweep`.
    Off,
}

/// Where we listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Webhooks, dashboard and API.
    pub http: SocketAddr,
    /// Previews.
    pub gateway: SocketAddr,
}

/// Where previews are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Previews are `<label>.<domain>`.
    pub domain: String,
    /// How their addresses are written.
    pub link: LinkBase,
    /// What visitors reach first.
    pub front: Front,
}

/// What stands in front of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// Nothing.
    Direct,
    /// One load balancer, and no other way in.
    LoadBalancer,
}

/// Where records are kept.
#[derive(Debug, Clone)]
pub enum Store {
    /// A file.
    Sqlite {
        /// The file; its folder may have to be made.
        path: PathBuf,
    },
    /// A database on a PostgreSQL server, shared by all replicas.
    Postgres {
        /// Its address.
        url: SecretString,
    },
}

/// The GitHub App.
#[derive(Debug, Clone)]
pub struct GitHub {
    /// Its number.
    pub app_id: u64,
    /// Its private key, PEM.
    pub private_key: Secret,
    /// The REST API. Ends without a slash.
    pub api_url: String,
    /// Where people read pull requests. Ends without a slash.
    pub web_url: String,
    /// Repositories are cloned from `<clone_base>/<owner>/<name>.git`. Ends without a slash.
    pub clone_base: String,
    /// Secrets that deliveries are signed with; the first is the current one. Never empty.
    pub webhook_secrets: Vec<Secret>,
}

/// What machines are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compute {
    /// Child processes on this host.
    Local(LocalCompute),
    /// Instances on AWS.
    Ec2(Ec2Compute),
}

/// Machines as instances on AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ec2Compute {
    /// The only account.
    pub account: String,
    /// The Region.
    pub region: String,
    /// The network.
    pub vpc: String,
    /// The image.
    pub ami: String,
    /// Instance types, the preferred one first; never empty.
    pub instance_types: Vec<String>,
    /// GiB of a machine's volume.
    pub volume: u16,
    /// The machines' instance profile.
    pub profile: Option<String>,
    /// Where machines fetch the agent from, and its digest; `None`: it is in the image.
    pub agent: Option<(String, String)>,
    /// Whether looking, making and removing are done by roles of their own.
    pub separate_roles: bool,
    /// Words that stand for production.
    pub production_words: Vec<String>,
}

/// Machines as child processes on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCompute {
    /// Paths that processes of pull requests may read besides the system's own.
    pub read_only_paths: Vec<PathBuf>,
    /// Folders put before `PATH`; they are readable too.
    pub path: Vec<PathBuf>,
    /// What to do where no sandbox is to be had.
    pub sandbox: SandboxRule,
    /// The container engine's socket as `unix:///path`; `None`: the agent looks in the usual places.
    pub container_engine: Option<String>,
}

/// What to do where no sandbox is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxRule {
    /// Run nothing.
    Require,
    /// Run with the best there is, and say so.
    BestEffort,
}

/// The PostgreSQL server that databases are cloned on.
#[derive(Debug, Clone)]
pub struct Postgres {
    /// Ours, or one that is there.
    pub server: PostgresServer,
    /// Where `postgres`, `initdb`, `pg_restore` and `psql` are; `None`: where the system keeps them.
    pub bin_dir: Option<PathBuf>,
    /// Databases on a server that is there which every role may enter, and which may stay so.
    pub open_databases: Vec<String>,
}

/// A PostgreSQL server.
#[derive(Debug, Clone)]
pub enum PostgresServer {
    /// Started and stopped by us, under `state_dir`.
    Private {
        /// The account it runs as; `None`: ours, or `postgres` if we are root.
        user: Option<String>,
    },
    /// One that is there.
    External {
        /// Its address, with a role that may create databases and roles.
        url: Secret,
    },
}

/// Golden data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// The engine that it is for.
    pub engine: Engine,
    /// Where it is.
    pub source: SeedSource,
}

/// Where golden data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SeedSource {
    /// In a file.
    File(SeedFile),
    /// On RDS.
    Rds(SeedRds),
}

/// Golden data in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedFile {
    /// The dump or database file.
    pub path: PathBuf,
    /// How it is written.
    pub format: SeedFormat,
    /// Extensions that are made before it is loaded.
    pub extensions: Vec<String>,
}

/// Golden data on RDS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedRds {
    /// What instances are restored from.
    pub source: RdsSource,
    /// The database in it.
    pub database: String,
    /// What instances run as.
    pub class: String,
    /// The oldest data that may be used.
    pub max_age: std::time::Duration,
}

impl SeedRds {
    /// The lane that databases are made in.
    pub fn lane(&self) -> Lane {
        match self.source {
            RdsSource::Snapshots(_) => Lane::Rds,
            RdsSource::Instance(_) => Lane::RdsPitr,
            RdsSource::Cluster(_) => Lane::Aurora,
        }
    }
}

/// What instances on RDS are restored from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RdsSource {
    /// The newest of the snapshots whose names begin so.
    Snapshots(String),
    /// The newest point in time of the instance of that name.
    Instance(String),
    /// The cluster of that name.
    Cluster(String),
}

/// How instances on RDS are made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rds {
    /// The authorities that have signed the servers' certificates.
    pub root_certificate: Option<PathBuf>,
    /// The key that administrators' passwords are encrypted with.
    pub key: Option<String>,
}

/// How golden data is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedFormat {
    /// Found out by looking.
    Auto,
    /// SQL text.
    Plain,
    /// `pg_dump --format=custom`.
    Custom,
    /// `pg_dump --format=directory`.
    Directory,
    /// A database file of SQLite's.
    Sqlite,
}

impl Server {
    /// What decisions are bound by.
    ///
    /// The allow-list holds what the configuration knows: this host, its state directory and the database
    /// servers that were named. The address of a private PostgreSQL server is known once it runs: whoever
    /// starts it adds it to `allow.networks`.
    pub fn policy(&self) -> Policy {
        let mut networks = vec!["host".to_owned()];
        networks.extend(self.database_servers.iter().cloned());
        let mut accounts = vec![self.state_dir.display().to_string()];
        let mut regions = vec!["local".to_owned()];
        if let Compute::Ec2(ec2) = &self.compute {
            accounts.push(ec2.account.clone());
            regions.push(ec2.region.clone());
            networks.push(ec2.vpc.clone());
        }
        Policy {
            install: self.install.clone(),
            domain: self.gateway.domain.clone(),
            link: self.gateway.link.clone(),
            repositories: self.repositories.clone(),
            limits: self.limits,
            pace: self.pace,
            labels: self.labels.clone(),
            allow: AllowList { accounts, regions, networks },
            max_age: MAX_AGE,
            seeds: self.seeds.iter().map(|(name, seed)| (name.clone(), seed.engine)).collect(),
            secrets: self.secrets.keys().cloned().collect(),
            removals: self.sweep.removals,
            placements: Placements::default(),
            slots: Vec::new(),
        }
    }

    /// What a repository asks for that this installation does not have, as sentences for people; empty if
    /// all of it is there.
    pub fn cannot_serve(&self, wanted: &RepoConfig) -> Vec<String> {
        let mut lacking = Vec::new();
        if let Some(database) = &wanted.database {
            let name = &database.seed;
            match self.seeds.get(name) {
                None => lacking.push(format!(
                    "the seed `{name}` is not set up here: ask the operator to add [seeds.{name}] to kagero.toml"
                )),
                Some(seed) if seed.engine != database.engine => lacking.push(format!(
                    "the seed `{name}` is for {}, but `database.engine` is {}",
                    engine_name(seed.engine),
                    engine_name(database.engine)
                )),
                Some(seed) => match (&seed.source, database.lane) {
                    (SeedSource::File(_), Lane::Rds | Lane::RdsPitr | Lane::Aurora) => lacking.push(format!(
                        "the seed `{name}` is a file, and `database.lane` is {}: use `lane: auto`, or ask the operator for a \
                         seed on RDS",
                        database.lane
                    )),
                    (SeedSource::Rds(rds), lane) if lane != Lane::Auto && lane != rds.lane() => lacking.push(format!(
                        "the seed `{name}` is on RDS and made by the lane {}, and `database.lane` is {lane}: use `lane: auto`",
                        rds.lane()
                    )),
                    (SeedSource::File(_), Lane::Auto | Lane::Template) | (SeedSource::Rds(_), _) => {}
                },
            }
        }
        for name in &wanted.secrets {
            if !self.secrets.contains_key(name) {
                lacking.push(format!(
                    "the secret `{name}` is not set up here: ask the operator to add it to [secrets] in kagero.toml"
                ));
            }
        }
        lacking
    }
}

fn engine_name(engine: Engine) -> &'static str {
    match engine {
        Engine::Postgres => "postgres",
        Engine::Sqlite => "sqlite",
    }
}
