//! A world that does what steps say, at once and perfectly, or not at all.

use std::collections::BTreeSet;

use super::{KEY, config_for, policy, pull, repo_config, table};
use crate::domain::assignment::{
    AgentStatus, Rollout, RolloutPhase, SandboxLevel, ServiceReport, ServiceState, Stage, StageFailure,
};
use crate::domain::desired::Desired;
use crate::domain::id::{DatabaseId, Generation, MachineId, SlotId};
use crate::domain::ledger::{Answer, Intent, Ledger, Proof, Role, Standing, Token};
use crate::domain::observed::{Database, DatabaseState, Location, Machine, MachineState, Observed, Tags};
use crate::domain::policy::{Policy, RepoConfig};
use crate::domain::pull::{Pins, PullFacts, PullState};
use crate::domain::seen::{Doubt, Seen};
use crate::domain::step::{Plan, Step};
use crate::domain::time::Timestamp;
use crate::plan::{Ground, Seat, desired, plan};

pub(super) struct World {
    pub policy: Policy,
    pub pull: PullFacts,
    pub config: RepoConfig,
    pub clone_url: String,
    pub ledger: Option<Ledger>,
    pub machines: Vec<Machine>,
    pub databases: Vec<Database>,
    pub interfaces: Seen<usize>,
    pub occupied: Seen<BTreeSet<SlotId>>,
    pub agent: Option<AgentStatus>,
    /// Why the agent is not heard, if it is not.
    pub deaf: Option<Doubt>,
    /// How the next rollouts end.
    pub fate: Fate,
    pub now: Timestamp,
    pub done: Vec<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Serves,
    FailsAt(Stage),
}

impl World {
    pub fn new() -> Self {
        Self {
            policy: policy(),
            pull: pull(PullState::Open, 'a'),
            config: repo_config(),
            clone_url: "https://github.com/acme/shop.git".to_owned(),
            ledger: None,
            machines: Vec::new(),
            databases: Vec::new(),
            interfaces: Seen::Absent,
            occupied: Seen::Absent,
            agent: None,
            deaf: None,
            fate: Fate::Serves,
            now: Timestamp(10_000),
            done: Vec::new(),
        }
    }

    pub fn want(&self) -> Desired {
        desired(Ground {
            key: KEY,
            pull: Some(&self.pull),
            config: Some(&config_for(&self.pull, self.config.clone())),
            pins: &Pins::default(),
            ledger: self.ledger.as_ref(),
            seat: &Seat::Granted,
            taken: &BTreeSet::new(),
            clone_url: &self.clone_url,
            policy: &self.policy,
            now: self.now,
        })
    }

    pub fn seen(&self) -> Observed {
        let all = |empty: bool| if empty { Seen::Absent } else { Seen::Present(()) };
        Observed {
            at: self.now,
            machines: all(self.machines.is_empty()).map(|()| self.machines.clone()),
            databases: all(self.databases.is_empty()).map(|()| self.databases.clone()),
            interfaces: self.interfaces.clone(),
            occupied: self.occupied.clone(),
            agent: match (&self.deaf, &self.agent) {
                (Some(doubt), Some(_)) => Seen::Unknown(doubt.clone()),
                (_, agent) => agent.clone().map_or(Seen::Absent, Seen::Present),
            },
        }
    }

    pub fn plan(&self) -> Plan {
        plan(&self.want(), &self.seen(), self.ledger.as_ref(), Some(&self.pull), &self.policy)
    }

    /// Passes until a plan has no steps; panics if that never happens.
    pub fn settle(&mut self) -> Plan {
        for _ in 0..50 {
            let plan = self.plan();
            if plan.steps.is_empty() {
                return plan;
            }
            for step in &plan.steps {
                self.act(step);
            }
            self.now = Timestamp(self.now.0 + 100);
        }
        panic!("never settles: {:?}", self.done);
    }

    fn row(&mut self) -> &mut Ledger {
        self.ledger.as_mut().expect("acted before enrolling")
    }

    /// Notes that a database was asked for.
    pub fn own(&mut self, database: &Database) {
        let role = Role::Database(database.name.clone());
        let (uid, generation) = (self.row().uid.clone(), self.row().generation);
        let token = Token::derive(&uid, generation, &role, 1, None);
        let answer = Some(Answer::Accepted(database.id.to_string()));
        let asked_at = self.now;
        self.row().intents.push(Intent { role, attempt: 1, placement: None, token, asked_at, answer });
    }

    fn rewrite(&mut self, intent: &Intent) {
        let intents = &mut self.row().intents;
        *intents.iter_mut().find(|known| known.token == intent.token).unwrap() = intent.clone();
    }

    pub fn act(&mut self, step: &Step) {
        self.done.push(step.kind());
        let location = Location { account: "staging".into(), region: "local".into(), network: "host".into() };
        match step {
            Step::Enroll { generation, hosts, .. } => {
                let mut row = table::ledger(&self.policy, Standing::Live);
                if let Some(old) = self.ledger.as_ref().filter(|old| old.generation == *generation) {
                    row = old.clone();
                }
                row.generation = *generation;
                row.hosts.clone_from(hosts);
                row.enrolled_at = self.now;
                self.ledger = Some(row);
            }
            Step::LaunchMachine { intent, tags, slot } => {
                let name = format!("kagero-test-{}-g{}-a{}", tags.uid, tags.generation, intent.attempt);
                self.record(intent, &name);
                self.machines.retain(|machine| machine.name != name);
                self.machines.push(Machine {
                    id: MachineId::parse(name.clone()).unwrap(),
                    name,
                    tags: Some(tags.clone()),
                    location,
                    state: MachineState::Running,
                    agent: Some("127.0.0.1:9".to_owned()),
                    placement: intent.placement.clone(),
                    slot: slot.clone(),
                    read_at: self.now,
                });
                self.agent = Some(idle(tags));
            }
            Step::PrepareDatabase { intent, tags, database, slot } => {
                self.record(intent, &database.name);
                self.databases.retain(|found| found.name != database.name);
                self.databases.push(Database {
                    id: DatabaseId::parse(database.name.clone()).unwrap(),
                    name: database.name.clone(),
                    tags: Some(tags.clone()),
                    location,
                    state: DatabaseState::Ready,
                    can_stop: true,
                    slot: slot.clone(),
                    read_at: self.now,
                });
            }
            Step::StopMachine { intent, .. } => {
                self.rewrite(intent);
                self.machines.iter_mut().for_each(|one| one.state = MachineState::Stopped);
                self.agent = None;
            }
            Step::StopDatabase { intent, .. } => {
                self.rewrite(intent);
                self.databases.iter_mut().for_each(|one| one.state = DatabaseState::Stopped);
            }
            Step::Retire { token } => {
                let intents = &mut self.row().intents;
                intents.iter_mut().find(|intent| intent.token == *token).unwrap().answer = Some(Answer::Retired);
            }
            Step::Assign { intent, task, .. } => {
                self.record(intent, &task.digest().0);
                let rollout = Rollout {
                    task: task.digest(),
                    commit: task.commit.clone(),
                    database: task.database.clone(),
                    phase: RolloutPhase::Healthy,
                    stages: Vec::new(),
                    services: task
                        .services
                        .iter()
                        .map(|service| ServiceReport {
                            name: service.name.clone(),
                            state: ServiceState::Healthy,
                            address: "127.0.0.1:8000".parse().ok(),
                            restarts: 0,
                        })
                        .collect(),
                };
                let agent = self.agent.as_mut().expect("assigned without an agent");
                match self.fate {
                    Fate::Serves => {
                        agent.serving = Some(rollout);
                        agent.candidate = None;
                    }
                    Fate::FailsAt(stage) => {
                        let failure = StageFailure { stage, reason: "it broke".into(), log_tail: Vec::new() };
                        agent.candidate = Some(Rollout { phase: RolloutPhase::Failed(failure), ..rollout });
                    }
                }
            }
            Step::Probe { task, .. } => {
                let proof = Proof { task: task.clone(), at: self.now };
                self.row().proven = Some(proof);
            }
            Step::Leave { left } => {
                let at = left.at;
                let row = self.row();
                row.left = Some(left.clone());
                row.standing = Standing::Leaving(at);
            }
            Step::Terminate(owned) => {
                self.machines.retain(|machine| machine.id != *owned.id());
                if self.machines.is_empty() {
                    self.agent = None;
                }
            }
            Step::DropDatabase(owned) => self.databases.retain(|database| database.id != *owned.id()),
            Step::Release { seen_at } => {
                assert!(self.machines.is_empty() && self.databases.is_empty(), "released with something left");
                let at = *seen_at;
                self.row().standing = Standing::Released(at);
            }
            Step::Note { .. }
            | Step::Comment { .. }
            | Step::CreateDeployment { .. }
            | Step::FindDeployment { .. }
            | Step::SetDeployment { .. } => {}
        }
    }

    fn record(&mut self, intent: &Intent, id: &str) {
        let mut intent = intent.clone();
        intent.answer = Some(Answer::Accepted(id.to_owned()));
        let row = self.row();
        row.intents.retain(|old| old.token != intent.token);
        row.intents.push(intent);
    }

    pub fn close(&mut self) {
        self.pull.state = PullState::Closed;
    }

    pub fn assert_nothing_left(&self) {
        assert!(self.machines.is_empty(), "{:?}", self.machines);
        assert!(self.databases.is_empty(), "{:?}", self.databases);
        assert!(self.ledger.as_ref().is_none_or(Ledger::is_released), "{:?}", self.ledger);
    }

    pub fn generation(&self) -> Generation {
        self.ledger.as_ref().map_or(Generation::NONE, |row| row.generation)
    }
}

fn idle(tags: &Tags) -> AgentStatus {
    AgentStatus {
        uid: tags.uid.clone(),
        generation: tags.generation,
        version: "1".to_owned(),
        sandbox: SandboxLevel::Bubblewrap,
        candidate: None,
        serving: None,
    }
}
