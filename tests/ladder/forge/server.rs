//! A GitHub made of one closure, for one test. It records every request and holds it against GitHub's own
//! description of its API; a request that the description does not allow fails the test when the server is
//! dropped.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, Method, StatusCode};
use kagero::clock::Clock;
use kagero::domain::id::{InstallationId, RepoId, RepoName};
use kagero::domain::time::Timestamp;
use kagero::forge::RepoRef;
use kagero::forge::github::{Github, GithubConfig};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::LazyLock;

use crate::openapi::GITHUB;

/// The App's number in all these tests.
pub const APP: u64 = 4711;

/// The App's key: made once per run, never written down.
pub static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).unwrap());

/// The key as GitHub hands it out.
pub fn pem() -> SecretString {
    let der: Pkcs8V1Der = KEY.as_der().unwrap();
    let lines: Vec<String> =
        STANDARD.encode(der.as_ref()).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")).into()
}

/// A clock that tests move.
pub struct TestClock(AtomicI64);

impl TestClock {
    pub fn forward(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst).unsigned_abs())
    }
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    /// `GET /path`, as tests match on it.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn query(&self, name: &str) -> Option<String> {
        let pairs = url::form_urlencoded::parse(self.query.as_deref()?.as_bytes());
        pairs.into_owned().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// What comes back.
pub enum Reply {
    /// A whole answer.
    Whole(Response),
    /// An answer that breaks off: it promises more than it brings.
    Truncated(&'static str),
    /// None.
    Silence,
}

/// A JSON answer.
pub fn reply(status: u16, body: &Value) -> Reply {
    reply_with(status, &[], body)
}

/// A JSON answer with headers.
pub fn reply_with(status: u16, headers: &[(&str, &str)], body: &Value) -> Reply {
    raw(status, headers, body.to_string())
}

/// Any answer.
pub fn raw(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        response.headers_mut().append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    Reply::Whole(response)
}

type Handler = dyn Fn(&Seen) -> Option<Reply> + Send + Sync;

/// The server and a client of it.
pub struct Server {
    pub github: Github,
    pub clock: Arc<TestClock>,
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    faults: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Starts a server. Where the closure has no answer, tokens are given out, and all else is a 404.
    pub async fn start(handler: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self::start_at("", handler, |_| {}).await
    }

    /// As [`Server::start`], below a path, with a changed configuration.
    pub async fn start_at(
        prefix: &'static str,
        handler: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
        change: impl FnOnce(&mut GithubConfig),
    ) -> Self {
        let clock = Arc::new(TestClock(AtomicI64::new(1_800_000_000_000)));
        let (seen, faults) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let handler: Arc<Handler> = {
            let (clock, tokens) = (Arc::clone(&clock), AtomicUsize::new(0));
            Arc::new(move |seen| handler(seen).or_else(|| token(seen, &clock, &tokens)))
        };
        let app = {
            let (seen, faults) = (Arc::clone(&seen), Arc::clone(&faults));
            axum::Router::new().fallback(move |request: Request| {
                let (seen, faults, handler) = (Arc::clone(&seen), Arc::clone(&faults), Arc::clone(&handler));
                async move { answer(request, prefix, &seen, &faults, &*handler).await }
            })
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}{prefix}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

        let web = "https://github.example/".parse().unwrap();
        let mut config = GithubConfig::new(url.parse().unwrap(), web, APP, pem());
        change(&mut config);
        let github = Github::new(config, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        Self { github, clock, url, seen, faults, task }
    }

    /// All that arrived, apart from requests for tokens.
    pub fn asked(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|it| !it.path.ends_with("/access_tokens")).cloned().collect()
    }

    /// The requests for tokens.
    pub fn asked_tokens(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|it| it.path.ends_with("/access_tokens")).cloned().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        if !std::thread::panicking() {
            let faults = self.faults.lock().unwrap();
            assert!(faults.is_empty(), "GitHub's description of its API does not allow: {faults:#?}");
        }
    }
}

async fn answer(
    request: Request,
    prefix: &str,
    seen: &Mutex<Vec<Seen>>,
    faults: &Mutex<Vec<String>>,
    handler: &Handler,
) -> Response {
    let (parts, body) = request.into_parts();
    let asked = Seen {
        method: parts.method,
        path: parts.uri.path().strip_prefix(prefix).expect("every path lies below the API's").to_owned(),
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        body: axum::body::to_bytes(body, usize::MAX).await.unwrap(),
    };
    let verdict = GITHUB.check(asked.method.as_str(), &asked.path, asked.query.as_deref(), &asked.body);
    faults.lock().unwrap().extend(verdict.err());
    let reply = handler(&asked);
    seen.lock().unwrap().push(asked);
    match reply {
        Some(Reply::Whole(response)) => response,
        Some(Reply::Truncated(text)) => {
            let pieces = [Ok(Bytes::from(text)), Err(std::io::Error::other("the line is cut"))];
            Body::from_stream(futures::stream::iter(pieces)).into_response()
        }
        Some(Reply::Silence) => std::future::pending().await,
        None => (StatusCode::NOT_FOUND, r#"{"message":"Not Found"}"#).into_response(),
    }
}

fn token(seen: &Seen, clock: &TestClock, given: &AtomicUsize) -> Option<Reply> {
    let installation = seen.path.strip_prefix("/app/installations/")?.strip_suffix("/access_tokens")?;
    let number = given.fetch_add(1, Ordering::SeqCst) + 1;
    let ends = jiff::Timestamp::from_millisecond(clock.now().0 + 3_600_000).unwrap();
    let token = format!("ghs_{installation}_{number}");
    Some(reply(201, &json!({"token": token, "expires_at": ends.to_string(), "permissions": {}})))
}

/// The repository of these tests.
pub fn shop() -> RepoRef {
    RepoRef { id: RepoId(7), name: RepoName::parse("acme/shop").unwrap(), installation: InstallationId(3) }
}

/// A pull request as GitHub sends it, in outline.
pub fn pull(number: u64) -> Value {
    json!({
        "number": number, "state": "open", "merged_at": null, "title": format!("Change {number}"), "draft": false,
        "body": null, "user": {"login": "ann", "type": "User"}, "labels": [{"name": "preview"}],
        "head": {"ref": "topic", "sha": format!("{number:040x}"), "repo": {"id": 7}},
        "base": {"ref": "main", "repo": {"id": 7, "full_name": "acme/shop"}},
    })
}
