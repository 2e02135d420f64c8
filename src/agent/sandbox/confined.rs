//! A running confined command with all that it has started.
//!
//! Guarantees: after [`Confined::stop`] or [`Confined::kill`] nothing of it runs any more; dropping it kills
//! it.
//! Must not know: why it runs.

use std::collections::HashSet;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::time::{Instant, sleep, timeout};

use crate::agent::process::{ProcessRef, carrying, descendants, listens};

/// Between two looks at a tree that is ending.
const LOOK: Duration = Duration::from_millis(25);
/// How long the kernel may take to end what was killed.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// A running confined command with all that it has started.
pub struct Confined {
    child: Child,
    pid: i32,
    whole: Whole,
}

/// What tells everything that a command has started.
pub(super) enum Whole {
    /// A process namespace: it ends with its first process.
    Namespace,
    /// A variable in their environment.
    Marked(String),
}

/// The two streams of a command.
pub struct Output {
    /// Standard output.
    pub stdout: Option<ChildStdout>,
    /// Standard error.
    pub stderr: Option<ChildStderr>,
}

impl Confined {
    pub(super) fn new(mut child: Child, whole: Whole, input: Option<Vec<u8>>) -> io::Result<Self> {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.ok_or_else(|| io::Error::other("the process ended before it could be watched"))?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A reader that has ended shows in its exit status.
            tokio::spawn(async move { stdin.write_all(&input).await });
        }
        Ok(Self { child, pid, whole })
    }

    /// Takes the streams, once.
    pub fn output(&mut self) -> Output {
        Output { stdout: self.child.stdout.take(), stderr: self.child.stderr.take() }
    }

    /// Waits until the command ends; what it left behind is killed.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.sweep();
        status
    }

    /// Whether one of its processes listens on the TCP port.
    pub fn listens(&self, port: u16) -> bool {
        listens(port, &self.tree())
    }

    /// Asks everything to end, then kills what has not.
    pub async fn stop(&mut self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let mut told = HashSet::new();
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            for process in self.tree() {
                // A shell that waits for a command would end at once and take the command with it.
                let waits = is_shell(process.pid) && !descendants(process.pid).is_empty();
                if !waits && told.insert(process.clone()) {
                    process.signal(Signal::SIGTERM);
                }
            }
            let _ = timeout(LOOK, self.child.wait()).await;
        }
        self.kill().await;
    }

    /// Kills everything and waits until it is gone.
    pub async fn kill(&mut self) {
        let tree = self.tree();
        let _ = killpg(Pid::from_raw(self.pid), Signal::SIGKILL);
        let _ = self.child.start_kill();
        if matches!(self.whole, Whole::Marked(_)) {
            for process in &tree {
                process.signal(Signal::SIGKILL);
            }
        }
        let _ = timeout(AFTER_KILL, self.child.wait()).await;
        let deadline = Instant::now() + AFTER_KILL;
        while Instant::now() < deadline && (self.sweep() || tree.iter().any(ProcessRef::is_alive)) {
            sleep(LOOK).await;
        }
    }

    /// Kills what has left the tree; whether there was anything.
    fn sweep(&self) -> bool {
        let Whole::Marked(variable) = &self.whole else { return false };
        let left = carrying(variable);
        for process in &left {
            process.signal(Signal::SIGKILL);
        }
        !left.is_empty()
    }

    fn tree(&self) -> Vec<ProcessRef> {
        let mut tree = descendants(self.pid);
        if let Whole::Marked(variable) = &self.whole {
            tree.extend(carrying(variable));
            tree.extend(ProcessRef::of(self.pid));
            let mut seen = HashSet::new();
            tree.retain(|process| seen.insert(process.pid));
        }
        tree
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            for process in self.tree() {
                process.signal(Signal::SIGKILL);
            }
            let _ = self.child.start_kill();
        }
        self.sweep();
    }
}

fn is_shell(pid: i32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    matches!(name, "sh" | "dash" | "bash" | "ash" | "busybox" | "zsh" | "ksh")
}
