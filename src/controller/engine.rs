//! The parts that move: one pass, one look at the inbox, one resync at a time.
//!
//! [`super::Controller`] runs them as tasks. Whoever owns the time, as a simulation does, moves them by hand; both do
//! the same.
//!
//! Guarantees: a part that fails or panics leaves the others as they were.
//! Must not know: who moves it.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;

use super::backlog::Backlog;
use super::fleet::Fleet;
use super::pass::{self, Outcome, PassError};
use super::ports::World;
use super::state::Memory;
use super::{Desk, intake, replicas, resync, sweep};
use crate::domain::id::EnvKey;
use crate::store::StoreError;

/// See the module's documentation. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    world: Arc<World>,
    memory: Arc<Memory>,
    /// What was read of the inbox, for whoever moves the intake by hand.
    backlog: Arc<tokio::sync::Mutex<Backlog>>,
}

impl Engine {
    /// Knows what the store knows: seats are held, and every environment is due, so that routes and pages come back
    /// without a webhook.
    pub async fn new(world: World) -> Result<Self, StoreError> {
        let world = Arc::new(world);
        let fleet = Fleet::new(Arc::clone(&world.machines), Arc::clone(&world.databases), Arc::clone(&world.clock));
        let memory = Arc::new(Memory::new(fleet, Arc::clone(&world.clock)));
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
        Ok(Self { world, memory, backlog: Arc::default() })
    }

    /// What it works with.
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// A handle for those who may ask but not move anything.
    pub fn desk(&self) -> Desk {
        Desk { world: Arc::clone(&self.world), memory: Arc::clone(&self.memory) }
    }

    /// Looks at one environment soon.
    pub fn wake(&self, key: EnvKey) {
        self.memory.queue.wake(key);
    }

    /// At which uptime of the clock the next pass is due, if one is.
    pub fn due_at(&self) -> Option<Duration> {
        self.memory.queue.due_at()
    }

    /// Runs one pass that is due. Which, if one was.
    pub async fn pass(&self) -> Option<EnvKey> {
        let key = self.memory.queue.next_now()?;
        self.run(key).await;
        Some(key)
    }

    /// Looks wherever deliveries point to that have arrived. How long until a look that failed is to be repeated.
    pub async fn look(&self) -> Result<Option<Duration>, StoreError> {
        let mut backlog = self.backlog.lock().await;
        intake::catch_up(&self.world, &self.memory, &mut backlog).await
    }

    /// Lists what no webhook told, and forgets deliveries that nobody asks for any more.
    pub async fn resync(&self) {
        resync::all(&self.world, &self.memory).await;
        if let Err(error) = intake::prune(&self.world).await {
            tracing::warn!(
                error = %crate::telemetry::chain(&error),
                "old deliveries could not be deleted; trying again at the next resync"
            );
        }
    }

    /// Sweeps if nobody has since that long. How long until it is time to look again.
    pub async fn sweep_if_due(&self, scope: sweep::Scope, every: Duration) -> Result<Duration, sweep::SweepError> {
        sweep::when_due(&self.world, scope, every).await
    }

    /// Sweeps whenever it is time, for ever.
    pub(super) async fn keep_sweeping(&self, scope: sweep::Scope, every: Duration) {
        loop {
            // One that panics is a mistake of ours: the next one comes all the same.
            let swept = AssertUnwindSafe(self.sweep_if_due(scope, every)).catch_unwind().await;
            let wait = match swept {
                Ok(Ok(wait)) => wait,
                Ok(Err(error)) => {
                    tracing::warn!(error = %crate::telemetry::chain(&error), "a sweep ended early; trying again");
                    every.min(Duration::from_mins(5))
                }
                Err(_) => every,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// A worker: one pass after the other, for ever.
    pub(super) async fn work(&self) {
        loop {
            let key = self.memory.queue.next().await;
            self.run(key).await;
        }
    }

    /// Looks at what arrives, for ever.
    pub(super) async fn take_in(&self) {
        intake::run(&self.world, &self.memory).await;
    }

    /// Looks at what other replicas change, for ever.
    pub(super) async fn heed(&self) {
        replicas::heed(&self.world, &self.memory).await;
    }

    async fn run(&self, key: EnvKey) {
        let memory = &self.memory;
        // A pass that panics is a mistake of ours in one environment: the worker and the others go on.
        let ran = AssertUnwindSafe(pass::run(&self.world, memory, key)).catch_unwind().await;
        let next = match ran.unwrap_or(Err(PassError::Panicked)) {
            Ok(Outcome::Again(after)) => Some(after),
            Ok(Outcome::Rest) => {
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
