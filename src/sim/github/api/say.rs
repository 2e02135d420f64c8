//! What the App says: comments and deployments.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query as UrlQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::auth::AsInstallation;
use super::list::{self, Query};
use super::{ApiError, parse_body};
use crate::sim::github::json as wire;
use crate::sim::github::operate::Operator;
use crate::sim::github::world::{Access, Comment, Deployment, DeploymentStatus, Repository, World};
use crate::sim::github::{Shared, StandinError};

const LONGEST_COMMENT: usize = 65_536;
const LONGEST_DESCRIPTION: usize = 140;
const STATES: [&str; 7] = ["error", "failure", "inactive", "in_progress", "pending", "queued", "success"];

/// Owner and name of a repository, and a number or id in it.
type OfRepo = Path<(String, String, u64)>;

/// Comments on pull requests need either right.
fn discussion<'a>(
    who: &AsInstallation,
    world: &'a World,
    owner: &str,
    name: &str,
    access: Access,
) -> Result<&'a Repository, ApiError> {
    who.reach(world, owner, name, ("pull_requests", access))
        .or_else(|_| who.reach(world, owner, name, ("issues", access)))
}

pub(super) async fn comments(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, number)): OfRepo,
    UrlQuery(query): UrlQuery<Query>,
) -> Result<Response, ApiError> {
    let world = shared.world.lock().await;
    let repo = discussion(&who, &world, &owner, &name, Access::Read)?;
    if !repo.pulls.contains_key(&number) {
        return Err(ApiError::not_found());
    }
    let all: Vec<_> = repo.comments.iter().filter(|comment| comment.number == number).collect();
    let path = format!("/repos/{}/issues/{number}/comments", repo.full_name());
    list::answer(&shared, &path, &query, &all, |one| wire::comment(&shared.links, &world.app, repo, one))
}

pub(super) async fn all_comments(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name)): Path<(String, String)>,
    UrlQuery(query): UrlQuery<Query>,
) -> Result<Response, ApiError> {
    let world = shared.world.lock().await;
    let repo = discussion(&who, &world, &owner, &name, Access::Read)?;
    let since = query.get("since").map(|text| text.parse::<jiff::Timestamp>()).transpose();
    let since = since.map_err(|_| ApiError::invalid("IssueComment", "since", "invalid"))?;
    let since = since.map_or(0, jiff::Timestamp::as_millisecond);
    let all: Vec<_> = repo.comments.iter().filter(|comment| comment.updated_at.0 >= since).collect();
    let path = format!("/repos/{}/issues/comments", repo.full_name());
    list::answer(&shared, &path, &query, &all, |one| wire::comment(&shared.links, &world.app, repo, one))
}

pub(super) async fn create_comment(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, number)): OfRepo,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let body = text_of(&parse_body(&bytes)?)?;
    let now = shared.clock.now();
    let mut world = shared.world.lock().await;
    if !discussion(&who, &world, &owner, &name, Access::Write)?.pulls.contains_key(&number) {
        return Err(ApiError::not_found());
    }
    let (id, author) = (world.take_id(), world.bot());
    let operator = Operator::new(&shared, &owner, &name);
    operator.repository_mut(&mut world)?.comments.push(Comment {
        id,
        number,
        author: author.clone(),
        body,
        created_at: now,
        updated_at: now,
        edits: 0,
        via_app: true,
    });
    operator.emit_comment(&mut world, id, "created", &author)?;
    let value = comment_json(&shared, &world, &operator, id)?;
    let location = value["url"].as_str().unwrap_or_default().to_owned();
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(value)).into_response())
}

pub(super) async fn comment(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, id)): OfRepo,
) -> Result<Json<Value>, ApiError> {
    let world = shared.world.lock().await;
    discussion(&who, &world, &owner, &name, Access::Read)?;
    Ok(Json(comment_json(&shared, &world, &Operator::new(&shared, &owner, &name), id)?))
}

pub(super) async fn edit_comment(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, id)): OfRepo,
    bytes: Bytes,
) -> Result<Json<Value>, ApiError> {
    let body = text_of(&parse_body(&bytes)?)?;
    let now = shared.clock.now();
    let mut world = shared.world.lock().await;
    discussion(&who, &world, &owner, &name, Access::Write)?;
    let bot = world.bot();
    let operator = Operator::new(&shared, &owner, &name);
    let repo = operator.repository_mut(&mut world)?;
    let one = repo.comments.iter_mut().find(|comment| comment.id == id).ok_or_else(ApiError::not_found)?;
    one.body = body;
    one.updated_at = now;
    one.edits += 1;
    operator.emit_comment(&mut world, id, "edited", &bot)?;
    Ok(Json(comment_json(&shared, &world, &operator, id)?))
}

pub(super) async fn delete_comment(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, id)): OfRepo,
) -> Result<StatusCode, ApiError> {
    let mut world = shared.world.lock().await;
    discussion(&who, &world, &owner, &name, Access::Write)?;
    let bot = world.bot();
    let operator = Operator::new(&shared, &owner, &name);
    operator.emit_comment(&mut world, id, "deleted", &bot).map_err(|_| ApiError::not_found())?;
    operator.repository_mut(&mut world)?.comments.retain(|comment| comment.id != id);
    Ok(StatusCode::NO_CONTENT)
}

fn comment_json(shared: &Shared, world: &World, operator: &Operator, id: u64) -> Result<Value, ApiError> {
    let repo = operator.repository(world)?;
    let one = repo.comments.iter().find(|comment| comment.id == id).ok_or_else(ApiError::not_found)?;
    Ok(wire::comment(&shared.links, &world.app, repo, one))
}

fn text_of(body: &Value) -> Result<String, ApiError> {
    let text = body["body"].as_str().ok_or_else(|| ApiError::invalid("IssueComment", "body", "missing_field"))?;
    if text.trim().is_empty() || text.chars().count() > LONGEST_COMMENT {
        return Err(ApiError::invalid("IssueComment", "body", "invalid"));
    }
    Ok(text.to_owned())
}

pub(super) async fn deployments(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name)): Path<(String, String)>,
    UrlQuery(query): UrlQuery<Query>,
) -> Result<Response, ApiError> {
    let world = shared.world.lock().await;
    let repo = who.reach(&world, &owner, &name, ("deployments", Access::Read))?;
    let asked = |key: &str, value: &str| query.get(key).is_none_or(|wanted| wanted == value);
    let matching = repo.deployments.iter().rev().filter(|one| {
        asked("sha", &one.sha)
            && asked("ref", &one.reference)
            && asked("task", &one.task)
            && asked("environment", &one.environment)
    });
    let all: Vec<_> = matching.collect();
    let path = format!("/repos/{}/deployments", repo.full_name());
    list::answer(&shared, &path, &query, &all, |one| wire::deployment(&shared.links, repo, one))
}

pub(super) async fn create_deployment(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let body = parse_body(&bytes)?;
    let reference = body["ref"].as_str().ok_or_else(|| ApiError::invalid("Deployment", "ref", "missing_field"))?;
    let description = body["description"].as_str();
    short(description.unwrap_or_default(), "Deployment")?;
    let now = shared.clock.now();
    let mut world = shared.world.lock().await;
    let repo = who.reach(&world, &owner, &name, ("deployments", Access::Write))?;
    let unknown = || ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("No ref found for: {reference}"));
    let sha = repo.git.resolve(reference).await.ok_or_else(unknown)?;
    let (id, creator) = (world.take_id(), world.bot());
    let environment = body["environment"].as_str().unwrap_or("production").to_owned();
    let one = Deployment {
        id,
        sha,
        reference: reference.to_owned(),
        task: body["task"].as_str().unwrap_or("deploy").to_owned(),
        production: body["production_environment"].as_bool().unwrap_or(environment == "production"),
        environment,
        description: description.map(str::to_owned),
        payload: if body["payload"].is_null() { json!({}) } else { body["payload"].clone() },
        transient: body["transient_environment"].as_bool().unwrap_or(false),
        creator,
        created_at: now,
        updated_at: now,
        statuses: Vec::new(),
    };
    let repo = repository_mut(&shared, &mut world, &owner, &name)?;
    let value = wire::deployment(&shared.links, repo, &one);
    repo.deployments.push(one);
    shared.changed();
    Ok((StatusCode::CREATED, Json(value)).into_response())
}

pub(super) async fn deployment(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, id)): OfRepo,
) -> Result<Json<Value>, ApiError> {
    let world = shared.world.lock().await;
    let repo = who.reach(&world, &owner, &name, ("deployments", Access::Read))?;
    let one = repo.deployments.iter().find(|one| one.id == id).ok_or_else(ApiError::not_found)?;
    Ok(Json(wire::deployment(&shared.links, repo, one)))
}

pub(super) async fn statuses(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, id)): OfRepo,
    UrlQuery(query): UrlQuery<Query>,
) -> Result<Response, ApiError> {
    let world = shared.world.lock().await;
    let repo = who.reach(&world, &owner, &name, ("deployments", Access::Read))?;
    let of = repo.deployments.iter().find(|one| one.id == id).ok_or_else(ApiError::not_found)?;
    let all: Vec<_> = of.statuses.iter().rev().collect();
    let path = format!("/repos/{}/deployments/{id}/statuses", repo.full_name());
    list::answer(&shared, &path, &query, &all, |one| wire::deployment_status(&shared.links, repo, of, one))
}

pub(super) async fn create_status(
    who: AsInstallation,
    State(shared): State<Arc<Shared>>,
    Path((owner, name, id)): OfRepo,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let body = parse_body(&bytes)?;
    let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
    let (state, description) = (text("state"), text("description"));
    if !STATES.contains(&state.as_str()) {
        return Err(ApiError::invalid("DeploymentStatus", "state", "invalid"));
    }
    short(&description, "DeploymentStatus")?;
    let now = shared.clock.now();
    let mut world = shared.world.lock().await;
    who.reach(&world, &owner, &name, ("deployments", Access::Write))?;
    let (status_id, replaced_id, creator) = (world.take_id(), world.take_id(), world.bot());
    let repo = repository_mut(&shared, &mut world, &owner, &name)?;
    let at = repo.deployments.iter().position(|one| one.id == id).ok_or_else(ApiError::not_found)?;
    let auto_inactive = body["auto_inactive"].as_bool().unwrap_or(true) && state == "success";
    let status = DeploymentStatus {
        id: status_id,
        state,
        description,
        environment_url: text("environment_url"),
        log_url: if body["log_url"].is_string() { text("log_url") } else { text("target_url") },
        creator,
        created_at: now,
    };
    if auto_inactive {
        supersede(repo, at, &DeploymentStatus { id: replaced_id, state: "inactive".to_owned(), ..status.clone() });
    }
    repo.deployments[at].statuses.push(status.clone());
    repo.deployments[at].updated_at = now;
    let value = wire::deployment_status(&shared.links, repo, &repo.deployments[at], &status);
    shared.changed();
    Ok((StatusCode::CREATED, Json(value)).into_response())
}

/// Older deployments to the same environment become inactive, unless they are transient or production.
fn supersede(repo: &mut Repository, by: usize, status: &DeploymentStatus) {
    let environment = repo.deployments[by].environment.clone();
    for old in &mut repo.deployments[..by] {
        if old.environment == environment && !old.transient && !old.production {
            old.statuses.push(status.clone());
        }
    }
}

fn short(description: &str, resource: &str) -> Result<(), ApiError> {
    if description.chars().count() > LONGEST_DESCRIPTION {
        return Err(ApiError::invalid(resource, "description", "invalid"));
    }
    Ok(())
}

fn repository_mut<'a>(
    shared: &Arc<Shared>,
    world: &'a mut World,
    owner: &str,
    name: &str,
) -> Result<&'a mut Repository, StandinError> {
    Operator::new(shared, owner, name).repository_mut(world)
}
