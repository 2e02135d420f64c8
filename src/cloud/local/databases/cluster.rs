//! A PostgreSQL server of our own, for where no other is named.
//!
//! It outlives this process: the next start adopts it. Its data are copies that can be made again, so a
//! commit does not wait for the disk; but files are still flushed (unless [`Durability::ThrowAway`] says
//! otherwise), so that a power cut costs the last moments and not every environment.
//!
//! Guarantees: never runs as root; listens on loopback and on a socket of its own only; every connection
//! needs a password; a data directory is there whole or not at all; two processes never start it twice.
//! Must not know: what is in its databases.

use std::fs::{File, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::process::Command;

use crate::cloud::CloudError;
use crate::domain::id::digest;
use crate::seed::tools::{RunAs, SERVER_PROGRAMS, Tools};

use super::fault;

/// The longest path of a Unix socket, without its final NUL.
const SUN_PATH: usize = 107;

/// What a power cut may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The last moments.
    #[default]
    Crash,
    /// The whole cluster: nothing is ever flushed. For tests and demonstrations.
    ThrowAway,
}

/// The settings of a private cluster.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// Kagero's state directory; the cluster lives in `postgres` below it.
    pub state_dir: PathBuf,
    /// Where PostgreSQL's programs are; `None`: the newest that is found.
    pub bin_dir: Option<PathBuf>,
    /// Whom to run as where we are root; `None`: `postgres`, else `nobody`.
    pub user: Option<String>,
    /// What a power cut may cost.
    pub durability: Durability,
    /// The superuser.
    pub admin: String,
    /// Its password: computed, so that no file has to hold it.
    pub password: SecretString,
}

/// A private cluster.
pub struct Cluster {
    config: ClusterConfig,
    root: PathBuf,
    gate: tokio::sync::Mutex<()>,
}

/// A cluster that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// On 127.0.0.1.
    pub port: u16,
    /// The directory of its socket.
    pub socket_dir: PathBuf,
    /// Its programs.
    pub tools: Tools,
    /// Whom it runs as.
    pub run_as: Option<RunAs>,
}

impl Cluster {
    /// Describes one; nothing is touched.
    pub fn new(config: ClusterConfig) -> Self {
        let state_dir = std::path::absolute(&config.state_dir).unwrap_or_else(|_| config.state_dir.clone());
        let root = state_dir.join("postgres");
        Self { config, root, gate: tokio::sync::Mutex::new(()) }
    }

    /// Makes it if it is not there, starts it if it is down, adopts it if it runs.
    pub async fn ensure_running(&self) -> Result<Running, CloudError> {
        let _one_at_a_time = self.gate.lock().await;
        let (tools, run_as) = self.tools()?;
        self.make_directories(run_as.as_ref())?;
        let _alone = self.lock().await?;
        let data = self.data();
        if !data.join("PG_VERSION").is_file() {
            self.init(&tools, run_as.as_ref()).await?;
        }
        if !self.is_running(&tools, run_as.as_ref()).await? {
            self.start(&tools, run_as.as_ref()).await?;
        }
        Ok(Running { port: self.port()?, socket_dir: self.socket_dir(), tools, run_as })
    }

    /// Stops it; sessions are ended. Not running is success.
    pub async fn stop(&self) -> Result<(), CloudError> {
        let _one_at_a_time = self.gate.lock().await;
        if !self.data().join("PG_VERSION").is_file() {
            return Ok(());
        }
        let (tools, run_as) = self.tools()?;
        let _alone = self.lock().await?;
        if self.is_running(&tools, run_as.as_ref()).await? {
            let mut command = self.pg_ctl(&tools, run_as.as_ref(), "stop");
            command.args(["--mode=fast", "--wait", "--timeout=60"]);
            self.run("stop the private PostgreSQL", command).await?;
        }
        Ok(())
    }

    fn tools(&self) -> Result<(Tools, Option<RunAs>), CloudError> {
        let what = "find PostgreSQL's programs";
        let tools = Tools::find(self.config.bin_dir.as_deref(), &SERVER_PROGRAMS)
            .map_err(|error| fault::tools(what, &error))?;
        let run_as = RunAs::choose(self.config.user.as_deref()).map_err(|error| fault::tools(what, &error))?;
        Ok((tools, run_as))
    }

    fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// In the state directory where the path is short enough, else in the system's temporary directory.
    fn socket_dir(&self) -> PathBuf {
        let near = self.root.join("run");
        if near.as_os_str().len() + "/.s.PGSQL.65535.lock".len() <= SUN_PATH {
            return near;
        }
        let tag = digest(&["socket", &self.root.to_string_lossy()], 12);
        std::env::temp_dir().join(format!("kagero-{tag}"))
    }

    fn port(&self) -> Result<u16, CloudError> {
        let path = self.root.join("port");
        let text =
            std::fs::read_to_string(&path).map_err(|error| fault::io(format!("read {}", path.display()), &error))?;
        text.trim().parse().map_err(|_| {
            fault::denied(
                format!("read {}", path.display()),
                format!("{text:?} is no port. Stop PostgreSQL and remove the file"),
            )
        })
    }

    fn make_directories(&self, run_as: Option<&RunAs>) -> Result<(), CloudError> {
        let what = || format!("make {}", self.root.display());
        let make = |path: &Path, mode: u32| -> io::Result<()> {
            std::fs::create_dir_all(path)?;
            if let Some(user) = run_as {
                user.own(path)?;
            }
            std::fs::set_permissions(path, Permissions::from_mode(mode))
        };
        if !self.config.state_dir.is_dir() {
            std::fs::create_dir_all(&self.config.state_dir)
                .and_then(|()| std::fs::set_permissions(&self.config.state_dir, Permissions::from_mode(0o711)))
                .map_err(|error| fault::io(what(), &error))?;
        }
        if let Some(user) = run_as {
            reachable(&self.config.state_dir, user)?;
        }
        make(&self.root, 0o711).map_err(|error| fault::io(what(), &error))?;
        make(&self.root.join("log"), 0o700).map_err(|error| fault::io(what(), &error))?;
        // Entered by the environments' processes; what protects the server is its passwords.
        make(&self.socket_dir(), 0o755).map_err(|error| fault::io(what(), &error))
    }

    /// Held while the cluster is made, started or stopped; other processes wait.
    async fn lock(&self) -> Result<File, CloudError> {
        let path = self.root.join("lock");
        let what = format!("lock {}", path.display());
        let locked = tokio::task::spawn_blocking(move || {
            let file = File::options().create(true).truncate(false).write(true).open(path)?;
            file.lock().map(|()| file)
        });
        match locked.await {
            Ok(done) => done.map_err(|error| fault::io(what, &error)),
            Err(error) => Err(fault::retry(what, error.to_string())),
        }
    }

    /// Into a directory beside it, renamed when complete: a crash leaves no half-made cluster.
    async fn init(&self, tools: &Tools, run_as: Option<&RunAs>) -> Result<(), CloudError> {
        let what = "initialise the private PostgreSQL";
        let half_made = self.root.join("data.half-made");
        let failed = |error: &io::Error| fault::io(what, error);
        if half_made.exists() {
            std::fs::remove_dir_all(&half_made).map_err(|error| failed(&error))?;
        }
        let password = tempfile::NamedTempFile::new_in(&self.root).map_err(|error| failed(&error))?;
        std::fs::write(password.path(), self.config.password.expose_secret()).map_err(|error| failed(&error))?;
        if let Some(user) = run_as {
            user.own(password.path()).map_err(|error| failed(&error))?;
        }
        let mut initdb = tools.command("initdb", run_as);
        initdb
            .args(["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync"])
            .arg(format!("--username={}", self.config.admin))
            .arg("--pwfile")
            .arg(password.path())
            .arg("--pgdata")
            .arg(&half_made);
        self.run(what, initdb).await?;
        std::fs::write(half_made.join("pg_hba.conf"), ACCESS).map_err(|error| failed(&error))?;
        let main = half_made.join("postgresql.conf");
        let text = std::fs::read_to_string(&main).map_err(|error| failed(&error))?;
        std::fs::write(&main, format!("{text}\ninclude 'kagero.conf'\n")).map_err(|error| failed(&error))?;
        let mut sync = tools.command("initdb", run_as);
        sync.args(["--sync-only", "--pgdata"]).arg(&half_made);
        if self.config.durability == Durability::Crash {
            self.run(what, sync).await?;
        }
        std::fs::rename(&half_made, self.data()).map_err(|error| failed(&error))?;
        File::open(&self.root).and_then(|directory| directory.sync_all()).map_err(|error| failed(&error))
    }

    async fn is_running(&self, tools: &Tools, run_as: Option<&RunAs>) -> Result<bool, CloudError> {
        let what = "ask for the private PostgreSQL";
        let status = self.pg_ctl(tools, run_as, "status").status().await.map_err(|error| fault::io(what, &error))?;
        match status.code() {
            Some(0) => Ok(true),
            Some(3) => Ok(false),
            _ => Err(fault::denied(
                what,
                format!("{} is not a usable data directory: restore or remove it", self.data().display()),
            )),
        }
    }

    async fn start(&self, tools: &Tools, run_as: Option<&RunAs>) -> Result<(), CloudError> {
        let what = "start the private PostgreSQL";
        let port = self.choose_port().map_err(|error| fault::io(what, &error))?;
        let settings = settings(port, &self.socket_dir(), &self.root.join("log"), self.config.durability);
        std::fs::write(self.data().join("kagero.conf"), settings).map_err(|error| fault::io(what, &error))?;
        let log = self.root.join("log/start.log");
        if log.exists() {
            std::fs::remove_file(&log).map_err(|error| fault::io(what, &error))?;
        }
        let mut command = self.pg_ctl(tools, run_as, "start");
        command.args(["--wait", "--timeout=60", "--silent", "--log"]).arg(&log);
        self.run(what, command).await.map_err(|mut error| {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().filter(|line| line.contains("FATAL")).take(1).collect();
            error.class = crate::cloud::ErrorClass::Retry;
            error.why = format!("{} {} (log: {})", error.why, last.join(""), log.display());
            error
        })
    }

    /// The port of last time while it is free, so that addresses given out stay true.
    fn choose_port(&self) -> io::Result<u16> {
        let path = self.root.join("port");
        let last = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u16>().ok());
        if let Some(port) = last
            && TcpListener::bind(("127.0.0.1", port)).is_ok()
        {
            return Ok(port);
        }
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        if let Some(last) = last {
            tracing::warn!(
                cluster.port.old = last,
                cluster.port.new = port,
                "the private PostgreSQL has to change its port"
            );
        }
        let new = self.root.join("port.new");
        std::fs::write(&new, port.to_string())?;
        std::fs::rename(new, path)?;
        Ok(port)
    }

    fn pg_ctl(&self, tools: &Tools, run_as: Option<&RunAs>, verb: &str) -> Command {
        let mut command = tools.command("pg_ctl", run_as);
        command.current_dir(&self.root).arg(verb).arg("--pgdata").arg(self.data());
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        command
    }

    async fn run(&self, what: &str, mut command: Command) -> Result<(), CloudError> {
        let output = command.current_dir(&self.root).output().await.map_err(|error| fault::io(what, &error))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let class = if said.iter().any(|line| line.contains("No space left")) {
            crate::cloud::ErrorClass::Quota
        } else {
            crate::cloud::ErrorClass::Denied
        };
        Err(CloudError { class, what: what.to_owned(), why: said.join("; ") })
    }
}

/// Whether the user can walk down to a directory; the error names the first that bars the way.
fn reachable(directory: &Path, user: &RunAs) -> Result<(), CloudError> {
    let what = format!("use {} for PostgreSQL", directory.display());
    let absolute = std::path::absolute(directory).map_err(|error| fault::io(&what, &error))?;
    for step in absolute.ancestors() {
        let meta = std::fs::metadata(step).map_err(|error| fault::io(&what, &error))?;
        let bit = if meta.uid() == user.uid {
            0o100
        } else if meta.gid() == user.gid {
            0o010
        } else {
            0o001
        };
        if meta.mode() & bit == 0 {
            let why = format!("user {} cannot enter {}: run `chmod o+x {}`", user.name, step.display(), step.display());
            return Err(fault::denied(what, why));
        }
    }
    Ok(())
}

/// No trust and no peer: an extension that lets a tenant connect back gains nothing.
const ACCESS: &str = "\
# Written once by Kagero.
local all all                scram-sha-256
host  all all 127.0.0.1/32   scram-sha-256
";

fn settings(port: u16, socket_dir: &Path, log: &Path, durability: Durability) -> String {
    let quoted = |path: &Path| path.to_string_lossy().replace('\'', "''");
    let flush = match durability {
        Durability::Crash => "on",
        Durability::ThrowAway => "off",
    };
    format!(
        "# Written by Kagero at every start.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{socket}'
max_connections = 400
max_locks_per_transaction = 256
password_encryption = 'scram-sha-256'
fsync = {flush}
full_page_writes = {flush}
synchronous_commit = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = '4GB'
checkpoint_timeout = '30min'
shared_buffers = '128MB'
jit = off
logging_collector = on
log_directory = '{log}'
log_filename = 'server-%H.log'
log_rotation_age = '1h'
log_rotation_size = 0
log_truncate_on_rotation = on
log_min_messages = warning
log_min_error_statement = panic
",
        socket = quoted(socket_dir),
        log = quoted(log),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(state_dir: &Path) -> Cluster {
        Cluster::new(ClusterConfig {
            state_dir: state_dir.to_owned(),
            bin_dir: None,
            user: None,
            durability: Durability::ThrowAway,
            admin: "kagero".to_owned(),
            password: "x".into(),
        })
    }

    #[test]
    fn the_socket_always_fits() {
        let long = PathBuf::from(format!("/{}", "a".repeat(120)));
        for state in [Path::new("/var/lib/kagero"), &long] {
            let path = cluster(state).socket_dir().join(".s.PGSQL.65535");
            assert!(path.as_os_str().len() <= SUN_PATH, "{}", path.display());
        }
    }

    #[test]
    fn a_free_port_is_kept_and_a_taken_one_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = cluster(dir.path());
        std::fs::create_dir(&cluster.root).unwrap();
        let first = cluster.choose_port().unwrap();
        let _taken = TcpListener::bind(("127.0.0.1", first)).unwrap();
        let second = cluster.choose_port().unwrap();
        assert_ne!(first, second);
        assert_eq!(cluster.port().unwrap(), second);
    }

    #[test]
    fn a_directory_that_bars_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        let stranger = RunAs { name: "stranger".to_owned(), uid: 4_000_001, gid: 4_000_001 };
        let error = reachable(dir.path(), &stranger).unwrap_err().to_string();
        assert!(error.contains(&format!("chmod o+x {}", dir.path().display())), "{error}");
    }

    #[test]
    fn files_are_flushed_unless_data_may_be_lost() {
        let text = |durability| settings(1, Path::new("/s"), Path::new("/l"), durability);
        assert!(text(Durability::Crash).contains("fsync = on"));
        assert!(text(Durability::ThrowAway).contains("fsync = off"));
    }
}
