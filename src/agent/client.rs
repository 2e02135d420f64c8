//! Speaks to agents.
//!
//! Guarantees: every request is signed for one environment; an error says what to do about it; an answer of
//! another environment's agent, or with an address on another computer, is not believed.
//! Must not know: when to ask.

use std::net::SocketAddr;
use std::time::Duration;

use async_stream::try_stream;
use ed25519_dalek::SigningKey;
use futures::{Stream, StreamExt as _};
use http::{Method, StatusCode};

use super::pins;
use super::protocol::{ASSIGNMENT_PATH, Complaint, END_EVENT, LOGS_PATH, LogLine, LogQuery, STATUS_PATH, STOP_PATH};
use super::signature::Signed;
use crate::clock::{Clock as _, SystemClock};
use crate::domain::assignment::{AgentStatus, Assignment};
use crate::domain::id::{EnvUid, ServiceName};

pub use super::protocol::{Follow, LogKind};

/// An agent answers from memory.
const PATIENCE: Duration = Duration::from_secs(10);
/// A status is far smaller.
const ANSWER_BYTES: usize = 4 << 20;

/// Speaks to agents. Cheap to clone.
#[derive(Clone)]
pub struct AgentClient {
    key: SigningKey,
    /// Or why there is none: told with each request, because a client of another kind would not keep secrets.
    http: Result<reqwest::Client, String>,
}

/// Why an agent could not be spoken to, sorted by what the caller should do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// Try again soon; if it lasts, look whether the machine still runs.
    #[error("the agent at {addr} cannot be reached: {why}")]
    Unreachable {
        /// The address.
        addr: String,
        /// The cause.
        why: String,
    },
    /// The address belongs to another environment or generation: look the machine's address up again.
    #[error("the agent at {addr} serves another environment: {why}")]
    NotOurs {
        /// The address.
        addr: String,
        /// What it said.
        why: String,
    },
    /// It does not accept our key or clock: a person has to act.
    #[error("the agent at {addr} refuses us: {why}")]
    Denied {
        /// The address.
        addr: String,
        /// What it said.
        why: String,
    },
    /// It will never accept this request, or answers what it should not: a mistake of ours.
    #[error("the agent at {addr} and we do not understand each other: {why}")]
    Garbled {
        /// The address.
        addr: String,
        /// What was wrong.
        why: String,
    },
}

impl AgentClient {
    /// A client that signs with this key.
    pub fn new(key: SigningKey) -> Self {
        Self { key, http: pins::client(PATIENCE) }
    }

    /// How the agent stands.
    pub async fn status(&self, addr: &str, uid: &EnvUid) -> Result<AgentStatus, AgentError> {
        let response = self.ask(Method::GET, addr, uid, STATUS_PATH, Vec::new(), Some(PATIENCE)).await?;
        let garbled = |why: String| AgentError::Garbled { addr: addr.to_owned(), why };
        let text = collect(response).await.map_err(|why| unreachable(addr, why))?;
        let status: AgentStatus = serde_json::from_slice(&text).map_err(|error| garbled(error.to_string()))?;
        if status.uid != *uid {
            return Err(AgentError::NotOurs { addr: addr.to_owned(), why: format!("it says it is {}", status.uid) });
        }
        // Visitors are sent to these addresses: never to another computer.
        let here = addr.parse::<SocketAddr>().ok().map(|addr| addr.ip());
        let rollouts = status.candidate.iter().chain(&status.serving);
        for service in rollouts.flat_map(|rollout| &rollout.services) {
            if let (Some(here), Some(address)) = (here, service.address)
                && address.ip() != here
            {
                return Err(garbled(format!("service {} is said to be at {address}", service.name)));
            }
        }
        Ok(status)
    }

    /// Gives an agent something to run. The same task again changes nothing; another one ends the work on the
    /// one before.
    pub async fn assign(&self, addr: &str, assignment: &Assignment) -> Result<(), AgentError> {
        let body = serde_json::to_vec(assignment)
            .map_err(|error| AgentError::Garbled { addr: addr.to_owned(), why: error.to_string() })?;
        let uid = &assignment.task.uid;
        self.ask(Method::PUT, addr, uid, ASSIGNMENT_PATH, body, Some(PATIENCE)).await.map(drop)
    }

    /// Begins to stop every service.
    pub async fn stop(&self, addr: &str, uid: &EnvUid) -> Result<(), AgentError> {
        self.ask(Method::POST, addr, uid, STOP_PATH, Vec::new(), Some(PATIENCE)).await.map(drop)
    }

    /// The lines of a log, or of all: without following, the newest attempt's first, then the older ones'.
    pub async fn logs(
        &self,
        addr: &str,
        uid: &EnvUid,
        kind: Option<LogKind>,
        service: Option<&ServiceName>,
        follow: Follow,
    ) -> Result<impl Stream<Item = Result<LogLine, AgentError>> + Send + 'static + use<>, AgentError> {
        let query = LogQuery { kind, service: service.cloned(), follow };
        let query = encode(&query).map_err(|why| AgentError::Garbled { addr: addr.to_owned(), why })?;
        let target = format!("{LOGS_PATH}?{query}");
        let response = self.ask(Method::GET, addr, uid, &target, Vec::new(), None).await?;
        Ok(events(response, addr.to_owned()))
    }

    async fn ask(
        &self,
        method: Method,
        addr: &str,
        uid: &EnvUid,
        target: &str,
        body: Vec<u8>,
        limit: Option<Duration>,
    ) -> Result<reqwest::Response, AgentError> {
        let signed = Signed { method: method.as_str(), target, body: &body };
        let headers = signed.headers(&self.key, uid, SystemClock.now());
        let Ok(address) = addr.parse::<SocketAddr>() else {
            return Err(AgentError::Garbled {
                addr: addr.to_owned(),
                why: "it is not an address with a port".to_owned(),
            });
        };
        let http = self.http.as_ref().map_err(|why| unreachable(addr, why.clone()))?;
        let base = pins::base(address, uid);
        let mut request = http.request(method, format!("{base}{target}")).headers(headers);
        if let Some(limit) = limit {
            request = request.timeout(limit);
        }
        let sent = tokio::time::timeout(PATIENCE, request.body(body).send()).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(unreachable(addr, cause(&error))),
            Err(_) => return Err(unreachable(addr, format!("no answer within {PATIENCE:?}"))),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = collect(response).await.unwrap_or_default();
        let why = serde_json::from_slice::<Complaint>(&text).map_or_else(|_| status.to_string(), |said| said.error);
        let addr = addr.to_owned();
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => AgentError::Denied { addr, why },
            StatusCode::MISDIRECTED_REQUEST => AgentError::NotOurs { addr, why },
            status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                AgentError::Unreachable { addr, why }
            }
            _ => AgentError::Garbled { addr, why },
        })
    }
}

fn unreachable(addr: &str, why: String) -> AgentError {
    AgentError::Unreachable { addr: addr.to_owned(), why }
}

fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn encode(query: &LogQuery) -> Result<String, String> {
    let fields = serde_json::to_value(query).map_err(|error| error.to_string())?;
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields.as_object().into_iter().flatten() {
        text.append_pair(name, value.as_str().unwrap_or_default());
    }
    Ok(text.finish())
}

async fn collect(response: reqwest::Response) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        text.extend_from_slice(&piece.map_err(|error| cause(&error))?);
        if text.len() > ANSWER_BYTES {
            return Err("the answer is too long".to_owned());
        }
    }
    Ok(text)
}

/// Reads server-sent events, as far as the agent writes them: one line of data each.
fn events(response: reqwest::Response, addr: String) -> impl Stream<Item = Result<LogLine, AgentError>> + Send {
    let end = format!("event: {END_EVENT}");
    try_stream! {
        let mut body = response.bytes_stream();
        let mut rest: Vec<u8> = Vec::new();
        while let Some(piece) = body.next().await {
            rest.extend_from_slice(&piece.map_err(|error| unreachable(&addr, cause(&error)))?);
            if rest.len() > ANSWER_BYTES {
                Err(AgentError::Garbled { addr: addr.clone(), why: "a log line is too long".to_owned() })?;
            }
            while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=at).collect();
                let line = line.trim_ascii_end();
                if line == end.as_bytes() {
                    return;
                }
                if let Some(data) = line.strip_prefix(b"data: ") {
                    let line = serde_json::from_slice(data)
                        .map_err(|error| AgentError::Garbled { addr: addr.clone(), why: error.to_string() })?;
                    yield line;
                }
            }
        }
    }
}
