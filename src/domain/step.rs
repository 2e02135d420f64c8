//! Steps: plain data that leaves the executor nothing to decide.

use super::assignment::{Task, TaskDigest};
use super::brake::Brake;
use super::desired::DatabaseSpec;
use super::guard::Guard;
use super::id::{CommitSha, DatabaseId, Generation, HostLabel, MachineId, ServiceName, SlotId};
use super::ledger::{DeploymentState, Host, Intent, Left, Token};
use super::observed::Tags;
use super::owned::{Owned, Refusal};
use super::time::Timestamp;

/// One thing to do. Every variant may be repeated without harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write the environment's row, before anything else exists; or change its host names.
    Enroll {
        /// The generation to begin, or to go on with.
        generation: Generation,
        /// Its host names.
        hosts: Vec<Host>,
        /// The slots of which it gets one that nobody has, where there are slots.
        slots: Vec<SlotId>,
    },
    /// Write a row that holds no resources, to remember what is said.
    Note {
        /// Its host names, for the pages shown meanwhile.
        hosts: Vec<Host>,
    },
    /// Make a machine with an agent.
    LaunchMachine {
        /// Written down before the call.
        intent: Intent,
        /// Given to the machine at birth.
        tags: Tags,
        /// What keeps it apart from others, where there are slots.
        slot: Option<SlotId>,
    },
    /// Clone a database from its seed and make its roles.
    PrepareDatabase {
        /// Written down before the call.
        intent: Intent,
        /// Given to the database at birth.
        tags: Tags,
        /// Which database.
        database: DatabaseSpec,
        /// What keeps it apart from others, where there are slots.
        slot: Option<SlotId>,
    },
    /// Note that a machine that is gone was taken away on purpose, so that it does not count as one that died.
    Retire {
        /// The intent that it came from.
        token: Token,
    },
    /// Give the agent its task.
    Assign {
        /// Written down before the call.
        intent: Intent,
        /// `host:port` of the agent.
        agent: String,
        /// The task, without its secrets.
        task: Box<Task>,
        /// The database whose addresses go with it.
        database: Option<DatabaseSpec>,
    },
    /// Ask through the gateway whether the right environment answers.
    Probe {
        /// The host name to ask for.
        host: HostLabel,
        /// The path to ask for.
        path: String,
        /// What serves, if the answer is right.
        task: TaskDigest,
    },
    /// Stop a machine for as long as nothing is to run. It keeps its disk.
    StopMachine {
        /// The machine.
        machine: Owned<MachineId>,
        /// The intent that it came from, as one that was stopped on purpose: written down before the call.
        intent: Intent,
    },
    /// Stop a database for as long as nothing is to run. It keeps its data.
    StopDatabase {
        /// The database.
        database: Owned<DatabaseId>,
        /// The intent that it came from, as one that was stopped on purpose: written down before the call.
        intent: Intent,
    },
    /// Note that the environment is being taken away; it will not live again in this generation.
    Leave {
        /// Why, and what was wanted.
        left: Left,
    },
    /// Take a machine away.
    Terminate(Owned<MachineId>),
    /// Take a database away.
    DropDatabase(Owned<DatabaseId>),
    /// Close the row: nothing was left at that time.
    Release {
        /// When absence was observed.
        seen_at: Timestamp,
    },
    /// Create or edit the sticky comment.
    Comment {
        /// The text, marker included.
        body: String,
        /// Its digest.
        digest: String,
    },
    /// Create a deployment for a commit.
    CreateDeployment {
        /// The commit.
        sha: CommitSha,
    },
    /// Find out what became of a deployment that was asked for, for a commit that is not wanted any more.
    FindDeployment {
        /// The commit.
        sha: CommitSha,
    },
    /// Set a deployment's status.
    SetDeployment {
        /// GitHub's id.
        id: u64,
        /// The state.
        state: DeploymentState,
        /// At most 140 characters.
        description: String,
        /// The preview, when ready.
        url: Option<String>,
        /// Where the log is shown.
        log_url: Option<String>,
    },
}

impl Step {
    /// The kinds that write on GitHub.
    pub const WRITING: [&str; 3] = ["comment", "create-deployment", "set-deployment"];
}

/// Names every kind of step: one that has no name does not compile.
macro_rules! kinds {
    ($($variant:ident $fields:tt: $word:literal),+ $(,)?) => {
        impl Step {
            /// The names of all kinds.
            pub const KINDS: &[&str] = &[$($word),+];

            /// A short name for journals, logs and metrics.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Self::$variant $fields => $word),+
                }
            }
        }
    };
}

kinds! {
    Enroll { .. }: "enroll",
    Note { .. }: "note",
    LaunchMachine { .. }: "launch-machine",
    PrepareDatabase { .. }: "prepare-database",
    Retire { .. }: "retire",
    Assign { .. }: "assign",
    Probe { .. }: "probe",
    StopMachine { .. }: "stop-machine",
    StopDatabase { .. }: "stop-database",
    Leave { .. }: "leave",
    Terminate(_): "terminate",
    DropDatabase(_): "drop-database",
    Release { .. }: "release",
    Comment { .. }: "comment",
    CreateDeployment { .. }: "create-deployment",
    FindDeployment { .. }: "find-deployment",
    SetDeployment { .. }: "set-deployment",
}

/// What one pass does, what it waits for, and when to look again. It explains itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order. One that fails does not keep the others from being done, unless it is the store that fails.
    pub steps: Vec<Step>,
    /// Things outside that have to happen first.
    pub waiting: Vec<Waiting>,
    /// When to look again.
    pub next: Next,
}

impl Plan {
    /// Whether it waits for something that could not be learned.
    pub fn is_in_doubt(&self) -> bool {
        self.waiting.iter().any(|waiting| matches!(waiting, Waiting::Knowledge(_)))
    }
}

/// Something that the environment waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The machine is being made.
    Machine,
    /// The database is being cloned.
    Database,
    /// The provider has no room anywhere; it is asked again later. The text says how it put it.
    Room(String),
    /// As many commits as allowed are being built; this one follows.
    Turn,
    /// The agent works on the task.
    Rollout,
    /// The agent does not answer; the text says how.
    Agent(String),
    /// Something is not known; the text says what and why.
    Knowledge(String),
    /// What is not to run is being stopped.
    Stop,
    /// Resources are being taken away.
    Removal,
    /// A database goes once no machine of ours can be using it.
    MachineFirst,
    /// A resource that may not be touched, and why: needs a person.
    Refused(Refusal),
    /// Something is stopped for a time.
    Braked(Brake),
    /// It failed, and will not be tried again until something changes.
    Failed(Failure),
}

impl Waiting {
    /// The guard that keeps something from being taken away, if one does.
    pub fn guard(&self) -> Option<Guard> {
        match self {
            Self::Knowledge(_) => Some(Guard::UnknownListing),
            Self::MachineFirst => Some(Guard::MachineFirst),
            Self::Refused(refusal) => Some(refusal.guard()),
            Self::Braked(brake) => Some(brake.guard()),
            Self::Machine
            | Self::Database
            | Self::Room(_)
            | Self::Turn
            | Self::Rollout
            | Self::Agent(_)
            | Self::Stop
            | Self::Removal
            | Self::Failed(_) => None,
        }
    }
}

/// A failure that ends the attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `checkout`, `build`, `migrate`, `start`, `database` or `machine`.
    pub stage: &'static str,
    /// One sentence: the thing, the cause, the next step.
    pub reason: String,
    /// The last lines of the log, if any.
    pub log_tail: Vec<String>,
    /// The service at fault, if it is one.
    pub service: Option<ServiceName>,
}

/// When to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// All is as it should be.
    Settled,
    /// Look again after that long.
    Poll(std::time::Duration),
    /// Only a change from outside can help; the text says which.
    Blocked(String),
}
