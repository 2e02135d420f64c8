//! What should be true of an environment.

use serde::{Deserialize, Serialize};

use super::assignment::Task;
use super::guard::Guard;
use super::id::SeedName;
use super::id::{CommitSha, EnvUid, Generation};
use super::ledger::Host;
use super::policy::Engine;

/// The verdict of [`crate::plan::desired`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desired {
    /// Machine, database and services at one commit.
    Running(Box<EnvSpec>),
    /// The database stays, nothing runs.
    Asleep(Box<EnvSpec>),
    /// Wanted, but not now.
    Queued(QueueReason),
    /// Nothing may be left.
    Gone(GoneReason),
    /// There is no ground to decide on: nothing is made and nothing is taken away.
    Unchanged(Obstacle),
}

/// An environment in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvSpec {
    /// Its identity.
    pub uid: EnvUid,
    /// Its generation.
    pub generation: Generation,
    /// Its host names, one for each public service and one without a service.
    pub hosts: Vec<Host>,
    /// Where a probe through the gateway asks; `None` without a public service.
    pub probe: Option<String>,
    /// The database, if it needs one.
    pub database: Option<DatabaseSpec>,
    /// What the agent should run.
    pub task: Task,
}

/// A database in full. The name is a function of uid, generation and, where a push resets the data, of
/// the commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseSpec {
    /// Its name on the server.
    pub name: String,
    /// The engine.
    pub engine: Engine,
    /// The golden data.
    pub seed: SeedName,
}

/// Why an environment has to wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueReason {
    /// 1 is next.
    pub position: u32,
    /// Which limit is reached.
    pub limit: CapacityLimit,
    /// How many environments hold a seat under that limit.
    pub holders: u32,
}

/// Limits on the number of environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CapacityLimit {
    /// Of the installation.
    Environments,
    /// Of one repository.
    PerRepository,
}

/// Why nothing may be left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoneReason {
    /// The pull request was closed.
    Closed,
    /// The pull request was merged.
    Merged,
    /// An older generation is still being taken away.
    Superseded,
    /// The repository is not in the operator's list.
    RepositoryNotAllowed,
    /// The opt-out label is set.
    OptedOut(String),
    /// The opt-in label is missing.
    LabelMissing(String),
    /// A draft.
    Draft,
    /// The base branch is not one of those that get previews.
    BaseBranch(String),
    /// From a fork, and this commit has not been approved.
    ForkUnapproved(CommitSha),
    /// From a fork, and forks never get one.
    ForkNever,
    /// By a bot, and bots do not get one.
    Bot,
    /// The repository has no `.kagero.yml`.
    NotConfigured,
    /// It has reached its maximum age.
    Expired,
    /// An operator asked for it.
    Requested,
}

/// Why no decision can be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// The pull request or its configuration has not been read.
    NotRead(String),
    /// `.kagero.yml` has errors: the full diagnosis.
    BrokenConfig(String),
    /// From a fork whose newest commit has not been approved; an approved one is still running.
    ForkUnapproved(CommitSha),
    /// The repository was taken off the operator's list while the environment lives.
    RepositoryNotAllowed,
    /// `.kagero.yml` asks for something that the operator has not set up.
    Unservable(String),
}

impl Obstacle {
    /// The guard that it is for what lives.
    pub fn guard(&self) -> Guard {
        match self {
            Self::NotRead(_) => Guard::Unread,
            Self::BrokenConfig(_) => Guard::BrokenConfig,
            Self::ForkUnapproved(_) => Guard::Unapproved,
            Self::RepositoryNotAllowed => Guard::Delisted,
            Self::Unservable(_) => Guard::Unservable,
        }
    }
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRead(what) | Self::Unservable(what) => f.write_str(what),
            Self::BrokenConfig(_) => f.write_str(".kagero.yml has errors"),
            Self::ForkUnapproved(sha) => {
                write!(f, "{} comes from a fork and waits for a maintainer's approval", sha.short())
            }
            Self::RepositoryNotAllowed => f.write_str(
                "the repository is no longer in the operator's list; what runs is kept until the pull request closes",
            ),
        }
    }
}
