//! Finds the strongest confinement that works here, by trying it.
//!
//! Guarantees: a level counts as working only after a process confined by it could not read a file of the
//! agent's and ran as it should; every level that failed is reported with its cause and a remedy.
//! Must not know: tasks.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use super::bubblewrap::{Flavour, GROUP, PASSWD};
use super::remedy::{self, Kernel};
use super::{Limits, Means, Rooms, Sandbox};
use crate::agent::options::SandboxOptions;
use crate::domain::assignment::SandboxLevel;

/// Users that belong to nobody: below what systemd gives to containers, above what people have.
const FIRST_UID: u32 = 200_000;
const UIDS: u32 = 200_000;

/// What this computer allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeReport {
    /// The strongest level that works.
    pub level: SandboxLevel,
    /// What does not, strongest first.
    pub failures: Vec<ProbeFailure>,
}

/// A confinement that does not work here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} does not work: {why}; {remedy}")]
pub struct ProbeFailure {
    /// The confinement.
    pub what: &'static str,
    /// What happened when it was tried.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

/// Why no confinement was chosen.
#[derive(Debug, thiserror::Error)]
pub enum TooWeak {
    /// Something works, but the operator asks for more.
    #[error("the strongest sandbox here is {}, but {} is required: {}", found.as_str(), wanted.as_str(), list(failures))]
    Level {
        /// What works.
        found: SandboxLevel,
        /// What is required.
        wanted: SandboxLevel,
        /// What does not work.
        failures: Vec<ProbeFailure>,
    },
    /// Nothing works.
    #[error("no sandbox works here: {}", list(.0))]
    Nothing(Vec<ProbeFailure>),
    /// The probe itself failed.
    #[error("cannot probe the sandbox in {dir}; check the directory's permissions and free space")]
    Setup {
        /// Where.
        dir: String,
        /// The cause.
        source: io::Error,
    },
}

fn list(failures: &[ProbeFailure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Tries the ladder of confinements in a temporary directory: for `kagero doctor`.
pub async fn probe(options: &SandboxOptions) -> Result<ProbeReport, TooWeak> {
    let setup = |source| TooWeak::Setup { dir: std::env::temp_dir().display().to_string(), source };
    let machine = tempfile::tempdir().map_err(setup)?;
    fs::set_permissions(machine.path(), fs::Permissions::from_mode(0o711)).map_err(setup)?;
    let options = SandboxOptions { weakest: SandboxLevel::Rlimit, ..options.clone() };
    Ok(strongest(&options, machine.path()).await?.1)
}

pub(super) async fn strongest(options: &SandboxOptions, machine: &Path) -> Result<(Sandbox, ProbeReport), TooWeak> {
    let setup = |source| TooWeak::Setup { dir: machine.display().to_string(), source };
    let root = geteuid().is_root();
    let run_as = root.then(|| user_of(machine));
    write_users(machine, run_as.unwrap_or_else(|| geteuid().as_raw())).map_err(setup)?;
    let mut failures = Vec::new();
    for step in ladder(root) {
        let sandbox = Sandbox {
            means: step.means,
            run_as: if step.means == Means::Bubblewrap(Flavour::UserNamespace) { None } else { run_as },
            limits: Limits::new(options),
            read_only: options.read_only_paths.iter().chain(&options.path).cloned().collect(),
            path: options.path.clone(),
            machine: machine.to_owned(),
        };
        match attempt(&sandbox, step.hides_files).await {
            Ok(()) => {
                let level = sandbox.level();
                if level > options.weakest {
                    return Err(TooWeak::Level { found: level, wanted: options.weakest, failures });
                }
                return Ok((sandbox, ProbeReport { level, failures }));
            }
            Err(why) => {
                let remedy = match step.means {
                    Means::Bubblewrap(flavour) => {
                        remedy::bubblewrap(flavour, super::bubblewrap::program().is_ok(), Kernel::read())
                    }
                    Means::Landlock => "boot a kernel from 5.13 with landlock in its lsm= list".to_owned(),
                    Means::Rlimit => "let other users pass through the state directory (chmod 711), or do not run the \
                                      agent as root"
                        .to_owned(),
                };
                failures.push(ProbeFailure { what: step.what, why, remedy });
            }
        }
    }
    Err(TooWeak::Nothing(failures))
}

struct Rung {
    what: &'static str,
    means: Means,
    hides_files: bool,
}

fn ladder(root: bool) -> Vec<Rung> {
    let rung = |what, means, hides_files| Rung { what, means, hides_files };
    let mut rungs = Vec::new();
    if root {
        rungs.push(rung("bubblewrap as root", Means::Bubblewrap(Flavour::Root), true));
    }
    let in_namespace = Means::Bubblewrap(Flavour::UserNamespace);
    rungs.push(rung("bubblewrap with a user namespace", in_namespace, true));
    rungs.push(rung("Landlock", Means::Landlock, true));
    rungs.push(rung("resource limits", Means::Rlimit, false));
    rungs
}

/// Runs a command that tells whether the confinement holds.
async fn attempt(sandbox: &Sandbox, hides_files: bool) -> Result<(), String> {
    let text = |error: io::Error| error.to_string();
    let dir = tempfile::Builder::new().prefix(".probe-").tempdir_in(&sandbox.machine).map_err(text)?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).map_err(text)?;
    let room = |name: &str| dir.path().join(name);
    let rooms = Rooms {
        source: room("source"),
        tmp: room("tmp"),
        home: room("home"),
        shared: room("shared"),
        reachable: Vec::new(),
    };
    sandbox.make_rooms(&rooms).map_err(text)?;
    fs::create_dir(&rooms.source).and_then(|()| sandbox.give(&rooms.source)).map_err(text)?;
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret").map_err(text)?;
    let env = BTreeMap::from([("PROBED".to_owned(), secret.to_string_lossy().into_owned())]);
    let look = if hides_files { "if cat \"$PROBED\" 2>/dev/null; then echo open; exit 1; fi; " } else { "" };
    let run = format!("{look}touch written \"$HOME/written\" \"$TMPDIR/written\" && echo confined");
    let mut running = sandbox.start(&rooms, &run, &env).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "the program is not installed".to_owned(),
        _ => error.to_string(),
    })?;
    let output = running.output();
    let (mut said, mut complaint) = (String::new(), String::new());
    let talk = async {
        if let Some(mut stream) = output.stdout {
            let _ = stream.read_to_string(&mut said).await;
        }
        if let Some(mut stream) = output.stderr {
            let _ = stream.read_to_string(&mut complaint).await;
        }
        running.wait().await
    };
    let ended = timeout(Duration::from_secs(20), talk).await;
    match ended {
        Err(_) => Err("it did not end within 20 s".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(status)) if status.success() && said.trim() == "confined" => Ok(()),
        Ok(Ok(_)) if said.contains("open") => Err("it let a process read the agent's files".to_owned()),
        Ok(Ok(status)) => {
            let line = complaint.lines().next().unwrap_or("no message").trim().to_owned();
            Err(format!("{line} ({status})"))
        }
    }
}

/// The user of one machine's processes: the same for as long as the machine exists.
fn user_of(machine: &Path) -> u32 {
    use sha2::{Digest as _, Sha256};
    let name = machine.as_os_str().as_encoded_bytes();
    let digest = Sha256::digest(name);
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    FIRST_UID + number % UIDS
}

fn write_users(machine: &Path, uid: u32) -> io::Result<()> {
    fs::create_dir_all(machine.join("sandbox"))?;
    let passwd = format!(
        "root:x:0:0:root:/root:/usr/sbin/nologin\nkagero:x:{uid}:{uid}:Kagero:/home/kagero:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    fs::write(machine.join(PASSWD), passwd)?;
    fs::write(machine.join(GROUP), format!("root:x:0:\nkagero:x:{uid}:\nnogroup:x:65534:\n"))?;
    for file in [PASSWD, GROUP] {
        fs::set_permissions(machine.join(file), fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}
