//! Steps towards a running environment, or a sleeping one.
//!
//! Machine and database are independent of each other and are asked for in the same pass; the agent gets
//! its task when both are there.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::time::Duration;

use super::act;
use super::teardown::{claim, drop_database, terminate};
use crate::domain::assignment::{AgentStatus, RolloutPhase, Stage, StageFailure, Task, TaskDigest};
use crate::domain::desired::{DatabaseSpec, EnvSpec};
use crate::domain::id::{MachineId, SlotId};
use crate::domain::ledger::{Answer, Intent, Ledger, Role, Token};
use crate::domain::network::Placement;
use crate::domain::observed::{Database, DatabaseState, Machine, MachineState, Observed, Tags};
use crate::domain::owned::{Owned, Refusal, prove_database, prove_machine};
use crate::domain::policy::Policy;
use crate::domain::seen::{Doubt, Seen};
use crate::domain::step::{Failure, Next, Plan, Step, Waiting};
use crate::domain::time::Timestamp;

/// Attempts that follow each other within this time count together against the limit, until the last one is as old: what
/// failed long ago does not condemn what runs today.
const ATTEMPT_WINDOW: Duration = Duration::from_mins(20);

/// A machine that stops sooner than this after being asked for, or before it was given a task, has not lived: the next try
/// counts.
const LIVED: Duration = Duration::from_mins(1);

/// A machine whose agent cannot be reached this long after the machine was asked for has not come up.
const BOOT: Duration = Duration::from_mins(10);

/// How long no machine is asked for after there was no room for one anywhere, at first.
const ROOM: Duration = Duration::from_mins(2);

/// A machine whose agent has answered before, and has not for this long while other agents do, is given up.
const MUTE: Duration = Duration::from_mins(5);

/// Towards services that answer.
pub(super) fn run(spec: &EnvSpec, seen: &Observed, asked: Option<&Ledger>, policy: &Policy) -> Plan {
    let Some(ledger) = asked.filter(|ledger| !ledger.is_released()) else {
        return begin(spec, seen, policy);
    };
    let mut draft = Draft::new(spec, seen, ledger, policy);
    if ledger.hosts != spec.hosts {
        // Its slot it has already.
        draft.steps.push(enroll(spec, Vec::new()));
    }
    let machine = draft.machine();
    let database = draft.database();
    if let (Some(machine), Readiness::Ready) = (machine, database) {
        draft.rollout(&machine);
    }
    draft.finish()
}

/// Towards a machine and a database that are stopped.
pub(super) fn sleep(spec: &EnvSpec, seen: &Observed, asked: Option<&Ledger>, policy: &Policy) -> Plan {
    let Some(ledger) = asked.filter(|ledger| !ledger.is_released()) else {
        return super::at_rest(policy);
    };
    let mut draft = Draft::new(spec, seen, ledger, policy);
    match &seen.machines {
        Seen::Present(machines) => {
            let chosen = machine_of(machines, ledger, policy);
            for machine in machines {
                if chosen.is_some_and(|chosen| chosen.id == machine.id) {
                    draft.stop_machine(machine);
                } else {
                    draft.terminate(machine);
                }
            }
        }
        Seen::Unknown(doubt) => draft.waiting.push(Waiting::Knowledge(format!("machines: {doubt}"))),
        Seen::Absent => draft.retire(),
    }
    draft.stop_databases();
    draft.finish()
}

/// Its row, with a slot in which nothing stands, also nothing that no record knows of.
fn begin(spec: &EnvSpec, seen: &Observed, policy: &Policy) -> Plan {
    let wait = |waiting| act(Vec::new(), vec![waiting], policy);
    if policy.slots.is_empty() {
        return act(vec![enroll(spec, Vec::new())], Vec::new(), policy);
    }
    let occupied = match &seen.occupied {
        Seen::Absent => BTreeSet::new(),
        Seen::Present(occupied) => occupied.clone(),
        Seen::Unknown(doubt) => return wait(Waiting::Knowledge(format!("network interfaces: {doubt}"))),
    };
    let free: Vec<SlotId> = policy.slots.iter().filter(|slot| !occupied.contains(slot)).cloned().collect();
    if free.is_empty() {
        // None in the step means that there are none.
        return wait(Waiting::Room("something stands in every slot, also in those that no environment has".to_owned()));
    }
    act(vec![enroll(spec, free)], Vec::new(), policy)
}

fn enroll(spec: &EnvSpec, slots: Vec<SlotId>) -> Step {
    Step::Enroll { generation: spec.generation, hosts: spec.hosts.clone(), slots }
}

/// The machine that an environment works with: the one that came of the newest question, or, while its answer is not
/// known, the newest of the generation. What merely looks like ours, also by its tags, is not worked with: it was made
/// by somebody else.
pub fn machine_of<'a>(machines: &'a [Machine], ledger: &Ledger, policy: &Policy) -> Option<&'a Machine> {
    let asked = ledger.intents_for(&Role::Machine).next_back()?;
    let mut usable = machines.iter().rev().filter(|machine| {
        machine.tags.as_ref().is_some_and(|tags| tags.generation == ledger.generation)
            && machine.state != MachineState::Stopping
            && prove_machine(machine, claim(ledger, policy), &policy.allow).is_ok()
    });
    match &asked.answer {
        Some(Answer::Accepted(id) | Answer::Stopped(id)) => usable.find(|machine| machine.id.as_str() == id),
        Some(Answer::Refused(_) | Answer::NoRoom(_) | Answer::Retired) => None,
        None => usable.next(),
    }
}

/// Which attempt of a task is the newest that was given to an agent; 1 if none was.
pub fn current_attempt(task: &Task, ledger: &Ledger, limit: u32) -> u32 {
    (1..=limit)
        .rev()
        .find(|attempt| {
            let role = Role::Rollout(attempt_of(task, *attempt).digest());
            ledger.intents_for(&role).next().is_some()
        })
        .unwrap_or(1)
}

fn attempt_of(task: &Task, attempt: u32) -> Task {
    Task { attempt, ..task.clone() }
}

enum Readiness {
    Ready,
    NotYet,
}

struct Draft<'a> {
    spec: &'a EnvSpec,
    seen: &'a Observed,
    ledger: &'a Ledger,
    policy: &'a Policy,
    steps: Vec<Step>,
    waiting: Vec<Waiting>,
    settled: bool,
    degraded: bool,
}

impl<'a> Draft<'a> {
    fn new(spec: &'a EnvSpec, seen: &'a Observed, ledger: &'a Ledger, policy: &'a Policy) -> Self {
        Self { spec, seen, ledger, policy, steps: Vec::new(), waiting: Vec::new(), settled: false, degraded: false }
    }

    fn tags(&self) -> Tags {
        Tags {
            install: self.policy.install.clone(),
            uid: self.spec.uid.clone(),
            key: self.ledger.key,
            generation: self.spec.generation,
        }
    }

    fn terminate(&mut self, machine: &Machine) {
        let (step, waiting) = terminate(machine, self.ledger, self.policy);
        self.steps.extend(step);
        self.waiting.push(waiting);
    }

    /// Stops the machine that the environment works with when it is awake.
    fn stop_machine(&mut self, machine: &Machine) {
        let Some(asked) = self.ledger.intents_for(&Role::Machine).next_back() else { return };
        match machine.state {
            MachineState::Stopped | MachineState::Stopping => {}
            MachineState::Running if machine.agent.is_some() => {
                let proven = prove_machine(machine, claim(self.ledger, self.policy), &self.policy.allow);
                self.stop(proven, asked, |machine, intent| Step::StopMachine { machine, intent });
            }
            // It can be stopped once it is up; on its way down it is not up either. It may not get there.
            MachineState::Running | MachineState::Pending if self.never_came_up() => self.terminate(machine),
            MachineState::Running | MachineState::Pending => self.waiting.push(Waiting::Stop),
        }
    }

    /// Stops all databases that can be. They may have started by themselves: RDS does so after seven days ("Stopping an
    /// Amazon RDS DB instance temporarily").
    fn stop_databases(&mut self) {
        let Some(databases) = self.seen.databases.present() else { return };
        for database in databases.iter().filter(|found| found.can_stop) {
            let role = Role::Database(database.name.clone());
            let Some(asked) = self.ledger.intents_for(&role).next_back() else { continue };
            match database.state {
                DatabaseState::Stopped | DatabaseState::Dropping | DatabaseState::Failed(_) => {}
                DatabaseState::Preparing => self.waiting.push(Waiting::Stop),
                DatabaseState::Ready => {
                    let proven = prove_database(database, claim(self.ledger, self.policy), &self.policy.allow);
                    self.stop(proven, asked, |database, intent| Step::StopDatabase { database, intent });
                }
            }
        }
    }

    /// Stops what is proven to be ours; what was asked for is from now on something that was stopped on purpose.
    fn stop<T: Display>(
        &mut self,
        proven: Result<Owned<T>, Refusal>,
        asked: &Intent,
        step: impl FnOnce(Owned<T>, Intent) -> Step,
    ) {
        match proven {
            Err(refusal) => self.waiting.push(Waiting::Refused(refusal)),
            Ok(owned) => {
                let answer = Some(Answer::Stopped(owned.id().to_string()));
                let intent = Intent { asked_at: self.seen.at, answer, ..asked.clone() };
                self.steps.push(step(owned, intent));
                self.waiting.push(Waiting::Stop);
            }
        }
    }

    /// The machine is gone because nothing was to run.
    fn retire(&mut self) {
        let last = self.ledger.intents_for(&Role::Machine).next_back();
        if let Some(Intent { token, answer: Some(Answer::Accepted(_) | Answer::Stopped(_)), .. }) = last {
            self.steps.push(Step::Retire { token: token.clone() });
        }
    }

    /// The machine to work with, if it is up; otherwise what leads to one.
    fn machine(&mut self) -> Option<Machine> {
        let machines: &[Machine] = match &self.seen.machines {
            Seen::Unknown(doubt) => {
                self.waiting.push(Waiting::Knowledge(format!("machines: {doubt}")));
                return None;
            }
            Seen::Absent => &[],
            Seen::Present(machines) => machines,
        };
        let Some(chosen) = machine_of(machines, self.ledger, self.policy).cloned() else {
            self.ask_for_machine(None);
            return None;
        };
        for other in machines.iter().filter(|machine| machine.id != chosen.id) {
            self.terminate(other);
        }
        match chosen.state {
            MachineState::Running if chosen.agent.is_some() => Some(chosen),
            MachineState::Running | MachineState::Pending => {
                if self.never_came_up() {
                    self.terminate(&chosen);
                } else {
                    self.waiting.push(Waiting::Machine);
                }
                None
            }
            MachineState::Stopped => {
                self.ask_for_machine(Some(&chosen.id));
                None
            }
            MachineState::Stopping => None,
        }
    }

    /// Whether the newest machine has had its time, to come up or to go down, and was not given a task since. One that was has come up: that its
    /// address cannot be read now is no ground to take it away.
    fn never_came_up(&self) -> bool {
        let Some(asked) = self.ledger.intents_for(&Role::Machine).next_back() else { return false };
        let asked_at = asked.asked_at;
        let tasks = self.ledger.intents.iter().filter(|intent| matches!(intent.role, Role::Rollout(_)));
        self.seen.at.since(asked_at) >= BOOT && tasks.map(|intent| intent.asked_at).all(|at| at < asked_at)
    }

    /// `stopped`: a machine that is down but still ours; asking again under its token brings it back.
    fn ask_for_machine(&mut self, stopped: Option<&MachineId>) {
        let last = self.ledger.intents_for(&Role::Machine).next_back();
        let attempt = match (last, stopped) {
            (None, _) => 1,
            // It was stopped on purpose.
            (Some(Intent { attempt, answer: Some(Answer::Stopped(_)), .. }), Some(_)) => *attempt,
            // It was asked to come up, and may not be seen to do so yet.
            (Some(intent), Some(_)) if self.may_be_invisible(intent) => {
                self.waiting.push(Waiting::Machine);
                return;
            }
            (Some(intent), Some(_)) if self.has_lived(intent.asked_at) => intent.attempt,
            (Some(intent), Some(_)) => intent.attempt + 1,
            // Refused, retired, or accepted and now proven absent: dead. Without an answer it may be asked again.
            (Some(intent), None) => match &intent.answer {
                Some(Answer::Accepted(_)) if self.may_be_invisible(intent) => {
                    self.waiting.push(Waiting::Machine);
                    return;
                }
                Some(_) => intent.attempt + 1,
                None => intent.attempt,
            },
        };
        if let Some(reason) = self.exhausted(&Role::Machine, attempt) {
            self.fail("machine", &reason);
            return;
        }
        if let Some(why) = self.is_full() {
            self.waiting.push(Waiting::Room(why));
            return;
        }
        let intent = self.intent(Role::Machine, attempt);
        self.steps.push(Step::LaunchMachine { intent, tags: self.tags(), slot: self.ledger.slot.clone() });
        self.waiting.push(Waiting::Machine);
    }

    /// Whether a machine that was asked for then came up and stayed for a while: one that went down before is not asked to
    /// come back for ever.
    fn has_lived(&self, asked_at: Timestamp) -> bool {
        let tasks = self.ledger.intents.iter().filter(|intent| matches!(intent.role, Role::Rollout(_)));
        self.seen.at.since(asked_at) >= LIVED && tasks.map(|intent| intent.asked_at).any(|at| at >= asked_at)
    }

    /// Whether there was no room anywhere, so lately that it is not asked again yet: after each round of all placements it
    /// takes longer.
    fn is_full(&self) -> Option<String> {
        let without_room = |intent: &&Intent| matches!(intent.answer, Some(Answer::NoRoom(_)));
        let refused: Vec<&Intent> = self.ledger.intents_for(&Role::Machine).rev().take_while(without_room).collect();
        let (last, places) = (refused.first()?, self.policy.placements.count().max(1));
        let Some(Answer::NoRoom(why)) = &last.answer else { return None };
        let rounds = refused.len() / places;
        let again = ROOM.saturating_mul(1 << rounds.saturating_sub(1).min(3));
        let is_waiting = refused.len().is_multiple_of(places) && self.seen.at.since(last.asked_at) < again;
        is_waiting.then(|| why.clone())
    }

    fn database(&mut self) -> Readiness {
        let Some(wanted) = &self.spec.database else {
            return Readiness::Ready;
        };
        let databases: &[Database] = match &self.seen.databases {
            Seen::Unknown(doubt) => {
                self.waiting.push(Waiting::Knowledge(format!("databases: {doubt}")));
                return Readiness::NotYet;
            }
            Seen::Absent => &[],
            Seen::Present(databases) => databases,
        };
        match databases.iter().find(|database| database.name == wanted.name).map(|found| &found.state) {
            None => self.ask_for_database(wanted, None),
            Some(DatabaseState::Stopped) => self.start_database(wanted),
            Some(DatabaseState::Failed(reason)) => self.ask_for_database(wanted, Some(reason)),
            Some(DatabaseState::Preparing) => self.waiting.push(Waiting::Database),
            Some(DatabaseState::Dropping) => self.waiting.push(Waiting::Removal),
            Some(DatabaseState::Ready) => return Readiness::Ready,
        }
        Readiness::NotYet
    }

    /// Asking again for one that is stopped starts it.
    fn start_database(&mut self, wanted: &DatabaseSpec) {
        let role = Role::Database(wanted.name.clone());
        let last = self.ledger.intents_for(&role).next_back();
        let is_starting = last.is_some_and(|intent| {
            // It may not be seen to do so yet.
            matches!(intent.answer, Some(Answer::Accepted(_))) && self.may_be_invisible(intent)
        });
        if is_starting {
            self.waiting.push(Waiting::Database);
        } else {
            let attempt = last.map_or(1, |intent| intent.attempt);
            self.prepare(wanted, role, attempt);
        }
    }

    fn ask_for_database(&mut self, wanted: &DatabaseSpec, failed: Option<&String>) {
        let role = Role::Database(wanted.name.clone());
        let last = self.ledger.intents_for(&role).next_back();
        let attempt = match (last, failed) {
            (None, _) => 1,
            (Some(intent), Some(_)) => intent.attempt + 1,
            (Some(intent), None) => match &intent.answer {
                Some(Answer::Accepted(_)) if self.may_be_invisible(intent) => {
                    self.waiting.push(Waiting::Database);
                    return;
                }
                Some(_) => intent.attempt + 1,
                None => intent.attempt,
            },
        };
        if let Some(refusal) = self.exhausted(&role, attempt) {
            self.fail("database", failed.unwrap_or(&refusal));
            return;
        }
        self.prepare(wanted, role, attempt);
    }

    fn prepare(&mut self, wanted: &DatabaseSpec, role: Role, attempt: u32) {
        let intent = self.intent(role, attempt);
        let (tags, slot) = (self.tags(), self.ledger.slot.clone());
        self.steps.push(Step::PrepareDatabase { intent, tags, database: wanted.clone(), slot });
        self.waiting.push(Waiting::Database);
    }

    /// What the agent should do next.
    fn rollout(&mut self, machine: &Machine) {
        let Some(address) = machine.agent.clone() else { return };
        let status = match &self.seen.agent {
            Seen::Present(status) => status,
            Seen::Unknown(doubt) => {
                self.waiting.push(Waiting::Agent(format!("{doubt}")));
                if matches!(doubt, Doubt::Silent { since, .. } if self.seen.at.since(*since) >= MUTE) {
                    self.terminate(machine);
                }
                return;
            }
            Seen::Absent => {
                self.waiting.push(Waiting::Agent("not up yet".to_owned()));
                return;
            }
        };
        let attempt = current_attempt(&self.spec.task, self.ledger, self.policy.limits.attempts);
        let task = attempt_of(&self.spec.task, attempt);
        let digest = task.digest();
        match standing_of(&digest, status) {
            OnAgent::Serving => self.served(&digest),
            OnAgent::Working => self.waiting.push(Waiting::Rollout),
            OnAgent::Failed(failure) => {
                // A commit that cannot be fetched may be there in a moment; a build that fails will fail again.
                if failure.stage == Stage::Checkout && attempt < self.policy.limits.attempts {
                    self.assign(address, attempt_of(&self.spec.task, attempt + 1));
                } else {
                    self.waiting.push(Waiting::Failed(Failure {
                        stage: failure.stage.as_str(),
                        reason: failure.reason.clone(),
                        log_tail: failure.log_tail.clone(),
                        service: None,
                    }));
                }
            }
            OnAgent::Unheard => self.assign(address, task),
        }
        self.degraded = status.serving.as_ref().is_some_and(|rollout| rollout.phase == RolloutPhase::Degraded);
        self.drop_unused_databases(status);
    }

    fn assign(&mut self, agent: String, task: Task) {
        let intent = self.intent(Role::Rollout(task.digest()), task.attempt);
        self.steps.push(Step::Assign { intent, agent, task: Box::new(task), database: self.spec.database.clone() });
        self.waiting.push(Waiting::Rollout);
    }

    fn served(&mut self, digest: &TaskDigest) {
        match (&self.spec.probe, self.spec.hosts.first()) {
            (Some(path), Some(host)) if self.ledger.proof_of(digest).is_none() => {
                self.steps.push(Step::Probe { host: host.label.clone(), path: path.clone(), task: digest.clone() });
            }
            _ => self.settled = true,
        }
    }

    /// Databases of this environment that nothing uses: neither what is wanted, nor what still serves or is
    /// being worked on until then.
    fn drop_unused_databases(&mut self, status: &AgentStatus) {
        let Some(databases) = self.seen.databases.present() else { return };
        // Until the new version is proven, the old one may still be asked.
        if self.steps.iter().any(|step| matches!(step, Step::Probe { .. })) {
            return;
        }
        // What an agent does not tell of may be in use.
        let rollouts = || status.serving.iter().chain(&status.candidate);
        if self.spec.database.is_some() && rollouts().any(|rollout| rollout.database.is_none()) {
            return;
        }
        let used: Vec<&str> = rollouts()
            .filter_map(|rollout| rollout.database.as_deref())
            .chain(self.spec.database.as_ref().map(|database| database.name.as_str()))
            .collect();
        for database in databases.iter().filter(|database| !used.contains(&database.name.as_str())) {
            let (step, waiting) = drop_database(database, self.ledger, self.policy);
            self.steps.extend(step);
            self.waiting.push(waiting);
            self.settled = false;
        }
    }

    fn intent(&self, role: Role, attempt: u32) -> Intent {
        let placement = (role == Role::Machine).then(|| self.placement(attempt)).flatten();
        let token = Token::derive(&self.spec.uid, self.spec.generation, &role, attempt, placement.as_ref());
        Intent { role, attempt, placement, token, asked_at: self.seen.at, answer: None }
    }

    /// Where an attempt was put, if it was asked for before: what the operator allows may have changed since.
    fn placement(&self, attempt: u32) -> Option<Placement> {
        let before = self.ledger.intents_for(&Role::Machine).find(|intent| intent.attempt == attempt);
        before.map_or_else(|| self.policy.placements.of(&self.spec.uid, attempt), |intent| intent.placement.clone())
    }

    /// Whether what was accepted may be there although a listing that shows others does not show it yet.
    fn may_be_invisible(&self, intent: &Intent) -> bool {
        self.seen.at.since(intent.asked_at) < self.policy.pace.grace
    }

    /// Why no further attempt is made, if so (I16).
    fn exhausted(&self, role: &Role, attempt: u32) -> Option<String> {
        let failed = self.ledger.intents_for(role).rev().filter(|intent| {
            let no_failure = matches!(intent.answer, Some(Answer::Retired | Answer::Stopped(_) | Answer::NoRoom(_)));
            intent.attempt < attempt && !no_failure
        });
        let mut next = self.seen.at;
        let in_a_row = failed.map(|intent| intent.asked_at).take_while(|asked_at| {
            let follows = next.since(*asked_at) < ATTEMPT_WINDOW;
            next = *asked_at;
            follows
        });
        let limit = usize::try_from(self.policy.limits.attempts).unwrap_or(usize::MAX);
        if in_a_row.count() < limit {
            return None;
        }
        match self.ledger.intents_for(role).next_back().and_then(|intent| intent.answer.clone()) {
            Some(Answer::Refused(reason)) => Some(reason),
            _ => Some(format!("given up after {limit} attempts; `kagero env plan` shows the journal")),
        }
    }

    fn fail(&mut self, stage: &'static str, reason: &str) {
        let again = "It is tried again within 20 minutes, or at once when the pull request is closed and, after its \
                     preview was destroyed, reopened";
        let reason = format!("{}. {again}", reason.trim_end_matches('.'));
        self.waiting.push(Waiting::Failed(Failure { stage, reason, log_tail: Vec::new(), service: None }));
    }

    fn finish(self) -> Plan {
        let failed = self.waiting.iter().any(|waiting| matches!(waiting, Waiting::Failed(_)));
        let next = if !self.steps.is_empty() {
            Next::Poll(self.policy.pace.busy)
        } else if self.settled || failed || self.waiting.is_empty() {
            // A service that comes back should be found soon, one that never does should cost little.
            let soon = self.policy.pace.busy.saturating_mul(10);
            Next::Poll(if self.degraded { self.policy.pace.idle.min(soon) } else { self.policy.pace.idle })
        } else {
            Next::Poll(self.policy.pace.busy)
        };
        Plan { steps: self.steps, waiting: self.waiting, next }
    }
}

enum OnAgent<'a> {
    Serving,
    Working,
    Failed(&'a StageFailure),
    Unheard,
}

fn standing_of<'a>(digest: &TaskDigest, status: &'a AgentStatus) -> OnAgent<'a> {
    if status.serving.as_ref().is_some_and(|rollout| rollout.task == *digest) {
        return OnAgent::Serving;
    }
    match status.candidate.as_ref().filter(|rollout| rollout.task == *digest) {
        None => OnAgent::Unheard,
        Some(rollout) => match &rollout.phase {
            RolloutPhase::Failed(failure) => OnAgent::Failed(failure),
            RolloutPhase::Working | RolloutPhase::Healthy | RolloutPhase::Degraded => OnAgent::Working,
        },
    }
}
