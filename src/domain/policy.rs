//! What is allowed and what is wanted: the operator's policy and the repository's settings, both already
//! validated.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use fast_glob::glob_match;
use serde::{Deserialize, Serialize};

use super::container::{CheckoutPath, Container};
use super::id::{HostLabel, InstallId, SeedName, ServiceName, SlotId};
use super::ledger::Host;
use super::network::Placements;

/// Everything that [`crate::plan::desired`] and [`crate::plan::plan`] are bound by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// This installation's name.
    pub install: InstallId,
    /// Preview host names are `<label>.<domain>`.
    pub domain: String,
    /// The gateway's public scheme and port, to form links: `https` and `None`, or `http` and `Some(8081)`.
    pub link: LinkBase,
    /// Repositories that may have environments at all, as `owner/name` with `*` for any name.
    pub repositories: Vec<String>,
    /// How much may exist at once.
    pub limits: Limits,
    /// How often what is watched.
    pub pace: Pace,
    /// Labels with a meaning.
    pub labels: Labels,
    /// Where resources must be for us to touch them.
    pub allow: AllowList,
    /// The longest that any environment lives, whatever its repository asks for (I15).
    pub max_age: Duration,
    /// Seeds that the operator has set up, with their engine.
    pub seeds: BTreeMap<SeedName, Engine>,
    /// Names of secrets that the operator has set up for repositories.
    pub secrets: BTreeSet<String>,
    /// How much may be taken away within an hour before somebody has to look.
    pub removals: RemovalLimits,
    /// Where machines may be put.
    pub placements: Placements,
    /// Slots, one for each environment that may hold resources; none where environments are kept apart otherwise.
    pub slots: Vec<SlotId>,
}

/// How much may be taken away before it looks like a mistake (I3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovalLimits {
    /// So many are never too many.
    pub count: u32,
    /// So much of everything is not too much, in percent.
    pub share: u32,
}

impl Default for RemovalLimits {
    fn default() -> Self {
        Self { count: 5, share: 20 }
    }
}

impl RemovalLimits {
    /// How many of so many may be taken away.
    pub fn of(self, all: usize) -> usize {
        let share = all.saturating_mul(self.share as usize) / 100;
        share.max(self.count as usize)
    }
}

impl Policy {
    /// Whether a repository, `owner/name`, may have environments.
    pub fn serves(&self, repository: &str) -> bool {
        self.repositories.iter().any(|pattern| matches_glob(pattern, repository))
    }

    /// The public address of a host name.
    pub fn address(&self, label: &HostLabel) -> String {
        let port = self.link.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{label}.{}{port}/", self.link.scheme, self.domain)
    }

    /// The link of a service among an environment's host names; `None` asks for the bare one.
    pub fn link(&self, hosts: &[Host], service: Option<&ServiceName>) -> Option<String> {
        hosts.iter().find(|host| host.service.as_ref() == service).map(|host| self.address(&host.label))
    }
}

/// `*` stays within a part between slashes, `**` does not; case does not matter.
pub fn matches_glob(pattern: &str, text: &str) -> bool {
    glob_match(pattern.to_lowercase(), text.to_lowercase())
}

/// How the public address of a preview is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkBase {
    /// `http` or `https`.
    pub scheme: String,
    /// The port, where it is not the scheme's own.
    pub port: Option<u16>,
}

/// Capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Environments that may hold resources at once; further ones queue.
    pub environments: u32,
    /// The same for one repository.
    pub per_repository: u32,
    /// Commits that are built at once.
    pub builds: u32,
    /// Attempts at launching one machine, preparing one database or building one commit before the
    /// environment is shown as failed.
    pub attempts: u32,
}

/// Intervals of looking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// While something is being made or taken away.
    pub busy: Duration,
    /// While everything is as it should be.
    pub idle: Duration,
    /// The shortest time between two content writes on one pull request (I22).
    pub comment: Duration,
    /// A question younger than this makes "not found" mean "not visible yet".
    pub grace: Duration,
}

/// Labels with a meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    /// Opts in where the trigger asks for it.
    pub on: String,
    /// Opts out; wins over everything.
    pub off: String,
}

/// Places that belong to staging. Nothing outside them is ever touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList {
    /// Accounts (EC2), or this machine's state directory (local).
    pub accounts: Vec<String>,
    /// Regions; `local` for the local provider.
    pub regions: Vec<String>,
    /// Networks (EC2), or database servers by `host:port` (local).
    pub networks: Vec<String>,
}

/// What a repository's configuration says, or why it says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepoSetting {
    /// Usable.
    Valid(Box<RepoConfig>),
    /// Neither base nor head has a `.kagero.yml`.
    Absent,
    /// It has errors; the text is the full diagnosis as shown to people.
    Broken(String),
}

/// A valid `.kagero.yml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoConfig {
    /// When an environment is wanted. From the base branch.
    pub trigger: Trigger,
    /// What runs, at least one service. From the head.
    pub services: Vec<Service>,
    /// How the checkout becomes runnable. From the head.
    pub build: Option<Command>,
    /// The database, if one is needed; engine, lane and seed from the base branch, `migrate` from the head.
    pub database: Option<DatabaseConfig>,
    /// Environment variables. From the head.
    pub env: BTreeMap<String, String>,
    /// Names of operator-held secrets handed to the services. From the base branch.
    pub secrets: Vec<String>,
    /// How long it lives. From the base branch.
    pub lifetime: Lifetime,
}

/// When an environment is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// Without asking, or on a label.
    pub mode: TriggerMode,
    /// Drafts.
    pub draft: DraftRule,
    /// Pull requests from forks.
    pub forks: ForkRule,
    /// Pull requests by bots.
    pub bots: BotRule,
    /// Base branches, with `*` and `**`; empty means all.
    pub base_branches: Vec<String>,
}

/// Without asking, or on a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerMode {
    /// Every pull request that the other rules let through.
    Automatic,
    /// Only those that carry the opt-in label.
    OnLabel,
}

/// What a draft gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DraftRule {
    /// Nothing; an environment that exists already is put to sleep.
    Skip,
    /// The same as any other.
    Run,
}

/// What a pull request from a fork gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForkRule {
    /// An environment for exactly the commit that someone with write access has approved.
    Approve,
    /// Nothing.
    Never,
}

/// What a bot's pull request gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BotRule {
    /// The same as a person's.
    Run,
    /// An environment when the opt-in label is set.
    OnLabel,
    /// Nothing.
    Never,
}

/// A shell command of the repository, with a limit on its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Given to `sh -c` inside the sandbox, or inside the container's image.
    pub run: String,
    /// Ended after this long.
    pub timeout: Duration,
}

/// What runs for as long as the environment does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// What it is.
    #[serde(flatten)]
    pub runs: Runs,
    /// Path that answers 2xx or 3xx once the service is ready; `None`: alive is ready.
    pub health: Option<String>,
    /// How long it may take to become healthy.
    pub start_timeout: Duration,
    /// Reachable through the gateway. The first public service owns the bare host name.
    pub public: bool,
    /// Whether an old and a new version may run side by side during a push.
    pub overlap: bool,
}

/// What a service is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runs {
    /// A process: given to `sh -c` inside the sandbox, with `PORT` set where it is public or has a health path.
    #[serde(rename = "run")]
    Process(String),
    /// A container.
    #[serde(rename = "container")]
    Container(Box<Container>),
    /// The container that a compose file of the checkout has under the service's name. All other services of that file
    /// run too.
    #[serde(rename = "compose")]
    Compose(ComposeService),
}

/// A service that a compose file says more of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComposeService {
    /// The compose file.
    pub file: CheckoutPath,
    /// The port that it listens on, inside, whatever the compose file says.
    pub port: Option<u16>,
}

/// The database of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseConfig {
    /// PostgreSQL, or a file.
    pub engine: Engine,
    /// How it is made.
    #[serde(default)]
    pub lane: Lane,
    /// The golden data it is cloned from.
    pub seed: SeedName,
    /// Brings the schema up to the commit; runs as the migration role before the services start.
    pub migrate: Option<Command>,
    /// What a push does to the data.
    pub on_push: OnPush,
}

/// How a database is made. What a seed is decides; a repository can only ask for what it expects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// As its seed allows.
    #[default]
    Auto,
    /// Cloned from a golden one on the same server.
    Template,
    /// An instance of its own, restored from a golden snapshot.
    Rds,
    /// An instance of its own, restored to the newest point in time of a golden instance.
    RdsPitr,
    /// A cluster of its own, cloned from a golden one.
    Aurora,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Template => "template",
            Self::Rds => "rds",
            Self::RdsPitr => "rds-pitr",
            Self::Aurora => "aurora",
        })
    }
}

/// Database engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// PostgreSQL.
    Postgres,
    /// A copy of a golden SQLite file, for where no server is to be had.
    Sqlite,
}

/// What a push does to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnPush {
    /// Keeps it and migrates it.
    Keep,
    /// Clones the seed anew.
    Reset,
}

/// How long an environment lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// Destroyed this long after it was made, whatever happens (I15).
    pub max_age: Duration,
}
