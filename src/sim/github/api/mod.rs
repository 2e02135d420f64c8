//! The API below `/api/v3`, as GitHub Enterprise Server has it.
//!
//! Guarantees: every answer carries rate-limit headers; every successful read an `ETag`, and a conditional
//! read that is answered 304 is free; faults fire here, before or after the effect as ordered.
//! Must not know: the page.

mod app;
mod auth;
mod list;
mod repos;
mod say;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Shared;
use super::fault::AnswerFault;

const LOGGED: usize = 50_000;
const FLUSH: Duration = Duration::from_millis(20);
const HOUR: Duration = Duration::from_hours(1);

/// What was asked.
#[derive(Default)]
pub(super) struct RequestLog {
    entries: Mutex<Vec<(Method, String, u16)>>,
}

impl RequestLog {
    pub(super) fn all(&self) -> Vec<(Method, String, u16)> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn add(&self, method: Method, path: String, status: u16) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() < LOGGED {
            entries.push((method, path, status));
        }
    }
}

pub(super) fn router(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/app", get(app::show))
        .route("/app/installations", get(app::installations))
        .route("/app/installations/{id}", get(app::installation))
        .route("/app/installations/{id}/access_tokens", post(app::access_token))
        .route("/app/hook/deliveries", get(app::deliveries))
        .route("/app/hook/deliveries/{id}", get(app::delivery))
        .route("/app/hook/deliveries/{id}/attempts", post(app::redeliver))
        .route("/installation/repositories", get(repos::of_installation))
        .route("/repos/{owner}/{repo}", get(repos::show))
        .route("/repos/{owner}/{repo}/contents/{*path}", get(repos::contents))
        .route("/repos/{owner}/{repo}/commits/{*reference}", get(repos::commit))
        .route("/repos/{owner}/{repo}/collaborators/{login}/permission", get(repos::permission))
        .route("/repos/{owner}/{repo}/pulls", get(repos::pulls))
        .route("/repos/{owner}/{repo}/pulls/{number}", get(repos::pull))
        .route("/repos/{owner}/{repo}/issues/{number}/comments", get(say::comments).post(say::create_comment))
        .route("/repos/{owner}/{repo}/issues/comments", get(say::all_comments))
        .route(
            "/repos/{owner}/{repo}/issues/comments/{id}",
            get(say::comment).patch(say::edit_comment).delete(say::delete_comment),
        )
        .route("/repos/{owner}/{repo}/deployments", get(say::deployments).post(say::create_deployment))
        .route("/repos/{owner}/{repo}/deployments/{id}", get(say::deployment))
        .route("/repos/{owner}/{repo}/deployments/{id}/statuses", get(say::statuses).post(say::create_status))
        .fallback(|| async { ApiError::not_found() })
        .method_not_allowed_fallback(|| async { ApiError::not_found() })
        .layer(from_fn_with_state(Arc::clone(shared), envelope))
        .with_state(Arc::clone(shared))
}

/// Faults, rate limit and conditional reads, around every request.
async fn envelope(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let full_path = request.uri().path_and_query().map_or_else(|| path.clone(), ToString::to_string);
    let fault = shared.faults.for_request(&method, &path);
    let condition = request.headers().get(header::IF_NONE_MATCH).cloned();
    let who = auth::identity(&shared, request.headers()).await;
    let answer = match &fault {
        Some(AnswerFault::Answer { status, headers, body }) => scripted(*status, headers, body),
        Some(AnswerFault::Reset) => broken(Bytes::new(), None),
        Some(AnswerFault::EmptyList) if path == "/installation/repositories" => {
            axum::Json(json!({"total_count": 0, "repositories": []})).into_response()
        }
        Some(AnswerFault::EmptyList) => axum::Json(json!([])).into_response(),
        Some(AnswerFault::Truncated | AnswerFault::LostReply | AnswerFault::Delay(_)) | None => {
            if let Some(AnswerFault::Delay(by)) = &fault {
                tokio::time::sleep(*by).await;
            }
            let answer = serve(&shared, &who, request, next).await;
            conditional(&shared, &who, &method, condition.as_ref(), moved(&shared, &full_path, answer).await).await
        }
    };
    shared.requests.add(method, full_path, answer.status().as_u16());
    match fault {
        Some(AnswerFault::LostReply) => broken(Bytes::new(), None),
        Some(AnswerFault::Truncated) => {
            let body = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            broken(body.slice(..body.len() / 2), Some(body.len()))
        }
        _ => answer,
    }
}

/// Asks the handlers, unless the caller has used up its hour or gives no name.
async fn serve(shared: &Shared, who: &str, request: Request, next: Next) -> Response {
    if !request.headers().contains_key(header::USER_AGENT) {
        let message =
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header";
        return ApiError::new(StatusCode::FORBIDDEN, message).into_response();
    }
    let exhausted = {
        let now = shared.clock.now();
        let mut world = shared.world.lock().await;
        if now >= world.budget.resets_at {
            world.budget.used.clear();
            world.budget.resets_at = now.plus(HOUR);
        }
        world.budget.used.get(who).is_some_and(|used| *used >= shared.config.rate_limit)
    };
    if exhausted {
        return ApiError::new(StatusCode::FORBIDDEN, "API rate limit exceeded for installation.").into_response();
    }
    next.run(request).await
}

/// A repository that goes by another name now answers with a redirect.
async fn moved(shared: &Shared, full_path: &str, answer: Response) -> Response {
    if answer.status() != StatusCode::NOT_FOUND {
        return answer;
    }
    let mut parts = full_path.splitn(5, '/').skip(2);
    let (Some(owner), Some(name)) = (parts.next(), parts.next()) else { return answer };
    let (name, rest) = name.split_at(name.find('?').unwrap_or(name.len()));
    let former = format!("{owner}/{name}").to_lowercase();
    let world = shared.world.lock().await;
    let Some(repo) = world.former_names.get(&former).and_then(|id| world.repositories.iter().find(|r| r.id == *id))
    else {
        return answer;
    };
    let rest = parts.next().map_or_else(|| rest.to_owned(), |rest| format!("/{rest}"));
    let location = format!("{}/repos/{}{rest}", shared.links.api, repo.full_name());
    let body = axum::Json(json!({
        "message": "Moved Permanently",
        "url": location,
        "documentation_url": "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects",
    }));
    (StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, location)], body).into_response()
}

/// Adds `ETag` and the rate limit's headers, counts the request, and answers 304 where nothing changed.
async fn conditional(
    shared: &Shared,
    who: &str,
    method: &Method,
    condition: Option<&HeaderValue>,
    answer: Response,
) -> Response {
    let (mut head, body) = answer.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut unchanged = false;
    if method == Method::GET && head.status == StatusCode::OK {
        let tag = format!("W/\"{}\"", hex::encode(Sha256::digest(&body)));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            unchanged = condition == Some(&tag);
            head.headers.insert(header::ETAG, tag);
        }
        head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=60, s-maxage=60"));
        head.headers.insert(header::VARY, HeaderValue::from_static("Accept, Authorization, Cookie, X-GitHub-OTP"));
    }
    let mut world = shared.world.lock().await;
    let limit = shared.config.rate_limit;
    let used = world.budget.used.entry(who.to_owned()).or_default();
    if !unchanged {
        *used += 1;
    }
    let used = (*used).min(limit);
    let resets_at = world.budget.resets_at.0 / 1000;
    drop(world);
    add_limit(&mut head.headers, limit, used, resets_at);
    if unchanged {
        head.status = StatusCode::NOT_MODIFIED;
        head.headers.remove(header::CONTENT_TYPE);
        head.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(head, Body::empty());
    }
    Response::from_parts(head, Body::from(body))
}

fn add_limit(headers: &mut HeaderMap, limit: u64, used: u64, resets_at: i64) {
    let mut add = |name: &'static str, value: HeaderValue| headers.insert(name, value);
    add("x-ratelimit-limit", limit.into());
    add("x-ratelimit-remaining", (limit - used).into());
    add("x-ratelimit-used", used.into());
    add("x-ratelimit-reset", resets_at.into());
    add("x-ratelimit-resource", HeaderValue::from_static("core"));
    add("x-github-media-type", HeaderValue::from_static("github.v3; format=json"));
}

fn scripted(status: u16, headers: &[(String, String)], body: &str) -> Response {
    let mut answer = Response::new(Body::from(body.to_owned()));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (header::HeaderName::try_from(name.as_str()), HeaderValue::from_str(value)) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// An answer whose connection breaks after `part`.
fn broken(part: Bytes, announced: Option<usize>) -> Response {
    let nothing = part.is_empty();
    let stream = async_stream::stream! {
        yield Ok(part);
        if !nothing {
            // hyper sends what it has once the body makes it wait.
            tokio::time::sleep(FLUSH).await;
        }
        yield Err(std::io::Error::new(std::io::ErrorKind::ConnectionReset, "broken as ordered"));
    };
    let mut answer = Response::new(Body::from_stream(stream));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    answer.headers_mut().insert(header::CONTENT_LENGTH, announced.unwrap_or(1).into());
    answer
}

/// A refusal in GitHub's form.
#[derive(Debug, Clone)]
struct ApiError {
    status: StatusCode,
    message: String,
    errors: Option<Value>,
}

impl ApiError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), errors: None }
    }

    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    fn invalid(resource: &str, field: &str, code: &str) -> Self {
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            message: "Validation Failed".to_owned(),
            errors: Some(json!([{"resource": resource, "field": field, "code": code}])),
        }
    }
}

impl From<super::StandinError> for ApiError {
    fn from(error: super::StandinError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({
            "message": self.message,
            "documentation_url": "https://docs.github.com/rest",
            "status": self.status.as_u16().to_string(),
        });
        if let (Some(errors), Some(map)) = (self.errors, body.as_object_mut()) {
            map.insert("errors".to_owned(), errors);
        }
        (self.status, axum::Json(body)).into_response()
    }
}

/// Reads a body; an empty one is an empty object.
fn parse_body(bytes: &Bytes) -> Result<Value, ApiError> {
    if bytes.is_empty() {
        return Ok(json!({}));
    }
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(ApiError::new(StatusCode::BAD_REQUEST, "Body should be a JSON object")),
        Err(_) => Err(ApiError::new(StatusCode::BAD_REQUEST, "Problems parsing JSON")),
    }
}
