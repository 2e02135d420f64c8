//! A GitHub: repositories, pull requests, comments, deployments and a post that loses, doubles and delays deliveries.
//!
//! Guarantees: what is true changes only by [`Hub::change`] and by our own writes; every write is in the journal.
//! Must not know: environments, the store, what anybody concludes.

mod forge;
mod post;

pub use forge::SimForge;
pub use post::{Parcel, PostalService};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::chance::Chance;
use super::clock::Time;
use super::mischief::Tally;
use crate::domain::id::{CommitSha, EnvKey, InstallationId, PrNumber, RepoId, RepoName};
use crate::domain::ledger::DeploymentState;
use crate::domain::pull::{PullFacts, PullState};
use crate::domain::time::Timestamp;
use crate::forge::RepoRef;

/// A pull request as it is.
#[derive(Debug, Clone)]
pub struct Pull {
    /// What GitHub would say of it.
    pub facts: PullFacts,
    /// Bodies of our comments, by id.
    pub comments: BTreeMap<u64, String>,
    /// Our deployments: the commit, and the newest status.
    pub deployments: BTreeMap<u64, (CommitSha, Option<DeploymentState>)>,
    /// Comments of people, by id.
    pub others: BTreeMap<u64, String>,
    /// Every commit that it has had.
    pub commits: BTreeSet<CommitSha>,
    /// Instants at which it was seen to change between open and closed.
    pub turns: Vec<(Timestamp, PullState)>,
}

/// A write of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// When.
    pub at: Timestamp,
    /// On which pull request.
    pub key: EnvKey,
    /// What.
    pub what: Written,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// A comment, with its text.
    Comment(String),
    /// A comment was deleted.
    CommentDeleted,
    /// A deployment.
    Deployment(CommitSha),
    /// A deployment's status.
    Status(CommitSha, DeploymentState),
}

/// How GitHub behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mood {
    /// How often in a thousand a listing of pull requests is empty although it should not be.
    pub empty_permille: u64,
    /// How often in a thousand a listing lacks one.
    pub lossy_permille: u64,
    /// How often in a thousand a pull request is read as it was before its last change.
    pub stale_permille: u64,
}

/// The hub. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Hub {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    time: Time,
    chance: Chance,
    mood: Mood,
    repos: BTreeMap<RepoId, RepoRef>,
    pulls: BTreeMap<EnvKey, Pull>,
    before: BTreeMap<EnvKey, PullFacts>,
    files: BTreeMap<RepoId, String>,
    writes: Vec<Write>,
    reads: u64,
    post: post::Office,
    /// When each comment was last changed and each deployment was made.
    times: BTreeMap<u64, Timestamp>,
    /// Until when it is down.
    down_until: Timestamp,
    met: Tally,
    /// What identifies the environments of deployments.
    payloads: BTreeMap<u64, String>,
    ids: u64,
}

impl Hub {
    /// Without repositories.
    pub fn new(time: Time, chance: Chance, service: PostalService) -> Self {
        let met = Tally::default();
        let inner = Inner {
            time,
            post: post::Office::new(chance.branch(1), service, met.clone()),
            chance,
            mood: Mood::default(),
            repos: BTreeMap::new(),
            pulls: BTreeMap::new(),
            before: BTreeMap::new(),
            files: BTreeMap::new(),
            writes: Vec::new(),
            reads: 0,
            times: BTreeMap::new(),
            down_until: Timestamp::default(),
            met,
            payloads: BTreeMap::new(),
            ids: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// A repository that the App is installed on, with the text of its `.kagero.yml`.
    pub fn add_repo(&self, id: RepoId, name: RepoName, config: &str) {
        let mut inner = self.lock();
        inner.repos.insert(id, RepoRef { id, name, installation: InstallationId(1) });
        inner.files.insert(id, config.to_owned());
    }

    /// The repository loses its `.kagero.yml`.
    pub fn remove_file(&self, id: RepoId) {
        self.lock().files.remove(&id);
    }

    /// Whether a repository has a `.kagero.yml`.
    pub fn has_file(&self, id: RepoId) -> bool {
        self.lock().files.contains_key(&id)
    }

    /// The App is taken off a repository: nothing of it can be read any more.
    pub fn uninstall(&self, id: RepoId) {
        self.lock().repos.remove(&id);
    }

    /// It is down for that long: it answers nothing, and what would be told meanwhile fails to be.
    pub fn go_down(&self, by: Duration) {
        let mut inner = self.lock();
        inner.down_until = inner.time.now().plus(by);
    }

    /// What it has done by itself, and its post.
    pub fn met(&self) -> Tally {
        self.lock().met.clone()
    }

    /// Changes how it behaves.
    pub fn set_mood(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Changes how deliveries travel from now on.
    pub fn set_postal_service(&self, service: PostalService) {
        self.lock().post.set_service(service);
    }

    /// Something happens to a pull request, which is told in a delivery. It is opened by the first change.
    pub fn change(&self, key: EnvKey, sha: &CommitSha, change: impl FnOnce(&mut PullFacts)) {
        let mut inner = self.lock();
        let now = inner.time.now();
        let Some(repo) = inner.repos.get(&key.repo).cloned() else { return };
        let pull = inner.pulls.entry(key).or_insert_with(|| Pull {
            facts: opened(key, &repo, sha.clone(), now),
            comments: BTreeMap::new(),
            deployments: BTreeMap::new(),
            others: BTreeMap::new(),
            commits: BTreeSet::new(),
            turns: Vec::new(),
        });
        let mut before = pull.facts.clone();
        change(&mut pull.facts);
        // Where it comes from is told from the first moment on.
        before.head_repo = pull.facts.head_repo;
        // GitHub tells whole seconds.
        pull.facts.updated_at = Timestamp(now.0 / 1_000 * 1_000);
        pull.commits.insert(pull.facts.head_sha.clone());
        if pull.turns.is_empty() || before.state != pull.facts.state {
            pull.turns.push((now, pull.facts.state));
        }
        inner.before.insert(key, before);
        let number = inner.next_id();
        let body = serde_json::json!({
            "action": "synchronize",
            "number": key.pr.0,
            "pull_request": {"number": key.pr.0},
            "repository": {"id": key.repo.0, "full_name": repo.name.to_string()},
            "installation": {"id": repo.installation.0},
        });
        let body = serde_json::to_vec(&body).unwrap_or_default();
        if inner.is_down() {
            inner.post.fail(number, "pull_request", body, now);
        } else {
            inner.post.send(number, "pull_request", body, now);
        }
    }

    /// What is true of the pull requests.
    pub fn pulls(&self) -> BTreeMap<EnvKey, Pull> {
        self.lock().pulls.clone()
    }

    /// One of them.
    pub fn pull(&self, key: EnvKey) -> Option<Pull> {
        self.lock().pulls.get(&key).cloned()
    }

    /// A person deletes our comment.
    pub fn delete_comment(&self, key: EnvKey) {
        if let Some(pull) = self.lock().pulls.get_mut(&key) {
            pull.comments.pop_first();
        }
    }

    /// A comment with that text appears, by us or by somebody else; its id.
    pub fn add_comment(&self, key: EnvKey, ours: bool, body: &str) -> Option<u64> {
        let mut inner = self.lock();
        let (id, now) = (inner.next_id(), inner.time.now());
        inner.times.insert(id, now);
        let pull = inner.pulls.get_mut(&key)?;
        let comments = if ours { &mut pull.comments } else { &mut pull.others };
        comments.insert(id, body.to_owned());
        Some(id)
    }

    /// A deployment of ours appears; its id.
    pub fn add_deployment(&self, key: EnvKey, payload: &str, state: Option<DeploymentState>) -> Option<u64> {
        let mut inner = self.lock();
        let (id, now) = (inner.next_id(), inner.time.now());
        inner.times.insert(id, now);
        inner.payloads.insert(id, payload.to_owned());
        let pull = inner.pulls.get_mut(&key)?;
        pull.deployments.insert(id, (pull.facts.head_sha.clone(), state));
        Some(id)
    }

    /// Our writes, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.writes_from(0)
    }

    /// Those writes but the first `known` ones.
    pub fn writes_from(&self, known: usize) -> Vec<Write> {
        self.lock().writes[known..].to_vec()
    }

    /// Forgets which writes there were: they fill the memory of a long life.
    pub fn forget_writes(&self) {
        self.lock().writes = Vec::new();
    }

    /// Which pull requests there are.
    pub fn keys(&self) -> Vec<EnvKey> {
        self.lock().pulls.keys().copied().collect()
    }

    /// How many questions were asked, each page of a listing being one.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// When the next delivery arrives, if one is under way.
    pub fn next_arrival(&self) -> Option<Timestamp> {
        self.lock().post.next_arrival()
    }

    /// A delivery that has arrived.
    pub fn receive(&self) -> Option<Parcel> {
        let mut inner = self.lock();
        let now = inner.time.now();
        inner.post.receive(now)
    }

    /// What became of a delivery that was received.
    pub fn acknowledge(&self, parcel: &Parcel, accepted: bool) {
        let mut inner = self.lock();
        let now = inner.time.now();
        inner.post.acknowledge(parcel, accepted, now);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn is_down(&self) -> bool {
        self.time.now() < self.down_until
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }
}

fn opened(key: EnvKey, repo: &RepoRef, sha: CommitSha, at: Timestamp) -> PullFacts {
    PullFacts {
        key,
        repo: repo.name.clone(),
        installation: repo.installation,
        state: PullState::Open,
        title: format!("Change {}", key.pr.0),
        author: "ada".to_owned(),
        author_is_bot: false,
        draft: false,
        head_sha: sha,
        head_ref: "../../; rm -rf /".to_owned(),
        head_repo: Some(key.repo),
        base_ref: "main".to_owned(),
        labels: BTreeSet::new(),
        updated_at: at,
        read_at: at,
    }
}

/// The key of a pull request of the simulation.
pub fn key(repo: u64, pr: u64) -> EnvKey {
    EnvKey { repo: RepoId(repo), pr: PrNumber(pr) }
}
