//! One service: started, watched for as long as it runs, restarted when it ends or is not healthy any more,
//! stopped with all that it started.
//!
//! Guarantees: at most one process tree or container per service; a service that was never healthy gives up after a few
//! tries, one that was is restarted for as long as it is wanted; after [`Service::stop`] nothing of it runs. Every
//! process gets a port that no other environment has; one that visitors were sent to is kept by [`former`] first.
//! Must not know: other services, rollouts, git.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::former;
use super::health::{Answer, Probe};
use super::logs::Log;
use super::options::SupervisionPace;
use super::ports::{PortBook, PortLease};
use super::unit::{Recipe, Unit};
use crate::domain::assignment::{ServiceReport, ServiceState};
use crate::domain::id::ServiceName;
use crate::domain::policy;

/// Ends a healthy service must be apart for the waiting time to begin anew.
const STEADY: Duration = Duration::from_mins(1);

/// What a service needs to run.
#[derive(Clone)]
pub struct ServicePlan {
    /// The service as the task has it.
    pub service: policy::Service,
    /// Variables, `PORT` not among them.
    pub env: BTreeMap<String, String>,
    /// What is started.
    pub recipe: Recipe,
    /// Services of the same release that have to be healthy before it is started.
    pub depends_on: Vec<ServiceName>,
    /// Where its ports come from.
    pub ports: PortBook,
    /// How it is watched.
    pub pace: SupervisionPace,
    /// Where its output goes.
    pub log: Log,
}

/// Why a service did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    /// The thing and the cause.
    pub reason: String,
    /// The last lines of its log.
    pub log_tail: Vec<String>,
}

/// One service of one release.
pub struct Service {
    plan: ServicePlan,
    report: watch::Sender<ServiceReport>,
    told: watch::Sender<Option<SocketAddr>>,
    was_healthy: Arc<AtomicBool>,
    failure: watch::Sender<Option<StartFailure>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Service {
    /// A service that is not started yet.
    pub fn new(plan: ServicePlan) -> Self {
        let name = plan.service.name.clone();
        let report = ServiceReport { name, state: ServiceState::Waiting, address: None, restarts: 0 };
        Self {
            plan,
            report: watch::Sender::new(report),
            told: watch::Sender::default(),
            was_healthy: Arc::default(),
            failure: watch::Sender::default(),
            running: Mutex::default(),
        }
    }

    /// Where it stands.
    pub fn report(&self) -> ServiceReport {
        self.report.borrow().clone()
    }

    /// Where it stands, for somebody who sends visitors by that.
    pub fn tell(&self) -> ServiceReport {
        let report = self.report.borrow();
        self.told.send_replace(report.open_at());
        report.clone()
    }

    /// Whether an old and a new version may run side by side.
    pub fn overlaps(&self) -> bool {
        self.plan.service.overlap
    }

    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.plan.service.name
    }

    /// Services of the same release that have to be healthy before it is started.
    pub fn depends_on(&self) -> &[ServiceName] {
        &self.plan.depends_on
    }

    /// Begins to run it, unless it runs.
    pub fn start(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.is_none() {
            let cancel = CancellationToken::new();
            let keeper = Keeper {
                plan: self.plan.clone(),
                report: self.report.clone(),
                failure: self.failure.clone(),
                told: self.told.clone(),
                was_healthy: Arc::clone(&self.was_healthy),
                cancel: cancel.clone(),
            };
            *running = Some(Running { cancel, task: tokio::spawn(keeper.keep()) });
        }
    }

    /// Waits until it is healthy for the first time, or has given up.
    pub async fn started(&self) -> Result<(), StartFailure> {
        let (mut report, mut failure) = (self.report.subscribe(), self.failure.subscribe());
        tokio::select! {
            _ = report.wait_for(|report| report.state == ServiceState::Healthy) => Ok(()),
            failed = failure.wait_for(Option::is_some) => {
                let failed = failed.ok().and_then(|failed| failed.clone());
                failed.map_or(Ok(()), Err)
            }
        }
    }

    /// Ends it, politely at first.
    pub async fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.cancel.cancel();
            // The task ends on its own; if it has panicked its process was killed when it was dropped.
            let _ = running.task.await;
        }
        self.report.send_modify(|report| report.state = ServiceState::Stopped);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(running) = self.running.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            running.cancel.cancel();
        }
    }
}

/// The task behind a running service.
struct Keeper {
    plan: ServicePlan,
    report: watch::Sender<ServiceReport>,
    told: watch::Sender<Option<SocketAddr>>,
    was_healthy: Arc<AtomicBool>,
    failure: watch::Sender<Option<StartFailure>>,
    cancel: CancellationToken,
}

/// How one run of the process ended.
enum Ended {
    /// It was told to.
    Told,
    /// It was never healthy.
    Early(String),
    /// It was healthy for so long.
    Late(Duration, String),
    /// It was healthy for so long, and then not any more.
    Sick(Duration, String),
    /// It was given up as it was not healthy in time.
    TooLate(String),
}

impl Keeper {
    async fn keep(self) {
        let deadline = Instant::now() + self.plan.service.start_timeout;
        let (mut crashes, mut pause) = (0, self.plan.pace.backoff);
        loop {
            let limit = (!self.was_healthy()).then_some(deadline);
            let why = match self.once(limit).await {
                Ended::Told => return,
                Ended::TooLate(why) if !self.was_healthy() => return self.give_up(&why),
                Ended::TooLate(why) => why,
                Ended::Early(why) => {
                    crashes += 1;
                    if !self.was_healthy() && crashes >= self.plan.pace.crashes {
                        return self.give_up(&format!("{why} {crashes} times before it was healthy"));
                    }
                    why
                }
                Ended::Late(after, why) | Ended::Sick(after, why) => {
                    if after >= STEADY {
                        pause = self.plan.pace.backoff;
                    }
                    why
                }
            };
            self.plan.log.note(&format!("[kagero] {} {why}; it is started again in {pause:?}", self.name()));
            self.report.send_modify(|report| {
                report.restarts = report.restarts.saturating_add(1);
            });
            tokio::select! {
                () = sleep(pause) => {}
                () = self.cancel.cancelled() => return,
            }
            pause = (pause * 2).min(self.plan.pace.backoff_most);
        }
    }

    /// In this run or in one before it was stopped.
    fn was_healthy(&self) -> bool {
        self.was_healthy.load(Ordering::Relaxed)
    }

    fn name(&self) -> String {
        format!("service `{}`", self.plan.service.name)
    }

    fn give_up(&self, why: &str) {
        self.report.send_modify(|report| report.state = ServiceState::Stopped);
        let reason = format!("{} {why}", self.name());
        self.plan.log.note(&format!("[kagero] {reason}"));
        self.failure.send_replace(Some(StartFailure { reason, log_tail: self.plan.log.tail() }));
    }

    /// Runs it once.
    async fn once(&self, limit: Option<Instant>) -> Ended {
        let lease = match self.lease() {
            Ok(lease) => lease,
            Err(error) => return Ended::Early(format!("got no free port ({error})")),
        };
        let address = lease.as_ref().map(PortLease::address);
        let mut unit = match self.plan.recipe.start(&self.plan.env, address).await {
            Ok(unit) => unit,
            Err(error) => return Ended::Early(format!("could not be started ({error})")),
        };
        self.report.send_modify(|report| {
            report.state = ServiceState::Starting;
            report.address = address;
        });
        unit.listen(&self.plan.log);
        let ended = self.watch(&mut unit, address, limit).await;
        let state = if matches!(ended, Ended::Told) { ServiceState::Stopped } else { ServiceState::Restarting };
        // Before its port is let go: whoever asks from now on is not sent there.
        self.report.send_modify(|report| report.state = state);
        match ended {
            Ended::Told | Ended::TooLate(_) | Ended::Sick(..) => unit.stop(self.plan.pace.grace).await,
            Ended::Early(_) | Ended::Late(..) => unit.kill().await,
        }
        if let Some(lease) = lease {
            former::keep(lease, self.report.subscribe(), self.told.subscribe(), self.plan.pace.drain);
        }
        ended
    }

    async fn watch(&self, unit: &mut Unit, address: Option<SocketAddr>, limit: Option<Instant>) -> Ended {
        let mut probe = Probe::new(self.plan.service.health.as_deref(), address, self.plan.pace.settle);
        let began = Instant::now();
        let late = limit.unwrap_or_else(|| began + self.plan.service.start_timeout);
        let mut last = Answer::NotYet("it has not been asked yet".to_owned());
        loop {
            tokio::select! {
                ended = unit.wait() => return Ended::Early(describe(ended) + unit.cause().await),
                () = self.cancel.cancelled() => return Ended::Told,
                () = sleep_until(late) => {
                    let limit = self.plan.service.start_timeout;
                    let Answer::NotYet(why) = last else { return Ended::Told };
                    return Ended::TooLate(format!("was not healthy within {limit:?}: {why}"));
                }
                () = sleep(self.plan.pace.probe) => {}
            }
            // The probe has a limit of its own, so that the process's end is not missed for long.
            last = tokio::select! {
                answer = probe.ask(unit, began.elapsed()) => answer,
                () = self.cancel.cancelled() => return Ended::Told,
            };
            if matches!(last, Answer::Healthy) {
                break;
            }
        }
        self.was_healthy.store(true, Ordering::Relaxed);
        self.report.send_modify(|report| report.state = ServiceState::Healthy);
        self.attend(unit, &mut probe, began).await
    }

    /// Asks a healthy service for as long as it stays so.
    async fn attend(&self, unit: &mut Unit, probe: &mut Probe, began: Instant) -> Ended {
        let healthy_since = Instant::now();
        let most = self.plan.pace.misses;
        let mut misses = 0;
        loop {
            tokio::select! {
                ended = unit.wait() => {
                    return Ended::Late(healthy_since.elapsed(), describe(ended) + unit.cause().await);
                }
                () = self.cancel.cancelled() => return Ended::Told,
                () = sleep(self.plan.pace.attend) => {}
            }
            let answer = tokio::select! {
                answer = probe.ask(unit, began.elapsed()) => answer,
                () = self.cancel.cancelled() => return Ended::Told,
            };
            let Answer::NotYet(why) = answer else {
                misses = 0;
                continue;
            };
            misses += 1;
            probe.doubt();
            self.plan.log.note(&format!("[kagero] {} is not healthy ({misses} of {most}): {why}", self.name()));
            if misses >= most {
                return Ended::Sick(healthy_since.elapsed(), format!("was not healthy {misses} times in a row: {why}"));
            }
        }
    }

    /// A port, if it is to listen on one.
    fn lease(&self) -> std::io::Result<Option<PortLease>> {
        let service = &self.plan.service;
        let listens = service.public || service.health.is_some();
        listens.then(|| self.plan.ports.lease()).transpose()
    }
}

/// How a process ended, to follow the name of the service.
pub fn describe(ended: std::io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match ended {
        Ok(status) => match (status.code(), status.signal()) {
            // A shell and bubblewrap report a signal in this way.
            (Some(code @ 129..=159), _) => format!("was ended by signal {}", code - 128),
            (Some(code), _) => format!("ended with exit status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        },
        Err(error) => format!("was lost ({error})"),
    }
}
