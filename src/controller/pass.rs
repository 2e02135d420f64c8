//! One pass over one environment: facts → observe → desired → plan → journal → execute → next.
//!
//! A pass never waits for anything slow. A pass with nothing to do writes nothing and takes no lease; one
//! with something to do takes the lease, reads the store again and decides again before it acts.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;

use super::builds::Turn;
use super::decide::{self, Decision, Known, Recalled};
use super::execute::{self, StepError};
use super::grounds::Grounds;
use super::observe;
use super::ports::World;
use super::refusals;
use super::replicas;
use super::routes;
use super::state::{Memory, Silence};
use crate::cloud::{CloudError, ErrorClass};
use crate::domain::assignment::RolloutPhase;
use crate::domain::desired::Desired;
use crate::domain::guard::Guard;
use crate::domain::id::EnvKey;
use crate::domain::ledger::Ledger;
use crate::domain::observed::{Machine, MachineState, Observed};
use crate::domain::policy::Policy;
use crate::domain::seen::{Doubt, Seen};
use crate::domain::step::{Next, Plan, Step};
use crate::domain::time::Timestamp;
use crate::plan::{machine_of, without_build};
use crate::report::say::Sayings;
use crate::store::{Lease, StoreError};

/// How long a lease lasts: longer than any step may take.
pub(super) const LEASE: Duration = Duration::from_mins(1);

/// A provider that asks us to slow down is left alone for at least that long.
const SHORTEST_WAIT: Duration = Duration::from_millis(200);

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
    /// A mistake of ours.
    #[error("the pass panicked; the log has its place")]
    Panicked,
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

impl PassError {
    /// Whether further steps would fail as well, or cannot be answered for.
    fn ends_the_pass(&self) -> bool {
        !matches!(self, Self::Step { source, .. } if !matches!(source, StepError::Store(_)))
    }
}

/// Runs one pass.
pub async fn run(world: &World, memory: &Memory, key: EnvKey) -> Result<Outcome, PassError> {
    let looked_at = world.clock.now();
    let known = decide::load(world, key).await?;
    let seen = observe(world, memory, &known).await;
    let decision = decide(world, memory, &known, &seen);
    give_up_turns(memory, key, &decision.plan);
    refusals::in_decision(&decision, known.ledger.as_ref());
    replicas::end_build(world, memory, key, looked_at).await?;
    routes::publish(world, memory, &known, &seen, &decision);
    if decision.plan.steps.is_empty() && decision.sayings.steps.is_empty() {
        memory.note_motion(key, !decision.plan.waiting.is_empty());
        note_success(memory, key, &decision.plan);
        let idle = world.policy.load().pace.idle;
        return Ok(at_leisure(memory, idle, outcome(&known, &decision)));
    }
    let now = world.clock.now();
    let Some(lease) = world.store.acquire(key, &world.holder, LEASE, now).await? else {
        refusals::count(Guard::LeaseTaken);
        return Ok(Outcome::Again(world.policy.load().pace.busy));
    };
    // A pass that panics gives its lease back: its environment would wait for the lease to expire.
    let outcome = AssertUnwindSafe(act(world, memory, &lease, &known, &seen)).catch_unwind().await;
    world.store.release_lease(&lease).await?;
    outcome.unwrap_or(Err(PassError::Panicked))
}

/// Decides again under the lease and acts.
async fn act(
    world: &World,
    memory: &Memory,
    lease: &Lease,
    before: &Known,
    seen: &Observed,
) -> Result<Outcome, PassError> {
    let known = decide::load(world, lease.key).await?;
    if known.ledger != before.ledger {
        // Another replica has acted since we looked: what we saw is older than what we would act on.
        memory.note_change(lease.key, world.clock.now());
        return Ok(Outcome::Again(Duration::ZERO));
    }
    let decision = decide(world, memory, &known, seen);
    memory.note_motion(lease.key, true);
    let grounds = Grounds::of(world, &known, &decision.want).await?;
    let (mut failed, mut held) = (None, None);
    for step in &decision.plan.steps {
        if changes_resources(step)
            && let Err(wait) = memory.turns.ask(step.kind(), lease.key, world.clock.uptime())
        {
            hold(&mut held, wait);
            continue;
        }
        // What goes on and on panicking has to be told like any other failure.
        let done = AssertUnwindSafe(execute::step(world, lease, &known, &grounds, step)).catch_unwind().await;
        if changes_resources(step) {
            memory.note_change(lease.key, world.clock.now());
        }
        if let Ok(Err(error)) = &done {
            refusals::in_error(error);
        }
        let error = match done {
            Ok(Ok(())) => {
                if let Some(next) = memory.turns.answered(step.kind(), lease.key) {
                    memory.queue.wake(next);
                }
                continue;
            }
            Ok(Err(StepError::Cloud(CloudError { class: ErrorClass::SlowDown(wait), .. }))) => {
                let wait = wait.max(SHORTEST_WAIT);
                memory.turns.refused(step.kind(), lease.key, world.clock.uptime(), wait);
                hold(&mut held, wait);
                continue;
            }
            // It becomes free by others' leaving, which is seen then; or by a person.
            Ok(Err(StepError::Store(StoreError::NoSlot { .. }))) => {
                return Ok(Outcome::Again(world.policy.load().pace.idle));
            }
            // The freeze is noted; the next decision waits for its end.
            Ok(Err(StepError::Braked(_))) => return Ok(Outcome::Again(world.policy.load().pace.busy)),
            Ok(Err(source)) if replicas::was_overtaken(world, memory, lease.key, &source).await? => {
                return Ok(Outcome::Again(world.policy.load().pace.busy));
            }
            Ok(Err(source)) => PassError::Step { step: step.kind(), source },
            Err(_) => PassError::Panicked,
        };
        // Steps do not depend on each other, but for the row that all of them need: one machine that cannot be taken
        // away does not keep a task from the other.
        let ends = matches!(step, Step::Enroll { .. } | Step::Note { .. }) || error.ends_the_pass();
        if failed.is_none() || ends {
            failed = Some(error);
        } else {
            tracing::warn!(env.key = %lease.key, error = %crate::telemetry::chain(&error), "a further step of the pass failed");
        }
        if ends {
            break;
        }
    }
    let unsaid = speak(world, memory, lease, &known, &grounds, &decision).await;
    if let Some(error) = failed {
        return Err(error);
    }
    if let Some(wait) = held {
        // Not a failure of ours, and no success either. Whoever is answered before us wakes us earlier.
        return Ok(Outcome::Again(unsaid.map_or(wait, |unsaid| unsaid.min(wait))));
    }
    note_success(memory, lease.key, &decision.plan);
    Ok(after_acting(memory, &known, &decision, unsaid))
}

/// Waits no longer than for the first thing that is held up.
fn hold(held: &mut Option<Duration>, wait: Duration) {
    *held = Some(held.map_or(wait, |held| held.min(wait)));
}

/// Whoever stands in a line and does not want to ask any more lets the next one ask.
fn give_up_turns(memory: &Memory, key: EnvKey, plan: &Plan) {
    for next in memory.turns.give_up(key, |kind| plan.steps.iter().any(|step| step.kind() == kind)) {
        memory.queue.wake(next);
    }
}

/// Ends a row of failures. A pass that did nothing because it could not learn what there is, such as whether what was
/// asked for is visible yet, has not succeeded at what failed before.
fn note_success(memory: &Memory, key: EnvKey, plan: &Plan) {
    if !plan.steps.is_empty() || !plan.is_in_doubt() {
        memory.succeeded(key);
    }
}

/// Words come last and never hold up deeds: one that fails is told in the log and tried again later, and the
/// next one gets its turn. Gives back how long the environment has to be silent, if it has to.
async fn speak(
    world: &World,
    memory: &Memory,
    lease: &Lease,
    known: &Known,
    grounds: &Grounds,
    decision: &Decision,
) -> Option<Duration> {
    let mut silence = None;
    for step in &decision.sayings.steps {
        let Err(error) = execute::step(world, lease, known, grounds, step).await else { continue };
        if matches!(error, StepError::Store(StoreError::Fenced { .. })) {
            memory.doubt(lease.key);
        }
        let wait = error.silence();
        if !matches!(error, StepError::Budget(_)) {
            tracing::warn!(
                env.key = %lease.key,
                step = step.kind(),
                error = %crate::telemetry::chain(&error),
                retry.s = wait.as_secs(),
                "the pull request could not be written on; the environment itself is not affected"
            );
        }
        memory.be_silent(lease.key, silenced(&error, step), world.clock.now().plus(wait));
        silence = Some(silence.map_or(wait, |shortest: Duration| shortest.min(wait)));
    }
    if silence.is_none() && decision.sayings.wait.is_none() {
        memory.trust(lease.key);
    }
    silence
}

/// What is not to be said for a while: everything, if GitHub or our budget asks us to slow down; otherwise this one
/// thing, which does not keep others from being said, nor what is said of another commit or phase.
fn silenced(error: &StepError, step: &Step) -> Silence {
    match error.wait() {
        Some(_) => Silence::All,
        None => Silence::Of(subject(step)),
    }
}

/// What a writing step says, in words that two steps share only if they say the same.
fn subject(step: &Step) -> String {
    match step {
        Step::Comment { digest, .. } => format!("comment {digest}"),
        other => crate::report::explain::step(other),
    }
}

/// When to look again after acting. Steps that were the same the last time did not help: they are repeated
/// ever more slowly.
fn after_acting(memory: &Memory, known: &Known, decision: &Decision, unsaid: Option<Duration>) -> Outcome {
    let steps: Vec<String> = decision.plan.steps.iter().map(crate::report::explain::step).collect();
    let repeats = memory.repeats(known.key, steps.join("; "));
    let outcome = outcome(known, decision);
    let Outcome::Again(after) = outcome else {
        return unsaid.map_or(outcome, Outcome::Again);
    };
    if repeats > 0 {
        let slower = Duration::from_millis(100).saturating_mul(1 << repeats.min(10)).min(Duration::from_mins(1));
        return Outcome::Again(after.max(slower));
    }
    if decision.plan.steps.is_empty() && unsaid.is_some() {
        // Looking again at once would only find the same words unsaid.
        return Outcome::Again(unsaid.unwrap_or_default().min(poll(&decision.plan)));
    }
    Outcome::Again(after)
}

/// Whoever is in no hurry waits for its turn among all.
fn at_leisure(memory: &Memory, idle: Duration, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Again(after) if after >= idle => Outcome::Again(after.max(memory.queue.leisure())),
        other => other,
    }
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
        Step::LaunchMachine { .. }
            | Step::PrepareDatabase { .. }
            | Step::StopMachine { .. }
            | Step::StopDatabase { .. }
            | Step::Terminate(_)
            | Step::DropDatabase(_)
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
    let mut plan = decide::restrained(known, &want, seen, &policy, now);
    match building(known, &plan, seen) {
        Building::Begins => {
            if memory.builds.ask(known.key, policy.limits.builds) == Turn::Later {
                plan = without_build(plan, &policy);
            }
        }
        Building::GoesOn => memory.builds.goes_on(known.key),
        Building::Unclear => {}
        Building::None => {
            if let Some(next) = memory.builds.rests(known.key) {
                memory.queue.wake(next);
            }
        }
    }
    conclude(memory, known, want, plan, seen, &policy, now)
}

/// What would be decided, without asking for a seat or a turn, or giving one up.
pub(super) fn consider(world: &World, memory: &Memory, known: &Known, seen: &Observed) -> Decision {
    let policy = world.policy.load();
    let now = world.clock.now();
    let want = decide::want_unseated(known, &policy, &memory.seats, now);
    let mut plan = decide::restrained(known, &want, seen, &policy, now);
    if building(known, &plan, seen) == Building::Begins
        && memory.builds.peek(known.key, policy.limits.builds) == Turn::Later
    {
        plan = without_build(plan, &policy);
    }
    conclude(memory, known, want, plan, seen, &policy, now)
}

fn conclude(
    memory: &Memory,
    known: &Known,
    want: Desired,
    plan: Plan,
    seen: &Observed,
    policy: &Policy,
    now: Timestamp,
) -> Decision {
    let key = known.key;
    let (agent, trouble) = (memory.hearing.last(key), memory.trouble(key));
    let recalled = Recalled { agent, trouble, doubted: memory.is_doubted(key) };
    let mut decision = decide::decide(known, want, plan, seen, &recalled, policy, now);
    let Sayings { steps, mut wait } = std::mem::take(&mut decision.sayings);
    let steps = steps.into_iter().filter(|step| match memory.silence(known.key, &subject(step), now) {
        None => true,
        Some(left) => {
            wait = Some(wait.map_or(left, |wait| wait.min(left)));
            false
        }
    });
    decision.sayings = Sayings { steps: steps.collect(), wait };
    decision
}

/// Reads the world as far as this environment is concerned.
pub async fn observe(world: &World, memory: &Memory, known: &Known) -> Observed {
    let policy = world.policy.load();
    let key = known.key;
    if known.ledger.as_ref().is_none_or(Ledger::is_released) {
        // Nothing is held: what a listing would say of it cannot change the plan.
        let occupied = if policy.slots.is_empty() {
            Seen::Absent
        } else {
            let snapshot = memory.fleet.snapshot(Timestamp::default(), policy.pace.idle / 3).await;
            snapshot.map_or(Seen::Unknown(Doubt::NotRead), |snapshot| observe::occupied(&snapshot))
        };
        return Observed { occupied, ..unread(world, Doubt::NotRead) };
    }
    let tolerance = if memory.is_in_motion(key) { policy.pace.busy } else { policy.pace.idle / 3 };
    // Whoever asked for something last: a listing that began before says nothing about it.
    let asked = known.ledger.iter().flat_map(|ledger| &ledger.intents).map(|intent| intent.asked_at).max();
    let asked = asked.map(|at| at.min(world.clock.now().minus(Duration::from_millis(1))));
    let changed = memory.last_change(key).max(asked.unwrap_or_default());
    let Some(snapshot) = memory.fleet.snapshot(changed, tolerance).await else {
        // The last listing began before our last change, and it is too early for the next one.
        return unread(world, Doubt::TooYoung);
    };
    let machines = observe::machines(&snapshot, &known.uid, known.ledger.as_ref(), &policy);
    let databases = observe::databases(&snapshot, &known.uid, known.ledger.as_ref(), &policy);
    let interfaces = observe::interfaces(&snapshot, known.ledger.as_ref());
    let agent = match &machines {
        Seen::Unknown(doubt) => Seen::Unknown(doubt.clone()),
        Seen::Absent => Seen::Absent,
        Seen::Present(machines) => match agent_of(machines, known.ledger.as_ref(), &policy) {
            None => Seen::Absent,
            Some(address) => match world.agents.status(&address, &known.uid).await {
                Ok(status) => Seen::Present(status),
                Err(how) => Seen::Unknown(silent(memory, key, how, world.clock.now())),
            },
        },
    };
    match &agent {
        Seen::Present(status) => memory.hearing.heard(key, status.clone(), world.clock.now()),
        Seen::Absent => memory.hearing.forget(key),
        // A moment's silence takes no preview off its link and changes no words.
        Seen::Unknown(_) => {}
    }
    let occupied = observe::occupied(&snapshot);
    Observed { at: snapshot.at, machines, databases, interfaces, occupied, agent }
}

fn unread(world: &World, doubt: Doubt) -> Observed {
    Observed {
        at: world.clock.now(),
        machines: Seen::Unknown(doubt.clone()),
        databases: Seen::Unknown(doubt.clone()),
        interfaces: Seen::Unknown(doubt.clone()),
        occupied: Seen::Unknown(doubt.clone()),
        agent: Seen::Unknown(doubt),
    }
}

/// An agent's silence counts against it only while other agents are heard: otherwise it may be we who hear nothing.
fn silent(memory: &Memory, key: EnvKey, how: String, now: Timestamp) -> Doubt {
    let since = memory.hearing.not_heard(key, now);
    if memory.hearing.are_others_heard(key, since) { Doubt::Silent { since, how } } else { Doubt::ReadFailed(how) }
}

/// Whether a commit is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Building {
    /// By this plan.
    Begins,
    /// By the agent.
    GoesOn,
    /// Not, and nothing is to be.
    None,
    /// The agent does not say.
    Unclear,
}

fn building(known: &Known, plan: &Plan, seen: &Observed) -> Building {
    if plan.steps.iter().any(|step| matches!(step, Step::Assign { .. })) {
        return Building::Begins;
    }
    if known.ledger.as_ref().is_none_or(Ledger::is_released) {
        return Building::None;
    }
    match &seen.agent {
        Seen::Unknown(_) => Building::Unclear,
        Seen::Absent => Building::None,
        Seen::Present(status) => match status.candidate.as_ref().map(|candidate| &candidate.phase) {
            Some(RolloutPhase::Working) => Building::GoesOn,
            Some(RolloutPhase::Healthy | RolloutPhase::Degraded | RolloutPhase::Failed(_)) | None => Building::None,
        },
    }
}

/// Where the agent of the machine that the environment works with is asked.
pub(super) fn agent_of(machines: &[Machine], ledger: Option<&Ledger>, policy: &Policy) -> Option<String> {
    let machine = machine_of(machines, ledger?, policy)?;
    machine.agent.clone().filter(|_| machine.state == MachineState::Running)
}
