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
use super::container::{self, ContainerPlan, Engines, Material, Prepared, has_containers};
use super::logs::{AttemptLogs, Log, LogStore, Masks, Source};
use super::options::AgentOptions;
use super::ports::PortBook;
use super::release::{Release, variables};
use super::sandbox::Sandbox;
use super::stage::{self, StageEnd};
use super::supervisor::{Service, ServicePlan, StartFailure, describe};
use super::unit::{ProcessPlan, Recipe};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::assignment::{Assignment, Stage, StageFailure};
use crate::domain::policy::{Command, Runs};

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
    /// Has containers, where there are any.
    pub engines: Engines,
    /// Keeps what is said.
    pub logs: LogStore,
    /// Shows what is done.
    pub board: Arc<Board>,
}

/// Where a command runs.
#[derive(Clone, Copy)]
struct Place<'a> {
    release: &'a Release,
    /// `None`: in the sandbox.
    workplace: Option<&'a ContainerPlan>,
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
        let made = Release::make(&self.options.dir, assignment, &self.sandbox, &self.engines);
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
        let build_log = logs.log(Source::Stage(Stage::Build));
        let prepared = self.prepare(assignment, release, &build_log, cancel).await?;
        let mut env = variables(assignment);
        let place = Place { release, workplace: prepared.workplace() };
        if let Some(build) = &task.build {
            self.run((Stage::Build, &build_log), build, place, &env, cancel).await?;
        }
        if let Some(migrate) = &task.migrate {
            env.extend(assignment.migrate_env.clone());
            let log = logs.log(Source::Stage(Stage::Migrate));
            self.run((Stage::Migrate, &log), migrate, place, &env, cancel).await?;
        }
        self.enter(Stage::Start);
        release.furnish(self.services(prepared.services, assignment, release, logs));
        self.start(release, before, cancel).await
    }

    /// Pulls and builds images, if the task has any.
    async fn prepare(
        &self,
        assignment: &Assignment,
        release: &Release,
        log: &Log,
        cancel: &CancellationToken,
    ) -> Result<Prepared, Ended> {
        if has_containers(assignment) {
            self.enter(Stage::Build);
        }
        let prepared = tokio::select! {
            prepared = container::prepare(&self.engines, assignment, &release.rooms.source, log) => prepared,
            () = cancel.cancelled() => return Err(Ended::Cancelled),
        };
        prepared.map_err(|refusal| {
            let (reason, log_tail) = (refusal.to_string(), log.tail());
            log.note(&format!("[kagero] {reason}"));
            Ended::Failed(StageFailure { stage: Stage::Build, reason, log_tail })
        })
    }

    /// The services of a release, none of them started.
    pub fn services(
        &self,
        materials: Vec<Material>,
        assignment: &Assignment,
        release: &Release,
        logs: &AttemptLogs,
    ) -> Vec<Service> {
        let env = variables(assignment);
        let service = |material: Material| {
            let recipe = match (material.container, &material.service.runs) {
                (Some(plan), _) => Recipe::Container(Box::new(plan)),
                (None, Runs::Process(run)) => self.process(run, release),
                // Whoever has prepared them has given every other one its container.
                (None, Runs::Container(_) | Runs::Compose(_)) => return None,
            };
            Some(Service::new(ServicePlan {
                log: logs.log(Source::Service(&material.service.name)),
                env: env.clone(),
                recipe,
                depends_on: material.depends_on,
                ports: self.ports.clone(),
                pace: self.options.pace,
                service: material.service,
            }))
        };
        materials.into_iter().filter_map(service).collect()
    }

    fn process(&self, run: &str, release: &Release) -> Recipe {
        let (run, rooms, sandbox) = (run.to_owned(), release.rooms.clone(), self.sandbox.clone());
        Recipe::Process(Box::new(ProcessPlan { run, rooms, sandbox }))
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
        (stage, log): (Stage, &Log),
        command: &Command,
        place: Place<'_>,
        env: &BTreeMap<String, String>,
        cancel: &CancellationToken,
    ) -> Result<(), Ended> {
        if self.board.state().rollouts.stage() != Some(stage) {
            self.enter(stage);
        }
        let began = SystemClock.now();
        let recipe = match place.workplace {
            Some(plan) => Recipe::Container(Box::new(plan.once(&command.run))),
            None => self.process(&command.run, place.release),
        };
        let end = stage::run(&recipe, command.timeout, env, log, cancel).await;
        let took = super::span(SystemClock.now().since(began));
        let (name, advice) = (stage.as_str(), advice(log, stage));
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
        let (beside, instead) = sides(release.services());
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
    before.services().iter().filter(|service| names.contains(&service.report().name)).collect()
}

/// Those that may run beside their old versions, and those that may not, or depend on one that may not.
fn sides(services: &[Service]) -> (Vec<&Service>, Vec<&Service>) {
    let (mut beside, mut instead): (Vec<&Service>, Vec<&Service>) =
        services.iter().partition(|service| service.overlaps());
    loop {
        let waits = |service: &&Service| {
            let depends_on = service.depends_on();
            instead.iter().any(|other| depends_on.contains(other.name()))
        };
        let Some(at) = beside.iter().position(waits) else { return (beside, instead) };
        instead.push(beside.remove(at));
    }
}

/// Starts them, each after those among them that it depends on, and waits until all are healthy.
async fn healthy(services: &[&Service], cancel: &CancellationToken) -> Result<(), Ended> {
    let mut left: Vec<&Service> = services.to_vec();
    while !left.is_empty() {
        let names: Vec<_> = left.iter().map(|service| service.name()).collect();
        let (next, rest): (Vec<&Service>, Vec<&Service>) =
            left.iter().partition(|service| !service.depends_on().iter().any(|name| names.contains(&name)));
        if next.is_empty() {
            // No reader lets a circle through.
            return healthy_at_once(&rest, cancel).await;
        }
        healthy_at_once(&next, cancel).await?;
        left = rest;
    }
    Ok(())
}

async fn healthy_at_once(services: &[&Service], cancel: &CancellationToken) -> Result<(), Ended> {
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
