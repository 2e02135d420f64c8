//! One pass over one environment: facts → observe → desired → plan → journal → execute → next.
//!
//! A pass never waits for anything slow. A pass with nothing to do writes nothing and takes no lease; one
//! with something to do takes the lease, reads the store again and decides again before it acts.

use std::sync::Arc;
use std::time::Duration;

use super::decide::{self, Decision, Known};
use super::execute::{self, StepError};
use super::observe;
use super::state::Memory;
use super::{ports::World, routes};
use crate::domain::id::EnvKey;
use crate::domain::observed::{Machine, MachineState, Observed};
use crate::domain::seen::{Doubt, Seen};
use crate::domain::step::{Next, Plan, Step};
use crate::store::{Lease, StoreError};

/// How long a lease lasts: longer than any step may take.
const LEASE: Duration = Duration::from_mins(1);

/// What a pass came to.
#[derive(Debug)]
pub enum Outcome {
    /// Look again after that long.
    Again(Duration),
    /// Nothing to do until woken.
    Rest,
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// A step failed.
    #[error("step {step} failed")]
    Step {
        /// Which.
        step: &'static str,
        /// How.
        #[source]
        source: StepError,
    },
}

/// Runs one pass.
pub async fn run(world: &World, memory: &Memory, key: EnvKey) -> Result<Outcome, PassError> {
    let known = decide::load(world, key).await?;
    let seen = observe(world, memory, &known).await;
    let decision = decide(world, memory, &known, &seen);
    routes::publish(world, memory, &known, &seen, &decision);
    if decision.plan.steps.is_empty() && decision.sayings.steps.is_empty() {
        memory.note_motion(key, !decision.plan.waiting.is_empty());
        return Ok(outcome(&known, &decision));
    }
    let now = world.clock.now();
    let Some(lease) = world.store.acquire(key, &world.holder, LEASE, now).await? else {
        return Ok(Outcome::Again(world.policy.load().pace.busy));
    };
    let outcome = act(world, memory, &lease, &seen).await;
    world.store.release_lease(&lease).await?;
    outcome
}

/// Decides again under the lease and acts.
async fn act(world: &World, memory: &Memory, lease: &Lease, seen: &Observed) -> Result<Outcome, PassError> {
    let known = decide::load(world, lease.key).await?;
    let decision = decide(world, memory, &known, seen);
    memory.note_motion(lease.key, true);
    for step in &decision.plan.steps {
        let done = execute::step(world, lease, &known, step).await;
        if changes_resources(step) {
            memory.note_change(lease.key, world.clock.now());
        }
        done.map_err(|source| PassError::Step { step: step.kind(), source })?;
    }
    // Words come last and never hold up deeds.
    let mut unsaid = None;
    for step in &decision.sayings.steps {
        match execute::step(world, lease, &known, step).await {
            Ok(()) => {}
            Err(StepError::Budget(wait)) => {
                unsaid = Some(wait);
                break;
            }
            Err(source) => return Err(PassError::Step { step: step.kind(), source }),
        }
    }
    Ok(match (unsaid, outcome(&known, &decision)) {
        (None, outcome) => outcome,
        (Some(wait), Outcome::Rest) => Outcome::Again(wait),
        // Looking again at once would only find the same words unsaid.
        (Some(wait), Outcome::Again(_)) if decision.plan.steps.is_empty() => {
            Outcome::Again(wait.min(poll(&decision.plan)))
        }
        (Some(_), again) => again,
    })
}

fn poll(plan: &Plan) -> Duration {
    match plan.next {
        Next::Poll(after) => after,
        Next::Settled | Next::Blocked(_) => Duration::MAX,
    }
}

fn changes_resources(step: &Step) -> bool {
    matches!(
        step,
        Step::LaunchMachine { .. } | Step::PrepareDatabase { .. } | Step::Terminate(_) | Step::DropDatabase(_)
    )
}

fn outcome(known: &Known, decision: &Decision) -> Outcome {
    if decide::is_at_rest(known, decision) {
        return Outcome::Rest;
    }
    let next = match &decision.plan.next {
        Next::Poll(after) => *after,
        Next::Settled | Next::Blocked(_) => return Outcome::Rest,
    };
    let acted = !decision.plan.steps.is_empty() || !decision.sayings.steps.is_empty();
    let next = if acted { Duration::ZERO } else { next };
    Outcome::Again(decision.sayings.wait.map_or(next, |wait| wait.min(next)))
}

pub(super) fn decide(world: &World, memory: &Memory, known: &Known, seen: &Observed) -> Decision {
    let policy = world.policy.load();
    let now = world.clock.now();
    let (want, moved_up) = decide::want(known, &policy, &memory.seats, now);
    for key in moved_up {
        memory.queue.wake(key);
    }
    decide::decide(known, want, seen, &policy, now)
}

/// Reads the world as far as this environment is concerned.
pub async fn observe(world: &World, memory: &Memory, known: &Known) -> Observed {
    let policy = world.policy.load();
    let key = known.key;
    if known.ledger.as_ref().is_none_or(crate::domain::ledger::Ledger::is_released) {
        // Nothing is held: what a listing would say cannot change the plan.
        return Observed {
            at: world.clock.now(),
            machines: Seen::Unknown(Doubt::NotRead),
            databases: Seen::Unknown(Doubt::NotRead),
            agent: Seen::Unknown(Doubt::NotRead),
        };
    }
    let tolerance = if memory.is_in_motion(key) { policy.pace.busy } else { policy.pace.idle / 3 };
    let snapshot = world_snapshot(memory, key, tolerance).await;
    let machines = observe::machines(&snapshot, &known.uid, known.ledger.as_ref(), &policy);
    let databases = observe::databases(&snapshot, &known.uid, known.ledger.as_ref(), &policy);
    let agent = match machines.present().and_then(|machines| newest_running(machines)) {
        None => Seen::Absent,
        Some(address) => match world.agents.status(&address, &known.uid).await {
            Ok(status) => Seen::Present(status),
            Err(error) => Seen::Unknown(Doubt::ReadFailed(error)),
        },
    };
    Observed { at: snapshot.at, machines, databases, agent }
}

async fn world_snapshot(memory: &Memory, key: EnvKey, tolerance: Duration) -> Arc<super::fleet::Snapshot> {
    memory.fleet.snapshot(memory.last_change(key), tolerance).await
}

pub(super) fn newest_running(machines: &[Machine]) -> Option<String> {
    machines
        .iter()
        .rev()
        .find(|machine| machine.state == MachineState::Running)
        .and_then(|machine| machine.agent.clone())
}
