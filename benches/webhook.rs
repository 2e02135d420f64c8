//! Webhooks acknowledged per second, durably, next to probot, which stores nothing before it answers.
//!
//! Both servers are processes of their own, on the same machine, in turns, with the same signed deliveries of
//! some 25 KB over keep-alive connections. After each turn our server is killed, and what it acknowledged is
//! counted in its store: a figure with a delivery missing is no figure.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::serve::ListenerExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kagero::clock::SystemClock;
use kagero::http::webhook::{Intake, Limits, Reading, Verdict, router};
use kagero::store::Store;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// First argument of the process that serves.
pub const SERVER: &str = "webhook-server";

const SECRET: &str = "bench-secret";
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const TURNS: usize = 3;
const TURN: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_secs(1);
const OPEN_LOOP_RATE: u64 = 1_000;
const OPEN_LOOP: Duration = Duration::from_secs(5);

/// Stands where a delivery's id is written into a prepared request.
const GUID: &str = "00000000-0000-0000-0000-000000000000";

fn sign(secret: &[u8], body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(body);
    mac
}

fn verify(secrets: &[SecretString], header: Option<&str>, body: &[u8]) -> Verdict {
    let Some(given) = header.and_then(|header| hex::decode(header.strip_prefix("sha256=")?).ok()) else {
        return Verdict::Missing;
    };
    let signs = |secret: &SecretString| sign(secret.expose_secret().as_bytes(), body).verify_slice(&given).is_ok();
    secrets.iter().position(signs).map_or(Verdict::Forged, |secret| Verdict::Genuine { secret })
}

/// As far as the controller reads: the action, and whose pull request it is.
#[derive(serde::Deserialize)]
struct Envelope<'a> {
    action: &'a str,
    number: u64,
    repository: Repository,
}

#[derive(serde::Deserialize)]
struct Repository {
    id: u64,
}

fn read(_event: &str, body: &[u8]) -> Reading {
    match serde_json::from_slice::<Envelope<'_>>(body) {
        Ok(envelope) if envelope.number > 0 && envelope.repository.id > 0 && !envelope.action.is_empty() => {
            Reading::Relevant
        }
        Ok(_) => Reading::Ignored,
        Err(error) => Reading::Malformed(error.to_string()),
    }
}

/// The serving process.
pub fn serve(directory: &str) {
    let _recorder = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Store::open(&format!("sqlite:{directory}/kagero.db")).await.unwrap();
        let secrets = vec![SecretString::from(SECRET)];
        let intake =
            Intake::new(store.inbox().clone(), secrets, Arc::new(SystemClock), verify, read, Limits::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("ready {}", listener.local_addr().unwrap().port());
        let listener = listener.tap_io(|socket| socket.set_nodelay(true).unwrap());
        axum::serve(listener, router(Arc::new(intake))).await.unwrap();
    });
}

/// A server in a process of its own.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("no port, but {line:?}"));
        Self { address: SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())), child }
    }

    fn ours(directory: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(SERVER).arg(directory);
        Self::start(command)
    }

    fn probot(peer: &Path) -> Self {
        let mut command = Command::new("node");
        command.arg("server.js").arg(SECRET).current_dir(peer).env("NODE_ENV", "production");
        Self::start(command)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The peer, installed from its lock file.
fn install_probot() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/probot");
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-peers/probot");
    std::fs::create_dir_all(&peer).unwrap();
    let mut current = peer.join("node_modules").is_dir();
    for file in ["package.json", "package-lock.json", ".npmrc", "server.js"] {
        let wanted = std::fs::read(source.join(file)).unwrap();
        if std::fs::read(peer.join(file)).ok().as_ref() != Some(&wanted) {
            std::fs::write(peer.join(file), wanted).unwrap();
            current = current && file == "server.js";
        }
    }
    if !current {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-progress"]).current_dir(&peer);
        // npm brings its own list of authorities; behind a company's proxy only the system's list is complete.
        let authorities = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if authorities.exists() && std::env::var_os("NODE_EXTRA_CA_CERTS").is_none() {
            npm.env("NODE_EXTRA_CA_CERTS", authorities);
        }
        let npm = npm.status();
        assert!(npm.is_ok_and(|status| status.success()), "npm ci failed in {}: is npm installed?", peer.display());
    }
    peer
}

/// A request ready to be sent, and where its delivery id stands.
struct Prepared {
    bytes: Vec<u8>,
    guid: usize,
}

/// Requests with GitHub's own example of an opened pull request, padded to 25 KB by more labels, signed.
fn prepare(peer: &Path) -> Vec<Prepared> {
    let examples = peer.join("node_modules/@octokit/webhooks-examples/api.github.com/index.json");
    let examples: serde_json::Value = serde_json::from_slice(&std::fs::read(examples).unwrap()).unwrap();
    let of = |event: &str| examples.as_array()?.iter().find(|entry| entry["name"] == event)?["examples"].as_array();
    let opened = of("pull_request").unwrap().iter().find(|example| example["action"] == "opened").unwrap();
    (1..=64_u64)
        .map(|number| {
            let mut payload = opened.clone();
            payload["number"] = number.into();
            payload["pull_request"]["number"] = number.into();
            payload["pull_request"]["head"]["sha"] = hex::encode(rand::random::<[u8; 20]>()).into();
            payload["pull_request"]["body"] = hex::encode(rand::random::<[u8; 64]>()).into();
            let mut body = serde_json::to_vec(&payload).unwrap();
            assert!(body.len() < 25_000, "{} bytes", body.len());
            body.resize(25_000, b' ');
            let signature = hex::encode(sign(SECRET.as_bytes(), &body).finalize().into_bytes());
            let head = format!(
                "POST /webhook/github HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: GitHub-Hookshot/bench\r\n\
                 accept: */*\r\ncontent-type: application/json\r\nx-github-event: pull_request\r\n\
                 x-github-delivery: {GUID}\r\nx-hub-signature-256: sha256={signature}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let guid = head.find(GUID).unwrap();
            Prepared { bytes: [head.as_bytes(), &body].concat(), guid }
        })
        .collect()
}

/// A keep-alive connection that sends prepared requests under new ids.
struct Client {
    socket: TcpStream,
    requests: Arc<Vec<Prepared>>,
    buffer: Vec<u8>,
    answer: Vec<u8>,
}

static NEXT_GUID: AtomicU64 = AtomicU64::new(1);

impl Client {
    async fn connect(address: SocketAddr, requests: &Arc<Vec<Prepared>>) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, requests: Arc::clone(requests), buffer: Vec::new(), answer: vec![0; 4_096] }
    }

    async fn deliver(&mut self) {
        let number = NEXT_GUID.fetch_add(1, Ordering::Relaxed);
        let requests = Arc::clone(&self.requests);
        let request = &requests[usize::try_from(number).unwrap() % requests.len()];
        self.buffer.clear();
        self.buffer.extend_from_slice(&request.bytes);
        // Like GitHub's: the time in front, so that ids of one moment lie together.
        let guid = format!("{:08x}-{:04x}-11f0-8000-{:012x}", number >> 16, number & 0xffff, std::process::id());
        self.buffer[request.guid..request.guid + GUID.len()].copy_from_slice(guid.as_bytes());
        self.socket.write_all(&self.buffer).await.unwrap();
        let mut length = 0;
        loop {
            let more = self.socket.read(&mut self.answer[length..]).await.unwrap();
            assert!(more > 0, "the server hung up");
            length += more;
            let text = std::str::from_utf8(&self.answer[..length]).unwrap();
            if is_whole(text) {
                assert!(text.starts_with("HTTP/1.1 20"), "{text}");
                return;
            }
        }
    }
}

/// Whether an answer has come to its end.
fn is_whole(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.map_or_else(|| body.ends_with("0\r\n\r\n"), |length| body.len() >= length)
}

/// What one turn measured.
struct Turn {
    rate: f64,
    latencies: Vec<Duration>,
}

impl Turn {
    fn quantile(&self, share: f64) -> f64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let place = ((self.latencies.len() as f64 * share) as usize).min(self.latencies.len() - 1);
        self.latencies[place].as_secs_f64() * 1_000.0
    }
}

/// As fast as the server answers.
async fn closed_loop(address: SocketAddr, requests: &Arc<Vec<Prepared>>, connections: usize, length: Duration) -> Turn {
    let began = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let mut client = Client::connect(address, requests).await;
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while began.elapsed() < length {
                let sent = Instant::now();
                client.deliver().await;
                latencies.push(sent.elapsed());
            }
            latencies
        }));
    }
    gather(tasks, began).await
}

/// At a fixed rate, whether the server keeps up or not. The wait for a free connection counts.
async fn open_loop(address: SocketAddr, requests: &Arc<Vec<Prepared>>, length: Duration) -> Turn {
    let (due, waiting) = tokio::sync::mpsc::unbounded_channel::<Instant>();
    let waiting = Arc::new(tokio::sync::Mutex::new(waiting));
    let mut tasks = Vec::new();
    for _ in 0..64 {
        let mut client = Client::connect(address, requests).await;
        let waiting = Arc::clone(&waiting);
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let next = waiting.lock().await.recv().await;
                let Some(since) = next else { return latencies };
                client.deliver().await;
                latencies.push(since.elapsed());
            }
        }));
    }
    let began = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(OPEN_LOOP_RATE).unwrap());
    while began.elapsed() < length {
        ticks.tick().await;
        due.send(Instant::now()).unwrap();
    }
    drop(due);
    gather(tasks, began).await
}

async fn gather(tasks: Vec<tokio::task::JoinHandle<Vec<Duration>>>, began: Instant) -> Turn {
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let took = began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    #[allow(clippy::cast_precision_loss, reason = "counts of requests are small")]
    let rate = latencies.len() as f64 / took;
    Turn { rate, latencies }
}

/// How the load is given.
#[derive(Clone, Copy)]
enum Load {
    Closed(usize),
    Open,
}

async fn measure(address: SocketAddr, requests: &Arc<Vec<Prepared>>, load: Load) -> Turn {
    match load {
        Load::Closed(connections) => {
            closed_loop(address, requests, connections, WARM_UP).await;
            closed_loop(address, requests, connections, TURN).await
        }
        Load::Open => {
            open_loop(address, requests, WARM_UP).await;
            open_loop(address, requests, OPEN_LOOP).await
        }
    }
}

/// One turn of our server on an empty store; then it is killed and what it acknowledged is looked for.
async fn measure_ours(requests: &Arc<Vec<Prepared>>, load: Load) -> Turn {
    let directory = tempfile::tempdir_in(Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).unwrap();
    let server = Server::ours(directory.path());
    let before = NEXT_GUID.load(Ordering::Relaxed);
    let turn = measure(server.address, requests, load).await;
    let acknowledged = NEXT_GUID.load(Ordering::Relaxed) - before;
    drop(server);
    let store = Store::open(&format!("sqlite:{}/kagero.db", directory.path().display())).await.unwrap();
    let stored = store.inbox().counts().await.unwrap().pending;
    assert_eq!(stored, acknowledged, "acknowledged deliveries are missing");
    store.close().await;
    turn
}

/// Measures and prints.
pub fn run() {
    let peer = install_probot();
    let requests = Arc::new(prepare(&peer));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let probot = Server::probot(&peer);
        closed_loop(probot.address, &requests, 16, WARM_UP * 3).await;
        println!("| load | kagero, durable: req/s | p50 ms | p99 ms | probot 14: req/s | p50 ms | p99 ms | ratio |");
        println!("|---|---|---|---|---|---|---|---|");
        for load in CONNECTIONS.map(Load::Closed).into_iter().chain([Load::Open]) {
            let mut ours = Vec::new();
            let mut theirs = Vec::new();
            for _ in 0..TURNS {
                ours.push(measure_ours(&requests, load).await);
                theirs.push(measure(probot.address, &requests, load).await);
            }
            let (ours, theirs) = (median(ours, load), median(theirs, load));
            let name = match load {
                Load::Closed(connections) => format!("{connections} connections"),
                Load::Open => format!("{OPEN_LOOP_RATE}/s, open loop"),
            };
            let columns =
                |turn: &Turn| format!("{:.0} | {:.2} | {:.2}", turn.rate, turn.quantile(0.5), turn.quantile(0.99));
            println!("| {name} | {} | {} | {:.2} |", columns(&ours), columns(&theirs), ours.rate / theirs.rate);
        }
    });
}

/// The turn in the middle: by its rate, or where the rate is given, by its slowest hundredth.
fn median(mut turns: Vec<Turn>, load: Load) -> Turn {
    turns.sort_by(|a, b| match load {
        Load::Closed(_) => a.rate.total_cmp(&b.rate),
        Load::Open => a.quantile(0.99).total_cmp(&b.quantile(0.99)),
    });
    turns.swap_remove(turns.len() / 2)
}
