//! The JSON API that the command line speaks.

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::brakes;
use crate::agent::protocol::LogLine;
use crate::controller::sweep::{Scope, SweepError};
use crate::controller::{Desk, LogWanted};
use crate::domain::id::{EnvKey, PrNumber, RepoId, ServiceName};
use crate::domain::ledger::Ledger;
use crate::domain::pull::Pins;
use crate::report::explain::{Explanation, explain};
use crate::report::view::EnvView;
use crate::store::StoreError;
use crate::telemetry::chain;

/// Agents that are asked at once for a list.
const ASKED_AT_ONCE: usize = 64;

/// One environment in full.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Detail {
    /// As people see it.
    pub view: EnvView,
    /// Why it is so and what comes next.
    pub explanation: Explanation,
    /// Its record, if it has one.
    pub ledger: Option<Ledger>,
    /// The newest entries of its journal, newest first.
    pub journal: Vec<JournalEntry>,
}

/// A call that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JournalEntry {
    /// When it began, in milliseconds since the epoch.
    pub at: i64,
    /// Which step.
    pub step: String,
    /// What it was about.
    pub detail: serde_json::Value,
    /// How it ended; `None`: not known.
    pub outcome: Option<String>,
}

/// An error as the API tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong and what to do.
    pub error: String,
}

/// The API's routes, without authentication.
pub fn router(desk: Desk) -> Router {
    Router::new()
        .route("/api/environments", get(list))
        .route("/api/environments/{repo}/{pr}", get(show))
        .route("/api/environments/{repo}/{pr}/logs", get(logs))
        .route("/api/environments/{repo}/{pr}/destroy", post(destroy))
        .route("/api/sweep", post(sweep))
        .route("/api/brakes/{kind}", post(brakes::set).delete(brakes::lift))
        .with_state(desk)
}

pub(super) fn failed(error: &StoreError) -> Response {
    let problem = Problem { error: format!("the store failed: {}", chain(error)) };
    (StatusCode::SERVICE_UNAVAILABLE, Json(problem)).into_response()
}

pub(super) fn unknown(key: EnvKey) -> Response {
    let problem = Problem { error: format!("no pull request {key} is known; `kagero env list` shows those that are") };
    (StatusCode::NOT_FOUND, Json(problem)).into_response()
}

async fn list(State(desk): State<Desk>) -> Response {
    match list_views(&desk).await {
        Ok(views) => Json(views).into_response(),
        Err(error) => failed(&error),
    }
}

async fn list_views(desk: &Desk) -> Result<Vec<EnvView>, StoreError> {
    // Each asks its agent, and an agent that hangs should not hold up the others.
    let views = futures::stream::iter(desk.keys().await?).map(|key| async move {
        let (_, _, decision) = desk.consider(key).await?;
        Ok(EnvView::clone(&decision.view))
    });
    views.buffered(ASKED_AT_ONCE).try_collect().await
}

async fn show(State(desk): State<Desk>, Path((repo, pr)): Path<(u64, u64)>) -> Response {
    let key = EnvKey { repo: RepoId(repo), pr: PrNumber(pr) };
    match detail(&desk, key).await {
        Ok(Some(detail)) => Json(detail).into_response(),
        Ok(None) => unknown(key),
        Err(error) => failed(&error),
    }
}

async fn detail(desk: &Desk, key: EnvKey) -> Result<Option<Detail>, StoreError> {
    let (known, seen, decision) = desk.consider(key).await?;
    if known.pull.is_none() && known.ledger.is_none() {
        return Ok(None);
    }
    let journal = desk.world().store.journal(key, 50).await?;
    Ok(Some(Detail {
        explanation: explain(&decision.want, &seen, &decision.plan),
        view: EnvView::clone(&decision.view),
        ledger: known.ledger,
        journal: journal
            .into_iter()
            .map(|row| JournalEntry {
                at: row.began_at.0,
                step: row.kind,
                detail: row.detail,
                outcome: row.ended.map(|(outcome, _)| outcome),
            })
            .collect(),
    }))
}

async fn destroy(State(desk): State<Desk>, Path((repo, pr)): Path<(u64, u64)>) -> Response {
    let key = EnvKey { repo: RepoId(repo), pr: PrNumber(pr) };
    match request_destroy(&desk, key).await {
        Ok(true) => StatusCode::ACCEPTED.into_response(),
        Ok(false) => unknown(key),
        Err(error) => failed(&error),
    }
}

async fn request_destroy(desk: &Desk, key: EnvKey) -> Result<bool, StoreError> {
    let store = &desk.world().store;
    if store.pull(key).await?.is_none() {
        return Ok(false);
    }
    let pins = store.pins(key).await?;
    let pins = Pins { destroy_requested_at: Some(desk.world().clock.now()), ..pins };
    store.put_pins(key, &pins).await?;
    tracing::info!(env.key = %key, "an operator asked for the environment to be destroyed");
    desk.wake(key);
    Ok(true)
}

#[derive(Debug, Deserialize)]
struct SweepParameters {
    #[serde(default)]
    apply: bool,
    most: Option<u32>,
}

async fn sweep(State(desk): State<Desk>, Query(parameters): Query<SweepParameters>) -> Response {
    let scope = if parameters.apply { Scope::Apply(parameters.most) } else { Scope::DryRun };
    match desk.sweep(scope).await {
        Ok(report) => Json(report).into_response(),
        Err(SweepError::Store(error)) => failed(&error),
        Err(error @ SweepError::Busy) => {
            (StatusCode::CONFLICT, Json(Problem { error: error.to_string() })).into_response()
        }
    }
}

#[derive(Debug, Deserialize)]
struct LogParameters {
    service: Option<String>,
    #[serde(default)]
    follow: bool,
    /// A JSON object per line.
    #[serde(default)]
    json: bool,
}

async fn logs(
    State(desk): State<Desk>,
    Path((repo, pr)): Path<(u64, u64)>,
    Query(parameters): Query<LogParameters>,
) -> Response {
    let key = EnvKey { repo: RepoId(repo), pr: PrNumber(pr) };
    let service = match parameters.service.map(ServiceName::parse).transpose() {
        Ok(service) => service,
        Err(error) => {
            return (StatusCode::BAD_REQUEST, Json(Problem { error: error.to_string() })).into_response();
        }
    };
    let wanted = match (parameters.follow, service) {
        (true, service) => vec![LogWanted::Following(service)],
        (false, None) => vec![LogWanted::Build, LogWanted::Application(None)],
        (false, service) => vec![LogWanted::Application(service)],
    };
    let json = parameters.json;
    let write = move |line: LogLine| {
        let text = if json { serde_json::to_string(&line)? } else { line.to_string() };
        Ok(text + "\n")
    };
    match desk.logs(key, &wanted).await {
        Ok(lines) => {
            let kind = if json { "application/x-ndjson" } else { "text/plain; charset=utf-8" };
            let lines = lines.map(move |line| line.map_err(std::io::Error::other).and_then(write));
            ([(header::CONTENT_TYPE, kind)], axum::body::Body::from_stream(lines)).into_response()
        }
        Err(why) => (StatusCode::CONFLICT, Json(Problem { error: why })).into_response(),
    }
}
