//! `POST /webhook/github`: deliveries in, acknowledgements out.
//!
//! Guarantees: 2xx only after the raw delivery is durable, or was read as one that nobody acts on; a delivery
//! whose signature does not hold has no effect (I26); a store that cannot write answers 503, so that GitHub
//! records a failure and the resync asks for the delivery again. Senders who are slow, or send more than
//! GitHub ever does, are cut off, and unverified bodies never hold more memory than [`Limits::memory`].
//! Must not know: what a delivery means for an environment.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use secrecy::SecretString;
use serde::de::IgnoredAny;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::clock::Clock;
use crate::store::{Accepted, Delivery, Inbox, StoreError};

/// Memory is handed out in pieces of this size, so that a small body costs one atomic operation.
const MEMORY_UNIT: usize = 64 * 1024;

/// The same complaint is logged at most this often; the counters have every case.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// Checks a signature header against the secrets, the current one first, over the raw body.
pub type Verify = fn(&[SecretString], Option<&str>, &[u8]) -> Verdict;

/// Looks at an event's name and body, just far enough to know whether anybody acts on it.
pub type Read = fn(&str, &[u8]) -> Reading;

/// What a signature proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Signed with the secret at this place of the list.
    Genuine {
        /// 0 is the current one; anything else is being rotated out.
        secret: usize,
    },
    /// There is no signature.
    Missing,
    /// No secret gives this signature.
    Forged,
}

/// What a delivery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Well-formed, and of a kind that the controller acts on.
    Relevant,
    /// An event or action that nobody acts on. The body need not have been looked at.
    Ignored,
    /// Not what GitHub sends; the text says where.
    Malformed(String),
}

/// Bounds on what a sender may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body. GitHub drops payloads above 25 MB itself.
    pub body: usize,
    /// How long a body may take to arrive. GitHub gives up after 10 s.
    pub patience: Duration,
    /// Bytes that bodies in transit may hold together.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 25 * 1024 * 1024, patience: Duration::from_secs(10), memory: 256 * 1024 * 1024 }
    }
}

/// What the endpoint needs.
pub struct Intake {
    inbox: Inbox,
    secrets: Vec<SecretString>,
    clock: Arc<dyn Clock>,
    verify: Verify,
    read: Read,
    limits: Limits,
    memory: Semaphore,
    complained_at: [AtomicI64; 2],
}

/// Things that an operator has to hear of, but not a thousand times a second.
#[derive(Debug, Clone, Copy)]
enum Complaint {
    BadSignature,
    OldSecret,
}

impl Intake {
    /// An endpoint that stores into `inbox` what one of the secrets has signed.
    pub fn new(
        inbox: Inbox,
        secrets: Vec<SecretString>,
        clock: Arc<dyn Clock>,
        verify: Verify,
        read: Read,
        limits: Limits,
    ) -> Self {
        let memory = Semaphore::new(limits.memory.div_ceil(MEMORY_UNIT));
        let complained_at = [const { AtomicI64::new(i64::MIN) }; 2];
        Self { inbox, secrets, clock, verify, read, limits, memory, complained_at }
    }

    /// Whether this complaint is due again.
    fn complains(&self, about: Complaint) -> bool {
        let slot = &self.complained_at[about as usize];
        let (last, now) = (slot.load(Ordering::Relaxed), self.clock.now().0);
        let interval = i64::try_from(COMPLAINT_INTERVAL.as_millis()).unwrap_or(i64::MAX);
        now.saturating_sub(last) >= interval
            && slot.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// The route, for merging into the controller's router.
pub fn router(intake: Arc<Intake>) -> Router {
    Router::new().route("/webhook/github", post(receive)).with_state(intake)
}

async fn receive(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    let began = Instant::now();
    let outcome = intake.take(request).await;
    let label = outcome.as_ref().map_or_else(Refusal::label, Taken::label);
    metrics::counter!("kagero_webhook_deliveries_total", "outcome" => label).increment(1);
    match outcome {
        Ok(taken) => {
            metrics::histogram!("kagero_webhook_acknowledged_seconds").record(began.elapsed());
            (StatusCode::ACCEPTED, taken.words()).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}

/// What a 2xx says.
enum Taken {
    Stored,
    Known,
    Ignored,
}

impl Taken {
    fn label(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Known => "known",
            Self::Ignored => "ignored",
        }
    }

    fn words(&self) -> &'static str {
        match self {
            Self::Stored => "stored\n",
            Self::Known => "known already\n",
            Self::Ignored => "not acted on\n",
        }
    }
}

/// Why a delivery was not taken.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("Content-Type is {0:?}, expected application/json; choose that content type in the webhook's settings")]
    ContentType(String),
    #[error("header {0} is missing or not valid")]
    Header(&'static str),
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body did not arrive in time")]
    Slow,
    #[error("the body broke off")]
    BrokenOff,
    #[error("too many deliveries at once")]
    Busy,
    #[error("the signature does not hold; the secret in the webhook's settings must be one of this installation's")]
    Signature,
    #[error("the body is not valid: {0}")]
    Malformed(String),
    #[error("the delivery could not be stored; it will be asked for again")]
    Store(#[source] StoreError),
}

impl Refusal {
    fn label(&self) -> &'static str {
        match self {
            Self::ContentType(_) => "content_type",
            Self::Header(_) => "bad_header",
            Self::TooLarge(_) => "too_large",
            Self::Slow => "slow",
            Self::BrokenOff => "broken_off",
            Self::Busy => "busy",
            Self::Signature => "bad_signature",
            Self::Malformed(_) => "malformed",
            Self::Store(_) => "store_failed",
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::ContentType(_) | Self::Header(_) | Self::BrokenOff | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Signature => StatusCode::UNAUTHORIZED,
            Self::Busy | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status(), format!("{self}\n")).into_response();
        if matches!(self, Self::TooLarge(_) | Self::Slow | Self::Busy) {
            // The rest of the body is not going to be read.
            response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        response
    }
}

impl Intake {
    async fn take(&self, request: Request) -> Result<Taken, Refusal> {
        let (head, body) = request.into_parts();
        check_content_type(&head.headers)?;
        let guid = name_in(&head.headers, "x-github-delivery")?.to_owned();
        let event = name_in(&head.headers, "x-github-event")?;
        let reading = self.collect(&head.headers, body);
        let (body, _memory) =
            tokio::time::timeout(self.limits.patience, reading).await.map_err(|_| Refusal::Slow)??;

        let signature = head.headers.get("x-hub-signature-256").and_then(|value| value.to_str().ok());
        match (self.verify)(&self.secrets, signature, &body) {
            Verdict::Genuine { secret: 0 } => {}
            Verdict::Genuine { secret } => {
                metrics::counter!("kagero_webhook_old_secret_total").increment(1);
                if self.complains(Complaint::OldSecret) {
                    tracing::warn!(
                        webhook.secret = secret,
                        "a delivery is signed with an old secret: finish the rotation in the webhook's settings"
                    );
                }
            }
            verdict @ (Verdict::Missing | Verdict::Forged) => {
                if self.complains(Complaint::BadSignature) {
                    tracing::warn!(
                        webhook.verdict = ?verdict,
                        "a delivery was refused: its signature fits none of the webhook secrets"
                    );
                }
                return Err(Refusal::Signature);
            }
        }
        match (self.read)(event, &body) {
            Reading::Relevant => {}
            Reading::Ignored => {
                check_json(&body)?;
                return Ok(Taken::Ignored);
            }
            Reading::Malformed(why) => return Err(Refusal::Malformed(why)),
        }
        let delivery = Delivery { guid, event: event.to_owned(), body, received_at: self.clock.now() };
        match self.inbox.accept(delivery).await {
            Ok(Accepted::New) => Ok(Taken::Stored),
            Ok(Accepted::Again { .. }) => Ok(Taken::Known),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(store.error = %error, store.cause = cause, "a delivery could not be stored");
                Err(Refusal::Store(error))
            }
        }
    }

    /// Reads a body within the limits. The permit stands for the memory that it holds.
    async fn collect(&self, headers: &HeaderMap, mut body: Body) -> Result<(Bytes, SemaphorePermit<'_>), Refusal> {
        let too_large = Refusal::TooLarge(self.limits.body);
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > self.limits.body as u64) {
            return Err(too_large);
        }
        let mut memory = self.memory.try_acquire_many(0).map_err(|_| Refusal::Busy)?;
        let mut held = 0;
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Refusal::BrokenOff)?.into_data() else { continue };
            let length = first.len() + rest.len() + data.len();
            if length > self.limits.body {
                return Err(too_large);
            }
            // Memory is counted as it fills, not as announced: a sender that announces much and sends
            // nothing keeps nobody out.
            if length > held {
                let units = (length - held).div_ceil(MEMORY_UNIT);
                let more = u32::try_from(units).ok().and_then(|units| self.memory.try_acquire_many(units).ok());
                memory.merge(more.ok_or(Refusal::Busy)?);
                held += units * MEMORY_UNIT;
            }
            // A body of one frame is not copied.
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                rest.extend_from_slice(&std::mem::take(&mut first));
                rest.extend_from_slice(&data);
            }
        }
        Ok((if rest.is_empty() { first } else { rest.freeze() }, memory))
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_json = kind.eq_ignore_ascii_case("application/json");
    is_json.then_some(()).ok_or_else(|| Refusal::ContentType(kind.chars().take(100).collect()))
}

/// A header that names something: short, printable, without blanks.
fn name_in<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, Refusal> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|text| (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()))
        .ok_or(Refusal::Header(name))
}

fn check_json(body: &[u8]) -> Result<(), Refusal> {
    let text = std::str::from_utf8(body).map_err(|error| Refusal::Malformed(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|error| Refusal::Malformed(error.to_string()))
}
