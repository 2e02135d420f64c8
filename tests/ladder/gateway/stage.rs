//! A gateway, applications behind it, and plain clients in front of it.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kagero::domain::desired::{CapacityLimit, QueueReason};
use kagero::domain::id::{CommitSha, EnvKey, EnvUid, Generation, PrNumber, RepoId, RepoName, ServiceName};
use kagero::domain::time::Timestamp;
use kagero::gateway::{Gateway, GatewayConfig, GatewayHandle, Route, RouteTable};
use kagero::report::view::{EnvView, Phase, ServiceView, StageState, StageView};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub const DOMAIN: &str = "preview.test";
/// Longer than anything takes on a loaded machine.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// A gateway with its table.
pub struct Stage {
    pub gateway: GatewayHandle,
    pub routes: RouteTable,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut GatewayConfig)) -> Self {
        let mut config = GatewayConfig::new("127.0.0.1:0".parse().unwrap(), DOMAIN);
        config.threads = NonZeroUsize::new(2).unwrap();
        change(&mut config);
        let routes = RouteTable::default();
        routes.complete();
        let gateway = Gateway::start(config, routes.clone()).unwrap();
        Self { gateway, routes }
    }

    pub fn one_thread() -> Self {
        Self::with(|config| config.threads = NonZeroUsize::MIN)
    }

    /// Sets the route of `pr-<pr>-shop`.
    pub fn route(&self, pr: u64, phase: Phase, upstream: Option<SocketAddr>) {
        self.set(pr, view(pr, phase), upstream);
    }

    pub fn set(&self, pr: u64, view: EnvView, upstream: Option<SocketAddr>) {
        let route = Route { uid: uid(pr), upstream, view: Arc::new(view) };
        self.routes.set(&label(pr), route);
        self.routes.complete();
    }

    pub fn remove(&self, pr: u64) {
        self.routes.remove(&label(pr), &uid(pr));
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.gateway.local_addr()).await.unwrap()
    }

    /// Sends exactly these bytes and reads until the gateway closes.
    pub async fn raw(&self, request: &str) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // A reset after the answer is the gateway closing on unread input.
        let _ = within(stream.read_to_end(&mut bytes)).await;
        Answer::parse(&bytes)
    }

    /// `GET` with further header lines, each ending in `\r\n`.
    pub async fn get(&self, pr: u64, path: &str, lines: &str) -> Answer {
        let host = host(pr);
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}Connection: close\r\n\r\n")).await
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn parse(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .find_map(|(n, value)| n.eq_ignore_ascii_case(name).then_some(value))
    }
}

pub async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it did not happen within the deadline")
}

/// Reads until the text has come; gives everything read so far.
pub async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = String::new();
    within(async {
        let mut buffer = [0; 4096];
        while !read.contains(text) {
            let n = stream.read(&mut buffer).await.unwrap();
            assert!(n > 0, "closed before {text:?} came, after {read:?}");
            read.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    })
    .await;
    read
}

pub type AnswerBody = BoxBody<Bytes, std::io::Error>;

/// An application whose answers the function makes.
pub async fn app<F, A>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> A + Send + Sync + 'static,
    A: Future<Output = Response<AnswerBody>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .half_close(true)
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    address
}

/// An application that says its name and shows the request it got.
pub async fn mirror(name: &'static str) -> SocketAddr {
    app(move |request| async move {
        let (parts, body) = request.into_parts();
        let mut text = format!("app {name}\n{} {}\n", parts.method, parts.uri);
        for (header, value) in &parts.headers {
            writeln!(text, "{header}: {}", value.to_str().unwrap()).unwrap();
        }
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        writeln!(text, "body: {}", String::from_utf8_lossy(&body)).unwrap();
        Response::new(full(text))
    })
    .await
}

pub fn full(text: impl Into<Bytes>) -> AnswerBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

pub fn streamed(parts: BoxStream<'static, Bytes>) -> AnswerBody {
    use futures::StreamExt as _;
    let frames = sync_stream(parts.map(|part| Ok(Frame::data(part))));
    BoxBody::new(StreamBody::new(frames))
}

fn sync_stream<S>(stream: S) -> impl futures::Stream<Item = S::Item> + Sync + Send
where
    S: futures::Stream + Send + 'static,
    S::Item: Send,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        use futures::StreamExt as _;
        let mut stream = std::pin::pin!(stream);
        while let Some(item) = stream.next().await {
            if sender.send(item).await.is_err() {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(receiver)
}

/// An application that is a script of bytes: `script` gets each connection with its number.
pub async fn scripted<F, A>(script: F) -> SocketAddr
where
    F: Fn(usize, TcpStream) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            number += 1;
            tokio::spawn(script(number, stream));
        }
    });
    address
}

pub fn label(pr: u64) -> String {
    format!("pr-{pr}-shop")
}

pub fn host(pr: u64) -> String {
    format!("pr-{pr}-shop.{DOMAIN}")
}

pub fn uid(pr: u64) -> EnvUid {
    EnvUid::parse(format!("{pr:020x}")).unwrap()
}

pub fn queued() -> Phase {
    Phase::Queued(QueueReason { position: 2, limit: CapacityLimit::Environments, holders: 20 })
}

pub fn view(pr: u64, phase: Phase) -> EnvView {
    let stage = |name: &str, state, took_ms| StageView { name: name.to_owned(), state, took_ms };
    EnvView {
        key: EnvKey { repo: RepoId(42), pr: PrNumber(pr) },
        repo: RepoName::parse("acme/shop").unwrap(),
        uid: uid(pr),
        generation: Generation::FIRST,
        phase,
        commit: Some(CommitSha::parse("c0ffee00".repeat(5)).unwrap()),
        serving: None,
        url: Some(format!("https://{}/", host(pr))),
        services: vec![ServiceView {
            name: ServiceName::parse("web").unwrap(),
            state: None,
            url: Some(format!("https://{}/", host(pr))),
        }],
        stages: vec![
            stage("machine", StageState::Done, Some(41)),
            stage("database", StageState::Done, Some(1_840)),
            stage("build", StageState::Running, Some(64_000)),
            stage("start", StageState::Waiting, None),
        ],
        detail: None,
        log_tail: Vec::new(),
        seed: Some("golden, masked".to_owned()),
        removed: None,
        ready_after_ms: None,
        brakes: Vec::new(),
        at: Timestamp(1_700_000_000_000),
    }
}
