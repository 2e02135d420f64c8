//! The work on one candidate: checkout, build, migration, start.
//!
//! Guarantees: it ends with a release whose services are all healthy, or with nothing of it left and a
//! sentence that names the thing, the cause and the next step; cancelled, it ends at once. What served
//! before serves on.
//! Must not know: what was assigned after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::checkout::{CheckoutError, Git, Wanted};
use super::logs::{AttemptLogs, Log, LogStore, Masks, Source};
use super::options::AgentOptions;
use super::ports::PortBook;
use super::release::{Release, variables};
use super::sandbox::Sandbox;
use super::stage::{self, StageEnd};
use super::supervisor::{Service, StartFailure, describe};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::assignment::{Assignment, Stage, StageFailure};
use crate::domain::policy::Command;

/// What every attempt on this agent needs.
pub struct Workshop {
    /// The agent's options.
    pub options: AgentOptions,
    /// Confines what runs.
    pub sandbox: Sandbox,
    /// Fetches commits.
    pub git: Git,
    /// Gives ports to services.
    pub ports: PortBook,
    /// Keeps what is said.
    pub logs: LogStore,
    /// Shows what is done.
    pub board: Arc<Board>,
}

/// How an attempt ended without a release.
pub enum Ended {
    /// It was told to.
    Cancelled,
    /// It failed.
    Failed(StageFailure),
}

impl Workshop {
    /// Works on a candidate until it serves or fails. `before` serves meanwhile.
    pub async fn attempt(
        &self,
        assignment: &Assignment,
        before: Option<&Release>,
        cancel: &CancellationToken,
    ) -> Result<Arc<Release>, Ended> {
        let task = &assignment.task;
        self.enter(Stage::Checkout);
        let masks = Masks::new(
            assignment
                .secret_env
                .values()
                .chain(assignment.migrate_env.values())
                .chain(&assignment.git_token)
                .map(String::as_str),
        );
        let logs = self.logs.begin(task.digest(), task.commit.clone(), masks).map_err(|error| no_room(&error))?;
        let made = Release::make(&self.options.dir, assignment, &self.sandbox, &self.ports, self.options.pace, &logs);
        let release = Arc::new(made.map_err(|error| no_room(&error))?);
        self.board.state().candidate = Some(Arc::clone(&release));
        let done = self.stages(assignment, &release, before, &logs, cancel).await;
        if let Err(ended) = done {
            release.end().await;
            return Err(ended);
        }
        Ok(release)
    }

    fn enter(&self, stage: Stage) {
        self.board.state().rollouts.enter(stage, SystemClock.now());
    }

    async fn stages(
        &self,
        assignment: &Assignment,
        release: &Release,
        before: Option<&Release>,
        logs: &AttemptLogs,
        cancel: &CancellationToken,
    ) -> Result<(), Ended> {
        let task = &assignment.task;
        self.checkout(assignment, release, logs, cancel).await?;
        let mut env = variables(assignment);
        if let Some(build) = &task.build {
            self.run(Stage::Build, build, release, &env, logs, cancel).await?;
        }
        if let Some(migrate) = &task.migrate {
            env.extend(assignment.migrate_env.clone());
            self.run(Stage::Migrate, migrate, release, &env, logs, cancel).await?;
        }
        self.enter(Stage::Start);
        self.start(release, before, cancel).await
    }

    async fn checkout(
        &self,
        assignment: &Assignment,
        release: &Release,
        logs: &AttemptLogs,
        cancel: &CancellationToken,
    ) -> Result<(), Ended> {
        let log = logs.log(Source::Stage(Stage::Checkout));
        let wanted = Wanted {
            source: &assignment.task.source,
            commit: &assignment.task.commit,
            token: assignment.git_token.as_deref(),
            into: &release.rooms.source,
        };
        let failed = |reason: String| {
            log.note(&format!("[kagero] {reason}"));
            Ended::Failed(StageFailure { stage: Stage::Checkout, reason, log_tail: log.tail() })
        };
        match self.git.checkout(&wanted, &log, cancel).await {
            Ok(()) => self.sandbox.give(&release.rooms.source).map_err(|error| no_room(&error)),
            Err(CheckoutError::Cancelled) => Err(Ended::Cancelled),
            Err(CheckoutError::Io { path, source }) => {
                Err(failed(format!("cannot write {} ({source}); check the agent's disk", path.display())))
            }
            Err(error) => Err(failed(error.to_string())),
        }
    }

    async fn run(
        &self,
        stage: Stage,
        command: &Command,
        release: &Release,
        env: &BTreeMap<String, String>,
        logs: &AttemptLogs,
        cancel: &CancellationToken,
    ) -> Result<(), Ended> {
        self.enter(stage);
        let log = logs.log(Source::Stage(stage));
        let began = SystemClock.now();
        let end = stage::run(&self.sandbox, &release.rooms, command, env, &log, cancel).await;
        let took = super::span(SystemClock.now().since(began));
        let (name, advice) = (stage.as_str(), advice(&log, stage));
        let reason = match end {
            StageEnd::Done => {
                log.note(&format!("[kagero] {name} ended well after {took}"));
                return Ok(());
            }
            StageEnd::Cancelled => {
                log.note(&format!("[kagero] {name} was ended after {took} by a newer assignment"));
                return Err(Ended::Cancelled);
            }
            StageEnd::Exited(status) => format!("{name} {} after {took}; {advice}", describe(Ok(status))),
            StageEnd::TimedOut => format!(
                "{name} did not end within {}; make the command faster or raise its time-out in .kagero.yml",
                super::span(command.timeout)
            ),
            StageEnd::NotStarted(error) => format!("{name} could not be started ({error}); {advice}"),
        };
        let log_tail = log.tail();
        log.note(&format!("[kagero] {reason}"));
        Err(Ended::Failed(StageFailure { stage, reason, log_tail }))
    }

    /// First the services that may run beside their old version, then, once those are healthy, the others in
    /// place of theirs. On failure the old ones return.
    async fn start(
        &self,
        release: &Release,
        before: Option<&Release>,
        cancel: &CancellationToken,
    ) -> Result<(), Ended> {
        let (beside, instead): (Vec<_>, Vec<_>) = release.services.iter().partition(|service| service.overlaps());
        healthy(&beside, cancel).await?;
        if instead.is_empty() {
            return Ok(());
        }
        let old: Vec<&Service> = before.map(|before| standing_aside(before, &instead)).unwrap_or_default();
        join_all(old.iter().map(|service| service.stop())).await;
        let done = healthy(&instead, cancel).await;
        if done.is_err() {
            join_all(instead.iter().map(|service| service.stop())).await;
            for service in old {
                service.start();
            }
        }
        done
    }
}

/// The old versions of these services.
fn standing_aside<'a>(before: &'a Release, instead: &[&Service]) -> Vec<&'a Service> {
    let names: Vec<_> = instead.iter().map(|service| service.report().name).collect();
    before.services.iter().filter(|service| names.contains(&service.report().name)).collect()
}

async fn healthy(services: &[&Service], cancel: &CancellationToken) -> Result<(), Ended> {
    for service in services {
        service.start();
    }
    let all = futures::future::try_join_all(services.iter().map(|service| service.started()));
    tokio::select! {
        done = all => done.map(|_| ()).map_err(|StartFailure { reason, log_tail }| {
            let reason = format!("{reason}; fix its command in .kagero.yml or see its log");
            Ended::Failed(StageFailure { stage: Stage::Start, reason, log_tail })
        }),
        () = cancel.cancelled() => Err(Ended::Cancelled),
    }
}

fn advice(log: &Log, stage: Stage) -> String {
    if log.tail().iter().any(|line| line.contains("No space left on device")) {
        "the disk of the machine is full: free space or make the build smaller".to_owned()
    } else {
        format!("fix the command `{}` of .kagero.yml or see its log", stage.as_str())
    }
}

fn no_room(error: &std::io::Error) -> Ended {
    Ended::Failed(StageFailure {
        stage: Stage::Checkout,
        reason: format!("the release's directory cannot be written ({error}); check the agent's disk"),
        log_tail: Vec::new(),
    })
}
