//! The controller: observes, decides by the pure functions of `plan`, and does the steps.
//!
//! Guarantees: one pass per environment at a time, in this process by the queue and between processes by a
//! lease whose fence is checked in every write; a pass never waits for anything slow; whatever is kept in
//! memory can be lost at any moment.
//! Must not know: HTTP, the command line, which provider or forge it works with.

mod backlog;
mod builds;
pub mod decide;
mod execute;
mod fleet;
mod hearing;
mod intake;
mod observe;
mod pass;
mod ports;
mod queue;
mod refresh;
mod resync;
mod routes;
mod seats;
mod speak;
mod state;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use decide::{Decision, Known};
pub use execute::StepError;
pub use fleet::Fleet;
pub use pass::PassError;
pub use ports::{Agents, LogLines, LogWanted, Prober, World};
pub use state::Memory;

use crate::domain::id::EnvKey;
use crate::domain::observed::Observed;
use crate::store::StoreError;
use pass::Outcome;

/// How the controller divides its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Passes at once.
    pub workers: usize,
    /// Between two full listings.
    pub resync: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { workers: 16, resync: Duration::from_mins(5) }
    }
}

/// A running controller.
pub struct Controller {
    world: Arc<World>,
    memory: Arc<Memory>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Controller {
    /// Starts working: publishes what is known at once, then passes, intake and resync.
    pub async fn start(world: World, tuning: Tuning) -> Result<Self, StoreError> {
        let world = Arc::new(world);
        let fleet = Fleet::new(Arc::clone(&world.machines), Arc::clone(&world.databases), Arc::clone(&world.clock));
        let memory = Arc::new(Memory::new(fleet));
        // Every environment gets a pass: routes and pages come back without a webhook.
        let ledgers = world.store.ledgers().await?;
        let hosted: BTreeSet<EnvKey> = ledgers.iter().map(|ledger| ledger.key).collect();
        if hosted.is_empty() {
            world.routes.complete();
        }
        memory.expect_published(hosted);
        for ledger in ledgers {
            if !ledger.is_released() {
                memory.seats.hold(ledger.key);
            }
            memory.queue.wake(ledger.key);
        }
        for pull in world.store.all_pulls().await? {
            memory.queue.wake(pull.key);
        }
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for _ in 0..tuning.workers {
            tasks.spawn(until(stop.clone(), work(Arc::clone(&world), Arc::clone(&memory))));
        }
        let (taking, in_mind) = (Arc::clone(&world), Arc::clone(&memory));
        tasks.spawn(until(stop.clone(), async move { intake::run(&taking, &in_mind).await }));
        tasks.spawn(until(stop.clone(), keep_in_sync(Arc::clone(&world), Arc::clone(&memory), tuning.resync)));
        Ok(Self { world, memory, stop, tasks })
    }

    /// Looks at one environment soon.
    pub fn wake(&self, key: EnvKey) {
        self.memory.queue.wake(key);
    }

    /// What the controller works with.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// A handle for those who may ask but not stop.
    pub fn desk(&self) -> Desk {
        Desk { world: Arc::clone(&self.world), memory: Arc::clone(&self.memory) }
    }

    /// Stops at the next await of each task and waits for them.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Answers questions about environments and takes requests.
#[derive(Clone)]
pub struct Desk {
    world: Arc<World>,
    memory: Arc<Memory>,
}

impl Desk {
    /// What the controller works with.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Looks at one environment soon.
    pub fn wake(&self, key: EnvKey) {
        self.memory.queue.wake(key);
    }

    /// What is known, seen and decided at this moment, without doing any of it.
    pub async fn consider(&self, key: EnvKey) -> Result<(Known, Observed, Decision), StoreError> {
        let known = decide::load(&self.world, key).await?;
        let seen = pass::observe(&self.world, &self.memory, &known).await;
        let decision = pass::consider(&self.world, &self.memory, &known, &seen);
        Ok((known, seen, decision))
    }

    /// Every pull request that has a record or is open.
    pub async fn keys(&self) -> Result<BTreeSet<EnvKey>, StoreError> {
        let ledgers = self.world.store.ledgers().await?;
        let pulls = self.world.store.all_pulls().await?;
        Ok(ledgers.iter().map(|ledger| ledger.key).chain(pulls.iter().map(|pull| pull.key)).collect())
    }

    /// The logs of an environment, from its agent. The error says why there are none.
    pub async fn logs(&self, key: EnvKey, wanted: &[LogWanted]) -> Result<LogLines, String> {
        let (known, seen, _) = self.consider(key).await.map_err(|error| error.to_string())?;
        let address = seen.machines.present().and_then(|machines| pass::newest_running(machines)).ok_or_else(|| {
            format!(
                "{key} has no machine now, and logs live on the machine; `kagero env show` has the end of a failed log"
            )
        })?;
        let mut all: Vec<LogLines> = Vec::new();
        for wanted in wanted {
            all.push(self.world.agents.logs(&address, &known.uid, wanted).await?);
        }
        Ok(futures::stream::iter(all).flatten().boxed())
    }

    /// Keys that wait or run.
    pub fn queue_len(&self) -> usize {
        self.memory.queue.len()
    }
}

async fn until(stop: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = task => {}
    }
}

/// A worker: one pass after the other.
async fn work(world: Arc<World>, memory: Arc<Memory>) {
    loop {
        let key = memory.queue.next().await;
        // A pass that panics is a mistake of ours in one environment: the worker and the others go on.
        let ran = AssertUnwindSafe(pass::run(&world, &memory, key)).catch_unwind().await;
        let next = match ran.unwrap_or(Err(PassError::Panicked)) {
            Ok(Outcome::Again(after)) => {
                memory.succeeded(key);
                Some(after)
            }
            Ok(Outcome::Rest) => {
                memory.succeeded(key);
                memory.forget(key);
                None
            }
            Err(error) => {
                let asked = match &error {
                    PassError::Step { source, .. } => source.wait(),
                    PassError::Store(_) | PassError::Panicked => None,
                };
                let why = crate::telemetry::chain(&error).to_string();
                let wait = memory.failed(key, why).max(asked.unwrap_or_default());
                tracing::warn!(
                    env.key = %key,
                    error = %crate::telemetry::chain(&error),
                    retry.ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    "a pass ended early and will be repeated"
                );
                Some(wait)
            }
        };
        memory.queue.done(key, next);
    }
}

async fn keep_in_sync(world: Arc<World>, memory: Arc<Memory>, every: Duration) {
    loop {
        resync::all(&world, &memory).await;
        if let Err(error) = intake::prune(&world).await {
            tracing::warn!(error = %crate::telemetry::chain(&error), "old deliveries could not be deleted; trying again at the next resync");
        }
        tokio::time::sleep(every).await;
    }
}
