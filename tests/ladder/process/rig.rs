//! One Kagero in a directory of its own, and what people and visitors do with it.
//!
//! Guarantees: [`Rig::finish`] proves that nothing is left; dropping a rig kills everything that it started,
//! agents and PostgreSQL included.

mod setup;
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
use kagero::forge::github::{Github, GithubConfig};
use kagero::sim::github::{FileChange, OpenPull, Standin, StandinConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub use setup::{Lane, Setup, kagero_yml};

use crate::wait::{came_true, eventually};

/// For whatever takes a moment on an idle machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub const ACTOR: &str = "mika";

pub struct Rig {
    pub github: Standin,
    pub lane: Lane,
    dir: PathBuf,
    http: u16,
    gateway: u16,
    disk: Option<u64>,
    child: Option<Child>,
    client: reqwest::Client,
    opened: Vec<u64>,
    _home: TempDir,
}

impl Rig {
    /// With a controller that answers.
    pub async fn start(setup: Setup) -> Self {
        let mut rig = Self::prepare(setup).await;
        rig.launch().await;
        rig
    }

    /// Everything but a running controller.
    pub async fn prepare(setup: Setup) -> Self {
        let home = tempfile::Builder::new().prefix("kgp").tempdir().unwrap();
        // The account that PostgreSQL runs as passes through.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let dir = home.path().canonicalize().unwrap();
        let config = StandinConfig { repositories: vec![setup.repository()], ..StandinConfig::default() };
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
        std::fs::write(dir.join("kagero.toml"), setup.configuration(&github, http, gateway)).unwrap();
        github.set_webhook_url(Some(format!("http://127.0.0.1:{http}/webhook/github")));
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let Setup { lane, disk, .. } = setup;
        let opened = Vec::new();
        Self { github, lane, dir, http, gateway, disk, child: None, client, opened, _home: home }
    }

    /// Edits `kagero.toml`; the next start reads it.
    pub fn reconfigure(&self, from: &str, to: &str) {
        let path = self.dir.join("kagero.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    /// Starts `kagero serve` and waits until it answers.
    pub async fn launch(&mut self) {
        self.launch_by(|_| {}).await;
    }

    /// The same in other surroundings.
    pub async fn launch_by(&mut self, change: impl FnOnce(&mut Command)) {
        self.spawn_by(change);
        let process = i32::try_from(self.controller_pid()).unwrap();
        eventually("kagero serve answers", PATIENCE, async || {
            assert!(is_alive(process), "kagero serve has ended:\n{}", self.log());
            self.is_up().await
        })
        .await;
    }

    /// Starts `kagero serve` without waiting for anything.
    pub fn spawn(&mut self) {
        self.spawn_by(|_| {});
    }

    fn spawn_by(&mut self, change: impl FnOnce(&mut Command)) {
        assert!(self.child.is_none(), "it runs already");
        let mut command = self.serve();
        change(&mut command);
        self.child = Some(command.spawn().unwrap());
    }

    /// `kagero serve`, its words going to a file in the directory.
    pub fn serve(&self) -> Command {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.join("serve.log")).unwrap();
        let mut command = match self.disk {
            None => Command::new(env!("CARGO_BIN_EXE_kagero")),
            Some(bytes) => self.with_own_disk(bytes),
        };
        serve_from(&mut command, "kagero.toml".as_ref());
        command.current_dir(&self.dir).stderr(log);
        command
    }

    /// The program in a mount namespace, with a file system in memory at the state directory. bubblewrap can do that
    /// for any user; it stays as the program's parent.
    fn with_own_disk(&self, bytes: u64) -> Command {
        let state = self.dir.join("state");
        std::fs::create_dir_all(&state).unwrap();
        let mut command = Command::new("bwrap");
        command.args(["--die-with-parent", "--dev-bind", "/", "/"]);
        if nix::unistd::geteuid().is_root() {
            command.args(["--cap-add", "ALL"]);
        }
        command.args(["--size", &bytes.to_string(), "--tmpfs"]).arg(state).arg(env!("CARGO_BIN_EXE_kagero"));
        command
    }

    /// Another command of the program, to its end.
    pub async fn kagero(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kagero"));
        command.args(arguments).current_dir(&self.dir).env("KAGERO_CONFIG", "kagero.toml").env("NO_COLOR", "1");
        command.env_remove("KAGERO_LOG").stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output()).await.expect("it does not end").unwrap()
    }

    pub fn controller_pid(&self) -> u32 {
        let child = self.child.as_ref().unwrap().id();
        match self.disk {
            None => child,
            Some(_) => child_of(child),
        }
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

    /// Where its state is for us: a disk of its own is only seen through the controller.
    pub fn state_dir(&self) -> PathBuf {
        let state = self.dir.join("state");
        match (&self.child, self.disk) {
            (Some(_), Some(_)) => {
                let root = PathBuf::from(format!("/proc/{}/root", self.controller_pid()));
                root.join(state.strip_prefix("/").unwrap())
            }
            _ => state,
        }
    }

    /// Its processes of environments, with their command lines.
    fn all_processes(&self) -> Vec<(i32, String)> {
        residue::processes(&self.dir.join("state")).unwrap_or_default()
    }

    /// The App on GitHub, as another Kagero of this installation would speak for it.
    pub fn app(&self) -> Github {
        app(&self.github)
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
        match self.lane {
            Lane::Sqlite => return residue::directories(&self.state_dir().join("databases")).unwrap(),
            Lane::Postgres => {}
            #[cfg(feature = "aws")]
            Lane::Rds => return Vec::new(),
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
        self.all_processes().into_iter().filter(|(_, words)| words.starts_with(begins)).map(|(pid, _)| pid).collect()
    }

    /// Closes what is open, proves that nothing is left, and stops.
    pub async fn finish(mut self) {
        for number in self.opened.clone() {
            if self.github.repo().pull(number).await.unwrap().state == "open" {
                self.close(number).await;
            }
        }
        for number in self.opened.clone() {
            self.until_nothing_is_held(number).await;
            assert!(self.comments(number).await.len() <= 1, "{:?}", self.comments(number).await);
        }
        assert_eq!(self.left().await, Vec::<String>::new());
        let controller = self.controller_pid();
        let child = self.child.as_mut().expect("it runs");
        kill(pid(controller), Signal::SIGTERM).unwrap();
        assert!(came_true(PATIENCE, || child.try_wait().unwrap().is_some()), "kagero serve does not end");
        assert_eq!(self.child.take().unwrap().wait().unwrap().code(), Some(0), "{}", self.log());
    }

    /// Everything of any environment on this host.
    pub async fn left(&self) -> Vec<String> {
        let mut left = self.machines();
        left.extend(self.databases().await);
        left.extend(self.all_processes().into_iter().map(|(pid, words)| format!("{pid} {words}")));
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
            let mut left: Vec<i32> = self.all_processes().into_iter().map(|(pid, _)| pid).collect();
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
    serve_from(&mut command, config);
    command
}

fn serve_from(command: &mut Command, config: &Path) {
    command.arg("serve").env("KAGERO_CONFIG", config);
    command.env("KAGERO_LOG", "info").stdin(Stdio::null()).stdout(Stdio::null());
}

/// The App on a stand-in for GitHub.
pub fn app(github: &Standin) -> Github {
    let url = |text: String| text.parse().unwrap();
    let (api, web) = (url(github.api_url()), url(github.web_url()));
    let key = github.private_key_pem().to_owned().into();
    Github::new(GithubConfig::new(api, web, github.app_id(), key), Arc::new(SystemClock)).unwrap()
}

/// The only process that this one has started.
fn child_of(parent: u32) -> u32 {
    let mut child = None;
    let read = || std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    assert!(
        came_true(PATIENCE, || {
            child = read().split_whitespace().next().and_then(|pid| pid.parse().ok());
            child.is_some()
        }),
        "process {parent} starts none"
    );
    child.unwrap()
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
