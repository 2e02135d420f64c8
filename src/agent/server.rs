//! The agent's HTTP: every request is signed, or refused before its meaning is looked at.
//!
//! Guarantees: an unsigned request is refused before its body is read; bodies are bounded; an order is answered when
//! it is taken, not when it is carried out.
//! Must not know: how orders are carried out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use futures::{Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

use super::board::Board;
use super::conductor::Order;
use super::logs::LogStore;
use super::options::AgentOptions;
use super::protocol::{
    ASSIGNMENT_PATH, Complaint, END_EVENT, Follow, LOGS_PATH, LogLine, LogQuery, STATUS_PATH, STOP_PATH,
};
use super::signature::{SignatureRefusal, Verifier};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::assignment::{AgentStatus, Assignment};

/// An assignment with all its variables is far smaller.
const BODY_BYTES: usize = 1 << 20;
/// A body comes within this time.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What requests are answered from.
#[derive(Clone)]
pub struct Desk {
    /// The agent's options.
    pub options: Arc<AgentOptions>,
    /// Tells whose requests are accepted.
    pub verifier: Arc<Verifier>,
    /// Tells how it stands.
    pub board: Arc<Board>,
    /// Takes orders.
    pub orders: mpsc::Sender<Order>,
    /// Holds what was said.
    pub logs: LogStore,
}

/// The agent's routes.
pub fn router(desk: Desk) -> Router {
    Router::new()
        .route(STATUS_PATH, get(status))
        .route(ASSIGNMENT_PATH, put(assign))
        .route(STOP_PATH, post(stop))
        .route(LOGS_PATH, get(logs))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "there is nothing at this path") })
        .layer(from_fn_with_state(desk.clone(), check))
        .with_state(desk)
}

struct Refusal(StatusCode, String);

impl Refusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self(status, why.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(Complaint { error: self.1 })).into_response()
    }
}

async fn check(State(desk): State<Desk>, request: Request, next: Next) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let head = desk.verifier.check(parts.method.as_str(), target, &parts.headers, SystemClock.now())?;
    let body = tokio::time::timeout(BODY_TIME, http_body_util::Limited::new(body, BODY_BYTES).collect());
    let body = match body.await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large or broke off")),
        Err(_) => return Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    };
    head.check_body(&body)?;
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

impl From<SignatureRefusal> for Refusal {
    fn from(refusal: SignatureRefusal) -> Self {
        let status = match refusal {
            SignatureRefusal::OtherEnvironment(_) => StatusCode::MISDIRECTED_REQUEST,
            _ => StatusCode::UNAUTHORIZED,
        };
        Self::new(status, refusal.to_string())
    }
}

async fn status(State(desk): State<Desk>) -> Json<AgentStatus> {
    Json(desk.board.status())
}

async fn assign(State(desk): State<Desk>, body: Bytes) -> Result<StatusCode, Refusal> {
    let assignment: Assignment = serde_json::from_slice(&body).map_err(|error| {
        // The text itself may hold secrets; its place is enough.
        let place = format!("line {}, column {}", error.line(), error.column());
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("the assignment cannot be read at {place}"))
    })?;
    let (task, ours) = (&assignment.task, &desk.options);
    if task.uid != ours.uid || task.generation != ours.generation {
        let why = format!(
            "the task is for environment {} generation {}, this agent serves {} generation {}",
            task.uid, task.generation, ours.uid, ours.generation
        );
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, why));
    }
    take(&desk, Order::Assign(Box::new(assignment))).await
}

async fn stop(State(desk): State<Desk>) -> Result<StatusCode, Refusal> {
    take(&desk, Order::Stop).await
}

async fn take(desk: &Desk, order: Order) -> Result<StatusCode, Refusal> {
    match desk.orders.send(order).await {
        Ok(()) => Ok(StatusCode::ACCEPTED),
        Err(_) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending")),
    }
}

async fn logs(
    State(desk): State<Desk>,
    query: Result<Query<LogQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let Query(query) = query.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let (kept, follow) = (desk.logs.lines(query.clone()), query.follow);
    let end = futures::stream::iter((follow == Follow::No).then(|| Event::default().event(END_EVENT).data("end")));
    let events = kept.map(|line| event(&line)).chain(end).map(Ok);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn event(line: &LogLine) -> Event {
    Event::default().data(serde_json::to_string(line).unwrap_or_default())
}
