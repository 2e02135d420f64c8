//! What moto is too lenient about: client tokens, ids of databases, limits on calls ([`super::buckets`]), what is not shown at once
//! ([`super::shown`]), lost answers, and errors on demand.
//!
//! Client tokens are as the EC2 user guide has them ("Ensuring idempotency in Amazon EC2 API requests"): the same question
//! gets the same answer, another one under the same token `IdempotentParameterMismatch`, and one about an instance that was
//! terminated `IdempotentInstanceTerminated`.
//!
//! Guarantees: every call is counted by its action; what it does not know goes to moto unchanged.
//! Must not know: who calls.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::buckets::Buckets;
use super::shown::{Lag, Shown};

/// A call that had an effect: what it asked for, and what was answered.
#[derive(Debug)]
pub struct Done {
    pub action: String,
    pub form: BTreeMap<String, String>,
    pub answer: String,
}

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing is done, and this is the answer.
    Refused(&'static str, u16),
    /// It is done, and the answer is lost.
    Lost,
    /// Nothing is done, and no answer comes.
    Dropped,
    /// It is done; the answer is an HTML page with 500.
    Html,
}

#[derive(Default)]
struct Book {
    faults: HashMap<String, VecDeque<Fault>>,
    counts: BTreeMap<String, usize>,
    /// What each action was last called with.
    last: BTreeMap<String, BTreeMap<String, String>>,
    /// By token: what was asked, and what was answered.
    asked: HashMap<String, (BTreeMap<String, String>, Bytes)>,
    terminated: HashSet<String>,
    /// By access key: the role that it was handed out for.
    keys: HashMap<String, String>,
    /// Whose rights each action was called with; nothing where no role was taken on.
    by: BTreeMap<String, BTreeSet<String>>,
    /// By code: what the account was raised to.
    quotas: HashMap<String, f64>,
    /// Where the endpoints of databases lead.
    server: Option<(String, u16)>,
    /// `None`: calls are not limited.
    buckets: Option<Buckets>,
    lag: Lag,
    /// No page of instances has more; `None`: as many as are asked for.
    page: Option<usize>,
    /// Since it is watched: the requests, whatever service they are for, the first one's arrival and the last answer.
    watched: (usize, Option<(Instant, Instant)>),
    /// Who is told of what was done.
    told: Vec<mpsc::UnboundedSender<Done>>,
}

#[derive(Clone)]
struct Layer {
    moto: String,
    client: reqwest::Client,
    book: Arc<Mutex<Book>>,
}

/// The layer.
pub struct Strict {
    pub url: String,
    book: Arc<Mutex<Book>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Strict {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Strict {
    /// Stands before a moto.
    pub async fn before(moto: &str) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let layer = Layer { moto: moto.to_owned(), client: reqwest::Client::new(), book: Arc::clone(&book) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(layer);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, book, serving }
    }

    /// The next call of that action meets this.
    pub fn next(&self, action: &str, fault: Fault) {
        self.book.lock().unwrap().faults.entry(action.to_owned()).or_default().push_back(fault);
    }

    /// The quota of that code is raised to this.
    pub fn raise(&self, code: &str, value: f64) {
        self.book.lock().unwrap().quotas.insert(code.to_owned(), value);
    }

    /// The endpoints of databases lead there from now on.
    pub fn lead_databases_to(&self, host: &str, port: u16) {
        self.book.lock().unwrap().server = Some((host.to_owned(), port));
    }

    /// How far AWS is with what is asked for from now on.
    pub fn show(&self, shown: Shown) {
        self.book.lock().unwrap().lag.show(shown);
    }

    /// No page of instances has more from now on, whatever is asked for: EC2 promises none to be full.
    pub fn page_at_most(&self, instances: usize) {
        self.book.lock().unwrap().page = Some(instances);
    }

    /// From now on the account's calls are limited, with full buckets.
    pub fn limit_calls(&self) {
        self.book.lock().unwrap().buckets = Some(Buckets::default());
    }

    /// How many calls came when their bucket was empty.
    pub fn throttled(&self) -> usize {
        self.book.lock().unwrap().buckets.as_ref().map_or(0, |buckets| buckets.refused)
    }

    /// What is done from now on, in the order in which it is answered.
    pub fn done(&self) -> mpsc::UnboundedReceiver<Done> {
        let (tell, told) = mpsc::unbounded_channel();
        self.book.lock().unwrap().told.push(tell);
        told
    }

    /// What an action was last called with.
    pub fn last(&self, action: &str) -> BTreeMap<String, String> {
        self.book.lock().unwrap().last.get(action).cloned().unwrap_or_default()
    }

    /// The roles that an action was called by; an empty name is whoever started the program.
    pub fn by(&self, action: &str) -> Vec<String> {
        self.book.lock().unwrap().by.get(action).into_iter().flatten().cloned().collect()
    }

    /// Requests are counted from now on.
    pub fn watch(&self) {
        self.book.lock().unwrap().watched = (0, None);
    }

    /// How many requests there were since, and how long it was from the first one to the last answer.
    pub fn watched(&self) -> (usize, Duration) {
        let (requests, span) = self.book.lock().unwrap().watched;
        (requests, span.map_or(Duration::ZERO, |(first, last)| last.duration_since(first)))
    }

    /// How often each action was called so far.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        self.book.lock().unwrap().counts.clone()
    }

    /// How often an action was called so far.
    pub fn count(&self, action: &str) -> usize {
        self.counts().get(action).copied().unwrap_or_default()
    }
}

async fn answer(State(layer): State<Layer>, request: Request) -> Response {
    let (book, came) = (Arc::clone(&layer.book), Instant::now());
    let response = answered(layer, request).await;
    let watched = &mut book.lock().unwrap().watched;
    let first = watched.1.map_or(came, |(first, _)| first.min(came));
    *watched = (watched.0 + 1, Some((first, Instant::now())));
    response
}

async fn answered(layer: Layer, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 10 << 20).await.unwrap();
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    if let Some(asked) = asked_of_quotas(&head.headers) {
        return layer.quota(&asked, &body);
    }
    let Some(action) = form.get("Action").cloned() else {
        return layer.pass_on(&head.method, head.uri.path(), &head.headers, body).await;
    };
    let fault = {
        let mut book = layer.book.lock().unwrap();
        *book.counts.entry(action.clone()).or_default() += 1;
        let role = book.keys.get(&access_key(&head.headers)).cloned().unwrap_or_default();
        book.by.entry(action.clone()).or_default().insert(role);
        book.last.insert(action.clone(), form.clone());
        let asked_for = book.faults.get_mut(&action).and_then(VecDeque::pop_front);
        let is_due = book.buckets.as_mut().is_none_or(|buckets| buckets.take(&action));
        asked_for.or((!is_due).then_some(Fault::Refused("RequestLimitExceeded", 503)))
    };
    match fault {
        Some(Fault::Refused(code, status)) => refusal(&action, code, status),
        Some(Fault::Dropped) => broken(),
        Some(Fault::Lost) => {
            layer.act(&action, &form, &head, body).await;
            broken()
        }
        Some(Fault::Html) => {
            layer.act(&action, &form, &head, body).await;
            (StatusCode::INTERNAL_SERVER_ERROR, "<html><body>Internal Server Error</body></html>").into_response()
        }
        None => layer.act(&action, &form, &head, body).await,
    }
}

/// What an account has that has never asked, of the quotas that matter here (Service Quotas, "AWS default quota value").
const DEFAULTS: [(&str, f64); 5] = [
    ("L-1216C47A", 5.0),
    ("L-7B6409FD", 40.0),
    ("L-7ADDB58A", 100_000.0),
    ("L-952B80B9", 40.0),
    ("L-DF5E4CA3", 5_000.0),
];

/// The operation, if it is one of Service Quotas, which moto lacks for these services.
fn asked_of_quotas(headers: &HeaderMap) -> Option<String> {
    let target = headers.get("x-amz-target")?.to_str().ok()?;
    Some(target.strip_prefix("ServiceQuotasV20190624.")?.to_owned())
}

impl Layer {
    fn quota(&self, operation: &str, body: &[u8]) -> Response {
        let asked: serde_json::Value = serde_json::from_slice(body).unwrap();
        let code = asked["QuotaCode"].as_str().unwrap();
        let mut book = self.book.lock().unwrap();
        *book.counts.entry(operation.to_owned()).or_default() += 1;
        let value = match operation {
            // As AWS answers for an account whose quota nobody ever touched, for some services.
            "GetServiceQuota" => book.quotas.get(code).copied(),
            "GetAWSDefaultServiceQuota" => DEFAULTS.iter().find(|(known, _)| *known == code).map(|(_, value)| *value),
            other => panic!("{other} is not known here"),
        };
        drop(book);
        let (status, answer) = match value {
            Some(value) => (StatusCode::OK, serde_json::json!({"Quota": {"QuotaCode": code, "Value": value}})),
            None => {
                (StatusCode::BAD_REQUEST, serde_json::json!({"__type": "NoSuchResourceException", "message": code}))
            }
        };
        (status, [("content-type", "application/x-amz-json-1.1")], answer.to_string()).into_response()
    }

    async fn act(
        &self,
        action: &str,
        form: &BTreeMap<String, String>,
        head: &http::request::Parts,
        body: Bytes,
    ) -> Response {
        let token = form.get("ClientToken").filter(|_| action == "RunInstances");
        if let Some(token) = token
            && let Some(known) = self.known(token, form)
        {
            return known;
        }
        let changed = self.by_token(action, form).or_else(|| self.with_ended(action, form));
        let body = changed.or_else(|| self.on_short_pages(action, form)).unwrap_or(body);
        let answer = self.pass_on(&head.method, head.uri.path(), &head.headers, body).await;
        let (parts, text) = answer.into_parts();
        let text = axum::body::to_bytes(text, 10 << 20).await.unwrap();
        let mut book = self.book.lock().unwrap();
        let text = match (action, book.server.as_ref()) {
            ("DescribeDBInstances", Some((host, port))) => {
                let there = format!("<Address>{host}</Address><Port>{port}</Port>");
                with_all(&String::from_utf8_lossy(&text), "<Endpoint>", "</Endpoint>", &there).into()
            }
            ("DescribeDBClusters", Some((host, port))) => {
                let text = with_all(&String::from_utf8_lossy(&text), "<Endpoint>", "</Endpoint>", host);
                with_all(&text, "<Port>", "</Port>", &port.to_string()).into()
            }
            _ => text,
        };
        let text = if parts.status.is_success() {
            let words = with_ids_of_their_own(&String::from_utf8_lossy(&text));
            book.lag.note(action, form, &words);
            book.lag.told(action, &words).into()
        } else {
            text
        };
        if parts.status.is_success() {
            if action == "AssumeRole"
                && let Some(key) = between(&String::from_utf8_lossy(&text), "<AccessKeyId>", "<")
            {
                let role = form["RoleArn"].rsplit('/').next().unwrap_or_default().to_owned();
                book.keys.insert(key.to_owned(), role);
            }
            if let Some(token) = token {
                book.asked.insert(token.clone(), (asked(form), text.clone()));
            }
            if action == "TerminateInstances" {
                let ids = form.iter().filter(|(key, _)| key.starts_with("InstanceId."));
                book.terminated.extend(ids.map(|(_, id)| id.clone()));
            }
            for tell in &book.told {
                let (action, form) = (action.to_owned(), form.clone());
                // Whoever has gone does not want to know.
                let _ = tell.send(Done { action, form, answer: String::from_utf8_lossy(&text).into_owned() });
            }
        }
        drop(book);
        Response::from_parts(parts, Body::from(text))
    }

    /// The answer to a question under a token that is known.
    fn known(&self, token: &str, form: &BTreeMap<String, String>) -> Option<Response> {
        let book = self.book.lock().unwrap();
        let (before, text) = book.asked.get(token)?;
        if *before != asked(form) {
            return Some(refusal("RunInstances", "IdempotentParameterMismatch", 400));
        }
        if book.terminated.iter().any(|id| String::from_utf8_lossy(text).contains(id.as_str())) {
            return Some(refusal("RunInstances", "IdempotentInstanceTerminated", 400));
        }
        Some((StatusCode::OK, [("content-type", "text/xml")], text.clone()).into_response())
    }

    /// moto cannot look for a token: the question for what came of one, as one for that instance.
    fn by_token(&self, action: &str, form: &BTreeMap<String, String>) -> Option<Bytes> {
        let name = form.get("Filter.1.Name").filter(|_| action == "DescribeInstances")?;
        let token = form.get("Filter.1.Value.1").filter(|_| name == "client-token")?;
        let book = self.book.lock().unwrap();
        let text = book.asked.get(token).map(|(_, text)| String::from_utf8_lossy(text).into_owned());
        let id = text.as_deref().and_then(|text| text.split_once("<instanceId>")?.1.split_once('<'));
        let mut question = url::form_urlencoded::Serializer::new(String::new());
        question.append_pair("Action", action).append_pair("Version", "2016-11-15");
        // Nothing came of it: an instance that there is not.
        question.append_pair("InstanceId.1", id.map_or("i-00000000000000000", |(id, _)| id));
        Some(question.finish().into())
    }

    /// The question for fewer on a page than it asks for.
    fn on_short_pages(&self, action: &str, form: &BTreeMap<String, String>) -> Option<Bytes> {
        let most = self.book.lock().unwrap().page.filter(|_| action == "DescribeInstances")?;
        let others = form.iter().filter(|(key, _)| *key != "MaxResults");
        let mut question = url::form_urlencoded::Serializer::new(String::new());
        question.extend_pairs(others).append_pair("MaxResults", &most.to_string());
        Some(question.finish().into())
    }

    /// What goes is told from what has ended, which moto knows only: those are asked for too.
    fn with_ended(&self, action: &str, form: &BTreeMap<String, String>) -> Option<Bytes> {
        let is_asked = action == "DescribeInstances" && self.book.lock().unwrap().lag.is_told();
        let name = form.iter().find(|(key, value)| key.ends_with(".Name") && *value == "instance-state-name");
        let filter = name.filter(|_| is_asked)?.0.strip_suffix(".Name")?.to_owned();
        let values = form.keys().filter(|key| key.starts_with(&format!("{filter}.Value."))).count();
        let mut question = url::form_urlencoded::Serializer::new(String::new());
        question.extend_pairs(form).append_pair(&format!("{filter}.Value.{}", values + 1), "terminated");
        Some(question.finish().into())
    }

    async fn pass_on(&self, method: &http::Method, path: &str, headers: &HeaderMap, body: Bytes) -> Response {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.moto)).body(body);
        for (name, value) in headers {
            if name != "host" && name != "content-length" {
                request = request.header(name, value);
            }
        }
        // moto tells services apart by what the request was signed for.
        let answer = request.send().await.unwrap();
        let status = StatusCode::from_u16(answer.status().as_u16()).unwrap();
        let kind = answer.headers().get("content-type").cloned();
        let mut response = (status, answer.bytes().await.unwrap()).into_response();
        if let Some(kind) = kind {
            response.headers_mut().insert("content-type", kind);
        }
        response
    }
}

/// Who has signed a request: `AWS4-HMAC-SHA256 Credential=<access key>/<date>/...`.
fn access_key(headers: &HeaderMap) -> String {
    let signature = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    between(signature, "Credential=", "/").unwrap_or_default().to_owned()
}

pub fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    Some(text.split_once(before)?.1.split_once(after)?.0)
}

/// A text in which something else stands wherever something stood between those two.
fn with_all(text: &str, before: &str, after: &str, instead: &str) -> String {
    let mut parts = text.split(before);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| format!("{all}{before}{instead}{after}{}", part.split_once(after).unwrap().1))
}

/// RDS gives every instance an id that no other ever has, and moto the same one to all.
fn with_ids_of_their_own(text: &str) -> String {
    let mut parts = text.split("<DBInstance>");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        let told = |what: &str| between(part, &format!("<{what}>"), "<").unwrap_or_default().to_owned();
        let seed = format!("{} {}", told("DBInstanceIdentifier"), told("InstanceCreateTime"));
        let id = hex::encode(Sha256::digest(seed)).to_uppercase();
        all + "<DBInstance>" + &with_all(part, "<DbiResourceId>", "</DbiResourceId>", &format!("db-{}", &id[..26]))
    })
}

/// What a question asks for, whoever asks and when.
fn asked(form: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    form.clone()
}

/// An error as EC2 words it, or RDS, whose actions name what they are about.
fn refusal(action: &str, code: &str, status: u16) -> Response {
    let error = format!("<Code>{code}</Code><Message>as a test has asked for</Message>");
    let text = if action.contains("DB") {
        format!("<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>0</RequestId></ErrorResponse>")
    } else {
        format!("<Response><Errors><Error>{error}</Error></Errors><RequestID>0</RequestID></Response>")
    };
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>{text}");
    (StatusCode::from_u16(status).unwrap(), [("content-type", "text/xml")], text).into_response()
}

/// An answer that breaks off before its first byte.
fn broken() -> Response {
    let nothing = futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("the connection is lost")) });
    Response::new(Body::from_stream(nothing))
}
