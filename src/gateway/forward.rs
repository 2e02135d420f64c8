//! Carries a request to the application and its answer back.
//!
//! Guarantees: the upstream is the one it is given; a request is sent twice only if nothing of it was sent
//! the first time, or if it has no body and may be repeated by HTTP's own rules; no failure of the
//! application stays without an answer or takes longer than the time-outs.
//! Must not know: routes, pages.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::upgrade::OnUpgrade;

use super::body::{AnswerBody, Progress, RequestBody, UpstreamBody};
use super::headers::{self, Origin, Switch};
use super::pool::{Key, Lease, Made, NoConnection};
use super::serve::Worker;
use super::tunnel;
use crate::domain::id::EnvUid;

/// Where a request goes.
pub(super) struct Target<'a> {
    pub uid: &'a EnvUid,
    pub address: SocketAddr,
}

/// Why the application gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoAnswer {
    #[error(transparent)]
    NoConnection(#[from] NoConnection),
    #[error("the application at {0} closed the connection before it answered")]
    BrokenOff(SocketAddr, #[source] hyper::Error),
    #[error("the application at {0} did not answer within {1:?}")]
    TimedOut(SocketAddr, Duration),
    #[error("the application at {0} switched protocols without being asked to")]
    Unasked(SocketAddr),
    #[error("the gateway carries as many connections as it may")]
    NoSeat,
    #[error("the request's transfer coding is not one that can be passed on")]
    Coding,
}

/// Carries the request over and the answer back.
pub(super) async fn forward(
    worker: &Worker,
    target: Target<'_>,
    origin: &Origin,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, NoAnswer> {
    let switch = headers::requested_switch(request.headers());
    let client = (switch == Switch::WebSocket).then(|| hyper::upgrade::on(&mut request));
    let host = request.headers().get(HOST).cloned();
    let request = prepare(request, origin, switch)?;
    let asked = worker.now();

    let key = Key::new(target.uid, target.address);
    let mut lease = worker.pool.lease(key).await?;
    // A kept connection may be closed by its other end at the very moment it is used.
    let again = (lease.made == Made::Before && may_repeat(&request)).then(|| Box::new(head(&request)));
    let progress = request.body().progress();
    let patience = worker.timeouts.answer;
    let mut response = match answered(patience, progress, lease.send(request)).await {
        None => return Err(NoAnswer::TimedOut(target.address, patience)),
        Some(Ok(response)) => response,
        Some(Err(failure)) => {
            let request =
                repeatable(failure, lease.made, again).map_err(|error| NoAnswer::BrokenOff(target.address, error))?;
            worker.meter.retried.increment(1);
            // Boxed, as it is rare: what every request carries along stays small.
            let repeated;
            (repeated, lease) = Box::pin(repeat(worker, key, target.address, request)).await?;
            repeated
        }
    };
    worker.meter.upstream_seconds.record(asked.elapsed().as_secs_f64());

    let environment = HeaderValue::from_str(target.uid.as_str()).unwrap_or(HeaderValue::from_static("invalid"));
    let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default().trim_end_matches('.');
    *response.version_mut() = Version::HTTP_11;

    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = client else { return Err(NoAnswer::Unasked(target.address)) };
        headers::to_client(response.headers_mut(), environment, host, switch);
        return switch_over(worker, client, response);
    }
    headers::to_client(response.headers_mut(), environment, host, Switch::None);
    let patience = worker.timeouts.answer_body;
    Ok(response.map(|body| AnswerBody::Upstream(UpstreamBody::new(body, lease, patience))))
}

fn prepare(request: Request<Incoming>, origin: &Origin, switch: Switch) -> Result<Request<RequestBody>, NoAnswer> {
    let (mut parts, body) = request.into_parts();
    // Only the framing of `chunked` is undone and done again on the way.
    let chunked = match parts.headers.get(TRANSFER_ENCODING) {
        None => false,
        Some(coding) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => true,
        Some(_) => return Err(NoAnswer::Coding),
    };
    headers::to_upstream(&mut parts.headers, origin, switch);
    if chunked && !body.is_end_stream() {
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    parts.version = Version::HTTP_11;
    if parts.uri.authority().is_some() {
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    Ok(Request::from_parts(parts, RequestBody::new(body)))
}

/// The request once more, if it may be sent a second time.
fn repeatable(
    mut failure: TrySendError<Request<RequestBody>>,
    made: Made,
    again: Option<Box<request::Parts>>,
) -> Result<Request<RequestBody>, hyper::Error> {
    match (failure.take_message(), again) {
        (Some(unsent), _) if made == Made::Before => Ok(unsent),
        (None, Some(head)) if !failure.error().is_parse() => Ok(Request::from_parts(*head, RequestBody::empty())),
        _ => Err(failure.into_error()),
    }
}

async fn repeat(
    worker: &Worker,
    key: Key,
    address: SocketAddr,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), NoAnswer> {
    let mut lease = worker.pool.connect(key).await?;
    let progress = request.body().progress();
    let patience = worker.timeouts.answer;
    match answered(patience, progress, lease.send(request)).await {
        None => Err(NoAnswer::TimedOut(address, patience)),
        Some(Ok(response)) => Ok((response, lease)),
        Some(Err(failure)) => Err(NoAnswer::BrokenOff(address, failure.into_error())),
    }
}

/// Waits as long as the request's body moves, and `patience` longer.
async fn answered<T>(patience: Duration, progress: Progress, answer: impl Future<Output = T>) -> Option<T> {
    let mut answer = pin!(answer);
    loop {
        let before = progress.pieces();
        match tokio::time::timeout(patience, answer.as_mut()).await {
            Ok(answer) => return Some(answer),
            Err(_) if progress.pieces() != before => {}
            Err(_) => return None,
        }
    }
}

fn may_repeat(request: &Request<RequestBody>) -> bool {
    let idempotent =
        matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    idempotent && request.body().is_end_stream()
}

fn head(request: &Request<RequestBody>) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = request.method().clone();
    parts.uri = request.uri().clone();
    parts.headers = request.headers().clone();
    parts
}

fn switch_over(
    worker: &Worker,
    client: OnUpgrade,
    mut response: Response<Incoming>,
) -> Result<Response<AnswerBody>, NoAnswer> {
    let seat = worker.take_seat().ok_or(NoAnswer::NoSeat)?;
    let upstream = hyper::upgrade::on(&mut response);
    tunnel::spawn(worker, client, upstream, seat);
    Ok(response.map(|_| AnswerBody::empty()))
}
