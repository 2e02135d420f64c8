//! What people see of a repository's pull requests: snapshots for tests and the demo's driver.
//!
//! Must not know: HTTP.

use std::collections::BTreeSet;

use serde::Serialize;

use super::StandinError;
use super::git::CommitLine;
use super::operate::Operator;
use super::world::{Comment, Deployment, Pull, PullState, Repository};

/// A pull request as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct PullSnapshot {
    /// Its number.
    pub number: u64,
    /// GitHub's id of its base repository.
    pub repo_id: u64,
    /// Its title.
    pub title: String,
    /// `open`, `closed` or `merged`.
    pub state: String,
    /// Whether it is a draft.
    pub draft: bool,
    /// The newest commit.
    pub head_sha: String,
    /// The branch.
    pub head_ref: String,
    /// The branch it would be merged into.
    pub base_ref: String,
    /// Names of its labels.
    pub labels: BTreeSet<String>,
    /// Its commits, oldest first.
    pub commits: Vec<CommitLine>,
}

/// A comment as it stands.
#[derive(Debug, Clone, Serialize)]
pub struct CommentSnapshot {
    /// Its id.
    pub id: u64,
    /// Login of its author.
    pub author: String,
    /// Whether the App wrote it.
    pub via_app: bool,
    /// Markdown.
    pub body: String,
    /// How often it was edited.
    pub edits: u32,
}

/// A deployment with its history.
#[derive(Debug, Clone, Serialize)]
pub struct DeploymentSnapshot {
    /// Its id.
    pub id: u64,
    /// The commit.
    pub sha: String,
    /// The environment's name.
    pub environment: String,
    /// Oldest first.
    pub statuses: Vec<StatusSnapshot>,
}

/// A status of a deployment.
#[derive(Debug, Clone, Serialize)]
pub struct StatusSnapshot {
    /// `queued`, `in_progress`, `success`, `failure` or `inactive`.
    pub state: String,
    /// One line.
    pub description: String,
    /// The preview.
    pub environment_url: String,
    /// The log.
    pub log_url: String,
}

impl PullSnapshot {
    pub(super) fn of(repo: &Repository, pull: &Pull) -> Self {
        Self {
            number: pull.number,
            repo_id: repo.id,
            title: pull.title.clone(),
            state: match pull.state {
                PullState::Open => "open",
                PullState::Closed => "closed",
                PullState::Merged { .. } => "merged",
            }
            .to_owned(),
            draft: pull.draft,
            head_sha: pull.head.sha.clone(),
            head_ref: pull.head.branch.clone(),
            base_ref: pull.base_ref.clone(),
            labels: pull.labels.clone(),
            commits: pull.commits.clone(),
        }
    }
}

impl CommentSnapshot {
    fn of(comment: &Comment) -> Self {
        Self {
            id: comment.id,
            author: comment.author.login.clone(),
            via_app: comment.via_app,
            body: comment.body.clone(),
            edits: comment.edits,
        }
    }
}

impl DeploymentSnapshot {
    fn of(deployment: &Deployment) -> Self {
        let statuses = deployment.statuses.iter().map(|status| StatusSnapshot {
            state: status.state.clone(),
            description: status.description.clone(),
            environment_url: status.environment_url.clone(),
            log_url: status.log_url.clone(),
        });
        Self {
            id: deployment.id,
            sha: deployment.sha.clone(),
            environment: deployment.environment.clone(),
            statuses: statuses.collect(),
        }
    }
}

/// Deployments of any commit that the pull request has or had, oldest first.
pub(super) fn deployments_of<'a>(repo: &'a Repository, pull: &'a Pull) -> impl Iterator<Item = &'a Deployment> {
    repo.deployments.iter().filter(|deployment| pull.heads.contains(&deployment.sha))
}

impl Operator {
    /// GitHub's id of the repository.
    pub async fn repo_id(&self) -> Result<u64, StandinError> {
        let world = self.shared.world.lock().await;
        Ok(self.repository(&world)?.id)
    }

    /// A pull request as it stands.
    pub async fn pull(&self, number: u64) -> Result<PullSnapshot, StandinError> {
        let world = self.shared.world.lock().await;
        let repo = self.repository(&world)?;
        Ok(PullSnapshot::of(repo, self.find(repo, number)?))
    }

    /// The comments on a pull request, oldest first.
    pub async fn comments(&self, number: u64) -> Result<Vec<CommentSnapshot>, StandinError> {
        let world = self.shared.world.lock().await;
        let repo = self.repository(&world)?;
        self.find(repo, number)?;
        Ok(repo.comments.iter().filter(|comment| comment.number == number).map(CommentSnapshot::of).collect())
    }

    /// Deployments of the commits that the pull request has or had, oldest first.
    pub async fn deployments(&self, number: u64) -> Result<Vec<DeploymentSnapshot>, StandinError> {
        let world = self.shared.world.lock().await;
        let repo = self.repository(&world)?;
        let pull = self.find(repo, number)?;
        Ok(deployments_of(repo, pull).map(DeploymentSnapshot::of).collect())
    }
}
