//! What callers and agent agree on besides the types of [`crate::domain::assignment`]: paths, headers, the
//! files in a machine's directory, the form of log lines.
//!
//! Guarantees: plain data only.
//! Must not know: how an agent works, who calls it.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::id::{CommitSha, EnvUid, Generation, ServiceName};
use crate::domain::time::Timestamp;

pub use super::container::remove_containers;
pub use super::options::{AgentOptions, ContainerOptions, GitOptions, LogLimits, SandboxOptions, SupervisionPace};
pub use super::process::{ProcessRef, carriers, carrying, descendants};
pub use super::removal::remove_tree;
pub use super::signature::ControllerKey;

/// `GET`: an [`crate::domain::assignment::AgentStatus`].
pub const STATUS_PATH: &str = "/v1/status";
/// `PUT`: an [`crate::domain::assignment::Assignment`].
pub const ASSIGNMENT_PATH: &str = "/v1/assignment";
/// `POST`: begins to stop every service.
pub const STOP_PATH: &str = "/v1/stop";
/// `GET` with a [`LogQuery`]: server-sent events, each a [`LogLine`].
pub const LOGS_PATH: &str = "/v1/logs";

/// Milliseconds since the epoch at which the request was signed.
pub const TIME_HEADER: &str = "kagero-time";
/// The environment that the request is for.
pub const UID_HEADER: &str = "kagero-uid";
/// Makes every request different, so that none can be sent twice.
pub const NONCE_HEADER: &str = "kagero-nonce";
/// SHA-256 of the body, in hexadecimal: so that a request is checked before its body is read.
pub const DIGEST_HEADER: &str = "kagero-digest";
/// The signature, in Base64.
pub const SIGNATURE_HEADER: &str = "kagero-signature";

/// File in a machine's directory with the agent's options.
pub const OPTIONS_FILE: &str = "agent.json";
/// File in a machine's directory that tells where the agent listens: an [`AddressFile`].
pub const ADDRESS_FILE: &str = "agent.addr";
/// File in a machine's directory that tells where its containers are. Missing: it never had any.
pub const CONTAINERS_FILE: &str = "containers.json";
/// Environment variable that a machine's agent and everything below it start with; its value is the machine's directory.
pub const MACHINE_VARIABLE: &str = "KAGERO_MACHINE";

/// Name of the event that ends a log that is not followed.
pub const END_EVENT: &str = "end";

/// Where a running agent listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFile {
    /// The agent's process: the address is good for as long as it lives.
    pub process: ProcessRef,
    /// The address.
    pub address: SocketAddr,
    /// The environment that it serves.
    pub uid: EnvUid,
    /// Its generation.
    pub generation: Generation,
}

impl AddressFile {
    /// What the agent of this directory wrote last, if it can be read.
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join(ADDRESS_FILE)).ok()?).ok()
    }
}

/// Which log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// Build or application; `None`: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<LogKind>,
    /// One service only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Whether to go on as lines are written.
    pub follow: Follow,
}

/// Build logs and application logs are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// Checkout, build and migration.
    Build,
    /// The services.
    Application,
}

/// Whether a log goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Follow {
    /// What is there, newest attempt first, then the end.
    No,
    /// What the newest attempt has written, then whatever comes, of attempts that begin later too.
    Yes,
}

/// One line of a log, with control characters removed and secrets masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The attempt that wrote it; a higher number is newer.
    pub attempt: u32,
    /// The commit of that attempt.
    pub commit: CommitSha,
    /// Build or application.
    pub kind: LogKind,
    /// `checkout`, `build`, `migrate`, or the service's name.
    pub source: String,
    /// Counts the lines of this source in this attempt, from 1.
    pub number: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The text.
    pub text: String,
}

impl std::fmt::Display for LogLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {} | {}", self.at, self.commit.short(), self.source, self.text)
    }
}

/// Why an agent did not do what it was asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Complaint {
    /// For people.
    pub error: String,
}

/// Writes a file so that a reader sees the old or the new text, whatever happens in between.
pub fn write_atomically(path: &Path, text: &[u8]) -> io::Result<()> {
    let parent = path.parent().ok_or_else(|| io::Error::other(format!("{} has no folder", path.display())))?;
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(parent)?.sync_all()
}
