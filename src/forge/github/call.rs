//! One question to GitHub and its answer.
//!
//! Guarantees: sent once, but for one renewed token after a 401 (GitHub did nothing then) and for redirects
//! to the same host (a renamed repository); never sent while a rate limit is in force; never more than
//! [`SEATS`] at a time. Every failure comes back as a [`ForgeError`] that says what was attempted.
//! Must not know: what the questions are about.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use octocrab::Octocrab;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::etag::{EtagCache, Key, Known};
use super::limit::{Limits, Scope};
use super::refusal::{self, Limit, Refusal};
use super::token::{Purpose, Token, Tokens};
use super::transport::TransportError;
use super::{page, wire};
use crate::clock::Clock;
use crate::domain::id::{InstallationId, RepoId};
use crate::domain::time::Timestamp;
use crate::forge::{ForgeError, ForgeErrorKind};

pub(super) const JSON: &str = "application/vnd.github+json";

/// GitHub allows 100 requests at a time and counts other replicas of ours as well.
const SEATS: usize = 40;
const REDIRECTS: usize = 3;

/// As whom a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Identity {
    /// The App itself, with a JWT.
    App,
    /// One installation, with its token.
    Installation(InstallationId),
}

/// A question.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub who: Identity,
    pub method: Method,
    /// Path and query, relative to the API's address.
    pub path: String,
    pub accept: &'static str,
    pub body: Option<serde_json::Value>,
    /// What is attempted, for errors: `reading pull request acme/shop#12`.
    pub what: String,
}

impl Ask {
    pub(super) fn get(who: Identity, path: String, what: String) -> Self {
        Self { who, method: Method::GET, path, accept: JSON, body: None, what }
    }

    pub(super) fn send(who: Identity, method: Method, path: String, body: serde_json::Value, what: String) -> Self {
        Self { who, method, path, accept: JSON, body: Some(body), what }
    }

    pub(super) fn error(&self, kind: ForgeErrorKind, why: impl Into<String>) -> ForgeError {
        ForgeError { kind, what: self.what.clone(), why: why.into() }
    }

    fn scope(&self) -> Scope {
        if self.method == Method::GET { Scope::All } else { Scope::Writes }
    }
}

/// An answer with a 2xx status, or 304 where the question was conditional.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// An answer, or the one refusal that is worth another attempt.
enum Outcome {
    Answer(Answer),
    /// 401: GitHub did nothing, because it does not take the token.
    Unauthorized(ForgeError),
}

impl Outcome {
    fn final_word(self) -> Result<Answer, ForgeError> {
        match self {
            Self::Answer(answer) => Ok(answer),
            Self::Unauthorized(error) => Err(error),
        }
    }
}

/// What a GET brought.
#[derive(Debug)]
pub(super) struct Reading<T> {
    pub value: T,
    /// The path of the page after it.
    pub next: Option<String>,
}

/// Asks questions.
pub(super) struct Calls {
    app: Octocrab,
    base: Url,
    clock: Arc<dyn Clock>,
    tokens: Tokens,
    limits: Mutex<Limits>,
    known: Mutex<EtagCache>,
    seats: tokio::sync::Semaphore,
}

impl Calls {
    pub(super) fn new(app: Octocrab, base: Url, clock: Arc<dyn Clock>, cache_bytes: usize) -> Self {
        Self {
            app,
            base,
            clock,
            tokens: Tokens::default(),
            limits: Mutex::default(),
            known: Mutex::new(EtagCache::new(cache_bytes)),
            seats: tokio::sync::Semaphore::new(SEATS),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn limits(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, EtagCache> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads. If GitHub says that nothing has changed, what was read last is read again. `keep` decides
    /// whether an answer may be used that way.
    pub(super) async fn read<T, K>(&self, ask: &Ask, keep: K) -> Result<Reading<T>, ForgeError>
    where
        T: Serialize + DeserializeOwned,
        K: Fn(&Reading<T>) -> bool,
    {
        let key: Key = (ask.who, ask.path.clone(), ask.accept);
        let known = self.known().get(&key);
        let answer = self.send(ask, known.as_ref().map(|known| known.etag.as_str())).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            let Some(known) = known else {
                return Err(ask.error(ForgeErrorKind::Garbled, "GitHub answered 304 to an unconditional request"));
            };
            return Ok(Reading { value: Self::parse(ask, &known.body)?, next: known.next.clone() });
        }

        let next = page::next(&self.base, &answer.headers)
            .map_err(|why| ask.error(ForgeErrorKind::Garbled, why.to_string()))?;
        let reading = Reading { value: Self::parse::<T>(ask, &answer.body)?, next };
        let etag = answer.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok());
        match (etag, serde_json::to_vec(&reading.value)) {
            (Some(etag), Ok(body)) if keep(&reading) => {
                self.known().put(key, Known { etag: etag.to_owned(), body, next: reading.next.clone() });
            }
            _ => self.known().remove(&key),
        }
        Ok(reading)
    }

    /// Reads text that is not JSON, each time anew.
    pub(super) async fn read_text(&self, ask: &Ask) -> Result<Bytes, ForgeError> {
        Ok(self.send(ask, None).await?.body)
    }

    /// Writes, and reads what GitHub made of it.
    pub(super) async fn write<T: DeserializeOwned>(&self, ask: &Ask) -> Result<T, ForgeError> {
        let answer = self.send(ask, None).await?;
        Self::parse(ask, &answer.body)
    }

    /// Writes, whatever GitHub made of it.
    pub(super) async fn tell(&self, ask: &Ask) -> Result<(), ForgeError> {
        self.send(ask, None).await.map(|_| ())
    }

    /// A token for git, good for reading one repository.
    pub(super) async fn git_token(
        &self,
        installation: InstallationId,
        repo: RepoId,
    ) -> Result<SecretString, ForgeError> {
        let body = serde_json::json!({"repository_ids": [repo.0], "permissions": {"contents": "read"}});
        let purpose = Purpose::Git(installation, repo);
        self.tokens.get(purpose, self.now(), self.mint(installation, body)).await
    }

    fn parse<T: DeserializeOwned>(ask: &Ask, body: &[u8]) -> Result<T, ForgeError> {
        serde_json::from_slice(body).map_err(|error| {
            // The parser quotes what it stumbles over, and that may be anything.
            let why = refusal::plain(&format!("GitHub answered something unexpected: {error}"));
            ask.error(ForgeErrorKind::Garbled, why)
        })
    }

    async fn mint(&self, installation: InstallationId, body: serde_json::Value) -> Result<Token, ForgeError> {
        let path = format!("/app/installations/{}/access_tokens", installation.0);
        let what = format!("asking for a token of installation {}", installation.0);
        let ask = Ask::send(Identity::App, Method::POST, path, body, what);
        let asked_at = self.now();
        let outcome = self.exchange(&self.app, &ask, None).await;
        let answer = outcome.and_then(Outcome::final_word).map_err(|error| match error.kind {
            // What is not found is the installation, not the thing that the token was wanted for.
            ForgeErrorKind::NotFound => ask.error(
                ForgeErrorKind::Denied,
                "the App is no longer installed there: install it again, or remove its repositories from kagero.toml",
            ),
            _ => error,
        })?;
        // Without the parser's words: they may quote the token.
        let token: wire::AccessToken = serde_json::from_slice(&answer.body)
            .map_err(|_| ask.error(ForgeErrorKind::Garbled, "GitHub answered with something else than a token"))?;
        let expires_at = token
            .expires_at
            .map_or(asked_at.plus(std::time::Duration::from_hours(1)), |at| Timestamp(at.as_millisecond()));
        Ok(Token { secret: SecretString::from(token.token), expires_at })
    }

    async fn send(&self, ask: &Ask, etag: Option<&str>) -> Result<Answer, ForgeError> {
        let Identity::Installation(installation) = ask.who else {
            return self.exchange(&self.app, ask, etag).await?.final_word();
        };
        let token = self.installation_token(installation, ask).await?;
        match self.exchange(&self.with_token(&token, ask)?, ask, etag).await? {
            Outcome::Answer(answer) => Ok(answer),
            Outcome::Unauthorized(_) => {
                self.tokens.forget(Purpose::Calls(installation), &token).await;
                let token = self.installation_token(installation, ask).await?;
                self.exchange(&self.with_token(&token, ask)?, ask, etag).await?.final_word()
            }
        }
    }

    async fn installation_token(&self, installation: InstallationId, ask: &Ask) -> Result<SecretString, ForgeError> {
        let mint = self.mint(installation, serde_json::json!({}));
        let token = self.tokens.get(Purpose::Calls(installation), self.now(), mint).await;
        token.map_err(|error| ForgeError { what: format!("{}: {}", ask.what, error.what), ..error })
    }

    fn with_token(&self, token: &SecretString, ask: &Ask) -> Result<Octocrab, ForgeError> {
        let crab = self.app.user_access_token(token.expose_secret());
        crab.map_err(|_| ask.error(ForgeErrorKind::Garbled, "GitHub's token cannot be sent in a header"))
    }

    async fn exchange(&self, crab: &Octocrab, ask: &Ask, etag: Option<&str>) -> Result<Outcome, ForgeError> {
        let closed = |_| ask.error(ForgeErrorKind::Retry, "the program is ending");
        let _seat = self.seats.acquire().await.map_err(closed)?;
        if let Some(wait) = self.limits().hold(ask.who, ask.scope(), self.now()) {
            let why = format!("a rate limit of GitHub's is in force for another {} s", wait.as_secs().max(1));
            return Err(ask.error(ForgeErrorKind::SlowDown(wait), why));
        }

        let mut path = ask.path.clone();
        for _ in 0..=REDIRECTS {
            let answer = Self::attempt(crab, ask, &path, etag).await?;
            self.limits().note(ask.who, &answer.headers);
            let location = match answer.status.as_u16() {
                301 | 302 | 307 | 308 => answer.headers.get(header::LOCATION).and_then(|to| to.to_str().ok()),
                304 if etag.is_none() => return Err(self.refused(ask, &answer)),
                200..=299 | 304 => {
                    self.limits().granted(ask.who, ask.scope(), self.now());
                    return Ok(Outcome::Answer(answer));
                }
                401 => {
                    let why = refusal::quote(answer.status, &answer.body);
                    return Ok(Outcome::Unauthorized(ask.error(ForgeErrorKind::Denied, why)));
                }
                _ => return Err(self.refused(ask, &answer)),
            };
            let location = location.ok_or_else(|| self.refused(ask, &answer))?;
            let moved = page::here(&self.base, location);
            path = moved.map_err(|why| ask.error(ForgeErrorKind::Garbled, why.to_string()))?;
        }
        Err(ask.error(ForgeErrorKind::Garbled, "GitHub redirects in circles"))
    }

    fn refused(&self, ask: &Ask, answer: &Answer) -> ForgeError {
        let now = self.now();
        let kind = match refusal::sort(answer.status, &answer.headers, &answer.body, now) {
            Refusal::Plain(kind) => kind,
            Refusal::Limit(limit, hint) => {
                let scope = match limit {
                    Limit::Primary => Scope::All,
                    Limit::Secondary => ask.scope(),
                };
                ForgeErrorKind::SlowDown(self.limits().refused(ask.who, scope, hint, now))
            }
        };
        ask.error(kind, refusal::quote(answer.status, &answer.body))
    }

    async fn attempt(crab: &Octocrab, ask: &Ask, path: &str, etag: Option<&str>) -> Result<Answer, ForgeError> {
        let mut request =
            http::Request::builder().method(ask.method.clone()).uri(path).header(header::ACCEPT, ask.accept);
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let request = crab.build_request(request, ask.body.as_ref());
        let request = request.map_err(|_| ask.error(ForgeErrorKind::Rejected, "no valid request can be made of it"))?;
        let response = crab.execute(request).await.map_err(|error| failed(ask, &error))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| failed(ask, &error))?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }
}

/// octocrab's own texts carry backtraces: only the transport's are passed on.
fn failed(ask: &Ask, error: &octocrab::Error) -> ForgeError {
    let cause = match error {
        octocrab::Error::Service { source, .. } => source.downcast_ref::<TransportError>(),
        _ => None,
    };
    match cause {
        Some(cause) => ask.error(refusal::sort_transport(cause), cause.to_string()),
        None => {
            ask.error(ForgeErrorKind::Rejected, "the request could not be signed or sent: check github.private_key")
        }
    }
}
