//! What we have asked for: the durable side of an environment, written before every call.
//!
//! Names and tokens are pure functions of what stands here (I9), so that asking again after a crash is
//! safe. An intent without an answer is a doubt, not an absence.

use serde::{Deserialize, Serialize};

use super::assignment::TaskDigest;
use super::desired::GoneReason;
use super::id::{CommitSha, EnvKey, EnvUid, Generation, HostLabel, ServiceName, SlotId, digest};
use super::network::Placement;
use super::step::Step;
use super::time::Timestamp;

/// One environment's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The pull request.
    pub key: EnvKey,
    /// The identity of all its resources.
    pub uid: EnvUid,
    /// The newest generation. Zero: nothing was ever made, the row only remembers what was said.
    pub generation: Generation,
    /// Its public host names, kept over generations.
    pub hosts: Vec<Host>,
    /// When this generation was enrolled: its age counts from here.
    pub enrolled_at: Timestamp,
    /// Its life.
    pub standing: Standing,
    /// The slot that its machine and its database are kept apart by, where there are slots. Its own until the row is
    /// released.
    pub slot: Option<SlotId>,
    /// Why this generation was or is being taken away.
    pub left: Option<Left>,
    /// Everything asked for in this generation, oldest first.
    pub intents: Vec<Intent>,
    /// The task for which a probe through the gateway was answered by the right environment (I23).
    pub proven: Option<Proof>,
    /// What was said on the pull request.
    pub said: Said,
}

/// Why a generation was taken away, and what was wanted then: an environment that has expired stays away
/// until something changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// The reason.
    pub why: GoneReason,
    /// The head commit at that time, if it was known.
    pub head_sha: Option<CommitSha>,
    /// When it was decided.
    pub at: Timestamp,
    /// What there was to take away.
    #[serde(default)]
    pub held: Held,
}

/// What an environment was seen to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Machines.
    pub machines: usize,
    /// Databases.
    pub databases: usize,
}

/// A host name of an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The label under the preview domain.
    pub label: HostLabel,
    /// The service behind it; `None`: the first public one.
    pub service: Option<ServiceName>,
}

/// Where an environment stands as a whole. The row is the finalizer: it is there before the first create
/// and is released only after absence was observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// May hold resources.
    Live,
    /// Being taken away since then; it cannot become live again in this generation.
    Leaving(Timestamp),
    /// Nothing was left at that time.
    Released(Timestamp),
}

/// Something we asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What.
    pub role: Role,
    /// Which try, from 1. Rises only after the one before is proven dead.
    pub attempt: u32,
    /// Where a machine is put, where there is a choice.
    pub placement: Option<Placement>,
    /// The idempotency token.
    pub token: Token,
    /// When it was written, which is before the call.
    pub asked_at: Timestamp,
    /// What came back; `None`: not known.
    pub answer: Option<Answer>,
}

/// What an intent is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The environment's machine.
    Machine,
    /// A database, by its name.
    Database(String),
    /// A task given to the agent.
    Rollout(TaskDigest),
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Accepted, with the provider's id.
    Accepted(String),
    /// Refused, with the reason.
    Refused(String),
    /// Nothing was made: the provider has no room where it was asked for one. Elsewhere there may be; no failure.
    NoRoom(String),
    /// It was there, and was taken away on purpose: no failure.
    Retired,
    /// It is there under that id, and was stopped on purpose, or is about to be, when it was last asked for: no failure. It
    /// is started when it is wanted again.
    Stopped(String),
}

/// An idempotency token: at most 64 ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl Token {
    /// The token of one attempt at one thing. The same question always has the same token, and another place is another
    /// question: a provider may know tokens for each zone (EC2 user guide, "Ensuring idempotency").
    pub fn derive(
        uid: &EnvUid,
        generation: Generation,
        role: &Role,
        attempt: u32,
        placement: Option<&Placement>,
    ) -> Self {
        let role = match role {
            Role::Machine => "machine".to_owned(),
            Role::Database(name) => format!("database:{name}"),
            Role::Rollout(task) => format!("rollout:{task}"),
        };
        let (generation, attempt) = (generation.to_string(), attempt.to_string());
        let mut parts = vec![uid.as_str(), &generation, &role, &attempt];
        parts.extend(placement.iter().flat_map(|place| [place.zone.as_str(), &place.kind]));
        Self(digest(&parts, 40))
    }
}

/// A probe that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The task that served.
    pub task: TaskDigest,
    /// When.
    pub at: Timestamp,
}

/// What was said on the pull request, so that it is said once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The sticky comment.
    pub comment: Option<CommentSaid>,
    /// Deployments made for this pull request, oldest first: every one that is not inactive, and the last of those that
    /// are, because late words may still change them.
    pub deployments: Vec<DeploymentSaid>,
    /// When the last content write was made.
    pub written_at: Option<Timestamp>,
}

/// Inactive deployments that are remembered.
const INACTIVE_KEPT: usize = 8;

impl DeploymentSaid {
    /// One that may have been asked for, nobody knows when.
    pub fn asked(sha: CommitSha) -> Self {
        Self { id: None, sha, state: None, unsure: false, asked_at: None }
    }

    /// Whether it is not known to have that status.
    pub fn lacks(&self, state: DeploymentState) -> bool {
        self.unsure || self.state != Some(state)
    }
}

impl Said {
    /// What a step is about to say at that time is not known to be said, nor is what was said before it.
    pub fn doubt(&mut self, step: &Step, now: Timestamp) {
        match step {
            Step::Comment { .. } => self.comment.iter_mut().for_each(|comment| comment.digest.clear()),
            Step::CreateDeployment { sha } => {
                if self.deployments.iter().all(|made| made.sha != *sha) {
                    self.deployments.push(DeploymentSaid::asked(sha.clone()));
                }
                let asked = self.deployments.iter_mut().filter(|made| made.sha == *sha && made.id.is_none());
                asked.for_each(|made| made.asked_at = Some(now));
            }
            Step::SetDeployment { id, .. } => {
                let about = self.deployments.iter_mut().filter(|made| made.id == Some(*id));
                about.for_each(|made| made.unsure = true);
            }
            _ => {}
        }
    }

    /// Forgets the oldest deployments that are inactive for sure.
    pub fn forget_oldest(&mut self) {
        let done = |made: &DeploymentSaid| !made.lacks(DeploymentState::Inactive);
        let mut superfluous = self.deployments.iter().filter(|made| done(made)).count().saturating_sub(INACTIVE_KEPT);
        self.deployments.retain(|made| {
            let goes = superfluous > 0 && done(made);
            superfluous -= usize::from(goes);
            !goes
        });
    }

    /// Nothing of what was said is known to be shown.
    #[must_use]
    pub fn doubted(mut self) -> Self {
        self.comment.iter_mut().for_each(|comment| comment.digest.clear());
        self.deployments.iter_mut().for_each(|made| made.unsure = true);
        self
    }

    /// What became of the deployment that was asked for: its id, or that there is none.
    pub fn know(&mut self, sha: &CommitSha, id: Option<u64>) {
        match id {
            None => self.deployments.retain(|made| made.id.is_some() || made.sha != *sha),
            Some(id) => {
                let asked = self.deployments.iter_mut().filter(|made| made.sha == *sha && made.id.is_none());
                asked.for_each(|made| (made.id, made.asked_at) = (Some(id), None));
            }
        }
    }
}

/// The sticky comment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommentSaid {
    /// GitHub's id.
    pub id: u64,
    /// Digest of the text that it shows.
    pub digest: String,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentSaid {
    /// GitHub's id. `None`: it was asked for, and the answer is not known.
    pub id: Option<u64>,
    /// The commit.
    pub sha: CommitSha,
    /// The last status that was set, if any.
    pub state: Option<DeploymentState>,
    /// Whether another status may have reached GitHub than the one noted here.
    #[serde(default)]
    pub unsure: bool,
    /// When it was last asked for, while the answer is not known: the question may be on its way for a while, and a
    /// listing of before it arrived says nothing.
    #[serde(default)]
    pub asked_at: Option<Timestamp>,
}

/// GitHub's deployment states, as far as we use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Waiting for a seat.
    Queued,
    /// Being made.
    InProgress,
    /// Ready, with a link.
    Success,
    /// Failed.
    Failure,
    /// Taken away, or replaced.
    Inactive,
}

impl DeploymentState {
    /// GitHub's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Inactive => "inactive",
        }
    }
}

impl Ledger {
    /// Intents about one thing, oldest first.
    pub fn intents_for<'a>(&'a self, role: &'a Role) -> impl DoubleEndedIterator<Item = &'a Intent> {
        self.intents.iter().filter(move |intent| intent.role == *role)
    }

    /// The proof that a task serves, unless the machine has been asked for anew since: what was seen through
    /// the gateway then says nothing of the machine that runs now (I23).
    pub fn proof_of(&self, task: &TaskDigest) -> Option<&Proof> {
        let asked_at = self.intents_for(&Role::Machine).map(|intent| intent.asked_at).max().unwrap_or_default();
        self.proven.as_ref().filter(|proof| proof.task == *task && proof.at >= asked_at)
    }

    /// Whether anything of this generation may exist.
    pub fn is_released(&self) -> bool {
        matches!(self.standing, Standing::Released(_))
    }
}
