//! The controller: observes, decides by the pure functions of `plan`, and does the steps.
//!
//! Guarantees: one pass per environment at a time, in this process by the queue and between processes by a
//! lease whose fence is checked in every write; a pass never waits for anything slow; whatever is kept in
//! memory can be lost at any moment.
//! Must not know: HTTP, the command line, which provider or forge it works with.

pub mod adoption;
mod backlog;
mod builds;
pub mod decide;
mod engine;
mod execute;
mod fleet;
mod grounds;
mod hearing;
mod intake;
mod observe;
mod pass;
mod ports;
mod queue;
mod refresh;
mod refusals;
mod replicas;
mod resync;
mod room;
mod routes;
mod seats;
mod speak;
mod state;
pub mod sweep;
mod turns;
mod words;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use decide::{Decision, Known};
pub use engine::Engine;
pub use execute::StepError;
pub use fleet::Fleet;
pub use pass::PassError;
pub use ports::{Agents, LogLines, LogWanted, Prober, World};
pub use state::Memory;

use crate::domain::id::EnvKey;
use crate::domain::observed::Observed;
use crate::store::StoreError;

/// How the controller divides its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Passes at once.
    pub workers: usize,
    /// Between two full listings.
    pub resync: Duration,
    /// What a sweep by itself does, and how often; `None`: there is none.
    pub sweep: Option<(sweep::Scope, Duration)>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { workers: 16, resync: Duration::from_mins(5), sweep: None }
    }
}

/// A running controller: an [`Engine`] whose parts run as tasks.
pub struct Controller {
    engine: Engine,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Controller {
    /// Starts working: publishes what is known at once, then passes, intake and resync.
    pub async fn start(world: World, tuning: Tuning) -> Result<Self, StoreError> {
        let engine = Engine::new(world).await?;
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for _ in 0..tuning.workers {
            let engine = engine.clone();
            tasks.spawn(until(stop.clone(), async move { engine.work().await }));
        }
        let taking = engine.clone();
        tasks.spawn(until(stop.clone(), async move { taking.take_in().await }));
        let heeding = engine.clone();
        tasks.spawn(until(stop.clone(), async move { heeding.heed().await }));
        let listing = engine.clone();
        tasks.spawn(until(stop.clone(), async move {
            loop {
                listing.resync().await;
                tokio::time::sleep(tuning.resync).await;
            }
        }));
        let world = Arc::clone(engine.world());
        tasks.spawn(until(stop.clone(), room::keep(world)));
        if let Some((scope, every)) = tuning.sweep {
            let sweeping = engine.clone();
            tasks.spawn(until(stop.clone(), async move { sweeping.keep_sweeping(scope, every).await }));
        }
        Ok(Self { engine, stop, tasks })
    }

    /// Looks at one environment soon.
    pub fn wake(&self, key: EnvKey) {
        self.engine.wake(key);
    }

    /// What the controller works with.
    pub fn world(&self) -> &Arc<World> {
        self.engine.world()
    }

    /// A handle for those who may ask but not stop.
    pub fn desk(&self) -> Desk {
        self.engine.desk()
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
        let policy = self.world.policy.load();
        let machines = seen.machines.present();
        let address = machines.and_then(|found| pass::agent_of(found, known.ledger.as_ref(), &policy)).ok_or_else(|| {
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

    /// Sweeps once.
    pub async fn sweep(&self, scope: sweep::Scope) -> Result<sweep::Report, sweep::SweepError> {
        sweep::run(&self.world, scope).await
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
