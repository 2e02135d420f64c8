//! Confinement of everything that a pull request brings: build, migration, services.
//!
//! Guarantees: at level [`SandboxLevel::Bubblewrap`] a process sees its own files and processes only; at
//! [`SandboxLevel::Landlock`] it reads its own files only; at every level it has no capabilities, limited
//! resources, and dies with the agent. Variables never stand in arguments. A weaker level is chosen only
//! after the stronger one was tried and failed, and the report says why.
//! Must not know: tasks, rollouts, the controller.

mod bubblewrap;
mod child;
mod confined;
mod landlock;
mod limits;
mod probe;
mod remedy;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::options::SandboxOptions;
use super::protocol::MACHINE_VARIABLE;
use crate::domain::assignment::SandboxLevel;

pub use confined::{Confined, Output};
pub use limits::Limits;
pub use probe::{ProbeFailure, ProbeReport, TooWeak, probe};

/// Distinguishes what one command started from what another did, where there is no process namespace.
const UNIT_VARIABLE: &str = "KAGERO_UNIT";

/// Programs of the machine that every process may read and run.
const SYSTEM_DIRS: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix", "/gnu/store"];

/// The files of `/etc` that programs need to run; none of them is about this machine's secrets.
const SYSTEM_FILES: [&str; 26] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/debian_version",
    "/etc/fonts",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/java-11-openjdk",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];

/// How this agent confines what it runs.
#[derive(Debug, Clone)]
pub struct Sandbox {
    means: Means,
    /// The user that processes run as, where the agent may choose.
    run_as: Option<u32>,
    limits: Limits,
    read_only: Vec<PathBuf>,
    path: Vec<PathBuf>,
    machine: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    Bubblewrap(bubblewrap::Flavour),
    Landlock,
    Rlimit,
}

/// The directories that one release's processes may write to, as the agent sees them.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// The checkout.
    pub source: PathBuf,
    /// Temporary files; goes with the release.
    pub tmp: PathBuf,
    /// Home directory with the caches of tools; stays from release to release.
    pub home: PathBuf,
    /// Uploads and the like; stays from release to release.
    pub shared: PathBuf,
    /// Sockets and directories outside the machine's, for the database.
    pub reachable: Vec<PathBuf>,
}

impl Rooms {
    /// The directories that belong to the processes.
    fn writable(&self) -> [&Path; 4] {
        [&self.source, &self.tmp, &self.home, &self.shared]
    }
}

impl Sandbox {
    /// Probes what this computer allows and takes the strongest.
    pub async fn prepare(options: &SandboxOptions, machine: &Path) -> Result<(Self, ProbeReport), TooWeak> {
        probe::strongest(options, machine).await
    }

    /// How strong it is.
    pub fn level(&self) -> SandboxLevel {
        match self.means {
            Means::Bubblewrap(_) => SandboxLevel::Bubblewrap,
            Means::Landlock => SandboxLevel::Landlock,
            Means::Rlimit => SandboxLevel::Rlimit,
        }
    }

    /// Makes the directories beside the checkout, where they are missing.
    pub fn make_rooms(&self, rooms: &Rooms) -> io::Result<()> {
        for room in [&rooms.tmp, &rooms.home, &rooms.shared] {
            DirBuilder::new().recursive(true).mode(0o700).create(room)?;
            if let Some(uid) = self.run_as {
                lchown(room, Some(uid), Some(uid))?;
            }
        }
        Ok(())
    }

    /// Gives a tree that the agent has written to the processes' user, and to no other.
    pub fn give(&self, tree: &Path) -> io::Result<()> {
        std::fs::set_permissions(tree, Permissions::from_mode(0o700))?;
        let Some(uid) = self.run_as else { return Ok(()) };
        let mut next = vec![tree.to_owned()];
        while let Some(path) = next.pop() {
            lchown(&path, Some(uid), Some(uid))?;
            if std::fs::symlink_metadata(&path)?.is_dir() {
                for entry in std::fs::read_dir(&path)? {
                    next.push(entry?.path());
                }
            }
        }
        Ok(())
    }

    /// Starts a shell command in the checkout, with these variables and the few that every program needs.
    pub fn start(&self, rooms: &Rooms, run: &str, env: &BTreeMap<String, String>) -> io::Result<Confined> {
        let unit = hex::encode(rand::random::<[u8; 8]>());
        let (mut command, input) = match self.means {
            Means::Bubblewrap(flavour) => {
                let env = with_basics(env, &bubblewrap::inside(), &self.path);
                let mut command = Command::new(bubblewrap::program()?);
                command.args(bubblewrap::arguments(self, flavour, rooms, run)).env_clear().process_group(0);
                (command, Some(bubblewrap::script(&env)?))
            }
            Means::Landlock | Means::Rlimit => {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(run).current_dir(&rooms.source).env_clear();
                command.envs(with_basics(env, rooms, &self.path));
                command.env(UNIT_VARIABLE, &unit);
                let rules = match self.means {
                    Means::Landlock => Some(landlock::rules(rooms, &self.read_only)?),
                    _ => None,
                };
                child::confine(&mut command, self.run_as, self.limits, rules);
                (command, None)
            }
        };
        // For whoever has to clear up after an agent that was killed.
        command.env(MACHINE_VARIABLE, &self.machine);
        command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let whole = match self.means {
            Means::Bubblewrap(_) => confined::Whole::Namespace,
            Means::Landlock | Means::Rlimit => confined::Whole::Marked(format!("{UNIT_VARIABLE}={unit}")),
        };
        Confined::new(command.spawn()?, whole, input)
    }
}

/// Where the system keeps its programs.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables of a command: what every program needs, below what the task says.
fn with_basics(env: &BTreeMap<String, String>, inside: &Rooms, path: &[PathBuf]) -> BTreeMap<String, String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let folders: Vec<String> = path.iter().map(|folder| text(folder)).chain([SYSTEM_PATH.to_owned()]).collect();
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), folders.join(":")),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("USER".to_owned(), "kagero".to_owned()),
        ("LOGNAME".to_owned(), "kagero".to_owned()),
        ("SHELL".to_owned(), "/bin/sh".to_owned()),
        ("HOME".to_owned(), text(&inside.home)),
        ("TMPDIR".to_owned(), text(&inside.tmp)),
        ("KAGERO_SHARED".to_owned(), text(&inside.shared)),
    ]);
    all.extend(env.iter().map(|(name, value)| (name.clone(), value.clone())));
    all
}
