//! One controller's view of the hub.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use super::super::fate::{Call, Nerve, Trouble};
use super::super::mischief::Mischief;
use super::{Hub, Inner, Pull, Write, Written};
use crate::clock::Clock;
use crate::domain::id::{CommitSha, EnvKey, PrNumber, RepoName};
use crate::domain::observed::Listing;
use crate::domain::pull::{PullFacts, PullState};
use crate::domain::time::Timestamp;
use crate::domain::words::{Comment, Deployment};
use crate::forge::{DeploymentStatus, FailedDelivery, Forge, ForgeError, ForgeErrorKind, RepoRef};

/// How long after a change an older state may be read. GitHub promises no bound.
const LAG: Duration = Duration::from_mins(10);

/// See the module's documentation.
#[derive(Clone)]
pub struct SimForge {
    hub: Hub,
    nerve: Nerve,
    clock: Arc<dyn Clock>,
}

impl SimForge {
    /// For one controller.
    pub fn new(hub: Hub, nerve: Nerve, clock: Arc<dyn Clock>) -> Self {
        Self { hub, nerve, clock }
    }

    async fn ask<T>(
        &self,
        call: Call,
        what: &str,
        effect: impl FnOnce(&mut Inner) -> Result<T, ForgeErrorKind>,
    ) -> Result<T, ForgeError> {
        let asked = self.nerve.call(call, || {
            let mut inner = self.hub.lock();
            inner.reads += u64::from(call == Call::Read);
            if inner.is_down() {
                inner.met.note(Mischief::Outage);
                return Err(ForgeErrorKind::Retry);
            }
            effect(&mut inner)
        });
        let kind = match asked.await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(kind)) => kind,
            Err(Trouble::Failed | Trouble::Lost) => ForgeErrorKind::Retry,
            Err(Trouble::Throttled(wait)) => ForgeErrorKind::SlowDown(wait),
        };
        Err(ForgeError { kind, what: what.to_owned(), why: "simulated".to_owned() })
    }

    async fn read<T>(
        &self,
        what: &str,
        effect: impl FnOnce(&mut Inner) -> Result<T, ForgeErrorKind>,
    ) -> Result<T, ForgeError> {
        self.ask(Call::Read, what, effect).await
    }
}

impl Inner {
    fn known(&self, repo: &RepoRef) -> Result<(), ForgeErrorKind> {
        if self.repos.contains_key(&repo.id) { Ok(()) } else { Err(ForgeErrorKind::NotFound) }
    }

    fn pull_of(&mut self, repo: &RepoRef, number: PrNumber) -> Result<&mut Pull, ForgeErrorKind> {
        self.known(repo)?;
        self.pulls.get_mut(&EnvKey { repo: repo.id, pr: number }).ok_or(ForgeErrorKind::NotFound)
    }

    fn with_comment(&mut self, id: u64) -> Result<(EnvKey, &mut Pull), ForgeErrorKind> {
        let found = self.pulls.iter_mut().find(|(_, pull)| pull.comments.contains_key(&id));
        found.map(|(key, pull)| (*key, pull)).ok_or(ForgeErrorKind::NotFound)
    }

    fn time_of(&self, id: u64) -> Timestamp {
        self.times.get(&id).copied().unwrap_or_default()
    }

    fn pulls_of(&self, repo: &RepoRef) -> Result<impl Iterator<Item = (&EnvKey, &Pull)>, ForgeErrorKind> {
        self.known(repo)?;
        let repo = repo.id;
        Ok(self.pulls.iter().filter(move |(key, _)| key.repo == repo))
    }

    fn comments_of(&self, repo: &RepoRef, beginning: &str) -> Result<Vec<Comment>, ForgeErrorKind> {
        let all =
            self.pulls_of(repo)?.flat_map(|(key, pull)| pull.comments.iter().map(|(id, text)| (key.pr, *id, text)));
        let ours = all.filter(|(.., text)| text.starts_with(beginning));
        Ok(ours.map(|(pr, id, text)| Comment { id, pr, text: text.clone(), updated_at: self.time_of(id) }).collect())
    }

    fn deployments_of(&self, repo: &RepoRef) -> Result<Vec<Deployment>, ForgeErrorKind> {
        let all = self.pulls_of(repo)?.flat_map(|(_, pull)| &pull.deployments);
        let described = |(id, (sha, _)): (&u64, &(CommitSha, _))| Deployment {
            id: *id,
            payload: self.payloads.get(id).cloned().unwrap_or_default(),
            sha: sha.clone(),
            created_at: self.time_of(*id),
        };
        Ok(all.map(described).collect())
    }

    /// A listing as this hub gives it: a question for every page of 100, and sometimes not all of it.
    fn listed<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        self.reads += (items.len() as u64).div_ceil(100).saturating_sub(1);
        if self.mood.empty_permille > 0 && self.chance.permille(self.mood.empty_permille) {
            items.clear();
            self.met.note(Mischief::EmptyList);
        }
        if self.mood.lossy_permille > 0 && !items.is_empty() && self.chance.permille(self.mood.lossy_permille) {
            let lost = self.chance.below(items.len() as u64);
            items.remove(usize::try_from(lost).unwrap_or_default());
            self.met.note(Mischief::LossyList);
        }
        items
    }

    fn written(&mut self, key: EnvKey, what: Written) {
        let at = self.time.now();
        self.writes.push(Write { at, key, what });
    }

    /// As it is, or, from a replica that lags behind, as it was.
    fn reading(&mut self, key: EnvKey, read_at: Timestamp) -> Option<PullFacts> {
        let facts = self.pulls.get(&key)?.facts.clone();
        let may_lag = self.time.now().since(facts.updated_at) < LAG;
        let stale = may_lag && self.chance.permille(self.mood.stale_permille);
        if stale {
            self.met.note(Mischief::Stale);
        }
        let facts = if stale { self.before.get(&key).cloned().unwrap_or(facts) } else { facts };
        Some(PullFacts { read_at, ..facts })
    }
}

#[async_trait]
impl Forge for SimForge {
    async fn repositories(&self) -> Result<Listing<RepoRef>, ForgeError> {
        let at = self.clock.now();
        self.read("listing repositories", |inner| {
            Ok(Listing { items: inner.repos.values().cloned().collect(), complete: true, at })
        })
        .await
    }

    async fn open_pulls(&self, repo: &RepoRef) -> Result<Listing<PullFacts>, ForgeError> {
        let at = self.clock.now();
        self.read("listing pull requests", |inner| {
            inner.known(repo)?;
            let keys: Vec<EnvKey> = inner.pulls.keys().filter(|key| key.repo == repo.id).copied().collect();
            let read = keys.into_iter().filter_map(|key| inner.reading(key, at));
            let mut items: Vec<PullFacts> = Vec::new();
            for facts in read.collect::<Vec<_>>() {
                if facts.state == PullState::Open {
                    items.push(facts);
                }
            }
            // One question for every page of 100.
            inner.reads += (items.len() as u64).div_ceil(100).saturating_sub(1);
            if inner.chance.permille(inner.mood.empty_permille) {
                items.clear();
                inner.met.note(Mischief::EmptyList);
            }
            if inner.chance.permille(inner.mood.lossy_permille) && !items.is_empty() {
                let lost = inner.chance.below(items.len() as u64);
                items.remove(usize::try_from(lost).unwrap_or_default());
                inner.met.note(Mischief::LossyList);
            }
            Ok(Listing { items, complete: true, at })
        })
        .await
    }

    async fn pull(&self, repo: &RepoRef, number: PrNumber) -> Result<PullFacts, ForgeError> {
        let at = self.clock.now();
        self.read("reading a pull request", |inner| {
            inner.known(repo)?;
            inner.reading(EnvKey { repo: repo.id, pr: number }, at).ok_or(ForgeErrorKind::NotFound)
        })
        .await
    }

    async fn file(&self, repo: &RepoRef, _: &str, _: &str) -> Result<Option<String>, ForgeError> {
        self.read("reading a file", |inner| {
            inner.known(repo)?;
            Ok(inner.files.get(&repo.id).cloned())
        })
        .await
    }

    async fn sticky_comments(&self, repo: &RepoRef, number: PrNumber, marker: &str) -> Result<Vec<u64>, ForgeError> {
        self.read("listing comments", |inner| {
            let comments = &inner.pull_of(repo, number)?.comments;
            Ok(comments.iter().filter(|(_, body)| body.starts_with(marker)).map(|(id, _)| *id).collect())
        })
        .await
    }

    async fn create_comment(&self, repo: &RepoRef, number: PrNumber, body: &str) -> Result<u64, ForgeError> {
        self.ask(Call::Comment, "creating a comment", |inner| {
            let (id, now) = (inner.next_id(), inner.time.now());
            inner.times.insert(id, now);
            let pull = inner.pull_of(repo, number)?;
            pull.comments.insert(id, body.to_owned());
            let key = pull.facts.key;
            inner.written(key, Written::Comment(body.to_owned()));
            Ok(id)
        })
        .await
    }

    async fn edit_comment(&self, _: &RepoRef, comment: u64, body: &str) -> Result<(), ForgeError> {
        self.ask(Call::Comment, "editing a comment", |inner| {
            let now = inner.time.now();
            let (key, pull) = inner.with_comment(comment)?;
            pull.comments.insert(comment, body.to_owned());
            inner.times.insert(comment, now);
            inner.written(key, Written::Comment(body.to_owned()));
            Ok(())
        })
        .await
    }

    async fn delete_comment(&self, _: &RepoRef, comment: u64) -> Result<(), ForgeError> {
        self.ask(Call::Comment, "deleting a comment", |inner| {
            // An App may delete what others have written.
            inner.pulls.values_mut().for_each(|pull| drop(pull.others.remove(&comment)));
            let Ok((key, pull)) = inner.with_comment(comment) else { return Ok(()) };
            pull.comments.remove(&comment);
            inner.written(key, Written::CommentDeleted);
            Ok(())
        })
        .await
    }

    async fn deployments(&self, repo: &RepoRef, sha: &CommitSha, payload: &str) -> Result<Vec<u64>, ForgeError> {
        let _ = payload;
        self.read("listing deployments", |inner| {
            inner.known(repo)?;
            let pulls = inner.pulls.values().filter(|pull| pull.facts.key.repo == repo.id);
            let made = pulls.flat_map(|pull| pull.deployments.iter()).filter(|(_, (of, _))| of == sha);
            let mut ids: Vec<u64> = made.map(|(id, _)| *id).collect();
            ids.sort_unstable_by(|one, other| other.cmp(one));
            Ok(ids)
        })
        .await
    }

    async fn create_deployment(&self, repo: &RepoRef, sha: &CommitSha, payload: &str) -> Result<u64, ForgeError> {
        self.ask(Call::CreateDeployment, "creating a deployment", |inner| {
            inner.known(repo)?;
            let (id, now) = (inner.next_id(), inner.time.now());
            inner.times.insert(id, now);
            inner.payloads.insert(id, payload.to_owned());
            let mut pulls = inner.pulls.values_mut().filter(|pull| pull.facts.key.repo == repo.id);
            let pull = pulls.find(|pull| pull.commits.contains(sha)).ok_or(ForgeErrorKind::Rejected)?;
            pull.deployments.insert(id, (sha.clone(), None));
            let key = pull.facts.key;
            inner.written(key, Written::Deployment(sha.clone()));
            Ok(id)
        })
        .await
    }

    async fn set_deployment(&self, _: &RepoRef, deployment: u64, status: &DeploymentStatus) -> Result<(), ForgeError> {
        self.ask(Call::SetDeployment, "setting a deployment's status", |inner| {
            let mut pulls = inner.pulls.values_mut();
            let pull = pulls.find(|pull| pull.deployments.contains_key(&deployment)).ok_or(ForgeErrorKind::NotFound)?;
            let made = pull.deployments.get_mut(&deployment).ok_or(ForgeErrorKind::NotFound)?;
            made.1 = Some(status.state);
            let (key, sha) = (pull.facts.key, made.0.clone());
            inner.written(key, Written::Status(sha, status.state));
            Ok(())
        })
        .await
    }

    async fn our_comments(
        &self,
        repo: &RepoRef,
        beginning: &str,
        since: Timestamp,
    ) -> Result<Vec<Comment>, ForgeError> {
        self.read("listing the comments of a repository", |inner| {
            let mut all = inner.comments_of(repo, beginning)?;
            all.retain(|comment| comment.updated_at >= since);
            Ok(inner.listed(all))
        })
        .await
    }

    async fn our_comment(&self, repo: &RepoRef, id: u64, beginning: &str) -> Result<Option<Comment>, ForgeError> {
        self.read("reading a comment", |inner| {
            Ok(inner.comments_of(repo, beginning)?.into_iter().find(|comment| comment.id == id))
        })
        .await
    }

    async fn our_deployments(&self, repo: &RepoRef, since: Timestamp) -> Result<Vec<Deployment>, ForgeError> {
        self.read("listing the deployments of a repository", |inner| {
            let mut all = inner.deployments_of(repo)?;
            all.retain(|deployment| deployment.created_at >= since);
            all.sort_by_key(|deployment| std::cmp::Reverse(deployment.id));
            Ok(inner.listed(all))
        })
        .await
    }

    async fn our_deployment(&self, repo: &RepoRef, id: u64) -> Result<Option<Deployment>, ForgeError> {
        self.read("reading a deployment", |inner| {
            Ok(inner.deployments_of(repo)?.into_iter().find(|deployment| deployment.id == id))
        })
        .await
    }

    async fn deployment_state(&self, repo: &RepoRef, deployment: u64) -> Result<Option<String>, ForgeError> {
        self.read("reading a deployment's status", |inner| {
            let mut made = inner.pulls_of(repo)?.flat_map(|(_, pull)| &pull.deployments);
            let (_, (_, state)) = made.find(|(id, _)| **id == deployment).ok_or(ForgeErrorKind::NotFound)?;
            Ok(state.map(|state| state.word().to_owned()))
        })
        .await
    }

    async fn failed_deliveries(&self, since: Timestamp) -> Result<Listing<FailedDelivery>, ForgeError> {
        let at = self.clock.now();
        self.read("listing failed deliveries", |inner| {
            Ok(Listing { items: inner.post.failed(since), complete: true, at })
        })
        .await
    }

    async fn redeliver(&self, delivery: u64) -> Result<(), ForgeError> {
        self.read("asking for a delivery again", |inner| {
            let now = inner.time.now();
            if inner.post.redeliver(delivery, now) { Ok(()) } else { Err(ForgeErrorKind::NotFound) }
        })
        .await
    }

    async fn git_token(&self, _: &RepoRef) -> Result<Option<SecretString>, ForgeError> {
        Ok(None)
    }

    fn clone_url(&self, repo: &RepoRef) -> String {
        format!("https://github.test/{}.git", repo.name)
    }

    fn pull_url(&self, repo: &RepoName, number: PrNumber) -> String {
        format!("https://github.test/{repo}/pull/{}", number.0)
    }
}
