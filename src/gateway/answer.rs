//! Answers of the gateway's own: pages for people, text and JSON for machines.
//!
//! Guarantees: none is kept by a cache or found by a search engine; a page runs nothing but its own script.
//!
//! Status codes: what will change by itself is 503 with `Retry-After`; what has failed and waits for a push
//! is 503 without; what is gone is 410; what is unknown or not wanted is 404; an application that does not
//! answer is 502 or 504, with `Retry-After`. Browsers get the same codes as machines.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, RETRY_AFTER, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::body::AnswerBody;
use super::headers::{ENVIRONMENT, NOINDEX, PAGE, ROBOTS};
use super::host::BadHost;
use crate::domain::id::EnvUid;
use crate::report::page::{self, Page, PageKind};
use crate::report::view::EnvView;

/// In which form an answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Html,
    Json,
    Text,
}

/// What the status code is decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The environment has nothing to forward to, or there is none.
    Route,
    /// The application gave no answer.
    NoAnswer,
    /// The application gave no answer in time.
    Late,
    /// The application has more to do than it may be given.
    Busy,
}

static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = |part: &str| STANDARD.encode(Sha256::digest(part.as_bytes()));
    let (css, script) = page::inline_parts();
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        digest(css),
        digest(script)
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

impl Form {
    /// The form that a request asks for: HTML only for a browser that opens a page.
    pub(super) fn wanted(method: &Method, accept: Option<&HeaderValue>) -> Self {
        let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut types = accept.split(',').filter_map(|item| item.split(';').next()).map(str::trim);
        if matches!(*method, Method::GET | Method::HEAD) && types.clone().any(|wanted| wanted == "text/html") {
            Self::Html
        } else if types.any(|wanted| wanted == "application/json") {
            Self::Json
        } else {
            Self::Text
        }
    }
}

/// A page, in the form that is wanted.
pub(super) fn page(page: &Page<'_>, form: Form, cause: Cause) -> Response<AnswerBody> {
    let (content_type, body) = match form {
        Form::Html => match page::html(page) {
            Ok(html) => ("text/html; charset=utf-8", html),
            Err(error) => {
                tracing::error!(page = page.kind.as_str(), error = %error, cause = ?error, "a page is shown as text");
                ("text/plain; charset=utf-8", page::text(page))
            }
        },
        Form::Json => ("application/json", page::json(page).to_string()),
        Form::Text => ("text/plain; charset=utf-8", page::text(page)),
    };
    let (status, retry_after) = status(page.kind, cause);
    let mut response = ours(status, content_type, AnswerBody::whole(body));
    let headers = response.headers_mut();
    headers.insert(PAGE, HeaderValue::from_static(page.kind.as_str()));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if form == Form::Html {
        headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    }
    if let Some(view) = page.view {
        name_environment(headers, &view.uid);
    }
    response
}

/// What an environment's page would say, as JSON, whatever the method of asking.
pub(super) fn status_of(page: &Page<'_>) -> Response<AnswerBody> {
    let mut response = ours(StatusCode::OK, "application/json", AnswerBody::whole(page::json(page).to_string()));
    response.headers_mut().insert(PAGE, HeaderValue::from_static(page.kind.as_str()));
    if let Some(view) = page.view {
        name_environment(response.headers_mut(), &view.uid);
    }
    response
}

/// What is public of an environment whose application answers.
pub(super) fn status_of_live(view: &EnvView) -> Response<AnswerBody> {
    let body = AnswerBody::whole(page::live_json(view).to_string());
    let mut response = ours(StatusCode::OK, "application/json", body);
    name_environment(response.headers_mut(), &view.uid);
    response
}

/// A stream of events.
pub(super) fn events(uid: &EnvUid, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = ours(StatusCode::OK, "text/event-stream", body);
    // Some proxies hold streams back unless they are told not to.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    name_environment(response.headers_mut(), uid);
    response
}

/// To a request that is for no host.
pub(super) fn bad_host(why: BadHost) -> Response<AnswerBody> {
    plain(StatusCode::BAD_REQUEST, format!("{why}.\n"))
}

/// To a transfer coding that is not `chunked`.
pub(super) fn bad_coding(why: &dyn std::fmt::Display) -> Response<AnswerBody> {
    plain(StatusCode::NOT_IMPLEMENTED, format!("{why}.\n"))
}

/// To a method that is not passed on.
pub(super) fn bad_method() -> Response<AnswerBody> {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "This method is not passed on.\n".to_owned());
    let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    response.headers_mut().insert(ALLOW, allow);
    response
}

/// To whoever watches over the gateway itself.
pub(super) fn healthy() -> Response<AnswerBody> {
    plain(StatusCode::OK, "ok\n".to_owned())
}

fn status(kind: PageKind, cause: Cause) -> (StatusCode, Option<u32>) {
    match (cause, kind) {
        (Cause::NoAnswer, _) => (StatusCode::BAD_GATEWAY, Some(3)),
        (Cause::Late, _) => (StatusCode::GATEWAY_TIMEOUT, Some(3)),
        (Cause::Busy, _) | (Cause::Route, PageKind::Starting | PageKind::Unreachable) => {
            (StatusCode::SERVICE_UNAVAILABLE, Some(3))
        }
        (Cause::Route, PageKind::Boot) => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
        (Cause::Route, PageKind::Queued | PageKind::Asleep | PageKind::Stuck) => {
            (StatusCode::SERVICE_UNAVAILABLE, Some(30))
        }
        (Cause::Route, PageKind::Failed) => (StatusCode::SERVICE_UNAVAILABLE, None),
        (Cause::Route, PageKind::Closed) => (StatusCode::GONE, None),
        (Cause::Route, PageKind::Unwanted | PageKind::Unknown) => (StatusCode::NOT_FOUND, None),
    }
}

fn plain(status: StatusCode, text: String) -> Response<AnswerBody> {
    ours(status, "text/plain; charset=utf-8", AnswerBody::whole(text))
}

fn ours(status: StatusCode, content_type: &'static str, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(ROBOTS, NOINDEX);
    response
}

fn name_environment(headers: &mut HeaderMap, uid: &EnvUid) {
    if let Ok(uid) = HeaderValue::from_str(uid.as_str()) {
        headers.insert(ENVIRONMENT, uid);
    }
}
