//! GitHub: the trait that the controller speaks, its real implementation, and the webhook's outer form.
//!
//! Guarantees: every failure is sorted into a [`ForgeErrorKind`]; a listing says
//! whether it is complete; nothing is retried behind the caller's back.
//! Must not know: environments, plans, the store.

pub mod budget;
pub mod github;
pub mod webhook;

use async_trait::async_trait;
use secrecy::SecretString;

use crate::domain::id::{CommitSha, PrNumber, RepoName};
use crate::domain::ledger::DeploymentState;
use crate::domain::observed::Listing;
use crate::domain::pull::PullFacts;
pub use crate::domain::pull::RepoRef;
use crate::domain::time::Timestamp;
use crate::domain::words::{Comment, Deployment};

/// What we ask of GitHub.
#[async_trait]
pub trait Forge: Send + Sync {
    /// Every repository of every installation that is not suspended.
    async fn repositories(&self) -> Result<Listing<RepoRef>, ForgeError>;
    /// Every open pull request of a repository. One may be missing if another one was closed while the
    /// pages were read: read it by itself before believing that it is not open.
    async fn open_pulls(&self, repo: &RepoRef) -> Result<Listing<PullFacts>, ForgeError>;
    /// One pull request, whatever its state. An answer for another repository id is an error.
    async fn pull(&self, repo: &RepoRef, number: PrNumber) -> Result<PullFacts, ForgeError>;
    /// A file's text at a branch or commit; `None` if the file is not there.
    async fn file(&self, repo: &RepoRef, path: &str, reference: &str) -> Result<Option<String>, ForgeError>;

    /// Ids of our comments (by this App) on a pull request whose text begins with the marker, oldest
    /// first, over all pages.
    async fn sticky_comments(&self, repo: &RepoRef, number: PrNumber, marker: &str) -> Result<Vec<u64>, ForgeError>;
    /// Posts a comment; its id.
    async fn create_comment(&self, repo: &RepoRef, number: PrNumber, body: &str) -> Result<u64, ForgeError>;
    /// Changes a comment's text. [`ForgeErrorKind::NotFound`] if it was deleted.
    async fn edit_comment(&self, repo: &RepoRef, comment: u64, body: &str) -> Result<(), ForgeError>;
    /// Deletes a comment; already gone is success.
    async fn delete_comment(&self, repo: &RepoRef, comment: u64) -> Result<(), ForgeError>;
    /// Our comments (by this App) in a whole repository that were changed since then and whose text begins like this,
    /// over all pages.
    async fn our_comments(&self, repo: &RepoRef, beginning: &str, since: Timestamp)
    -> Result<Vec<Comment>, ForgeError>;
    /// One of them; `None` if it is gone, or is not one of them.
    async fn our_comment(&self, repo: &RepoRef, id: u64, beginning: &str) -> Result<Option<Comment>, ForgeError>;

    /// Deployments of ours for a commit in the shared environment, newest first.
    async fn deployments(&self, repo: &RepoRef, sha: &CommitSha, payload: &str) -> Result<Vec<u64>, ForgeError>;
    /// Creates a transient deployment for a commit; `payload` identifies our environment. Its id.
    async fn create_deployment(&self, repo: &RepoRef, sha: &CommitSha, payload: &str) -> Result<u64, ForgeError>;
    /// Sets a deployment's status.
    async fn set_deployment(
        &self,
        repo: &RepoRef,
        deployment: u64,
        status: &DeploymentStatus,
    ) -> Result<(), ForgeError>;
    /// Our deployments (by this App) in the shared environment that were made since then, newest first, over all pages.
    async fn our_deployments(&self, repo: &RepoRef, since: Timestamp) -> Result<Vec<Deployment>, ForgeError>;
    /// One of them; `None` if it is gone, or is not one of them.
    async fn our_deployment(&self, repo: &RepoRef, id: u64) -> Result<Option<Deployment>, ForgeError>;
    /// A deployment's newest state, in GitHub's word; `None` if none was ever set.
    async fn deployment_state(&self, repo: &RepoRef, deployment: u64) -> Result<Option<String>, ForgeError>;

    /// Deliveries of the App's webhook since then that GitHub records as failed.
    async fn failed_deliveries(&self, since: Timestamp) -> Result<Listing<FailedDelivery>, ForgeError>;
    /// Asks GitHub to send a delivery again.
    async fn redeliver(&self, delivery: u64) -> Result<(), ForgeError>;

    /// A token for git, good for reading one repository's contents.
    async fn git_token(&self, repo: &RepoRef) -> Result<Option<SecretString>, ForgeError>;
    /// The clone URL, without credentials.
    fn clone_url(&self, repo: &RepoRef) -> String;
    /// Where people read a pull request.
    fn pull_url(&self, repo: &RepoName, number: PrNumber) -> String;
}

/// A deployment's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeploymentStatus {
    /// The state.
    pub state: DeploymentState,
    /// At most 140 characters; longer ones are cut.
    pub description: String,
    /// The preview.
    pub environment_url: Option<String>,
    /// The log.
    pub log_url: Option<String>,
}

/// A delivery that did not reach us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedDelivery {
    /// Its number in GitHub's list, for asking again.
    pub id: u64,
    /// The `X-GitHub-Delivery` header, the same on every attempt.
    pub guid: String,
    /// When it was tried.
    pub delivered_at: Timestamp,
}

/// An error of GitHub's, sorted by what the caller should do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct ForgeError {
    /// What to do about it.
    pub kind: ForgeErrorKind,
    /// What was attempted, with the name of the thing.
    pub what: String,
    /// What came back. No secrets.
    pub why: String,
}

/// What a caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForgeErrorKind {
    /// Try again soon: 5xx, time-out, broken connection, truncated body.
    Retry,
    /// Try again after that long: 429, or 403 with a rate limit behind it.
    SlowDown(std::time::Duration),
    /// 404 or 410. For a repository this may also mean lost access: never a ground for tearing down.
    NotFound,
    /// 401 or 403 without a rate limit: a person has to act.
    Denied,
    /// GitHub will never accept this request (422 and the like).
    Rejected,
    /// The answer was not of the expected form.
    Garbled,
}
