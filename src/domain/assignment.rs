//! What an agent is told to run, and what it tells back. These types are also the wire format between
//! controller and agent.
//!
//! [`Task`] carries no secret and can be stored, compared and shown. [`Assignment`] is the task with its
//! secrets filled in: it exists only in memory and on the wire.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::id::{CommitSha, EnvUid, Generation, ServiceName, digest};
use super::policy::{Command, Service};
use super::time::Timestamp;

/// One commit to check out, build, migrate and run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The environment it is for. An agent refuses a task for another one.
    pub uid: EnvUid,
    /// The environment's generation.
    pub generation: Generation,
    /// The commit.
    pub commit: CommitSha,
    /// Where the commit comes from.
    pub source: Source,
    /// Makes the checkout runnable.
    pub build: Option<Command>,
    /// Brings the database up to the commit.
    pub migrate: Option<Command>,
    /// What runs.
    pub services: Vec<Service>,
    /// Environment variables, none of them secret.
    pub env: BTreeMap<String, String>,
    /// Names of secret variables whose values [`Assignment::secret_env`] carries.
    pub secret_names: Vec<String>,
    /// Name of the database, where there is one: a different database makes a different task.
    pub database: Option<String>,
    /// Rises when the same task is to be tried again after a failure.
    pub attempt: u32,
}

impl Task {
    /// Identifies the task: equal digests mean that there is nothing to do. The address that the commit is
    /// fetched from is no part of it: a renamed repository changes nothing that runs.
    pub fn digest(&self) -> TaskDigest {
        let source = Source { url: String::new(), ..self.source.clone() };
        let text = serde_json::to_string(&Self { source, ..self.clone() }).unwrap_or_default();
        TaskDigest(digest(&["task", &text], 32))
    }
}

/// Identity of a [`Task`]: 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskDigest(pub String);

impl std::fmt::Display for TaskDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a commit is fetched from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Clone URL of the base repository, without credentials: `https://…`, or `file://…` where the operator
    /// allows it.
    pub url: String,
    /// The reference that leads to the commit, for servers that do not give out bare commits:
    /// `refs/pull/<n>/head`.
    pub reference: String,
    /// Distinguishes mirrors on one machine; the numeric repository id.
    pub mirror: String,
}

/// A [`Task`] with its secrets. No `Debug`, so that it cannot be logged.
#[derive(Clone, Serialize, Deserialize)]
pub struct Assignment {
    /// What to run.
    pub task: Task,
    /// Password or token for [`Source::url`], given to git by askpass, never in arguments.
    pub git_token: Option<String>,
    /// Variables for the services and the build: `DATABASE_URL` with the application's role, and the
    /// repository's secrets.
    pub secret_env: BTreeMap<String, String>,
    /// Variables for the migration only: `DATABASE_URL` with the migration role.
    pub migrate_env: BTreeMap<String, String>,
    /// Directories and sockets outside the checkout that the processes may use, to reach the database.
    #[serde(default)]
    pub reachable: Vec<std::path::PathBuf>,
}

/// What an agent reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// The environment that the agent serves.
    pub uid: EnvUid,
    /// Its generation.
    pub generation: Generation,
    /// The agent's own version.
    pub version: String,
    /// Isolation that the agent gives to the processes it runs.
    pub sandbox: SandboxLevel,
    /// The newest task it was given and works on, or failed at; `None` once that task serves.
    pub candidate: Option<Rollout>,
    /// The task whose services are up and receive visitors.
    pub serving: Option<Rollout>,
}

/// How strongly pull requests' processes are confined, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxLevel {
    /// Own mount, process, IPC and host-name namespaces.
    Bubblewrap,
    /// File access confined by the kernel; other processes' names are visible.
    Landlock,
    /// Resource limits only.
    Rlimit,
}

impl SandboxLevel {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bubblewrap => "bubblewrap",
            Self::Landlock => "Landlock",
            Self::Rlimit => "resource limits only",
        }
    }
}

/// The life of one task on the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// Which task.
    pub task: TaskDigest,
    /// Its commit.
    pub commit: CommitSha,
    /// Name of the database that it works with, if any.
    #[serde(default)]
    pub database: Option<String>,
    /// Where it stands.
    pub phase: RolloutPhase,
    /// Finished and running steps in order.
    pub stages: Vec<StageReport>,
    /// State of the services, in the order of the task.
    pub services: Vec<ServiceReport>,
}

/// Where a rollout stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutPhase {
    /// One of its stages is running.
    Working,
    /// Every service is healthy.
    Healthy,
    /// It was healthy; a service is down now and being restarted.
    Degraded,
    /// It has ended and will not be tried again under this digest.
    Failed(StageFailure),
}

/// The stages of a rollout, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Fetching and checking the commit out.
    Checkout,
    /// The build command.
    Build,
    /// The migration command.
    Migrate,
    /// Starting the services until all are healthy.
    Start,
}

impl Stage {
    /// For people and for log names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Checkout => "checkout",
            Self::Build => "build",
            Self::Migrate => "migrate",
            Self::Start => "start",
        }
    }
}

/// One stage of one rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// Which stage.
    pub stage: Stage,
    /// When it began.
    pub began_at: Timestamp,
    /// When it ended; `None` while it runs.
    pub ended_at: Option<Timestamp>,
}

/// Why a rollout failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageFailure {
    /// The stage that failed.
    pub stage: Stage,
    /// One sentence: the thing, the cause, the next step. No secrets.
    pub reason: String,
    /// The last lines of its log, with control characters removed and secrets masked.
    pub log_tail: Vec<String>,
}

/// A service's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Which service.
    pub name: ServiceName,
    /// Where it stands.
    pub state: ServiceState,
    /// Where it listens, for services that were given a `PORT`.
    pub address: Option<SocketAddr>,
    /// How often it was restarted in this rollout.
    pub restarts: u32,
}

impl ServiceReport {
    /// Where visitors may be sent now: nowhere unless it is healthy.
    pub fn open_at(&self) -> Option<SocketAddr> {
        self.address.filter(|_| self.state == ServiceState::Healthy)
    }
}

/// A service's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Not started yet.
    Waiting,
    /// Started, not healthy yet.
    Starting,
    /// Healthy.
    Healthy,
    /// Ended; waiting to be started again.
    Restarting,
    /// Ended for good.
    Stopped,
}
