//! Routes of the App: itself, its installations and their tokens, its webhook's deliveries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query as UrlQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use rand::RngExt as _;
use serde_json::{Map, Value, json};

use super::auth::AsApp;
use super::list::{self, Page, Query};
use super::{ApiError, parse_body};
use crate::sim::github::Shared;
use crate::sim::github::json as wire;
use crate::sim::github::world::{Access, Grant, PERMISSIONS};

pub(super) async fn show(_: AsApp, State(shared): State<Arc<Shared>>) -> Json<Value> {
    let mut world = shared.world.lock().await;
    let bot = world.bot();
    let owner = world.repositories.first().map_or(bot, |repo| repo.owner.clone());
    Json(wire::app(&shared.links, &world.app, &owner))
}

pub(super) async fn installations(
    _: AsApp,
    State(shared): State<Arc<Shared>>,
    UrlQuery(query): UrlQuery<Query>,
) -> Result<Response, ApiError> {
    let world = shared.world.lock().await;
    list::answer(&shared, "/app/installations", &query, &world.installations, |one| {
        wire::installation(&shared.links, &world.app, one)
    })
}

pub(super) async fn installation(
    _: AsApp,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
) -> Result<Json<Value>, ApiError> {
    let world = shared.world.lock().await;
    let one = world.installation(id).ok_or_else(ApiError::not_found)?;
    Ok(Json(wire::installation(&shared.links, &world.app, one)))
}

pub(super) async fn access_token(
    _: AsApp,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
    bytes: Bytes,
) -> Result<Response, ApiError> {
    let body = parse_body(&bytes)?;
    let mut world = shared.world.lock().await;
    let one = world.installation(id).ok_or_else(ApiError::not_found)?;
    if one.suspended_at.is_some() {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "This installation has been suspended"));
    }
    let reachable: Vec<_> = world.repositories.iter().filter(|repo| repo.installation == id).collect();
    let mut chosen = BTreeSet::new();
    for wanted in body["repository_ids"].as_array().into_iter().chain(body["repositories"].as_array()).flatten() {
        let found =
            reachable.iter().find(|repo| wanted.as_u64() == Some(repo.id) || wanted.as_str() == Some(&repo.name));
        let unreachable =
            "There is at least one repository that does not exist or is not accessible to the parent installation.";
        let found = found.ok_or_else(|| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, unreachable))?;
        chosen.insert(found.id);
    }
    let repositories = (!chosen.is_empty()).then_some(chosen);
    let permissions = permissions(&body["permissions"])?;
    let expires_at = shared.clock.now().plus(shared.config.token_life);
    let token = format!("ghs_{}_{}", shared.config.app_id, random_text());
    let mut answer = json!({
        "token": token,
        "expires_at": wire::instant(expires_at),
        "permissions": permissions.iter().map(|(name, access)| (name.clone(), access.as_str().into())).collect::<Map<_, _>>(),
        "repository_selection": if repositories.is_some() { "selected" } else { "all" },
    });
    if let Some(ids) = &repositories {
        let shown = reachable.iter().filter(|repo| ids.contains(&repo.id));
        answer["repositories"] = shown.map(|repo| wire::repository(&shared.links, repo)).collect();
    }
    let now = shared.clock.now();
    world.tokens.retain(|_, grant| grant.expires_at > now);
    world.tokens.insert(token, Grant { installation: id, expires_at, repositories, permissions });
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

/// What is asked for, if the App has it; without a wish, all that it has.
fn permissions(wanted: &Value) -> Result<BTreeMap<String, Access>, ApiError> {
    let all: BTreeMap<String, Access> =
        PERMISSIONS.iter().map(|(name, access)| ((*name).to_owned(), *access)).collect();
    let Some(wanted) = wanted.as_object() else { return Ok(all) };
    let mut granted = BTreeMap::from([("metadata".to_owned(), Access::Read)]);
    for (name, access) in wanted {
        let access = if access == "write" { Access::Write } else { Access::Read };
        if all.get(name).is_none_or(|has| *has < access) {
            let message = "The permissions requested are not granted to this installation.";
            return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message));
        }
        granted.insert(name.clone(), access);
    }
    Ok(granted)
}

/// Longer than tokens used to be: nobody may rely on their length.
fn random_text() -> String {
    let mut bytes = [0_u8; 96];
    rand::rng().fill(&mut bytes);
    hex::encode(bytes)
}

pub(super) async fn deliveries(
    _: AsApp,
    State(shared): State<Arc<Shared>>,
    UrlQuery(mut query): UrlQuery<Query>,
) -> Result<Response, ApiError> {
    let size = Page::of(&query).size;
    let before = match query.get("cursor") {
        None => u64::MAX,
        Some(cursor) => cursor
            .strip_prefix('v')
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| ApiError::invalid("Delivery", "cursor", "invalid"))?,
    };
    let world = shared.world.lock().await;
    let older: Vec<_> = world.deliveries.iter().rev().filter(|one| one.id < before).take(size + 1).collect();
    let shown = &older[..older.len().min(size)];
    let list: Vec<_> = shown.iter().map(|one| one.json()).collect();
    let mut answer = Json(list).into_response();
    if let Some(last) = shown.last().filter(|_| older.len() > size) {
        query.insert("cursor".to_owned(), format!("v{}", last.id));
        let link = format!("<{}/app/hook/deliveries?{}>; rel=\"next\"", shared.links.api, list::encode(&query));
        answer.headers_mut().insert(header::LINK, HeaderValue::from_str(&link).map_err(|_| ApiError::not_found())?);
    }
    Ok(answer)
}

pub(super) async fn delivery(
    _: AsApp,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
) -> Result<Json<Value>, ApiError> {
    let world = shared.world.lock().await;
    let one = world.deliveries.iter().find(|one| one.id == id).ok_or_else(ApiError::not_found)?;
    let mut value = one.json();
    value["request"] = json!({"headers": {"X-GitHub-Event": one.event}, "payload": one.payload});
    value["response"] = json!({"headers": {}, "payload": ""});
    Ok(Json(value))
}

pub(super) async fn redeliver(
    _: AsApp,
    State(shared): State<Arc<Shared>>,
    Path(id): Path<u64>,
) -> Result<Response, ApiError> {
    let mut world = shared.world.lock().await;
    let one = world.deliveries.iter().find(|one| one.id == id).cloned().ok_or_else(ApiError::not_found)?;
    shared.redeliver(&mut world, one);
    Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response())
}
