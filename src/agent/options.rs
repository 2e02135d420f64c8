//! What an agent is started with. Nothing here is secret: secrets come with an assignment only.
//!
//! Guarantees: the options of a machine lie in its directory, so that process arguments carry the
//! directory alone.
//! Must not know: the controller's configuration.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::protocol::{OPTIONS_FILE, write_atomically};
use super::signature::ControllerKey;
use crate::domain::assignment::SandboxLevel;
use crate::domain::id::{EnvUid, Generation, InstallId};

/// What an agent is started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentOptions {
    /// The environment that it serves.
    pub uid: EnvUid,
    /// Its generation.
    pub generation: Generation,
    /// Whose requests are accepted.
    pub public_key: ControllerKey,
    /// The machine's directory; not written down, because it is where the options lie.
    #[serde(skip)]
    pub dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Bare mirrors of repositories, shared by all agents of this computer.
    pub mirrors_dir: PathBuf,
    /// The book of ports, shared by all agents of this computer.
    pub ports_dir: PathBuf,
    /// How commits are fetched.
    pub git: GitOptions,
    /// How processes are confined.
    pub sandbox: SandboxOptions,
    /// How much of the logs is kept.
    pub logs: LogLimits,
    /// How services are watched.
    pub pace: SupervisionPace,
    /// The installation, for the labels of containers.
    #[serde(default)]
    pub install: Option<InstallId>,
    /// How containers are made.
    #[serde(default)]
    pub containers: ContainerOptions,
}

/// How containers are made. What processes may use up ([`SandboxOptions`]) bounds containers too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerOptions {
    /// The engine's socket as `unix:///path`; `None`: `DOCKER_HOST`, else the usual places.
    pub engine: Option<String>,
    /// Ends the pulling of an image that takes longer.
    pub pull_timeout: Duration,
    /// Ends the building of an image that takes longer.
    pub build_timeout: Duration,
    /// Bytes of the folder that a build sees, after `.dockerignore`.
    pub context_bytes: u64,
}

/// How commits are fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitOptions {
    /// Protocols that git may use: `https`, and `http` or `file` where the operator allows it.
    pub protocols: Vec<String>,
    /// Ends a checkout that takes longer.
    pub timeout: Duration,
}

/// How processes are confined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxOptions {
    /// The agent does not start where nothing this strong is to be had.
    pub weakest: SandboxLevel,
    /// Further directories that every process may read: tool chains outside `/usr`.
    pub read_only_paths: Vec<PathBuf>,
    /// Folders of programs put before the system's own in `PATH`. They are readable too.
    #[serde(default)]
    pub path: Vec<PathBuf>,
    /// Processes and threads of one environment.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of address space of one process; `None`: no limit, since many runtimes reserve far more than
    /// they use.
    pub address_space: Option<u64>,
}

/// How much of the logs is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes of one log on disk: its beginning and its end.
    pub bytes: u64,
    /// Attempts whose logs are kept.
    pub attempts: usize,
    /// Lines of a failed stage that are reported.
    pub tail_lines: usize,
}

/// How services are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SupervisionPace {
    /// From the polite signal to the one that cannot be refused.
    pub grace: Duration,
    /// Between two looks at a service that is starting.
    pub probe: Duration,
    /// How long a service without port and health path has to live to count as started.
    pub settle: Duration,
    /// Between two looks at a service that was healthy at the last one.
    pub attend: Duration,
    /// Looks in a row at which a service was not healthy before it is restarted.
    pub misses: u32,
    /// Before the first restart; doubles each time.
    pub backoff: Duration,
    /// The longest time before a restart.
    pub backoff_most: Duration,
    /// Ends before being healthy that make a rollout fail.
    pub crashes: u32,
    /// How long the old version goes on after the controller has read the new one's address.
    pub drain: Duration,
    /// The same if the controller does not ask.
    pub drain_most: Duration,
}

impl AgentOptions {
    /// Options with the usual limits. The book of ports lies beside the mirrors.
    pub fn new(uid: EnvUid, generation: Generation, public_key: ControllerKey, dir: &Path, mirrors: &Path) -> Self {
        Self {
            uid,
            generation,
            public_key,
            dir: dir.to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            mirrors_dir: mirrors.to_owned(),
            ports_dir: mirrors.with_file_name("ports"),
            git: GitOptions::default(),
            sandbox: SandboxOptions::default(),
            logs: LogLimits::default(),
            pace: SupervisionPace::default(),
            install: None,
            containers: ContainerOptions::default(),
        }
    }

    /// Reads `agent.json` of a machine's directory.
    pub fn load(dir: &Path) -> Result<Self, OptionsError> {
        let path = dir.join(OPTIONS_FILE);
        let text = std::fs::read(&path).map_err(|source| OptionsError::Unreadable { path: path.clone(), source })?;
        let mut options: Self =
            serde_json::from_slice(&text).map_err(|source| OptionsError::Garbled { path: path.clone(), source })?;
        options.dir = dir.canonicalize().map_err(|source| OptionsError::Unreadable { path: dir.to_owned(), source })?;
        Ok(options)
    }

    /// Writes `agent.json` into the machine's directory.
    pub fn save(&self) -> std::io::Result<()> {
        write_atomically(&self.dir.join(OPTIONS_FILE), &serde_json::to_vec_pretty(self)?)
    }
}

/// Why an agent has no options.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The file is missing or may not be read.
    #[error("cannot read {}; start the agent with the directory of a machine", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file's text is not what it should be.
    #[error("{} is not a valid agent file; let the controller launch the machine again", path.display())]
    Garbled {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
}

impl Default for GitOptions {
    fn default() -> Self {
        Self { protocols: vec!["https".to_owned()], timeout: Duration::from_mins(10) }
    }
}

impl Default for ContainerOptions {
    fn default() -> Self {
        Self {
            engine: None,
            pull_timeout: Duration::from_mins(15),
            build_timeout: Duration::from_mins(30),
            context_bytes: 1 << 30,
        }
    }
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            weakest: SandboxLevel::Rlimit,
            read_only_paths: Vec::new(),
            path: Vec::new(),
            processes: 2048,
            open_files: 16_384,
            file_bytes: 8 << 30,
            address_space: None,
        }
    }
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { bytes: 10 << 20, attempts: 5, tail_lines: 40 }
    }
}

impl Default for SupervisionPace {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(10),
            probe: Duration::from_millis(100),
            settle: Duration::from_millis(500),
            attend: Duration::from_secs(10),
            misses: 3,
            backoff: Duration::from_millis(500),
            backoff_most: Duration::from_secs(30),
            crashes: 3,
            drain: Duration::from_secs(5),
            drain_most: Duration::from_mins(1),
        }
    }
}
