//! One environment as people see it: the single source for comment, pages, command line and API.
//!
//! A phase is derived from facts each time, never stored.

use serde::{Deserialize, Serialize};

use crate::domain::assignment::ServiceState;
use crate::domain::brake::Brake;
use crate::domain::desired::{GoneReason, QueueReason};
use crate::domain::id::{CommitSha, EnvKey, EnvUid, Generation, RepoName, ServiceName};
use crate::domain::ledger::Held;
use crate::domain::time::Timestamp;

/// One environment as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvView {
    /// The pull request.
    pub key: EnvKey,
    /// The repository's present name.
    pub repo: RepoName,
    /// The environment.
    pub uid: EnvUid,
    /// Its generation.
    pub generation: Generation,
    /// Where it stands.
    pub phase: Phase,
    /// The commit that is wanted.
    pub commit: Option<CommitSha>,
    /// The commit that answers at the link, if one does.
    pub serving: Option<CommitSha>,
    /// The public link of the first public service. Stands from the first second.
    pub url: Option<String>,
    /// The services in the order of `.kagero.yml`.
    pub services: Vec<ServiceView>,
    /// What was done and is being done, in order.
    pub stages: Vec<StageView>,
    /// One sentence on what it waits for or why it is as it is.
    pub detail: Option<String>,
    /// The last lines of the failed stage's log.
    pub log_tail: Vec<String>,
    /// What the database was seeded from, if there is one.
    pub seed: Option<String>,
    /// What was taken away, once nothing is left.
    pub removed: Option<Removed>,
    /// From the environment's enrolment to the first answer through the gateway, in milliseconds.
    pub ready_after_ms: Option<u64>,
    /// What is stopped for it, and until when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub brakes: Vec<Brake>,
    /// When this was computed.
    pub at: Timestamp,
}

/// What was taken away, and when a complete listing showed nothing more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// What there was.
    pub held: Held,
    /// When the listing began.
    pub checked_at: Timestamp,
}

/// Where an environment stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits for a seat.
    Queued(QueueReason),
    /// Being made; nothing answers at the link yet.
    Building,
    /// A newer commit is being made while the older one answers.
    Updating,
    /// Answers at the link.
    Ready,
    /// Has failed; nothing answers at the link.
    Failed,
    /// The newest commit has failed; an older one still answers.
    UpdateFailed,
    /// The database stays, nothing runs.
    Asleep,
    /// Being taken away.
    Destroying(GoneReason),
    /// Taking it away does not succeed; a person has to look.
    DestroyFailing(GoneReason),
    /// Nothing is left.
    Destroyed(GoneReason),
    /// Never made, by the rules.
    NotWanted(GoneReason),
    /// There is no ground to decide on; nothing is changed.
    Stuck,
}

/// A service as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// Its state on the newest rollout; `None` before the agent knows of it.
    pub state: Option<ServiceState>,
    /// Its link, if it is public.
    pub url: Option<String>,
}

/// A step as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageView {
    /// `machine`, `database`, `checkout`, `build`, `migrate`, `start` or `probe`.
    pub name: String,
    /// Where it stands.
    pub state: StageState,
    /// How long it took, or has taken so far, in milliseconds.
    pub took_ms: Option<u64>,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// Not begun.
    Waiting,
    /// Begun.
    Running,
    /// Ended well.
    Done,
    /// Ended badly.
    Failed,
}
