//! Deployments and their statuses.
//!
//! Guarantees: a deployment neither merges nor waits for checks; it is transient, not production, and in the
//! one environment that all previews share; no status touches another deployment's.
//! Must not know: when which state is due.

use http::Method;
use serde_json::{Value, json};

use super::page::PAGE_SIZE;
use super::wire::{Deployment, Id};
use super::{DeploymentStatus, ForgeError, Github, RepoRef, path};
use crate::domain::id::CommitSha;
use crate::domain::ledger::DeploymentState;

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
            .filter(|found| carries(found.payload.as_ref(), payload))
            .map(|found| found.id)
            .collect();
        ours.sort_unstable_by(|a, b| b.cmp(a));
        Ok(ours)
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
        let state = word(status.state);
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
fn carries(found: Option<&Value>, payload: &str) -> bool {
    match found {
        Some(Value::String(text)) => {
            serde_json::from_str::<Value>(text).is_ok_and(|inner| inner.get(KEY).is_some_and(|it| it == payload))
        }
        Some(value) => value.get(KEY).is_some_and(|it| it == payload),
        None => false,
    }
}

fn word(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::Queued => "queued",
        DeploymentState::InProgress => "in_progress",
        DeploymentState::Success => "success",
        DeploymentState::Failure => "failure",
        DeploymentState::Inactive => "inactive",
    }
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
        assert!(carries(Some(&json!({"kagero": "uid"})), "uid"));
        assert!(carries(Some(&json!("{\"kagero\":\"uid\"}")), "uid"));
        for other in [json!({"kagero": "uid2"}), json!("uid"), json!(""), json!(null), json!(["uid"]), json!({})] {
            assert!(!carries(Some(&other), "uid"), "{other}");
        }
        assert!(!carries(None, "uid"));
    }
}
