//! From a commit's number to its files: the git binary, a bare mirror shared by all agents of the computer,
//! and a repository of its own for every release.
//!
//! Guarantees: the files are exactly those of the commit asked for; no hook, no filter and no configuration
//! of the computer or of the repository takes effect; the token is never in an argument or a file; the
//! release holds no link back into the mirror, and the mirror no trace of the release.
//! Must not know: what is done with the files.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::logs::Log;
use super::options::GitOptions;
use super::protocol::MACHINE_VARIABLE;
use crate::domain::assignment::Source;
use crate::domain::id::CommitSha;

/// The one reference of a mirror: the newest commit fetched, so that the next fetch knows what is there.
const NEWEST: &str = "refs/kagero/newest";
/// How far back a reference is searched for a commit, step by step.
const DEPTHS: [&str; 2] = ["50", "2147483647"];

/// Fetches commits.
#[derive(Debug, Clone)]
pub struct Git {
    mirrors: PathBuf,
    machine: PathBuf,
    askpass: PathBuf,
    options: GitOptions,
}

/// Why there is no checkout.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The server does not know the commit.
    #[error("commit {commit} is not known to {url}, neither alone nor behind {reference}; push it again")]
    UnknownCommit {
        /// The commit.
        commit: CommitSha,
        /// Where it was looked for.
        url: String,
        /// Where else.
        reference: String,
    },
    /// The address may not be used.
    #[error("{url} may not be fetched: only {allowed} is allowed; change `git.protocols` or the clone URL")]
    Protocol {
        /// The address.
        url: String,
        /// The allowed protocols.
        allowed: String,
    },
    /// A mirror's name that is none.
    #[error("mirror name {0:?} is not valid: expected letters, digits, hyphens and underscores")]
    MirrorName(String),
    /// Git failed.
    #[error("git {what} failed: {why}; {}", remedy(why))]
    Git {
        /// What it was to do.
        what: &'static str,
        /// Its last words.
        why: String,
    },
    /// It took too long.
    #[error("git {what} did not end within {}; try again or raise the limit", super::span(*limit))]
    TimedOut {
        /// What it was to do.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// It was told to end.
    #[error("the checkout was cancelled")]
    Cancelled,
    /// A file could not be written.
    #[error("cannot write {}; check the agent's disk and permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

fn remedy(why: &str) -> &'static str {
    let why = why.to_ascii_lowercase();
    if why.contains("no space left") {
        "free space on the agent's disk"
    } else if why.contains("authentication") || why.contains("could not read username") || why.contains("403") {
        "check that the GitHub App may read the repository's contents"
    } else if why.contains("could not resolve") || why.contains("connect") || why.contains("timed out") {
        "check the agent's network"
    } else {
        "see the log of the checkout"
    }
}

/// A commit wanted in a directory.
pub struct Wanted<'a> {
    /// Where it comes from.
    pub source: &'a Source,
    /// Which one.
    pub commit: &'a CommitSha,
    /// Password for the source.
    pub token: Option<&'a str>,
    /// An empty directory.
    pub into: &'a Path,
}

impl Git {
    /// Git with its mirrors; `dir`, the machine's directory, gets the script by which git asks for the token.
    pub fn new(mirrors: &Path, dir: &Path, options: GitOptions) -> io::Result<Self> {
        // For agents alone: in a weak sandbox nothing else keeps others out.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(mirrors)?;
        let askpass = dir.join("askpass");
        let script = "#!/bin/sh\ncase \"$1\" in\nUsername*) echo x-access-token ;;\n\
                      *) printf '%s\\n' \"$KAGERO_GIT_TOKEN\" ;;\nesac\n";
        fs::write(&askpass, script)?;
        fs::set_permissions(&askpass, fs::Permissions::from_mode(0o700))?;
        Ok(Self { mirrors: mirrors.to_owned(), machine: dir.to_owned(), askpass, options })
    }

    /// Puts the files of the commit into the directory, with a `.git` that holds this commit alone.
    pub async fn checkout(
        &self,
        wanted: &Wanted<'_>,
        log: &Log,
        cancel: &CancellationToken,
    ) -> Result<(), CheckoutError> {
        let work = async {
            let mirror = self.mirror(wanted.source)?;
            self.check_protocol(&wanted.source.url)?;
            let lock = lock(&mirror, Hold::Alone).await?;
            self.fetch(&mirror, wanted, log).await?;
            self.tidy(&mirror, log).await?;
            drop(lock);
            self.export(&mirror, wanted, log).await
        };
        tokio::select! {
            done = tokio::time::timeout(self.options.timeout, work) => done.unwrap_or(Err(CheckoutError::TimedOut {
                what: "checkout",
                limit: self.options.timeout,
            })),
            () = cancel.cancelled() => Err(CheckoutError::Cancelled),
        }
    }

    fn mirror(&self, source: &Source) -> Result<PathBuf, CheckoutError> {
        let name = &source.mirror;
        let valid = (1..=100).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if valid { Ok(self.mirrors.join(format!("{name}.git"))) } else { Err(CheckoutError::MirrorName(name.clone())) }
    }

    fn check_protocol(&self, url: &str) -> Result<(), CheckoutError> {
        let protocol = url.split_once("://").map_or("", |(protocol, _)| protocol);
        if self.options.protocols.iter().any(|allowed| allowed == protocol) {
            return Ok(());
        }
        Err(CheckoutError::Protocol { url: url.to_owned(), allowed: self.options.protocols.join(", ") })
    }

    /// Makes sure that the mirror has the commit.
    async fn fetch(&self, mirror: &Path, wanted: &Wanted<'_>, log: &Log) -> Result<(), CheckoutError> {
        let git_dir = mirror.as_os_str();
        clear_locks(mirror);
        self.run("init", [os("init"), os("--quiet"), os("--bare"), git_dir], None, log).await?;
        if self.has(mirror, wanted.commit).await {
            log.note(&format!("[kagero] commit {} is in the mirror already", wanted.commit));
            return Ok(());
        }
        let Source { url, reference, .. } = wanted.source;
        let alone = format!("+{}:{NEWEST}", wanted.commit);
        let behind = format!("+{reference}:{NEWEST}");
        let mut last = self.fetch_one(mirror, wanted, &alone, "1", log).await;
        for depth in DEPTHS {
            if self.has(mirror, wanted.commit).await {
                return Ok(());
            }
            last = self.fetch_one(mirror, wanted, &behind, depth, log).await;
        }
        if self.has(mirror, wanted.commit).await {
            return Ok(());
        }
        match last {
            Err(error) if !says_unknown(&error) => Err(error),
            _ => Err(CheckoutError::UnknownCommit {
                commit: wanted.commit.clone(),
                url: url.clone(),
                reference: reference.clone(),
            }),
        }
    }

    async fn fetch_one(
        &self,
        mirror: &Path,
        wanted: &Wanted<'_>,
        refspec: &str,
        depth: &str,
        log: &Log,
    ) -> Result<(), CheckoutError> {
        let arguments = [
            os("--git-dir"),
            mirror.as_os_str(),
            os("fetch"),
            os("--quiet"),
            os("--no-tags"),
            os("--no-recurse-submodules"),
            os("--no-write-fetch-head"),
            os("--depth"),
            os(depth),
            os("--"),
            os(&wanted.source.url),
            os(refspec),
        ];
        self.run("fetch", arguments, wanted.token, log).await
    }

    /// Packs what many fetches have left, and forgets after two weeks what no reference leads to.
    async fn tidy(&self, mirror: &Path, log: &Log) -> Result<(), CheckoutError> {
        let settings = ["gc.auto=6700", "gc.autoPackLimit=50", "gc.autoDetach=false"];
        let settings = settings.into_iter().flat_map(|setting| [os("-c"), os(setting)]);
        let arguments = settings.chain([os("--git-dir"), mirror.as_os_str(), os("gc"), os("--auto"), os("--quiet")]);
        self.run("gc", arguments.collect::<Vec<_>>(), None, log).await
    }

    async fn has(&self, mirror: &Path, commit: &CommitSha) -> bool {
        let object = format!("{commit}^{{tree}}");
        let arguments = [os("--git-dir"), mirror.as_os_str(), os("rev-list"), os("--objects"), os("-1"), os(&object)];
        let mut command = self.command(None);
        let status = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
        status.is_ok_and(|status| status.success())
    }

    /// Copies the commit out of the mirror into a repository of its own, and checks it out there.
    async fn export(&self, mirror: &Path, wanted: &Wanted<'_>, log: &Log) -> Result<(), CheckoutError> {
        let into = wanted.into.as_os_str();
        let commit = wanted.commit.as_str();
        let _lock = lock(mirror, Hold::Shared).await?;
        self.run("init", [os("init"), os("--quiet"), into], None, log).await?;
        let mut source = std::ffi::OsString::from("file://");
        source.push(mirror);
        let fetch =
            [os("-C"), into, os("fetch"), os("--quiet"), os("--no-tags"), os("--depth"), os("1"), &source, os(commit)];
        self.run("copy from the mirror", fetch, None, log).await?;
        let checkout = [os("-C"), into, os("checkout"), os("--quiet"), os("--detach"), os(commit)];
        self.run("checkout", checkout, None, log).await?;
        let mut command = self.command(None);
        let head = command.args([os("-C"), into, os("rev-parse"), os("HEAD")]).output().await;
        let head = head.map_err(|source| CheckoutError::Io { path: wanted.into.to_owned(), source })?;
        if head.stdout.trim_ascii() != commit.as_bytes() {
            let why = format!("HEAD is {} instead of {commit}", String::from_utf8_lossy(head.stdout.trim_ascii()));
            return Err(CheckoutError::Git { what: "checkout", why });
        }
        log.note(&format!("[kagero] commit {commit} is checked out"));
        Ok(())
    }

    fn command(&self, token: Option<&str>) -> Command {
        let mut command = Command::new("git");
        command.env_clear().kill_on_drop(true).process_group(0).stdin(Stdio::null());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // A mirror is copied from by file, whatever may be fetched.
        let protocols = format!("{}:file", self.options.protocols.join(":"));
        for (name, value) in [
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ALLOW_PROTOCOL", protocols.as_str()),
            ("HOME", "/nonexistent"),
            ("LC_ALL", "C"),
        ] {
            command.env(name, value);
        }
        command.env("GIT_ASKPASS", &self.askpass).env(MACHINE_VARIABLE, &self.machine);
        if let Some(token) = token {
            command.env("KAGERO_GIT_TOKEN", token);
        }
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.symlinks=true",
            "credential.helper=",
            "gc.auto=0",
            "maintenance.auto=false",
            "fetch.fsckObjects=false",
            "uploadpack.allowAnySHA1InWant=true",
            "init.defaultBranch=kagero",
            "advice.detachedHead=false",
            "submodule.recurse=false",
        ] {
            command.arg("-c").arg(setting);
        }
        command
    }

    async fn run<'a>(
        &self,
        what: &'static str,
        arguments: impl IntoIterator<Item = &'a OsStr>,
        token: Option<&str>,
        log: &Log,
    ) -> Result<(), CheckoutError> {
        let mut command = self.command(token);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error: io::Error| CheckoutError::Git {
            what,
            why: match error.kind() {
                io::ErrorKind::NotFound => "the program git is not installed (apt-get install git)".to_owned(),
                _ => error.to_string(),
            },
        };
        let mut child = command.spawn().map_err(failed)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let mut words = Vec::new();
        let listen = async {
            use tokio::io::AsyncReadExt as _;
            if let Some(err) = err {
                // Git says what matters last, and little before.
                let _ = err.take(64 << 10).read_to_end(&mut words).await;
            }
        };
        let (status, (), ()) = tokio::join!(child.wait(), log.drain(out), listen);
        let words = String::from_utf8_lossy(&words).into_owned();
        for line in words.lines() {
            log.note(line);
        }
        if status.map_err(failed)?.success() {
            return Ok(());
        }
        let why = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").to_owned();
        Err(CheckoutError::Git { what, why })
    }
}

fn os(text: &str) -> &OsStr {
    OsStr::new(text)
}

fn says_unknown(error: &CheckoutError) -> bool {
    let CheckoutError::Git { why, .. } = error else { return false };
    [
        "not our ref",
        "couldn't find remote ref",
        "not a valid object",
        "did not send all necessary objects",
        "bad object",
    ]
    .iter()
    .any(|words| why.contains(words))
}

/// Holds a mirror against other agents. Waits in a thread of its own, since another agent may fetch for long.
async fn lock(mirror: &Path, how: Hold) -> Result<File, CheckoutError> {
    let path = mirror.with_extension("lock");
    let failed = |source| CheckoutError::Io { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    let locked = tokio::task::spawn_blocking(move || {
        match how {
            Hold::Alone => file.lock(),
            Hold::Shared => file.lock_shared(),
        }
        .map(|()| file)
    })
    .await;
    locked.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(failed)
}

/// How a mirror is held.
#[derive(Debug, Clone, Copy)]
enum Hold {
    /// To change it.
    Alone,
    /// To read it.
    Shared,
}

/// Removes the locks of a git that was killed: whoever holds the mirror alone knows that no other git writes.
fn clear_locks(mirror: &Path) {
    for lock in ["HEAD.lock", "config.lock", "shallow.lock", "packed-refs.lock", "refs/kagero/newest.lock", "gc.pid"] {
        // Most of the time there is none.
        let _ = fs::remove_file(mirror.join(lock));
    }
}
