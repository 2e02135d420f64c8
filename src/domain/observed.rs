//! What has been read of one environment's resources.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::assignment::AgentStatus;
use super::id::{DatabaseId, EnvKey, EnvUid, Generation, InstallId, MachineId, SlotId};
use super::mark::Subject;
use super::network::Placement;
use super::seen::Seen;
use super::time::Timestamp;

/// Everything that a pass knows of the world outside the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// When the reading began.
    pub at: Timestamp,
    /// Machines that carry this environment's uid, of any generation, oldest first.
    pub machines: Seen<Vec<Machine>>,
    /// Databases that carry this environment's uid, of any generation, oldest first.
    pub databases: Seen<Vec<Database>>,
    /// How many network interfaces are members of its slot. Absent too where it has none.
    pub interfaces: Seen<usize>,
    /// Slots that something stands in, whoever has them. Absent where nothing stands in any, or there are none.
    pub occupied: Seen<BTreeSet<SlotId>>,
    /// The answer of the newest machine's agent.
    pub agent: Seen<AgentStatus>,
}

/// Who a resource says that it belongs to: written at its birth, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tags {
    /// The installation that made it.
    pub install: InstallId,
    /// The environment.
    pub uid: EnvUid,
    /// The pull request, for people and for `adopt`.
    pub key: EnvKey,
    /// The generation.
    pub generation: Generation,
}

/// Where a resource is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Location {
    /// The account; for the local provider the state directory, on GitHub the repository.
    pub account: String,
    /// The Region; `local` for the local provider.
    pub region: String,
    /// The network; for the local provider the database server's address, or `host`.
    pub network: String,
}

/// A machine: an EC2 instance, or an agent process with its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The provider's id.
    pub id: MachineId,
    /// Its name, which begins with the installation's prefix.
    pub name: String,
    /// Its owner; `None` where nothing can be read: then it is never touched.
    pub tags: Option<Tags>,
    /// Where it is.
    pub location: Location,
    /// Its life.
    pub state: MachineState,
    /// `host:port` of its agent, once known.
    pub agent: Option<String>,
    /// Where it was put, where there was a choice.
    pub placement: Option<Placement>,
    /// The slot that it is a member of, where there are slots.
    pub slot: Option<SlotId>,
    /// When this was read.
    pub read_at: Timestamp,
}

/// A machine's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Being made.
    Pending,
    /// Up.
    Running,
    /// Its processes are gone but something of it is left (a directory, a stopped instance).
    Stopped,
    /// Being taken away.
    Stopping,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// The provider's id.
    pub id: DatabaseId,
    /// Its name, which begins with the installation's prefix.
    pub name: String,
    /// Its owner marker; `None` where there is none: then it is never touched.
    pub tags: Option<Tags>,
    /// Where it is.
    pub location: Location,
    /// Its life.
    pub state: DatabaseState,
    /// Whether it costs less while it is stopped, and can be.
    pub can_stop: bool,
    /// The slot that it is a member of, where there are slots.
    pub slot: Option<SlotId>,
    /// When this was read.
    pub read_at: Timestamp,
}

/// A database's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseState {
    /// Being cloned.
    Preparing,
    /// Seeded, with its roles; may be given to an environment.
    Ready,
    /// As it was when it was stopped.
    Stopped,
    /// Preparing it failed; the text names the cause and the next step. Nothing half-made serves.
    Failed(String),
    /// Being dropped.
    Dropping,
}

/// Something of a provider that is neither machine nor database, or that was said on GitHub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residue {
    /// What it is, with an id that another one never has.
    pub subject: Subject,
    /// Its name, which begins with the installation's prefix; on GitHub, where to look for it.
    pub name: String,
    /// Whose its marker says it is; `None` where nothing can be read: then it is never touched.
    pub install: Option<InstallId>,
    /// The environment that it was made for, where there was one.
    pub uid: Option<EnvUid>,
    /// The pull request that it stands on, where it does.
    pub key: Option<EnvKey>,
    /// What it is good for, or was.
    pub state: ResidueState,
    /// Where it is.
    pub location: Location,
    /// When this was read.
    pub read_at: Timestamp,
}

/// Whether something is still of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResidueState {
    /// It is; what for.
    Used(String),
    /// Nothing uses it; why not.
    Unused(String),
}

/// The outcome of listing a whole fleet.
#[derive(Debug, Clone)]
pub struct Listing<T> {
    /// What was listed.
    pub items: Vec<T>,
    /// Whether the listing came to its end.
    pub complete: bool,
    /// When it began.
    pub at: Timestamp,
}
