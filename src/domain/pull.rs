//! What we know of a pull request: read from the API, never taken from a webhook's payload.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{CommitSha, EnvKey, InstallationId, RepoId, RepoName};
use super::policy::RepoSetting;
use super::time::Timestamp;

/// A repository that we have access to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoRef {
    /// Its key.
    pub id: RepoId,
    /// Its present name.
    pub name: RepoName,
    /// The installation that grants access.
    pub installation: InstallationId,
}

/// Whether the pull request is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullState {
    /// Open.
    Open,
    /// Closed without a merge.
    Closed,
    /// Closed by a merge.
    Merged,
}

/// One complete reading of a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullFacts {
    /// Which one.
    pub key: EnvKey,
    /// The base repository's present name.
    pub repo: RepoName,
    /// The installation that grants access to it.
    pub installation: InstallationId,
    /// Open, closed or merged.
    pub state: PullState,
    /// Written by its author: data, escaped wherever it is shown.
    pub title: String,
    /// The author's login.
    pub author: String,
    /// Whether GitHub says that the author is a bot.
    pub author_is_bot: bool,
    /// A draft.
    pub draft: bool,
    /// The commit to run.
    pub head_sha: CommitSha,
    /// The branch's name: data, never used to name anything.
    pub head_ref: String,
    /// The head's repository; `None` if it has been deleted.
    pub head_repo: Option<RepoId>,
    /// The branch it would be merged into.
    pub base_ref: String,
    /// Names of the labels.
    pub labels: BTreeSet<String>,
    /// When it was last changed, as GitHub says.
    #[serde(default)]
    pub updated_at: Timestamp,
    /// When GitHub answered.
    pub read_at: Timestamp,
}

/// How long after we have read a change a replica of GitHub's may still show what was before. Later than that, an older
/// state is believed to be the state: a GitHub Enterprise Server may have been restored from a backup. Both times are of
/// our own clock, which need not agree with GitHub's.
const LAG: Duration = Duration::from_mins(15);

impl PullFacts {
    /// Whether a reading shows the pull request as it was before another reading that was made earlier.
    pub fn is_behind(&self, known: &Self) -> bool {
        self.updated_at < known.updated_at && self.read_at.since(known.read_at) < LAG
    }

    /// Whether two readings say the same, whenever they were made.
    pub fn says_the_same(&self, other: &Self) -> bool {
        Self { read_at: other.read_at, updated_at: other.updated_at, ..self.clone() } == *other
    }

    /// Whether the head lies outside the base repository. A deleted head repository counts as a fork: it
    /// cannot be shown to be ours.
    pub fn is_fork(&self) -> bool {
        self.head_repo != Some(self.key.repo)
    }
}

/// What the repository's `.kagero.yml` says for one commit: the part on trust, money and data from the
/// base branch, the part on how to build and run from the head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFacts {
    /// The head commit that the reading belongs to.
    pub head_sha: CommitSha,
    /// The base branch that the reading belongs to.
    pub base_ref: String,
    /// Digest of the file on the base branch; `None` in a reading of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The outcome.
    pub setting: RepoSetting,
    /// When GitHub answered.
    pub read_at: Timestamp,
}

/// What people have said about one environment, apart from the pull request itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// The one head commit of a fork that someone with write access has approved.
    pub approved_sha: Option<CommitSha>,
    /// An operator asked for the environment to go although the pull request is open.
    pub destroy_requested_at: Option<Timestamp>,
    /// When the pull request was last read closed after having been open: whoever closes and reopens it asks
    /// anew for what has expired.
    #[serde(default)]
    pub closed_at: Option<Timestamp>,
    /// Counts requests to reset the database; a rise means that one is due.
    pub resets: u32,
}
