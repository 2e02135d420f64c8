//! The real [`Forge`]: GitHub and GitHub Enterprise Server, through octocrab. The only place that names
//! octocrab.
//!
//! Guarantees: nothing is retried (octocrab's default would post comments twice) and nothing is logged that
//! is also returned; a listing is complete, or says that it is not, or is an error; an answer about another
//! repository than the one that was asked for is an error.
//! Must not know: environments, plans, the store.

mod call;
mod comment;
mod delivery;
mod deployment;
mod etag;
mod file;
mod installation;
mod limit;
mod page;
mod path;
mod pull;
mod refusal;
mod token;
mod transport;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use octocrab::auth::{AppAuth, EncodingKey, create_jwt};
use octocrab::{AuthState, OctocrabBuilder};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

pub use limit::RateLimit;

use self::call::{Calls, Identity};
use super::{DeploymentStatus, FailedDelivery, Forge, ForgeError, RepoRef};
use crate::clock::Clock;
use crate::domain::id::{CommitSha, PrNumber, RepoName};
use crate::domain::observed::Listing;
use crate::domain::pull::PullFacts;
use crate::domain::time::Timestamp;
use crate::domain::words::{Comment, Deployment};

/// Which GitHub, and as which App.
#[derive(Debug, Clone)]
pub struct GithubConfig {
    /// The API: `https://api.github.com`, or `https://<host>/api/v3` of an Enterprise Server.
    pub api_url: Url,
    /// Where people and git go: `https://github.com`.
    pub web_url: Url,
    /// Takes the place of [`GithubConfig::web_url`] for git, for stand-ins: `file:///…`.
    pub clone_base: Option<String>,
    /// The App's numeric id.
    pub app_id: u64,
    /// The App's private key, PEM.
    pub private_key: SecretString,
    /// For one request, from its first byte to the last one of the answer.
    pub timeout: Duration,
    /// How much may be kept of answers already read.
    pub cache_bytes: usize,
}

impl GithubConfig {
    /// github.com, with the usual limits.
    pub fn new(api_url: Url, web_url: Url, app_id: u64, private_key: SecretString) -> Self {
        let (timeout, cache_bytes) = (Duration::from_secs(20), 16 << 20);
        Self { api_url, web_url, clone_base: None, app_id, private_key, timeout, cache_bytes }
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum GithubConfigError {
    /// Not a key.
    #[error(
        "github.private_key is not an RSA private key in PEM form: download one from the App's settings page on GitHub"
    )]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Not an address of an API.
    #[error(
        "github.api_url {url} is not an http or https address: expected https://api.github.com or https://<host>/api/v3"
    )]
    Url {
        /// The address.
        url: Url,
    },
    /// TLS and the like.
    #[error("no HTTP client could be made: install the system's root certificates (package ca-certificates)")]
    Client(#[source] reqwest::Error),
}

/// GitHub, as one App. Cheap to share, expensive to make: it holds connections, tokens and known answers.
pub struct Github {
    calls: Calls,
    config: GithubConfig,
    /// The login under which the App's comments appear, once it has been asked for.
    login: tokio::sync::OnceCell<String>,
}

impl Github {
    /// Makes a client; asks nothing yet. Must be called within a Tokio runtime.
    pub fn new(config: GithubConfig, clock: Arc<dyn Clock>) -> Result<Self, GithubConfigError> {
        if !matches!(config.api_url.scheme(), "http" | "https") || config.api_url.host().is_none() {
            return Err(GithubConfigError::Url { url: config.api_url });
        }
        let app_id = octocrab::models::AppId(config.app_id);
        let key = EncodingKey::from_rsa_pem(config.private_key.expose_secret().as_bytes())
            .map_err(|error| GithubConfigError::Key(error.into()))?;
        // A key can have the right frame and still not sign.
        create_jwt(app_id, &key).map_err(|error| GithubConfigError::Key(error.into()))?;

        let carrier = transport::carrier(&config.api_url, config.timeout).map_err(GithubConfigError::Client)?;
        let auth = AuthState::App(AppAuth { app_id, key });
        let app = match OctocrabBuilder::new_empty().with_service(carrier).with_auth(auth).build() {
            Ok(app) => app,
            Err(never) => match never {},
        };
        let calls = Calls::new(app, config.api_url.clone(), clock, config.cache_bytes);
        Ok(Self { calls, config, login: tokio::sync::OnceCell::new() })
    }

    /// What GitHub last said of each rate limit.
    pub fn rate_limits(&self) -> Vec<RateLimit> {
        self.calls.limits().seen()
    }

    fn identity(repo: &RepoRef) -> Identity {
        Identity::Installation(repo.installation)
    }
}

#[async_trait]
impl Forge for Github {
    async fn repositories(&self) -> Result<Listing<RepoRef>, ForgeError> {
        self.list_repositories().await
    }

    async fn open_pulls(&self, repo: &RepoRef) -> Result<Listing<PullFacts>, ForgeError> {
        self.list_open_pulls(repo).await
    }

    async fn pull(&self, repo: &RepoRef, number: PrNumber) -> Result<PullFacts, ForgeError> {
        self.read_pull(repo, number).await
    }

    async fn file(&self, repo: &RepoRef, path: &str, reference: &str) -> Result<Option<String>, ForgeError> {
        self.read_file(repo, path, reference).await
    }

    async fn sticky_comments(&self, repo: &RepoRef, number: PrNumber, marker: &str) -> Result<Vec<u64>, ForgeError> {
        self.find_comments(repo, number, marker).await
    }

    async fn create_comment(&self, repo: &RepoRef, number: PrNumber, body: &str) -> Result<u64, ForgeError> {
        self.post_comment(repo, number, body).await
    }

    async fn edit_comment(&self, repo: &RepoRef, comment: u64, body: &str) -> Result<(), ForgeError> {
        self.patch_comment(repo, comment, body).await
    }

    async fn delete_comment(&self, repo: &RepoRef, comment: u64) -> Result<(), ForgeError> {
        self.remove_comment(repo, comment).await
    }

    async fn our_comments(
        &self,
        repo: &RepoRef,
        beginning: &str,
        since: Timestamp,
    ) -> Result<Vec<Comment>, ForgeError> {
        self.list_our_comments(repo, beginning, since).await
    }

    async fn our_comment(&self, repo: &RepoRef, id: u64, beginning: &str) -> Result<Option<Comment>, ForgeError> {
        self.read_our_comment(repo, id, beginning).await
    }

    async fn deployments(&self, repo: &RepoRef, sha: &CommitSha, payload: &str) -> Result<Vec<u64>, ForgeError> {
        self.find_deployments(repo, sha, payload).await
    }

    async fn create_deployment(&self, repo: &RepoRef, sha: &CommitSha, payload: &str) -> Result<u64, ForgeError> {
        self.post_deployment(repo, sha, payload).await
    }

    async fn set_deployment(
        &self,
        repo: &RepoRef,
        deployment: u64,
        status: &DeploymentStatus,
    ) -> Result<(), ForgeError> {
        self.post_deployment_status(repo, deployment, status).await
    }

    async fn our_deployments(&self, repo: &RepoRef, since: Timestamp) -> Result<Vec<Deployment>, ForgeError> {
        self.list_our_deployments(repo, since).await
    }

    async fn our_deployment(&self, repo: &RepoRef, id: u64) -> Result<Option<Deployment>, ForgeError> {
        self.read_our_deployment(repo, id).await
    }

    async fn deployment_state(&self, repo: &RepoRef, deployment: u64) -> Result<Option<String>, ForgeError> {
        self.newest_state(repo, deployment).await
    }

    async fn failed_deliveries(&self, since: Timestamp) -> Result<Listing<FailedDelivery>, ForgeError> {
        self.list_failed_deliveries(since).await
    }

    async fn redeliver(&self, delivery: u64) -> Result<(), ForgeError> {
        self.attempt_delivery(delivery).await
    }

    async fn git_token(&self, repo: &RepoRef) -> Result<Option<SecretString>, ForgeError> {
        // Git reads local directories without asking anybody.
        if self.config.clone_base.as_ref().is_some_and(|base| base.starts_with("file:")) {
            return Ok(None);
        }
        self.calls.git_token(repo.installation, repo.id).await.map(Some)
    }

    fn clone_url(&self, repo: &RepoRef) -> String {
        let base = self.config.clone_base.as_deref().unwrap_or(self.config.web_url.as_str());
        format!("{}/{}.git", base.trim_end_matches('/'), repo.name)
    }

    fn pull_url(&self, repo: &RepoName, number: PrNumber) -> String {
        format!("{}/{repo}/pull/{}", self.config.web_url.as_str().trim_end_matches('/'), number.0)
    }
}
