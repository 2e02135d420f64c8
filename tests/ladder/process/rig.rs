//! One Kagero in a directory of its own, and what people and visitors do with it.
//!
//! Guarantees: [`Rig::finish`] proves that nothing is left; dropping a rig kills everything that it started,
//! agents and PostgreSQL included.

mod sight;

use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use kagero::cli::residue;
use kagero::cli::run::{Surroundings, postgres_config};
use kagero::cli::secret::InstallSecret;
use kagero::clock::SystemClock;
use kagero::cloud::Databases as _;
use kagero::cloud::local::databases::PostgresDatabases;
use kagero::config::load_server;
use kagero::sim::github::{FileChange, OpenPull, RepositorySpec, Standin, StandinConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::wait::{came_true, eventually};

/// For whatever takes a moment on an idle machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub const ACTOR: &str = "mika";

/// The application: says which commit it is, and what a test's own script in the repository finds out.
const APP: &str = r#"
import http.server, json, os, subprocess
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/spy":
            done = subprocess.run(["sh", "spy.sh"], capture_output=True, text=True, timeout=60)
            body = json.dumps({"out": done.stdout, "err": done.stderr})
        else:
            body = json.dumps({"commit": os.environ["KAGERO_COMMIT"]})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *arguments):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Sqlite,
    Postgres,
}

impl Lane {
    fn word(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

/// `.kagero.yml` with a database, for a build command.
pub fn kagero_yml(lane: Lane, build: &str) -> String {
    format!(
        "version: 1\nbuild: {{run: {build:?}, timeout: 60s}}\nservices:\n  web: {{run: \"exec python3 app.py\", health: \
         \"/version\", public: true, start_timeout: 60s}}\ndatabase: {{engine: {}, seed: golden, migrate: \"sh \
         migrate.sh\"}}\n",
        lane.word()
    )
}

pub struct Setup {
    lane: Lane,
    environments: u32,
    builds: u32,
    store: Option<String>,
}

impl Setup {
    pub fn sqlite() -> Self {
        Self { lane: Lane::Sqlite, environments: 20, builds: 2, store: None }
    }

    pub fn postgres() -> Self {
        Self { lane: Lane::Postgres, environments: 20, builds: 2, store: None }
    }

    pub fn with_environments(self, environments: u32) -> Self {
        Self { environments, ..self }
    }

    /// Records at that address instead of in a file.
    pub fn with_store(self, url: &str) -> Self {
        Self { store: Some(url.to_owned()), ..self }
    }

    pub fn with_builds(self, builds: u32) -> Self {
        Self { builds, ..self }
    }
}

pub struct Rig {
    pub github: Standin,
    pub lane: Lane,
    dir: PathBuf,
    http: u16,
    gateway: u16,
    child: Option<Child>,
    client: reqwest::Client,
    opened: Vec<u64>,
    _home: TempDir,
}

impl Rig {
    pub async fn start(setup: Setup) -> Self {
        let home = tempfile::Builder::new().prefix("kgp").tempdir().unwrap();
        // The account that PostgreSQL runs as passes through.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let dir = home.path().canonicalize().unwrap();
        let files = [
            (".kagero.yml", kagero_yml(setup.lane, "sh build.sh").as_str()),
            ("app.py", APP),
            ("build.sh", "echo built\n"),
            ("migrate.sh", "echo migrated\n"),
            ("spy.sh", "echo nothing\n"),
        ]
        .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
        let repository = RepositorySpec {
            owner: "kumo".to_owned(),
            name: "shop".to_owned(),
            files: files.into(),
            roles: vec![(ACTOR.to_owned(), "admin".to_owned())],
            prepared: Vec::new(),
        };
        let config = StandinConfig { repositories: vec![repository], ..StandinConfig::default() };
        let github = Standin::start(config).await.unwrap();
        let (http, gateway) = (own_port(), own_port());
        write_secret(&dir.join("app.pem"), github.private_key_pem());
        write_secret(&dir.join("webhook-secret"), github.webhook_secret());
        if let Some(url) = &setup.store {
            write_secret(&dir.join("store-url"), url);
        }
        std::fs::write(
            dir.join("golden.sql"),
            "CREATE TABLE things (id int PRIMARY KEY, name text NOT NULL);\nINSERT INTO things VALUES (1, 'seeded');\n",
        )
        .unwrap();
        std::fs::write(dir.join("kagero.toml"), configuration(&github, http, gateway, &setup)).unwrap();
        github.set_webhook_url(Some(format!("http://127.0.0.1:{http}/webhook/github")));
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let lane = setup.lane;
        let mut rig = Self { github, lane, dir, http, gateway, child: None, client, opened: Vec::new(), _home: home };
        rig.launch().await;
        rig
    }

    /// Starts `kagero serve` and waits until it answers.
    pub async fn launch(&mut self) {
        self.spawn();
        let process = i32::try_from(self.controller_pid()).unwrap();
        eventually("kagero serve answers", PATIENCE, async || {
            assert!(is_alive(process), "kagero serve has ended:\n{}", self.log());
            self.is_up().await
        })
        .await;
    }

    /// Starts `kagero serve` without waiting for anything.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.child = Some(self.serve().spawn().unwrap());
    }

    /// `kagero serve`, its words going to a file in the directory.
    pub fn serve(&self) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("serve.log")).unwrap();
        let mut command = kagero(&self.dir.join("kagero.toml"));
        command.current_dir(&self.dir).stderr(log);
        command
    }

    pub fn controller_pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// As `kill -9`: nothing is finished, nothing is said.
    pub fn kill9_controller(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    async fn is_up(&self) -> Result<(), String> {
        let url = format!("http://127.0.0.1:{}/healthz", self.http);
        match self.client.get(url).send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(answer.status().to_string()),
            Err(error) => Err(format!("{error}; its log:\n{}", self.log())),
        }
    }

    /// What the controller has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("serve.log")).unwrap_or_default()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Opens a pull request with these files changed.
    pub async fn open(&mut self, title: &str, changes: Vec<FileChange>) -> u64 {
        self.open_pull(OpenPull::new(title, with_title(title, changes))).await
    }

    pub async fn open_pull(&mut self, mut open: OpenPull) -> u64 {
        open.changes = with_title(&open.title, open.changes);
        let number = self.github.repo().open_pull(open).await.unwrap();
        self.opened.push(number);
        number
    }

    pub async fn push(&self, number: u64, message: &str, changes: Vec<FileChange>) -> String {
        self.github.repo().push(number, message, with_title(message, changes)).await.unwrap()
    }

    pub async fn force_push(&self, number: u64, message: &str, changes: Vec<FileChange>) -> String {
        self.github.repo().force_push(number, message, with_title(message, changes)).await.unwrap()
    }

    pub async fn close(&self, number: u64) {
        self.github.repo().close(number, ACTOR).await.unwrap();
    }

    pub async fn head(&self, number: u64) -> String {
        self.github.repo().pull(number).await.unwrap().head_sha
    }

    /// Names of the machines that there are.
    pub fn machines(&self) -> Vec<String> {
        residue::machines(&self.state_dir()).unwrap()
    }

    /// Names of the databases of environments that there are, from the server itself.
    pub async fn databases(&self) -> Vec<String> {
        if self.lane == Lane::Sqlite {
            return residue::directories(&self.state_dir().join("databases")).unwrap();
        }
        let server = load_server(&self.dir.join("kagero.toml")).map_err(|errors| format!("{errors:?}")).unwrap();
        let (around, state_dir) = (Surroundings::usual().unwrap(), self.state_dir());
        let secret = InstallSecret::load(&state_dir).unwrap();
        let config = postgres_config(&server, &around, &state_dir, &secret, &server.policy()).unwrap();
        let lane = PostgresDatabases::new(config, Arc::new(SystemClock)).unwrap();
        let listing = lane.list().await.unwrap();
        assert!(listing.complete);
        listing.items.into_iter().map(|database| database.name).collect()
    }

    /// The process of the only machine's agent.
    pub fn agent_pid(&self) -> i32 {
        let machines = self.machines();
        assert_eq!(machines.len(), 1, "{machines:?}");
        let text = std::fs::read(Path::new(&machines[0]).join("process.json")).unwrap();
        let process: serde_json::Value = serde_json::from_slice(&text).unwrap();
        process["pid"].as_i64().unwrap().try_into().unwrap()
    }

    /// Processes of environments whose command line begins so.
    pub fn processes(&self, begins: &str) -> Vec<i32> {
        let all = residue::processes(&self.state_dir()).unwrap();
        all.into_iter().filter(|(_, words)| words.starts_with(begins)).map(|(pid, _)| pid).collect()
    }

    /// Closes what is open, proves that nothing is left, and stops.
    pub async fn finish(mut self) {
        for number in self.opened.clone() {
            if self.github.repo().pull(number).await.unwrap().state == "open" {
                self.close(number).await;
            }
        }
        for number in self.opened.clone() {
            eventually(format!("nothing is held for pull request {number}"), PATIENCE, async || {
                let Some(detail) = self.detail(number).await? else { return Ok(()) };
                let held = detail.ledger.as_ref().is_some_and(|ledger| !ledger.is_released());
                if held { Err(self.situation(number, &detail)) } else { Ok(()) }
            })
            .await;
            assert!(self.comments(number).await.len() <= 1, "{:?}", self.comments(number).await);
        }
        assert_eq!(self.left().await, Vec::<String>::new());
        let child = self.child.as_mut().expect("it runs");
        kill(pid(child.id()), Signal::SIGTERM).unwrap();
        assert!(came_true(PATIENCE, || child.try_wait().unwrap().is_some()), "kagero serve does not end");
        assert_eq!(self.child.take().unwrap().wait().unwrap().code(), Some(0), "{}", self.log());
    }

    /// Everything of any environment on this host.
    pub async fn left(&self) -> Vec<String> {
        let mut left = self.machines();
        left.extend(self.databases().await);
        let processes = residue::processes(&self.state_dir()).unwrap();
        left.extend(processes.into_iter().map(|(pid, words)| format!("{pid} {words}")));
        left
    }

    /// The process of the private PostgreSQL, if it runs.
    pub fn postmaster(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.state_dir().join("postgres/data/postmaster.pid")).ok()?;
        let pid = text.lines().next()?.trim().parse().ok()?;
        is_alive(pid).then_some(pid)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let gone = came_true(PATIENCE, || {
            let mut left: Vec<i32> =
                residue::processes(&self.state_dir()).unwrap_or_default().into_iter().map(|(pid, _)| pid).collect();
            if let Some(postmaster) = self.postmaster() {
                let _ = kill(Pid::from_raw(postmaster), Signal::SIGQUIT);
                left.push(postmaster);
            }
            for pid in left.iter().filter(|pid| Some(**pid) != self.postmaster()) {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
            left.is_empty()
        });
        // A second panic would hide the first.
        assert!(gone || std::thread::panicking(), "processes of {} do not end", self.dir.display());
    }
}

/// `kagero serve` with a configuration.
pub fn kagero(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kagero"));
    command.arg("-c").arg(config).arg("serve");
    command.env("RUST_LOG", "info").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

pub fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// As `kill -9`.
pub fn kill9(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap())
}

/// Makes every commit differ from every other.
fn with_title(title: &str, mut changes: Vec<FileChange>) -> Vec<FileChange> {
    changes.push(FileChange::write("TITLE", title));
    changes
}

/// A port that no other test is given, below those that the kernel hands out.
fn own_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + u16::try_from(std::process::id() % 100).unwrap() * 180;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 180;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn write_secret(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn configuration(github: &Standin, http: u16, gateway: u16, setup: &Setup) -> String {
    format!(
        r#"name = "ladder"
repositories = ["kumo/*"]
public_url = "http://127.0.0.1:{http}"
state_dir = "state"

[listen]
http = "127.0.0.1:{http}"
gateway = "127.0.0.1:{gateway}"

[gateway]
domain = "preview.localhost"
scheme = "http"
port = {gateway}

[github]
app_id = {app}
private_key = "file:app.pem"
webhook_secrets = ["file:webhook-secret"]
api_url = "{api}"
web_url = "{web}"
clone_base = "{clone}"

[compute]
sandbox = "require"
{store}
[seeds.golden]
engine = "{engine}"
format = "plain"
path = "golden.sql"

[limits]
environments = {environments}
builds = {builds}

[pace]
busy = "100ms"
idle = "1s"
comment = "0s"
grace = "2s"
"#,
        app = github.app_id(),
        api = github.api_url(),
        web = github.web_url(),
        clone = github.clone_base(),
        engine = setup.lane.word(),
        store = setup.store.as_ref().map_or("", |_| "\n[store]\nurl = \"file:store-url\"\n"),
        environments = setup.environments,
        builds = setup.builds,
    )
}
