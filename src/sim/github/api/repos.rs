//! Reading repositories: themselves, files, commits, rights, pull requests.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query as UrlQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::ApiError;
use super::auth::AsInstallation;
use super::list::{self, Query};
use crate::sim::github::Shared;
use crate::sim::github::git::{Entry, FolderEntry};
use crate::sim::github::json as wire;
use crate::sim::github::world::{Access, Pull, Repository};

pub(super) async fn of_installation(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    UrlQuery(query): UrlQuery<Query>,
) -> Result<Response, ApiError> {
    let world = shared.world.lock().await;
    let all: Vec<_> = world.repositories.iter().filter(|repo| who.sees(repo)).collect();
    list::wrapped(
        &shared,
        "/installation/repositories",
        &query,
        &all,
        |repo| wire::repository(&shared.links, repo),
        |repositories| json!({"total_count": all.len(), "repositories": repositories}),
    )
}

pub(super) async fn show(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name)): Path<(String, String)>,
) -> Result<Json<Value>, ApiError> {
    let world = shared.world.lock().await;
    let repo = who.reach(&world, &owner, &name, ("metadata", Access::Read))?;
    let mut value = wire::repository(&shared.links, repo);
    wire::merge(&mut value, json!({"network_count": 0, "subscribers_count": 0}));
    Ok(Json(value))
}

pub(super) async fn contents(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, path)): Path<(String, String, String)>,
    UrlQuery(query): UrlQuery<Query>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let world = shared.world.lock().await;
    let repo = who.reach(&world, &owner, &name, ("contents", Access::Read))?;
    let reference = query.get("ref").map_or("main", String::as_str);
    let unknown = || ApiError::new(StatusCode::NOT_FOUND, format!("No commit found for the ref {reference}"));
    let commit = repo.git.resolve(reference).await.ok_or_else(unknown)?;
    let entry = repo.git.read(&commit, &path).await?.ok_or_else(ApiError::not_found)?;
    let base = format!("{}/repos/{}", shared.links.api, repo.full_name());
    match entry {
        Entry::File { content, .. } if accepts(&headers, "raw") => {
            Ok(([(header::CONTENT_TYPE, "application/vnd.github.raw+json; charset=utf-8")], content).into_response())
        }
        Entry::File { sha, content } => {
            let mut value = item(&base, &path, "file", &sha, content.len(), reference);
            value["encoding"] = "base64".into();
            value["content"] = wrapped_base64(&content).into();
            Ok(Json(value).into_response())
        }
        Entry::Folder(entries) => {
            let list: Vec<_> = entries
                .iter()
                .map(|FolderEntry { name, kind, sha }| item(&base, &format!("{path}/{name}"), kind, sha, 0, reference))
                .collect();
            Ok(Json(list).into_response())
        }
    }
}

fn item(base: &str, path: &str, kind: &str, sha: &str, size: usize, reference: &str) -> Value {
    let url = format!("{base}/contents/{path}?ref={reference}");
    let git_url = format!("{base}/git/blobs/{sha}");
    json!({
        "type": kind,
        "size": size,
        "name": path.rsplit('/').next(),
        "path": path,
        "sha": sha,
        "url": url,
        "git_url": git_url,
        "html_url": url,
        "download_url": null,
        "_links": {"self": url, "git": git_url, "html": url},
    })
}

/// Lines of 60 characters, as GitHub breaks them.
fn wrapped_base64(content: &[u8]) -> String {
    let text = STANDARD.encode(content);
    let mut lines = String::new();
    for line in text.as_bytes().chunks(60) {
        lines.push_str(&String::from_utf8_lossy(line));
        lines.push('\n');
    }
    lines
}

pub(super) async fn commit(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, reference)): Path<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let world = shared.world.lock().await;
    let repo = who.reach(&world, &owner, &name, ("contents", Access::Read))?;
    let unknown = || ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("No commit found for SHA: {reference}"));
    let sha = repo.git.resolve(&reference).await.ok_or_else(unknown)?;
    if accepts(&headers, "sha") {
        return Ok(([(header::CONTENT_TYPE, "application/vnd.github.sha; charset=utf-8")], sha).into_response());
    }
    let (message, tree) = repo.git.message(&sha).await?;
    let base = format!("{}/repos/{}", shared.links.api, repo.full_name());
    let url = format!("{base}/commits/{sha}");
    Ok(Json(json!({
        "sha": sha,
        "node_id": format!("C_{sha}"),
        "url": url,
        "html_url": format!("{}/{}/commit/{sha}", shared.links.web, repo.full_name()),
        "comments_url": format!("{url}/comments"),
        "commit": {
            "url": format!("{base}/git/commits/{sha}"),
            "message": message,
            "author": null,
            "committer": null,
            "comment_count": 0,
            "tree": {"sha": tree, "url": format!("{base}/git/trees/{tree}")},
        },
        "author": null,
        "committer": null,
        "parents": [],
    }))
    .into_response())
}

/// Whether a media type such as `application/vnd.github.raw+json` is asked for.
fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|one| {
        let one = one.trim().trim_start_matches("application/vnd.github.").trim_start_matches("v3.");
        one.split(['+', ';']).next() == Some(kind)
    })
}

pub(super) async fn permission(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, login)): Path<(String, String, String)>,
) -> Result<Json<Value>, ApiError> {
    let mut world = shared.world.lock().await;
    let role = who.reach(&world, &owner, &name, ("metadata", Access::Read))?.roles.get(&login).cloned();
    let user = world.user(&login);
    let role = role.unwrap_or_else(|| "read".to_owned());
    let mut user = wire::user(&shared.links, &user);
    user["role_name"] = role.clone().into();
    Ok(Json(json!({"permission": role, "role_name": role, "user": user})))
}

pub(super) async fn pulls(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name)): Path<(String, String)>,
    UrlQuery(query): UrlQuery<Query>,
) -> Result<Response, ApiError> {
    let world = shared.world.lock().await;
    let repo = who.reach(&world, &owner, &name, ("pull_requests", Access::Read))?;
    let mut all: Vec<_> = repo.pulls.values().filter(|pull| asked_for(&query, repo, pull)).collect();
    if query.get("sort").map(String::as_str) == Some("updated") {
        all.sort_by_key(|pull| pull.updated_at);
    }
    // Newest first unless asked otherwise.
    if query.get("direction").is_none_or(|direction| direction != "asc") {
        all.reverse();
    }
    let path = format!("/repos/{}/pulls", repo.full_name());
    list::answer(&shared, &path, &query, &all, |pull| wire::pull(&shared.links, repo, pull))
}

fn asked_for(query: &Query, repo: &Repository, pull: &Pull) -> bool {
    let state = match query.get("state").map_or("open", String::as_str) {
        "all" => true,
        "closed" => !pull.is_open(),
        _ => pull.is_open(),
    };
    let base = query.get("base").is_none_or(|base| *base == pull.base_ref);
    let head = query.get("head").is_none_or(|head| *head == format!("{}:{}", repo.owner.login, pull.head.branch));
    state && base && head
}

pub(super) async fn pull(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, number)): Path<(String, String, u64)>,
) -> Result<Json<Value>, ApiError> {
    let world = shared.world.lock().await;
    let repo = who.reach(&world, &owner, &name, ("pull_requests", Access::Read))?;
    let pull = repo.pulls.get(&number).ok_or_else(ApiError::not_found)?;
    Ok(Json(wire::full_pull(&shared.links, repo, pull)))
}
