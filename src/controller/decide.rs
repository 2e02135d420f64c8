//! One decision: the stored facts and the observation of one environment, and what follows from them.
//!
//! Loading is I/O; deciding is a composition of pure functions and can be repeated at will.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ports::World;
use super::seats::Seats;
use crate::domain::assignment::AgentStatus;
use crate::domain::brake::{Brake, BrakeKind};
use crate::domain::desired::{CapacityLimit, Desired, GoneReason, Obstacle, QueueReason};
use crate::domain::id::{EnvKey, EnvUid, Generation, HostLabel};
use crate::domain::ledger::{Host, Ledger, Standing};
use crate::domain::observed::Observed;
use crate::domain::policy::Policy;
use crate::domain::pull::{ConfigFacts, Pins, PullFacts, PullState};
use crate::domain::step::{Failure, Plan, Step, Waiting};
use crate::domain::time::Timestamp;
use crate::forge::RepoRef;
use crate::plan::brake::restrain;
use crate::plan::{Ground, Seat, choose_hosts, desired, plan};
use crate::report::derive::{Facts, view};
use crate::report::say::{Deploying, Sayings, is_spoken_of, say};
use crate::report::view::EnvView;
use crate::store::{Readings, StoreError};

/// What the store knows of one pull request.
#[derive(Debug, Clone)]
pub struct Known {
    /// Which one.
    pub key: EnvKey,
    /// Its environment's identity.
    pub uid: EnvUid,
    /// The repository, if it was seen.
    pub repo: Option<RepoRef>,
    /// The newest reading.
    pub pull: Option<PullFacts>,
    /// The newest reading of its configuration.
    pub config: Option<ConfigFacts>,
    /// What people have said.
    pub pins: Pins,
    /// The environment's record.
    pub ledger: Option<Ledger>,
    /// Labels of the hosts it might want that belong to others.
    pub taken: BTreeSet<HostLabel>,
    /// Where git fetches the repository from.
    pub clone_url: String,
    /// Brakes that are on and concern it.
    pub brakes: Vec<Brake>,
}

/// What the controller remembers of an environment, to tell people.
#[derive(Debug, Clone, Default)]
pub struct Recalled {
    /// The agent's last answer, while it is silent.
    pub agent: Option<AgentStatus>,
    /// What has kept failing.
    pub trouble: Option<String>,
    /// Whether what was said may not be what is shown.
    pub doubted: bool,
}

/// What follows.
#[derive(Debug, Clone)]
pub struct Decision {
    /// What should be true.
    pub want: Desired,
    /// Which steps lead there.
    pub plan: Plan,
    /// What people see.
    pub view: Arc<EnvView>,
    /// What is written on the pull request.
    pub sayings: Sayings,
}

/// Reads what the store knows.
pub async fn load(world: &World, key: EnvKey) -> Result<Known, StoreError> {
    let policy = world.policy.load();
    let Readings { repo, pull, config, pins, ledger, brakes } = world.store.readings(key, world.clock.now()).await?;
    let hosts = ledger.as_ref().map_or(&[][..], |ledger| &ledger.hosts);
    let taken = taken(world, key, pull.as_ref(), config.as_ref(), hosts).await?;
    let clone_url = repo.as_ref().map(|repo| world.forge.clone_url(repo)).unwrap_or_default();
    let uid = EnvUid::derive(&policy.install, key);
    Ok(Known { key, uid, repo, pull, config, pins, ledger, taken, clone_url, brakes })
}

/// Host names that it might want, does not have, and that are others'.
async fn taken(
    world: &World,
    key: EnvKey,
    pull: Option<&PullFacts>,
    config: Option<&ConfigFacts>,
    hosts: &[Host],
) -> Result<BTreeSet<HostLabel>, StoreError> {
    let Some(pull) = pull else { return Ok(BTreeSet::new()) };
    let mut labels = vec![HostLabel::derive(&pull.repo.name, key, None)];
    if let Some(config) = config
        && let crate::domain::policy::RepoSetting::Valid(config) = &config.setting
    {
        let public = config.services.iter().filter(|service| service.public);
        labels.extend(public.map(|service| HostLabel::derive(&pull.repo.name, key, Some(&service.name))));
    }
    labels.retain(|label| hosts.iter().all(|host| host.label != *label));
    if labels.is_empty() {
        return Ok(BTreeSet::new());
    }
    let taken = world.store.hosts_taken(&labels).await?;
    Ok(taken.into_iter().filter(|(_, owner)| *owner != key).map(|(label, _)| label).collect())
}

/// What should be true, with the seats asked where it matters.
pub fn want(known: &Known, policy: &Policy, seats: &Seats, now: Timestamp) -> (Desired, Vec<EnvKey>) {
    let want = judge(known, &undecided(), policy, now);
    if matches!(want, Desired::Queued(_)) {
        let seat = seats.ask(known.key, since(known, now), &policy.limits);
        return (judge(known, &seat, policy, now), Vec::new());
    }
    if known.ledger.as_ref().is_some_and(|ledger| !ledger.is_released()) {
        seats.hold(known.key);
        return (want, Vec::new());
    }
    // Neither holding anything nor wanting anything: whoever waits may move up.
    (want, seats.leave(known.key))
}

/// As [`want`], leaving the seats as they are.
pub fn want_unseated(known: &Known, policy: &Policy, seats: &Seats, now: Timestamp) -> Desired {
    let want = judge(known, &undecided(), policy, now);
    if matches!(want, Desired::Queued(_)) {
        let seat = seats.peek(known.key, since(known, now), &policy.limits);
        return judge(known, &seat, policy, now);
    }
    want
}

fn undecided() -> Seat {
    Seat::Waiting(QueueReason { position: 1, limit: CapacityLimit::Environments, holders: 0 })
}

/// Since when a pull request has been waiting for a seat.
fn since(known: &Known, now: Timestamp) -> Timestamp {
    // The record of one that holds nothing yet. That of an earlier generation says when that one began.
    let waiting = known.ledger.as_ref().filter(|ledger| ledger.generation == Generation::NONE);
    waiting.map_or(now, |ledger| ledger.enrolled_at)
}

fn judge(known: &Known, seat: &Seat, policy: &Policy, now: Timestamp) -> Desired {
    desired(Ground {
        key: known.key,
        pull: known.pull.as_ref(),
        config: known.config.as_ref(),
        pins: &known.pins,
        ledger: known.ledger.as_ref(),
        seat,
        taken: &known.taken,
        clone_url: &known.clone_url,
        policy,
        now,
    })
}

/// The steps that lead to what is wanted, if it may build.
pub fn steps(known: &Known, want: &Desired, seen: &Observed, policy: &Policy) -> Plan {
    plan(want, seen, known.ledger.as_ref(), known.pull.as_ref(), policy)
}

/// The same without what is stopped.
pub fn restrained(known: &Known, want: &Desired, seen: &Observed, policy: &Policy, now: Timestamp) -> Plan {
    restrain(steps(known, want, seen, policy), &known.brakes, policy, now)
}

/// View and words, from what is wanted, what is seen and what is done about it.
pub fn decide(
    known: &Known,
    want: Desired,
    mut plan: Plan,
    seen: &Observed,
    recalled: &Recalled,
    policy: &Policy,
    now: Timestamp,
) -> Decision {
    if let Some(reason) = recalled.trouble.clone().filter(|_| !plan.steps.is_empty() || plan.is_in_doubt()) {
        let stage = plan.steps.first().map_or("step", Step::kind);
        plan.waiting.push(Waiting::Failed(Failure { stage, reason, log_tail: Vec::new(), service: None }));
    }
    let view = Arc::new(view(Facts {
        key: known.key,
        pull: known.pull.as_ref(),
        want: &want,
        seen,
        agent: seen.agent.present().or(recalled.agent.as_ref().filter(|_| !seen.agent.is_absent())),
        ledger: known.ledger.as_ref(),
        plan: &plan,
        policy,
        brakes: &known.brakes,
    }));
    let mut sayings = Sayings::default();
    let said = known.ledger.as_ref().map(|ledger| ledger.said.clone()).unwrap_or_default();
    let said = if recalled.doubted { said.doubted() } else { said };
    if known.repo.is_some() && is_spoken_of(&want, &said) {
        if known.ledger.is_some() {
            sayings = say(&view, &said, deploying(known, &want, now), policy, now);
        } else if plan.steps.is_empty() {
            plan.steps.push(note(known));
        }
    }
    Decision { want, plan, view, sayings }
}

/// What is said by deployments. A fork's commit that nobody approved has none (I21).
fn deploying(known: &Known, want: &Desired, now: Timestamp) -> Deploying {
    let is_paused = known.brakes.iter().any(|brake| brake.kind == BrakeKind::Pause && brake.is_on(now));
    let is_approved = |pull: &PullFacts| !pull.is_fork() || known.pins.approved_sha.as_ref() == Some(&pull.head_sha);
    match &known.pull {
        _ if is_paused || matches!(want, Desired::Unchanged(Obstacle::NotRead(_))) => Deploying::Leave,
        Some(pull) if pull.state == PullState::Open && is_approved(pull) => Deploying::Follow,
        _ => Deploying::End,
    }
}

/// A row for a pull request that holds nothing yet but is spoken of.
fn note(known: &Known) -> Step {
    let name = known.pull.as_ref().map_or("", |pull| pull.repo.name.as_str());
    Step::Note { hosts: choose_hosts(name, known.key, &[], &[], &known.taken) }
}

/// Whether nothing will happen here until something changes outside.
pub fn is_at_rest(known: &Known, decision: &Decision) -> bool {
    let released = known.ledger.as_ref().is_none_or(|ledger| matches!(ledger.standing, Standing::Released(_)));
    let settled = match &decision.want {
        Desired::Gone(why) => *why != GoneReason::Superseded,
        Desired::Unchanged(_) => known.pull.is_some(),
        Desired::Running(_) | Desired::Asleep(_) | Desired::Queued(_) => false,
    };
    released && settled && decision.plan.steps.is_empty() && decision.sayings == Sayings::default()
}
