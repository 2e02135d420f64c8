//! Deployments and their statuses.
//!
//! Guarantees: a deployment neither merges nor waits for checks; it is transient, not production, and in the
//! one environment that all previews share; no status touches another deployment's.
//! Must not know: when which state is due.

use http::Method;
use serde_json::{Value, json};

use super::call::Ask;
use super::page::PAGE_SIZE;
use super::wire::{Deployment, Id, Status};
use super::{DeploymentStatus, ForgeError, Github, RepoRef, path};
use crate::domain::id::CommitSha;
use crate::domain::time::Timestamp;
use crate::domain::words;
use crate::forge::ForgeErrorKind;

/// Shared, because environments are never deleted without the right to administer the repository.
const ENVIRONMENT: &str = "preview";
/// In the payload: what we recognise our own deployments by.
const KEY: &str = "kagero";
const LONGEST_DESCRIPTION: usize = 140;

impl Github {
    pub(super) async fn find_deployments(
        &self,
        repo: &RepoRef,
        sha: &CommitSha,
        payload: &str,
    ) -> Result<Vec<u64>, ForgeError> {
        let size = PAGE_SIZE.to_string();
        let query = [("sha", sha.as_str()), ("environment", ENVIRONMENT), ("per_page", &size)];
        let what = format!("listing the deployments of {} for {}", repo.name, sha.short());
        let ask = Self::ask(repo, &path::with("deployments", &query), what)?;
        let deployments: Vec<Deployment> = self.calls.all::<Vec<_>>(ask).await?;
        let mut ours: Vec<u64> = deployments
            .into_iter()
            .filter(|found| found.performed_via_github_app.as_ref().is_none_or(|app| app.id == self.config.app_id))
            .filter(|found| carried(found.payload.as_ref()).as_deref() == Some(payload))
            .map(|found| found.id)
            .collect();
        ours.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ours)
    }

    pub(super) async fn list_our_deployments(
        &self,
        repo: &RepoRef,
        since: Timestamp,
    ) -> Result<Vec<words::Deployment>, ForgeError> {
        let size = PAGE_SIZE.to_string();
        let query = [("environment", ENVIRONMENT), ("per_page", &size)];
        let what = format!("listing the deployments of {} since {since}", repo.name);
        let ask = Self::ask(repo, &path::with("deployments", &query), what)?;
        let is_older = |found: &Deployment| found.created_at.is_some_and(|at| Timestamp(at.as_millisecond()) < since);
        let pages = self.calls.pages::<Vec<Deployment>>(ask.clone(), |page| page.iter().any(is_older)).await?;
        if !pages.complete {
            return Err(ask.error(ForgeErrorKind::Garbled, "the list does not end"));
        }
        let mut ours = Vec::new();
        for found in pages.items.into_iter().filter(|found| !is_older(found)) {
            ours.extend(self.spoken_deployment(found, &ask).await?);
        }
        Ok(ours)
    }

    pub(super) async fn read_our_deployment(
        &self,
        repo: &RepoRef,
        id: u64,
    ) -> Result<Option<words::Deployment>, ForgeError> {
        let ask = Self::ask(repo, &format!("deployments/{id}"), format!("reading deployment {id} of {}", repo.name))?;
        match self.calls.read::<Deployment, _>(&ask, |_| true).await {
            Ok(reading) if reading.value.id == id => self.spoken_deployment(reading.value, &ask).await,
            Ok(_) => Ok(None),
            Err(error) if error.kind == ForgeErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `None` if it is not ours.
    async fn spoken_deployment(&self, found: Deployment, ask: &Ask) -> Result<Option<words::Deployment>, ForgeError> {
        let Some(payload) = carried(found.payload.as_ref()) else { return Ok(None) };
        let shared = found.environment.as_deref() == Some(ENVIRONMENT);
        if !shared || !self.is_ours(found.performed_via_github_app.as_ref(), found.creator.as_ref()).await? {
            return Ok(None);
        }
        let sha = found.sha.and_then(|sha| CommitSha::parse(sha).ok());
        let (Some(sha), Some(created_at)) = (sha, found.created_at) else {
            let why = format!("deployment {} does not say of which commit it is or when it was made", found.id);
            return Err(ask.error(ForgeErrorKind::Garbled, why));
        };
        let created_at = Timestamp(created_at.as_millisecond());
        Ok(Some(words::Deployment { id: found.id, payload, sha, created_at }))
    }

    pub(super) async fn newest_state(&self, repo: &RepoRef, deployment: u64) -> Result<Option<String>, ForgeError> {
        let what = format!("reading the status of deployment {deployment} of {}", repo.name);
        let ask = Self::ask(repo, &format!("deployments/{deployment}/statuses?per_page=1"), what)?;
        let statuses: Vec<Status> = self.calls.read(&ask, |_| false).await?.value;
        Ok(statuses.into_iter().next().map(|status| status.state))
    }

    pub(super) async fn post_deployment(
        &self,
        repo: &RepoRef,
        sha: &CommitSha,
        payload: &str,
    ) -> Result<u64, ForgeError> {
        let mut ask =
            Self::ask(repo, "deployments", format!("creating a deployment of {} for {}", repo.name, sha.short()))?;
        ask.method = Method::POST;
        ask.body = Some(json!({
            "ref": sha.as_str(),
            "task": "deploy",
            "auto_merge": false,
            "required_contexts": [],
            "payload": {KEY: payload},
            "environment": ENVIRONMENT,
            "transient_environment": true,
            "production_environment": false,
        }));
        self.calls.write::<Id>(&ask).await.map(|made| made.id)
    }

    pub(super) async fn post_deployment_status(
        &self,
        repo: &RepoRef,
        deployment: u64,
        status: &DeploymentStatus,
    ) -> Result<(), ForgeError> {
        let state = status.state.word();
        let what = format!("setting deployment {deployment} of {} to {state}", repo.name);
        let mut body = json!({
            "state": state,
            "description": cut(&status.description),
            "auto_inactive": false,
        });
        for (name, url) in [("environment_url", &status.environment_url), ("log_url", &status.log_url)] {
            if let Some(url) = url {
                body[name] = json!(url);
            }
        }
        let mut ask = Self::ask(repo, &format!("deployments/{deployment}/statuses"), what)?;
        (ask.method, ask.body) = (Method::POST, Some(body));
        self.calls.tell(&ask).await
    }
}

/// GitHub gives a payload back as it was sent, or as text if it was sent as text.
fn carried(found: Option<&Value>) -> Option<String> {
    let inner;
    let value = match found? {
        Value::String(text) => {
            inner = serde_json::from_str::<Value>(text).ok()?;
            &inner
        }
        value => value,
    };
    value.get(KEY)?.as_str().map(str::to_owned)
}

fn cut(description: &str) -> String {
    if description.chars().count() <= LONGEST_DESCRIPTION {
        return description.to_owned();
    }
    let mut text: String = description.chars().take(LONGEST_DESCRIPTION - 1).collect();
    text.push('…');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_cut_between_characters() {
        assert_eq!(cut("ready"), "ready");
        assert_eq!(cut(&"ü".repeat(140)), "ü".repeat(140));
        assert_eq!(cut(&"ü".repeat(141)), format!("{}…", "ü".repeat(139)));
    }

    #[test]
    fn a_payload_is_recognised_in_both_forms_and_no_other() {
        for ours in [json!({"kagero": "uid"}), json!("{\"kagero\":\"uid\"}")] {
            assert_eq!(carried(Some(&ours)).as_deref(), Some("uid"), "{ours}");
        }
        for other in [json!({"kagero": 2}), json!("uid"), json!(""), json!(null), json!(["uid"]), json!({})] {
            assert_eq!(carried(Some(&other)), None, "{other}");
        }
        assert_eq!(carried(None), None);
    }
}
