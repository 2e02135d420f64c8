//! What people do to pull requests, for tests, the demo's driver and the page.
//!
//! Guarantees: an operation is done, and its webhooks are handed to the courier in order, before it
//! returns.
//! Must not know: HTTP.

use std::sync::Arc;

use serde_json::{Value, json};

use super::change::FileChange;
use super::git::{BareRepo, CommitLine, DiffSize, NewCommit};
use super::world::{Comment, EventKind, Head, HeadRepo, Pull, PullState, Repository, User, World};
use super::{Shared, StandinError, json as wire};
use crate::domain::time::Timestamp;

/// A pull request to be opened.
#[derive(Debug, Clone, Default)]
pub struct OpenPull {
    /// Its title.
    pub title: String,
    /// Its description.
    pub body: String,
    /// Login of its author; empty: `mika`. A login that ends in `[bot]` is a bot's.
    pub author: String,
    /// The branch; empty: `change-<number>`.
    pub branch: String,
    /// What its first commit changes.
    pub changes: Vec<FileChange>,
    /// Labels that it has from the start; each one sends `labeled` too.
    pub labels: Vec<String>,
    /// Whether it starts as a draft.
    pub draft: bool,
    /// Login of the fork's owner, if it comes from a fork.
    pub fork_of: Option<String>,
}

impl OpenPull {
    /// A pull request of `mika` on a branch of the repository itself.
    pub fn new(title: impl Into<String>, changes: Vec<FileChange>) -> Self {
        Self { title: title.into(), changes, ..Self::default() }
    }
}

/// One repository, to be operated on.
#[derive(Clone)]
pub struct Operator {
    pub(super) shared: Arc<Shared>,
    owner: String,
    name: String,
}

impl Operator {
    pub(super) fn new(shared: &Arc<Shared>, owner: &str, name: &str) -> Self {
        Self { shared: Arc::clone(shared), owner: owner.to_owned(), name: name.to_owned() }
    }

    /// Opens a pull request with one commit; its number.
    pub async fn open_pull(&self, open: OpenPull) -> Result<u64, StandinError> {
        let now = self.shared.clock.now();
        let mut world = self.shared.world.lock().await;
        let author = world.user(if open.author.is_empty() { "mika" } else { &open.author });
        let fork = open.fork_of.as_deref().map(|owner| world.user(owner));
        let (id, fork_id) = (world.take_id(), world.take_id());
        let repo = self.repository_mut(&mut world)?;
        let number = repo.take_number();
        let branch = if open.branch.is_empty() { format!("change-{number}") } else { open.branch };
        let base_sha = repo.git.resolve("main").await.unwrap_or_default();
        let pull_ref = format!("refs/pull/{number}/head");
        let reference = if fork.is_some() { pull_ref.clone() } else { format!("refs/heads/{branch}") };
        let commit = NewCommit {
            reference: &reference,
            parent: Some(&base_sha),
            message: &open.title,
            author: &author.login,
            at: now.0 / 1000,
            changes: &open.changes,
        };
        let sha = repo.git.commit(&commit).await?;
        repo.git.set_ref(&pull_ref, &sha).await?;
        let mut pull = Pull {
            id,
            number,
            title: open.title,
            body: open.body,
            author: author.clone(),
            draft: open.draft,
            state: PullState::Open,
            labels: open.labels.iter().cloned().collect(),
            head: Head {
                branch,
                sha: sha.clone(),
                repo: fork.map_or(HeadRepo::Same, |owner| HeadRepo::Fork { id: fork_id, owner }),
            },
            heads: Vec::new(),
            base_ref: "main".to_owned(),
            base_sha,
            created_at: now,
            updated_at: now,
            closed_at: None,
            commits: Vec::new(),
            size: DiffSize::default(),
            prepared: None,
            timeline: Vec::new(),
        };
        refresh(&repo.git, &mut pull, now).await?;
        repo.pulls.insert(number, pull);
        self.emit_pull(&mut world, number, "opened", &author, json!({}))?;
        for label in &open.labels {
            self.emit_label(&mut world, number, "labeled", &author, label)?;
        }
        Ok(number)
    }

    /// Opens a pull request from a fork of that login's.
    pub async fn open_from_fork(
        &self,
        owner: &str,
        title: &str,
        changes: Vec<FileChange>,
    ) -> Result<u64, StandinError> {
        let open =
            OpenPull { author: owner.to_owned(), fork_of: Some(owner.to_owned()), ..OpenPull::new(title, changes) };
        self.open_pull(open).await
    }

    /// Pushes a commit on top; its id.
    pub async fn push(&self, number: u64, message: &str, changes: Vec<FileChange>) -> Result<String, StandinError> {
        self.move_head(number, message, changes, Push::OnTop).await
    }

    /// Replaces every commit of the pull request by one; its id.
    pub async fn force_push(
        &self,
        number: u64,
        message: &str,
        changes: Vec<FileChange>,
    ) -> Result<String, StandinError> {
        self.move_head(number, message, changes, Push::Replacing).await
    }

    async fn move_head(
        &self,
        number: u64,
        message: &str,
        changes: Vec<FileChange>,
        push: Push,
    ) -> Result<String, StandinError> {
        let now = self.shared.clock.now();
        let mut world = self.shared.world.lock().await;
        let repo = self.repository_mut(&mut world)?;
        let git = repo.git.clone();
        let pull = self.find_mut(repo, number)?;
        if pull.head.repo == HeadRepo::Deleted {
            return Err(self.refuse(number, "pushed to", "its branch or fork was deleted"));
        }
        let pull_ref = format!("refs/pull/{number}/head");
        let branch_ref = format!("refs/heads/{}", pull.head.branch);
        let reference = if pull.head.repo == HeadRepo::Same { &branch_ref } else { &pull_ref };
        let before = pull.head.sha.clone();
        let commit = NewCommit {
            reference,
            parent: Some(match push {
                Push::OnTop => &before,
                Push::Replacing => &pull.base_sha,
            }),
            message,
            author: &pull.author.login,
            at: now.0 / 1000,
            changes: &changes,
        };
        let sha = git.commit(&commit).await?;
        if !pull.is_open() {
            return Ok(sha);
        }
        git.set_ref(&pull_ref, &sha).await?;
        pull.head.sha.clone_from(&sha);
        let author = pull.author.clone();
        if push == Push::Replacing {
            pull.note(now, &author.login, EventKind::ForcePushed { before: before.clone(), after: sha.clone() });
        }
        refresh(&git, pull, now).await?;
        self.emit_pull(&mut world, number, "synchronize", &author, json!({"before": before, "after": sha}))?;
        Ok(sha)
    }

    /// Closes it without a merge.
    pub async fn close(&self, number: u64, actor: &str) -> Result<(), StandinError> {
        let now = self.shared.clock.now();
        self.change(number, actor, "closed", |pull, actor| {
            if !pull.is_open() {
                return Err("it is not open");
            }
            pull.state = PullState::Closed;
            pull.closed_at = Some(now);
            pull.note(now, &actor.login, EventKind::Closed);
            Ok(json!({}))
        })
        .await
    }

    /// Merges it into its base branch; the merge's commit.
    pub async fn merge(&self, number: u64, actor: &str) -> Result<String, StandinError> {
        let now = self.shared.clock.now();
        let mut world = self.shared.world.lock().await;
        let actor = world.user(actor);
        let repo = self.repository_mut(&mut world)?;
        let git = repo.git.clone();
        let pull = self.find_mut(repo, number)?;
        if !pull.is_open() || pull.draft {
            return Err(self.refuse(number, "merged", "it is not open, or a draft"));
        }
        let message = format!("Merge pull request #{number}: {}", pull.title);
        let Some(sha) = git.merge(&pull.base_ref, &pull.head.sha, &message, now.0 / 1000).await? else {
            return Err(self.refuse(number, "merged", "it conflicts with its base branch"));
        };
        pull.state = PullState::Merged { sha: sha.clone(), by: actor.clone(), at: now };
        pull.closed_at = Some(now);
        let base = pull.base_ref.clone();
        pull.note(now, &actor.login, EventKind::Merged { sha: sha.clone(), base });
        self.emit_pull(&mut world, number, "closed", &actor, json!({}))?;
        Ok(sha)
    }

    /// Opens it again after a close.
    pub async fn reopen(&self, number: u64, actor: &str) -> Result<(), StandinError> {
        let now = self.shared.clock.now();
        self.change(number, actor, "reopened", |pull, actor| {
            if pull.state != PullState::Closed {
                return Err("it is not closed, or was merged");
            }
            pull.state = PullState::Open;
            pull.closed_at = None;
            pull.note(now, &actor.login, EventKind::Reopened);
            Ok(json!({}))
        })
        .await
    }

    /// Makes it a draft, or ready for review.
    pub async fn set_draft(&self, number: u64, actor: &str, draft: bool) -> Result<(), StandinError> {
        let now = self.shared.clock.now();
        let action = if draft { "converted_to_draft" } else { "ready_for_review" };
        self.change(number, actor, action, |pull, actor| {
            if pull.draft == draft {
                return Err("it is so already");
            }
            pull.draft = draft;
            pull.note(now, &actor.login, if draft { EventKind::Drafted } else { EventKind::Readied });
            Ok(json!({}))
        })
        .await
    }

    /// Gives it another title.
    pub async fn retitle(&self, number: u64, actor: &str, title: &str) -> Result<(), StandinError> {
        let now = self.shared.clock.now();
        self.change(number, actor, "edited", |pull, actor| {
            let from = std::mem::replace(&mut pull.title, title.to_owned());
            pull.note(now, &actor.login, EventKind::Renamed { from: from.clone(), to: title.to_owned() });
            Ok(json!({"changes": {"title": {"from": from}}}))
        })
        .await
    }

    /// Points it at another base branch, which is made from `main` if there is none.
    pub async fn retarget(&self, number: u64, actor: &str, base: &str) -> Result<(), StandinError> {
        let now = self.shared.clock.now();
        let base_sha = {
            let world = self.shared.world.lock().await;
            let git = &self.repository(&world)?.git;
            if let Some(sha) = git.resolve(base).await {
                sha
            } else {
                let main = git.resolve("main").await.unwrap_or_default();
                git.set_ref(&format!("refs/heads/{base}"), &main).await?;
                main
            }
        };
        self.change(number, actor, "edited", |pull, actor| {
            let from = std::mem::replace(&mut pull.base_ref, base.to_owned());
            let from_sha = std::mem::replace(&mut pull.base_sha, base_sha);
            pull.note(now, &actor.login, EventKind::Retargeted { from: from.clone(), to: base.to_owned() });
            Ok(json!({"changes": {"base": {"ref": {"from": from}, "sha": {"from": from_sha}}}}))
        })
        .await
    }

    /// Sets a label.
    pub async fn label(&self, number: u64, actor: &str, label: &str) -> Result<(), StandinError> {
        let now = self.shared.clock.now();
        let mut world = self.shared.world.lock().await;
        let actor = world.user(actor);
        let pull = self.find_mut(self.repository_mut(&mut world)?, number)?;
        if !pull.labels.insert(label.to_owned()) {
            return Ok(());
        }
        pull.note(now, &actor.login, EventKind::Labeled { label: label.to_owned() });
        self.emit_label(&mut world, number, "labeled", &actor, label)
    }

    /// Takes a label off.
    pub async fn unlabel(&self, number: u64, actor: &str, label: &str) -> Result<(), StandinError> {
        let now = self.shared.clock.now();
        let mut world = self.shared.world.lock().await;
        let actor = world.user(actor);
        let pull = self.find_mut(self.repository_mut(&mut world)?, number)?;
        if !pull.labels.remove(label) {
            return Ok(());
        }
        pull.note(now, &actor.login, EventKind::Unlabeled { label: label.to_owned() });
        self.emit_label(&mut world, number, "unlabeled", &actor, label)
    }

    /// Deletes the fork that it comes from: `head.repo` is null from now on. GitHub sends nothing.
    pub async fn delete_fork(&self, number: u64) -> Result<(), StandinError> {
        let now = self.shared.clock.now();
        let mut world = self.shared.world.lock().await;
        let pull = self.find_mut(self.repository_mut(&mut world)?, number)?;
        pull.head.repo = HeadRepo::Deleted;
        let author = pull.author.login.clone();
        pull.note(now, &author, EventKind::HeadDeleted);
        self.shared.changed();
        Ok(())
    }

    /// Writes a comment as a person; its id.
    pub async fn comment(&self, number: u64, author: &str, text: &str) -> Result<u64, StandinError> {
        let now = self.shared.clock.now();
        let mut world = self.shared.world.lock().await;
        let author = world.user(author);
        let id = world.take_id();
        let repo = self.repository_mut(&mut world)?;
        self.find(repo, number)?;
        repo.comments.push(Comment {
            id,
            number,
            author: author.clone(),
            body: text.to_owned(),
            created_at: now,
            updated_at: now,
            edits: 0,
            via_app: false,
        });
        self.emit_comment(&mut world, id, "created", &author)?;
        Ok(id)
    }

    /// Deletes a comment, whoever wrote it.
    pub async fn delete_comment(&self, id: u64, actor: &str) -> Result<(), StandinError> {
        let mut world = self.shared.world.lock().await;
        let actor = world.user(actor);
        self.emit_comment(&mut world, id, "deleted", &actor)?;
        self.repository_mut(&mut world)?.comments.retain(|comment| comment.id != id);
        Ok(())
    }

    /// Applies a change to the pull request and tells of it.
    async fn change(
        &self,
        number: u64,
        actor: &str,
        action: &'static str,
        apply: impl FnOnce(&mut Pull, &User) -> Result<Value, &'static str>,
    ) -> Result<(), StandinError> {
        let mut world = self.shared.world.lock().await;
        let actor = world.user(actor);
        let pull = self.find_mut(self.repository_mut(&mut world)?, number)?;
        let extra = apply(pull, &actor).map_err(|why| self.refuse(number, action, why))?;
        self.emit_pull(&mut world, number, action, &actor, extra)
    }

    fn emit_label(
        &self,
        world: &mut World,
        number: u64,
        action: &'static str,
        actor: &User,
        label: &str,
    ) -> Result<(), StandinError> {
        let label = wire::label(&self.shared.links, self.repository(world)?, label);
        self.emit_pull(world, number, action, actor, json!({"label": label}))
    }

    fn emit_pull(
        &self,
        world: &mut World,
        number: u64,
        action: &'static str,
        actor: &User,
        extra: Value,
    ) -> Result<(), StandinError> {
        let links = &self.shared.links;
        let repo = self.repository(world)?;
        let pull = wire::full_pull(links, repo, self.find(repo, number)?);
        let mut body = json!({"number": number, "pull_request": pull});
        wire::merge(&mut body, extra);
        let event = wire::event(links, repo, "pull_request", action, actor, body);
        self.shared.emit(world, event);
        Ok(())
    }

    /// Tells of a comment.
    pub(super) fn emit_comment(
        &self,
        world: &mut World,
        id: u64,
        action: &'static str,
        actor: &User,
    ) -> Result<(), StandinError> {
        let links = &self.shared.links;
        let repo = self.repository(world)?;
        let comment = repo
            .comments
            .iter()
            .find(|comment| comment.id == id)
            .ok_or_else(|| StandinError::new(format!("comment {id}"), "there is none of that id"))?;
        let pull = self.find(repo, comment.number)?;
        let body = json!({
            "issue": wire::issue(links, repo, pull),
            "comment": wire::comment(links, &world.app, repo, comment),
        });
        let event = wire::event(links, repo, "issue_comment", action, actor, body);
        self.shared.emit(world, event);
        Ok(())
    }

    pub(super) fn repository<'a>(&self, world: &'a World) -> Result<&'a Repository, StandinError> {
        world.repository(&self.owner, &self.name).ok_or_else(|| self.missing())
    }

    pub(super) fn repository_mut<'a>(&self, world: &'a mut World) -> Result<&'a mut Repository, StandinError> {
        world.repository_mut(&self.owner, &self.name).ok_or_else(|| self.missing())
    }

    pub(super) fn find<'a>(&self, repo: &'a Repository, number: u64) -> Result<&'a Pull, StandinError> {
        repo.pulls.get(&number).ok_or_else(|| self.refuse(number, "found", "there is none of that number"))
    }

    pub(super) fn find_mut<'a>(&self, repo: &'a mut Repository, number: u64) -> Result<&'a mut Pull, StandinError> {
        repo.pulls.get_mut(&number).ok_or_else(|| self.refuse(number, "found", "there is none of that number"))
    }

    fn missing(&self) -> StandinError {
        StandinError::new(format!("repository {}/{}", self.owner, self.name), "the stand-in has none of that name")
    }

    fn refuse(&self, number: u64, verb: &str, why: &str) -> StandinError {
        StandinError::new(format!("pull request {}/{}#{number} cannot be {verb}", self.owner, self.name), why)
    }
}

/// What a push does to the commits that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Push {
    OnTop,
    Replacing,
}

/// Reads the commits anew after the head has moved, and notes the new ones.
async fn refresh(git: &BareRepo, pull: &mut Pull, now: Timestamp) -> Result<(), StandinError> {
    pull.commits = git.commits(&pull.base_sha, &pull.head.sha).await?;
    pull.size = git.diff_size(&pull.base_sha, &pull.head.sha).await?;
    let author = pull.author.login.clone();
    let fresh: Vec<_> = pull.commits.iter().filter(|commit| !pull.heads.contains(&commit.sha)).cloned().collect();
    for CommitLine { sha, subject, .. } in fresh {
        pull.heads.push(sha.clone());
        pull.note(now, &author, EventKind::Commit { sha, subject });
    }
    Ok(())
}
