//! What the stand-in knows: the App, its installations, repositories, pull requests and what was said on
//! them. Plain data behind one lock.
//!
//! Must not know: HTTP. Git is reached through [`super::git`] only.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;
use serde_json::Value;

use super::change::PreparedChange;
use super::git::{BareRepo, CommitLine};
use crate::domain::time::Timestamp;

/// Everything.
pub(super) struct World {
    /// Ids of things are unique over all kinds.
    next_id: u64,
    pub app: App,
    pub installations: Vec<Installation>,
    pub repositories: Vec<Repository>,
    /// Where a repository went that had this name, in lower case.
    pub former_names: BTreeMap<String, u64>,
    pub tokens: BTreeMap<String, Grant>,
    pub deliveries: VecDeque<super::deliver::Delivery>,
    pub users: BTreeMap<String, User>,
    pub budget: Budget,
}

/// The App.
#[derive(Debug, Clone)]
pub(super) struct App {
    pub id: u64,
    pub slug: String,
    pub name: String,
}

/// The App on an account.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    pub id: u64,
    pub account: User,
    pub suspended_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// What a token may do.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub installation: u64,
    pub expires_at: Timestamp,
    /// `None`: every repository of the installation.
    pub repositories: Option<BTreeSet<u64>>,
    pub permissions: BTreeMap<String, Access>,
}

/// How far a permission goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    Read,
    Write,
}

impl Access {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What the App was granted.
pub(super) const PERMISSIONS: [(&str, Access); 6] = [
    ("checks", Access::Write),
    ("contents", Access::Read),
    ("deployments", Access::Write),
    ("issues", Access::Write),
    ("metadata", Access::Read),
    ("pull_requests", Access::Write),
];

/// The events that it subscribed to.
pub(super) const EVENTS: [&str; 3] = ["issue_comment", "pull_request", "repository"];

/// The primary rate limit.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget {
    /// Requests that counted, by who made them, in this hour.
    pub used: BTreeMap<String, u64>,
    /// When the hour ends.
    pub resets_at: Timestamp,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub login: String,
    pub id: u64,
    pub kind: UserKind,
}

/// Kinds of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UserKind {
    User,
    Bot,
    Organization,
}

impl UserKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Bot => "Bot",
            Self::Organization => "Organization",
        }
    }
}

/// A repository.
pub(super) struct Repository {
    pub id: u64,
    pub owner: User,
    pub name: String,
    pub git: BareRepo,
    pub installation: u64,
    pub created_at: Timestamp,
    /// Login → `admin`, `write`, `read` or `none`. Everybody else may read.
    pub roles: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    pub prepared: Vec<PreparedChange>,
    next_number: u64,
    pub pulls: BTreeMap<u64, Pull>,
    pub comments: Vec<Comment>,
    pub deployments: Vec<Deployment>,
}

impl Repository {
    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.owner.login, self.name)
    }

    pub(super) fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

/// A new repository's fixed parts.
pub(super) struct NewRepository {
    pub owner: User,
    pub name: String,
    pub git: BareRepo,
    pub installation: u64,
    pub roles: BTreeMap<String, String>,
    pub prepared: Vec<PreparedChange>,
}

/// A pull request.
#[derive(Debug, Clone)]
pub(super) struct Pull {
    pub id: u64,
    pub number: u64,
    pub title: String,
    pub body: String,
    pub author: User,
    pub draft: bool,
    pub state: PullState,
    pub labels: BTreeSet<String>,
    pub head: Head,
    /// Every commit that it has or had.
    pub heads: Vec<String>,
    pub base_ref: String,
    pub base_sha: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    pub commits: Vec<CommitLine>,
    pub size: super::git::DiffSize,
    /// The prepared change that it was opened with, and how many of its commits were pushed.
    pub prepared: Option<(String, usize)>,
    pub timeline: Vec<TimelineEvent>,
}

/// Open, closed or merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PullState {
    Open,
    Closed,
    Merged { sha: String, by: User, at: Timestamp },
}

impl Pull {
    pub(super) fn is_open(&self) -> bool {
        self.state == PullState::Open
    }

    pub(super) fn note(&mut self, at: Timestamp, actor: &str, kind: EventKind) {
        self.updated_at = at;
        self.timeline.push(TimelineEvent { at, actor: actor.to_owned(), kind });
    }
}

/// Where the commits come from.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub branch: String,
    pub sha: String,
    pub repo: HeadRepo,
}

/// The head's repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeadRepo {
    Same,
    /// A fork: its id and owner. Only its commits are kept, under `refs/pull/<n>/head`.
    Fork {
        id: u64,
        owner: User,
    },
    Deleted,
}

/// A line of the page's timeline.
#[derive(Debug, Clone)]
pub(super) struct TimelineEvent {
    pub at: Timestamp,
    pub actor: String,
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum EventKind {
    Commit { sha: String, subject: String },
    ForcePushed { before: String, after: String },
    Labeled { label: String },
    Unlabeled { label: String },
    Drafted,
    Readied,
    Closed,
    Reopened,
    Merged { sha: String, base: String },
    Retargeted { from: String, to: String },
    Renamed { from: String, to: String },
    HeadDeleted,
}

/// A comment on a pull request.
#[derive(Debug, Clone)]
pub(super) struct Comment {
    pub id: u64,
    pub number: u64,
    pub author: User,
    pub body: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub edits: u32,
    pub via_app: bool,
}

/// A deployment.
#[derive(Debug, Clone)]
pub(super) struct Deployment {
    pub id: u64,
    pub sha: String,
    pub reference: String,
    pub task: String,
    pub environment: String,
    pub description: Option<String>,
    pub payload: Value,
    pub transient: bool,
    pub production: bool,
    pub creator: User,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub statuses: Vec<DeploymentStatus>,
}

/// A status of a deployment.
#[derive(Debug, Clone)]
pub(super) struct DeploymentStatus {
    pub id: u64,
    pub state: String,
    pub description: String,
    pub environment_url: String,
    pub log_url: String,
    pub creator: User,
    pub created_at: Timestamp,
}

const LABELS: [(&str, &str); 5] = [
    ("preview", "1f883d"),
    ("preview:off", "cf222e"),
    ("bug", "d73a4a"),
    ("enhancement", "a2eeef"),
    ("docs", "0075ca"),
];

impl World {
    pub(super) fn new(app: App) -> Self {
        Self {
            next_id: 700_000_000,
            app,
            installations: Vec::new(),
            repositories: Vec::new(),
            former_names: BTreeMap::new(),
            tokens: BTreeMap::new(),
            deliveries: VecDeque::new(),
            users: BTreeMap::new(),
            budget: Budget::default(),
        }
    }

    pub(super) fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The account of that name, made on first mention. Names that end in `[bot]` are bots.
    pub(super) fn user(&mut self, login: &str) -> User {
        let kind = if login.ends_with("[bot]") { UserKind::Bot } else { UserKind::User };
        self.account(login, kind)
    }

    pub(super) fn account(&mut self, login: &str, kind: UserKind) -> User {
        if let Some(user) = self.users.get(login) {
            return user.clone();
        }
        let user = User { login: login.to_owned(), id: self.take_id(), kind };
        self.users.insert(login.to_owned(), user.clone());
        user
    }

    /// The account that the App speaks as.
    pub(super) fn bot(&mut self) -> User {
        let login = format!("{}[bot]", self.app.slug);
        self.user(&login)
    }

    pub(super) fn add_installation(&mut self, account: User, at: Timestamp) -> u64 {
        if let Some(there) = self.installations.iter().find(|installation| installation.account == account) {
            return there.id;
        }
        let id = self.take_id();
        self.installations.push(Installation { id, account, suspended_at: None, created_at: at });
        id
    }

    pub(super) fn add_repository(&mut self, new: NewRepository, at: Timestamp) -> u64 {
        let id = self.take_id();
        self.repositories.push(Repository {
            id,
            owner: new.owner,
            name: new.name,
            git: new.git,
            installation: new.installation,
            created_at: at,
            roles: new.roles,
            labels: LABELS.iter().map(|(name, colour)| ((*name).to_owned(), (*colour).to_owned())).collect(),
            prepared: new.prepared,
            next_number: 0,
            pulls: BTreeMap::new(),
            comments: Vec::new(),
            deployments: Vec::new(),
        });
        id
    }

    pub(super) fn repository(&self, owner: &str, name: &str) -> Option<&Repository> {
        self.repositories.iter().find(|repo| is(repo, owner, name))
    }

    pub(super) fn repository_mut(&mut self, owner: &str, name: &str) -> Option<&mut Repository> {
        self.repositories.iter_mut().find(|repo| is(repo, owner, name))
    }

    pub(super) fn installation(&self, id: u64) -> Option<&Installation> {
        self.installations.iter().find(|installation| installation.id == id)
    }
}

/// GitHub compares names without regard to case.
fn is(repo: &Repository, owner: &str, name: &str) -> bool {
    repo.owner.login.eq_ignore_ascii_case(owner) && repo.name.eq_ignore_ascii_case(name)
}
