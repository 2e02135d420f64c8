//! What the tests of the agent stand on: a git repository, an agent process, a client for both.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use futures::StreamExt as _;
use kagero::agent::client::{AgentClient, Follow, LogKind};
use kagero::agent::options::AgentOptions;
use kagero::agent::protocol::AddressFile;
use kagero::domain::assignment::{AgentStatus, Assignment, RolloutPhase, Source, StageFailure, Task};
use kagero::domain::id::{CommitSha, EnvUid, Generation, ServiceName};
use kagero::domain::policy::{self, Runs, Service};
use tempfile::TempDir;

/// Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A web server in the language that every Debian has.
pub const SERVER: &str = r#"exec perl -MIO::Socket::INET -e '
  $| = 1; my $said = $ENV{SAYS} // "hello";
  my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $ENV{PORT}, Listen => 64, ReuseAddr => 1) or die "$!";
  print "listening on $ENV{PORT}\n";
  while (my $c = $s->accept) { my $l = <$c>; while (my $h = <$c>) { last if $h =~ /^\r?\n$/ }
    if ($l =~ m{GET /die}) { exit 3 }
    my $status = $l =~ m{GET /broken} ? "500 No" : "200 OK";
    my $body = $said; if (open my $f, "<", "version.txt") { $body .= " " . join("", <$f>) }
    print $c "HTTP/1.1 $status\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body"; close $c }'"#;

pub fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

pub fn uid() -> EnvUid {
    EnvUid::parse("a1b2c3d4e5a1b2c3d4e5").unwrap()
}

/// A directory for everything of one test, open to other users as a state directory is.
pub fn state_dir() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    dir
}

pub fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(dir)
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git is needed: apt-get install git");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository to pull from.
pub struct Origin {
    pub dir: PathBuf,
}

impl Origin {
    pub fn new(state: &Path) -> Self {
        let dir = state.join("origin");
        std::fs::create_dir(&dir).unwrap();
        git(&dir, &["init", "--quiet", "--initial-branch=main"]);
        Self { dir }
    }

    /// Commits `version.txt` with this text as the head of pull request 1.
    pub fn push(&self, version: &str) -> CommitSha {
        std::fs::write(self.dir.join("version.txt"), version).unwrap();
        self.commit()
    }

    /// Commits what lies in the directory.
    pub fn commit(&self) -> CommitSha {
        git(&self.dir, &["add", "--all"]);
        git(&self.dir, &["commit", "--quiet", "--allow-empty", "-m", "A change"]);
        let commit = git(&self.dir, &["rev-parse", "HEAD"]);
        git(&self.dir, &["update-ref", "refs/pull/1/head", &commit]);
        CommitSha::parse(commit).unwrap()
    }

    pub fn source(&self) -> Source {
        Source {
            url: format!("file://{}", self.dir.display()),
            reference: "refs/pull/1/head".to_owned(),
            mirror: "42".to_owned(),
        }
    }

    pub fn assignment(&self, commit: &CommitSha) -> Assignment {
        Assignment {
            task: Task {
                uid: uid(),
                generation: Generation::FIRST,
                commit: commit.clone(),
                source: self.source(),
                build: None,
                migrate: None,
                services: vec![web(SERVER)],
                env: BTreeMap::new(),
                secret_names: Vec::new(),
                database: None,
                attempt: 1,
            },
            git_token: None,
            secret_env: BTreeMap::new(),
            migrate_env: BTreeMap::new(),
            reachable: Vec::new(),
        }
    }
}

pub fn web(run: &str) -> Service {
    Service {
        name: ServiceName::parse("web").unwrap(),
        runs: Runs::Process(run.to_owned()),
        health: Some("/".to_owned()),
        start_timeout: Duration::from_secs(30),
        public: true,
        overlap: true,
    }
}

pub fn command(run: &str) -> policy::Command {
    policy::Command { run: run.to_owned(), timeout: Duration::from_mins(1) }
}

pub fn options(state: &Path) -> AgentOptions {
    let dir = state.join("machine");
    std::fs::create_dir_all(&dir).unwrap();
    let mut options = AgentOptions::new(uid(), Generation::FIRST, (&key()).into(), &dir, &state.join("mirrors"));
    options.git.protocols = vec!["file".to_owned()];
    options.pace.settle = Duration::from_millis(300);
    options.pace.backoff = Duration::from_millis(50);
    options.pace.drain = Duration::from_millis(500);
    options.pace.grace = Duration::from_secs(3);
    options
}

/// A running agent; killed when dropped.
pub struct Agent {
    pub process: Child,
    pub dir: PathBuf,
    pub addr: SocketAddr,
    pub client: AgentClient,
}

impl Agent {
    pub async fn start(options: &AgentOptions) -> Self {
        Self::start_by(options, &mut Command::new(env!("CARGO_BIN_EXE_kagero"))).await
    }

    /// An agent that finds no other programs than those of this directory.
    pub async fn start_with_path(options: &AgentOptions, programs: &Path) -> Self {
        Self::start_by(options, Command::new(env!("CARGO_BIN_EXE_kagero")).env("PATH", programs)).await
    }

    /// An agent that is not root, with a state directory of its own.
    pub async fn start_as_nobody(options: &AgentOptions, state: &Path) -> Self {
        if !nix::unistd::geteuid().is_root() {
            return Self::start(options).await;
        }
        let program = state.join("kagero");
        std::fs::copy(env!("CARGO_BIN_EXE_kagero"), &program).unwrap();
        options.save().unwrap();
        let given = Command::new("chown").args(["-R", "65534:65534"]).arg(state).status().unwrap();
        assert!(given.success());
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(program);
        Self::launch(options, &mut command).await
    }

    async fn start_by(options: &AgentOptions, command: &mut Command) -> Self {
        options.save().unwrap();
        Self::launch(options, command).await
    }

    async fn launch(options: &AgentOptions, command: &mut Command) -> Self {
        let process = command.args(["agent", "--dir"]).arg(&options.dir).stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(process.id()).unwrap();
        let addr = until("the agent to listen", || {
            let file = AddressFile::read(&options.dir)?;
            (file.process.pid == pid && file.process.is_alive()).then_some(file.address)
        })
        .await;
        Self { process, dir: options.dir.clone(), addr, client: AgentClient::new(key()) }
    }

    pub async fn status(&self) -> AgentStatus {
        self.client.status(&self.addr.to_string(), &uid()).await.unwrap()
    }

    /// Asks again until then: on a machine that does much else an answer may come too late.
    async fn status_before(&self, deadline: tokio::time::Instant) -> AgentStatus {
        loop {
            match self.client.status(&self.addr.to_string(), &uid()).await {
                Ok(status) => return status,
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
            }
            crate::wait::look_again().await;
        }
    }

    pub async fn assign(&self, assignment: &Assignment) {
        self.client.assign(&self.addr.to_string(), assignment).await.unwrap();
    }

    /// Assigns and waits until it serves; where.
    pub async fn deploy(&self, assignment: &Assignment) -> SocketAddr {
        self.assign(assignment).await;
        self.served(assignment).await
    }

    pub async fn served(&self, assignment: &Assignment) -> SocketAddr {
        let task = assignment.task.digest();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = self.status_before(deadline).await;
            if let Some(serving) = status.serving.filter(|serving| serving.task == task) {
                return serving.services[0].address.unwrap();
            }
            if let Some(RolloutPhase::Failed(failure)) = status.candidate.map(|candidate| candidate.phase) {
                panic!("{failure:#?}");
            }
            assert!(tokio::time::Instant::now() < deadline, "{task} does not serve");
            crate::wait::look_again().await;
        }
    }

    /// Assigns and waits until it has failed; why.
    pub async fn fail(&self, assignment: &Assignment) -> StageFailure {
        self.assign(assignment).await;
        let task = assignment.task.digest();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let status = self.status_before(deadline).await;
            let candidate = status.candidate.filter(|candidate| candidate.task == task);
            if let Some(RolloutPhase::Failed(failure)) = candidate.map(|candidate| candidate.phase) {
                return failure;
            }
            assert!(status.serving.is_none_or(|serving| serving.task != task), "it serves but should have failed");
            assert!(tokio::time::Instant::now() < deadline, "{task} does not fail");
            crate::wait::look_again().await;
        }
    }

    pub async fn log(&self, kind: LogKind) -> Vec<String> {
        let stream = self.client.logs(&self.addr.to_string(), &uid(), Some(kind), None, Follow::No).await.unwrap();
        stream.map(|line| line.unwrap().text).collect().await
    }

    /// Ends it politely.
    pub async fn end(mut self) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        until("the agent to end", || self.process.try_wait().unwrap()).await;
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until something is there.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
        crate::wait::look_again().await;
    }
}

/// Made once: making one takes longer on a busy machine than an old version waits for its visitors.
static VISITOR: LazyLock<reqwest::Client> = LazyLock::new(|| {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(Duration::from_secs(10));
    client.build().unwrap()
});

pub async fn get(addr: SocketAddr, path: &str) -> Result<String, reqwest::Error> {
    VISITOR.get(format!("http://{addr}{path}")).send().await?.error_for_status()?.text().await
}

/// The command line of every process of the computer.
pub fn all_arguments() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let texts = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    texts.map(|text| String::from_utf8_lossy(&text).replace('\0', " ").trim_end().to_owned()).collect()
}
