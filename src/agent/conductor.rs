//! Takes orders one after the other and sees to it that the newest task serves.
//!
//! Guarantees: one candidate at a time; a newer order ends the work on an older one; the old version goes
//! only after the controller was told of the new one and visitors had time to move; when it ends, nothing
//! runs.
//! Must not know: HTTP, how stages work.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::attempt::{Ended, Workshop};
use super::release::Release;
use super::rollout::{Rollouts, Verdict};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::assignment::Assignment;

/// What the agent is told to do.
pub enum Order {
    /// Run this.
    Assign(Box<Assignment>),
    /// Run nothing.
    Stop,
    /// Run nothing and end.
    End,
}

/// Takes orders.
pub struct Conductor {
    workshop: Arc<Workshop>,
    work: Option<Work>,
    leaving: JoinSet<()>,
    hurry: CancellationToken,
}

struct Work {
    cancel: CancellationToken,
    task: JoinHandle<Result<Arc<Release>, Ended>>,
}

impl Conductor {
    /// A conductor that runs nothing yet.
    pub fn new(workshop: Arc<Workshop>) -> Self {
        Self { workshop, work: None, leaving: JoinSet::new(), hurry: CancellationToken::new() }
    }

    /// Takes orders until it is told to end.
    pub async fn conduct(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let finished = async {
                match &mut self.work {
                    Some(work) => (&mut work.task).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Assign(assignment)) => self.assign(*assignment).await,
                    Some(Order::Stop) => self.stop().await,
                    Some(Order::End) | None => return self.stop().await,
                },
                done = finished => {
                    self.work = None;
                    self.settle(done.unwrap_or(Err(Ended::Cancelled)));
                }
                Some(_) = self.leaving.join_next() => {}
            }
        }
    }

    async fn assign(&mut self, assignment: Assignment) {
        let board = Arc::clone(&self.workshop.board);
        let verdict = board.state().rollouts.judge(&assignment.task.digest());
        match verdict {
            Verdict::Nothing => {}
            Verdict::DropCandidate => self.drop_candidate().await,
            Verdict::Begin => {
                self.drop_candidate().await;
                tracing::info!(env.uid = %assignment.task.uid, task.commit = %assignment.task.commit, "a new task begins");
                board.state().rollouts.begin(&assignment.task);
                let cancel = CancellationToken::new();
                let (workshop, token) = (Arc::clone(&self.workshop), cancel.clone());
                let before = board.state().serving.clone();
                let task = tokio::spawn(async move { workshop.attempt(&assignment, before.as_deref(), &token).await });
                self.work = Some(Work { cancel, task });
            }
        }
    }

    /// Ends the work on the candidate; what it has failed at is forgotten too.
    async fn drop_candidate(&mut self) {
        if let Some(work) = self.work.take() {
            work.cancel.cancel();
            if let Ok(Ok(release)) = work.task.await {
                release.end().await;
            }
            // It may have come so far that services which cannot run beside its own were stopped for it.
            let serving = self.workshop.board.state().serving.clone();
            for service in serving.iter().flat_map(|serving| serving.services()) {
                service.start();
            }
        }
        let mut state = self.workshop.board.state();
        state.rollouts.candidate = None;
        state.candidate = None;
    }

    /// Puts the outcome of the work on the board.
    fn settle(&mut self, done: Result<Arc<Release>, Ended>) {
        let board = &self.workshop.board;
        let mut state = board.state();
        match done {
            Ok(release) => {
                state.rollouts.promote(SystemClock.now());
                state.candidate = None;
                let old = state.serving.replace(Arc::clone(&release));
                drop(state);
                if let Some(old) = old {
                    self.leave(old, &release);
                }
            }
            Err(Ended::Failed(failure)) => {
                tracing::info!(
                    env.uid = %self.workshop.options.uid,
                    task.stage = failure.stage.as_str(),
                    task.reason = failure.reason,
                    "the task has failed"
                );
                state.rollouts.fail(failure, SystemClock.now());
            }
            Err(Ended::Cancelled) => {
                state.rollouts.candidate = None;
                state.candidate = None;
            }
        }
    }

    /// Lets the old version go once visitors have moved.
    fn leave(&mut self, old: Arc<Release>, new: &Arc<Release>) {
        let (workshop, hurry, task) = (Arc::clone(&self.workshop), self.hurry.clone(), new.task.clone());
        self.leaving.spawn(async move {
            let pace = workshop.options.pace;
            let moved = async {
                workshop.board.has_told(&task).await;
                sleep(pace.drain).await;
            };
            tokio::select! {
                _ = timeout(pace.drain_most, moved) => {}
                () = hurry.cancelled() => {}
            }
            old.end().await;
        });
    }

    async fn stop(&mut self) {
        self.drop_candidate().await;
        self.hurry.cancel();
        let serving = self.workshop.board.state().serving.clone();
        if let Some(serving) = serving {
            serving.end().await;
        }
        while self.leaving.join_next().await.is_some() {}
        self.hurry = CancellationToken::new();
        let mut state = self.workshop.board.state();
        state.rollouts = Rollouts::default();
        state.serving = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::agent::board::Board;
    use crate::agent::checkout::Git;
    use crate::agent::container::{Engines, Material};
    use crate::agent::logs::{LogStore, Masks};
    use crate::agent::options::AgentOptions;
    use crate::agent::ports::PortBook;
    use crate::agent::release::RELEASES_DIR;
    use crate::agent::sandbox::Sandbox;
    use crate::agent::signature::ControllerKey;
    use crate::domain::assignment::{ServiceState, Source, Task};
    use crate::domain::id::{CommitSha, EnvUid, Generation, ServiceName};
    use crate::domain::policy::{Runs, Service};

    async fn workshop(dir: &Path) -> Arc<Workshop> {
        let key = ControllerKey::from(&ed25519_dalek::SigningKey::from_bytes(&[7; 32]));
        let uid = EnvUid::parse("a".repeat(20)).unwrap();
        let mut options = AgentOptions::new(uid, Generation::FIRST, key, &dir.join("machine"), &dir.join("mirrors"));
        options.pace.settle = Duration::from_millis(20);
        fs::create_dir_all(options.dir.join(RELEASES_DIR)).unwrap();
        for place in [dir, &options.dir, &options.dir.join(RELEASES_DIR)] {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(place, fs::Permissions::from_mode(0o711)).unwrap();
        }
        let (sandbox, _) = Sandbox::prepare(&options.sandbox, &options.dir).await.unwrap();
        Arc::new(Workshop {
            git: Git::new(&options.mirrors_dir, &options.dir, options.git.clone()).unwrap(),
            ports: PortBook::open(options.ports_dir.clone(), None).unwrap(),
            engines: Engines::new(&options),
            logs: LogStore::open(options.dir.join("logs"), options.logs).unwrap(),
            board: Arc::new(Board::new(options.clone(), sandbox.level(), None)),
            options,
            sandbox,
        })
    }

    /// A release with one service that cannot run beside its old version.
    fn release(workshop: &Workshop, attempt: u32) -> Arc<Release> {
        let assignment = Assignment {
            task: Task {
                uid: workshop.options.uid.clone(),
                generation: Generation::FIRST,
                commit: CommitSha::parse("a".repeat(40)).unwrap(),
                source: Source { url: String::new(), reference: String::new(), mirror: String::new() },
                build: None,
                migrate: None,
                services: vec![Service {
                    name: ServiceName::parse("worker").unwrap(),
                    runs: Runs::Process("exec sleep 1000".to_owned()),
                    health: None,
                    start_timeout: Duration::from_secs(30),
                    public: false,
                    overlap: false,
                }],
                env: BTreeMap::new(),
                secret_names: Vec::new(),
                database: None,
                attempt,
            },
            git_token: None,
            secret_env: BTreeMap::new(),
            migrate_env: BTreeMap::new(),
            reachable: Vec::new(),
        };
        let Workshop { options, sandbox, engines, logs, .. } = workshop;
        let task = &assignment.task;
        let logs = logs.begin(task.digest(), task.commit.clone(), Masks::default()).unwrap();
        let release = Release::make(&options.dir, &assignment, sandbox, engines).unwrap();
        fs::create_dir_all(&release.rooms.source).unwrap();
        sandbox.give(&release.rooms.source).unwrap();
        let service = task.services[0].clone();
        let material = Material { service, depends_on: Vec::new(), container: None };
        release.furnish(workshop.services(vec![material], &assignment, &release, &logs));
        Arc::new(release)
    }

    #[tokio::test]
    async fn a_candidate_that_is_dropped_at_the_last_moment_leaves_the_old_services_running() {
        let dir = tempfile::tempdir().unwrap();
        let workshop = workshop(dir.path()).await;
        let (old, new) = (release(&workshop, 1), release(&workshop, 2));
        let (before, instead) = (&old.services()[0], &new.services()[0]);
        before.start();
        before.started().await.unwrap();
        workshop.board.state().serving = Some(Arc::clone(&old));

        // As far as an attempt comes before its outcome is settled.
        before.stop().await;
        instead.start();
        instead.started().await.unwrap();
        let mut conductor = Conductor::new(workshop);
        let done = Arc::clone(&new);
        conductor.work = Some(Work { cancel: CancellationToken::new(), task: tokio::spawn(async { Ok(done) }) });
        conductor.drop_candidate().await;

        assert_eq!(instead.report().state, ServiceState::Stopped);
        timeout(Duration::from_secs(30), before.started()).await.expect("it returns").unwrap();
        conductor.stop().await;
        assert_eq!(before.report().state, ServiceState::Stopped);
    }
}
