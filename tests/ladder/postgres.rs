//! A PostgreSQL server that is nobody's but the test's: it can be stopped and comes back at the same address.
//!
//! Guarantees: it ends with the test, and its data go with it.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, chown, geteuid};

use crate::wait::{came_true, eventually};

const PATIENCE: Duration = Duration::from_mins(1);

/// Its superuser, who needs no password.
pub const SUPERUSER: &str = "shop";

pub struct Postgres {
    pub port: u16,
    /// Where it listens, as PostgreSQL writes several.
    addresses: &'static str,
    data: tempfile::TempDir,
    server: Option<Child>,
}

impl Postgres {
    /// Makes it and waits until it answers.
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1").await
    }

    /// The same at these addresses, loopback among them.
    pub async fn start_on(addresses: &'static str) -> Self {
        let data = tempfile::tempdir().unwrap();
        if let Some(user) = user() {
            chown(data.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { port, addresses, data, server: None };
        let mut initdb = server.program("initdb");
        initdb.args(["--auth=trust", "--no-sync", "--username", SUPERUSER, "-D"]).arg(server.data.path().join("data"));
        assert!(initdb.status().unwrap().success(), "initdb failed");
        server.start_again().await;
        server
    }

    /// The address of its maintenance database, for the superuser.
    pub fn url(&self) -> String {
        format!("postgres://{SUPERUSER}@127.0.0.1:{}/postgres", self.port)
    }

    /// Puts a file where the server finds it by its name; only the server can read it.
    #[cfg(feature = "aws")]
    pub fn keep(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;

        let path = self.data.path().join("data").join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(user) = user() {
            chown(&path, Some(user.uid), Some(user.gid)).unwrap();
        }
    }

    /// Starts it after a stop.
    pub async fn start_again(&mut self) {
        assert!(self.server.is_none(), "it runs already");
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.data.path().join("data"));
        server.args(["-p", &self.port.to_string(), "-F", "-h", self.addresses, "-k", ""]);
        self.server = Some(server.spawn().unwrap());
        let url = self.url();
        eventually("PostgreSQL answers", PATIENCE, async || sqlx::PgPool::connect(&url).await.is_ok()).await;
    }

    /// Ends every session and the server.
    pub fn stop(&mut self) {
        let mut server = self.server.take().expect("it runs");
        kill(Pid::from_raw(i32::try_from(server.id()).unwrap()), Signal::SIGINT).unwrap();
        assert!(came_true(PATIENCE, || server.try_wait().unwrap().is_some()), "PostgreSQL does not end");
        assert!(server.wait().unwrap().success(), "PostgreSQL ends well");
    }

    /// PostgreSQL refuses to run as root: there it runs as `postgres`.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(program(name));
        command.current_dir(self.data.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(user) = user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGQUIT);
            let _ = server.wait();
        }
    }
}

fn user() -> Option<User> {
    let user = || User::from_name("postgres").unwrap().expect("no user `postgres`. Install it with: make setup");
    geteuid().is_root().then(user)
}

/// From the path, or from where Debian puts the newest version.
pub fn program(name: &str) -> PathBuf {
    let on_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let mut debian: Vec<_> = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().collect();
    debian.sort_by_key(std::fs::DirEntry::file_name);
    let debian = debian.iter().rev().map(|version| version.path().join("bin"));
    let mut found = on_path.chain(debian).map(|folder| folder.join(name)).filter(|program| program.exists());
    found.next().unwrap_or_else(|| panic!("{name} is missing. Install it with: make setup"))
}
