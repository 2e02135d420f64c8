//! Machines as EC2 has them, and the agents on them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::super::fate::{Call, Nerve, Trouble};
use super::super::mischief::Mischief;
use super::region::{Life, MachineParts, Region, Resource};
use super::{Cloud, error, staging, trouble};
use crate::clock::Clock;
use crate::cloud::{CloudError, ErrorClass, MachineBirth, Machines, nothing, unknown_residue};
use crate::controller::{Agents, LogLines, LogWanted};
use crate::domain::assignment::{
    AgentStatus, Assignment, Rollout, RolloutPhase, SandboxLevel, ServiceReport, ServiceState, Stage, StageFailure,
    StageReport, Task,
};
use crate::domain::id::{EnvUid, InstallId, MachineId};
use crate::domain::network::Interface;
use crate::domain::observed::{Listing, Machine, MachineState, Residue, Tags};
use crate::domain::owned::{Owned, OwnedResidue, machine_name};
use crate::domain::time::Timestamp;

/// What an agent was told, and since when.
#[derive(Debug, Clone, Default)]
pub struct Work {
    candidate: Option<(Task, Timestamp)>,
    serving: Option<Task>,
}

/// From a task to its services' being healthy.
const BUILD: Duration = Duration::from_secs(45);

/// A commit that begins with these digits cannot be built.
pub const BROKEN_COMMIT: &str = "bad";

/// One controller's view of the machines.
#[derive(Clone)]
pub struct SimMachines {
    cloud: Cloud,
    install: InstallId,
    nerve: Nerve,
    clock: Arc<dyn Clock>,
}

impl SimMachines {
    /// For one controller.
    pub fn new(cloud: Cloud, install: InstallId, nerve: Nerve, clock: Arc<dyn Clock>) -> Self {
        Self { cloud, install, nerve, clock }
    }
}

fn id_of(id: &str) -> Result<MachineId, CloudError> {
    MachineId::parse(id).map_err(|why| error(ErrorClass::Bug, "name a machine", &why.to_string()))
}

fn id_text(number: u64) -> String {
    format!("i-{number:017x}")
}

impl Region {
    fn launch(&mut self, birth: MachineBirth<'_>) -> Result<MachineId, CloudError> {
        let MachineBirth { token, attempt, tags, placement, slot } = birth;
        let what = "RunInstances";
        let now = self.now();
        // "Ensuring idempotency in Amazon EC2 API requests", EC2 user guide: a token is its zone's, and stands for all that
        // was asked for under it.
        let zone = placement.map(|placement| placement.zone.as_str());
        let is_known = |one: &Resource<MachineParts>| {
            one.own.token == token.0 && one.own.placement.as_ref().map(|known| known.zone.as_str()) == zone
        };
        if let Some((id, machine)) = self.machines.iter_mut().find(|(_, one)| is_known(one)) {
            let is_same = machine.tags.as_ref() == Some(tags)
                && machine.own.placement.as_ref() == placement
                && machine.slot.as_ref() == slot;
            if !is_same {
                return Err(error(ErrorClass::Bug, what, "IdempotentParameterMismatch"));
            }
            let (id, name) = (id.clone(), machine.name.clone());
            match machine.life {
                Life::Ending(..) => return Err(error(ErrorClass::Denied, what, "IdempotentInstanceTerminated")),
                // "Stop and start Amazon EC2 instances": one that is stopping cannot be started.
                Life::Stopped if machine.ready_at > now => {
                    return Err(error(ErrorClass::Retry, what, "IncorrectInstanceState"));
                }
                Life::Stopped => {
                    machine.life = Life::Up;
                    let boot = self.weather.boot;
                    let ready_at = now.plus(self.chance.between(boot.0, boot.1));
                    if let Some(machine) = self.machines.get_mut(&id) {
                        machine.ready_at = ready_at;
                    }
                    self.enter(slot, tags);
                    self.note("start", &name, Some(tags.clone()));
                }
                Life::Up | Life::Failed => {}
            }
            return id_of(&id);
        }
        if self.machines.values().filter(|one| one.decoy.is_none() && one.is_alive(now)).count() >= self.quotas.machines
        {
            // "Amazon EC2 On-Demand Instance quotas", EC2 user guide.
            self.met.note(Mischief::Quota);
            return Err(error(ErrorClass::Quota, what, "VcpuLimitExceeded"));
        }
        // "Troubleshoot Amazon EC2 instance launch issues": the zone has none of that type just now.
        if self.weather.crowded_permille > 0 && self.chance.permille(self.weather.crowded_permille) {
            self.met.note(Mischief::NoRoom);
            return Err(error(ErrorClass::NoRoom, what, "InsufficientInstanceCapacity"));
        }
        if !self.take_launch() {
            return Err(error(ErrorClass::SlowDown(Duration::from_secs(1)), what, "RequestLimitExceeded"));
        }
        self.enter(slot, tags);
        let number = self.fresh();
        let id = id_text(number);
        let name = machine_name(tags, attempt);
        let boot = self.weather.boot;
        let machine = Resource {
            name: name.clone(),
            tags: Some(tags.clone()),
            location: staging(),
            born_at: now,
            visible_at: self.visible_at(),
            ready_at: now.plus(self.chance.between(boot.0, boot.1)),
            life: Life::Up,
            protected: false,
            decoy: None,
            lasting: false,
            slot: slot.cloned(),
            own: MachineParts {
                token: token.0.clone(),
                placement: placement.cloned(),
                address: format!("10.0.0.1:{number}"),
                work: Work::default(),
            },
        };
        self.note("launch", &name, machine.tags.clone());
        self.machines.insert(id.clone(), machine);
        id_of(&id)
    }

    fn stop(&mut self, id: &str) -> Result<(), CloudError> {
        let what = "StopInstances";
        let now = self.now();
        // "It can take a few minutes for the instance to stop" ("Stop and start Amazon EC2 instances").
        let down_at = now.plus(self.chance.between(Duration::from_secs(10), Duration::from_mins(1)));
        let Some(machine) = self.machines.get_mut(id) else { return Ok(()) };
        if let Some(decoy) = machine.decoy {
            self.breaches.push(format!("{what} of {}, which is a decoy ({decoy:?})", machine.name));
            return Err(error(ErrorClass::Denied, what, "OperationNotPermitted"));
        }
        match machine.life {
            Life::Up if machine.ready_at > now => Err(error(ErrorClass::Retry, what, "IncorrectInstanceState")),
            Life::Up => {
                machine.life = Life::Stopped;
                machine.ready_at = down_at;
                machine.own.work = Work::default();
                let (name, tags) = (machine.name.clone(), machine.tags.clone());
                self.note("stop", &name, tags);
                Ok(())
            }
            Life::Stopped | Life::Failed => Ok(()),
            Life::Ending(..) => Err(error(ErrorClass::Retry, what, "IncorrectInstanceState")),
        }
    }

    fn terminate(&mut self, id: &str) -> Result<(), CloudError> {
        let what = "TerminateInstances";
        let ending = self.ending(20, 90);
        let Some(machine) = self.machines.get_mut(id) else { return Ok(()) };
        let (name, tags, decoy, protected) =
            (machine.name.clone(), machine.tags.clone(), machine.decoy, machine.protected);
        // Asking for what is protected is refused by the cloud, and harms nothing ("Change instance termination protection").
        if let Some(decoy) = decoy.filter(|_| !protected) {
            self.breaches.push(format!("{what} of {name}, which is a decoy ({decoy:?})"));
        }
        if decoy.is_some() || protected {
            if protected {
                self.met.note(Mischief::Protected);
            }
            return Err(error(ErrorClass::Denied, what, "OperationNotPermitted"));
        }
        let Some(machine) = self.machines.get_mut(id) else { return Ok(()) };
        if !matches!(machine.life, Life::Ending(..)) {
            machine.life = ending;
            machine.own.work = Work::default();
            self.note("terminate", &name, tags);
        }
        Ok(())
    }

    fn machine_at(&mut self, address: &str) -> Option<&mut Resource<MachineParts>> {
        let now = self.now();
        let number: u64 = address.rsplit(':').next()?.parse().ok()?;
        let machine = self.machines.get_mut(&id_text(number));
        machine.filter(|one| one.own.address == address && one.life == Life::Up && one.ready_at <= now)
    }
}

#[async_trait]
impl Machines for SimMachines {
    async fn list(&self) -> Result<Listing<Machine>, CloudError> {
        let what = "DescribeInstances";
        let at = self.clock.now();
        let found = self.nerve.call(Call::ListMachines, || {
            let mut region = self.cloud.region();
            let (now, weather, mut chance) = (region.now(), region.weather, region.chance.clone());
            let (shown, complete) =
                Region::list(&mut chance, &region.met, weather, now, region.machines.values(), &self.install, '-');
            let ids: BTreeMap<&str, &str> =
                region.machines.iter().map(|(id, one)| (one.name.as_str(), id.as_str())).collect();
            let mut items: Vec<(Timestamp, Machine)> = Vec::with_capacity(shown.len());
            for one in shown {
                let Some(id) = ids.get(one.name.as_str()) else { continue };
                items.push((one.born_at, describe(id, one, now, at)?));
            }
            items.sort_by(|one, other| (one.0, &one.1.id.as_str()).cmp(&(other.0, &other.1.id.as_str())));
            let items: Vec<Machine> = items.into_iter().map(|(_, machine)| machine).collect();
            region.chance = chance;
            region.count_listing("list-machines", items.len());
            Ok(Listing { items, complete, at })
        });
        found.await.map_err(|kind| trouble(what, kind))?
    }

    async fn launch(&self, birth: MachineBirth<'_>) -> Result<MachineId, CloudError> {
        let (name, tags) = (machine_name(birth.tags, birth.attempt), birth.tags);
        let launch = || {
            let mut region = self.cloud.region();
            let answer = region.launch(birth);
            region.answer("launch", &name, tags, answer)
        };
        let done = self.nerve.call(Call::Launch, launch).await;
        done.map_err(|kind| trouble("RunInstances", kind))?
    }

    async fn stop(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        let what = "StopInstances";
        if !machine.is_fresh(self.clock.now()) {
            return Err(error(ErrorClass::Retry, what, "it was read too long ago"));
        }
        self.cloud.region().note("ask-stop", machine.name(), Some(machine.tags().clone()));
        let stop = || {
            let mut region = self.cloud.region();
            let answer = region.stop(machine.id().as_str());
            region.answer("stop", machine.name(), machine.tags(), answer)
        };
        let done = self.nerve.call(Call::StopMachine, stop).await;
        done.map_err(|kind| trouble(what, kind))?
    }

    async fn terminate(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        let what = "TerminateInstances";
        if !machine.is_fresh(self.clock.now()) {
            return Err(error(ErrorClass::Retry, what, "it was read too long ago"));
        }
        self.cloud.region().note("ask-terminate", machine.name(), Some(machine.tags().clone()));
        let terminate = || {
            let mut region = self.cloud.region();
            let answer = region.terminate(machine.id().as_str());
            region.answer("terminate", machine.name(), machine.tags(), answer)
        };
        let done = self.nerve.call(Call::Terminate, terminate).await;
        done.map_err(|kind| trouble(what, kind))?
    }

    async fn interfaces(&self) -> Result<Listing<Interface>, CloudError> {
        let (what, at) = ("DescribeNetworkInterfaces", self.clock.now());
        let found = self.nerve.call(Call::ListInterfaces, || {
            let mut region = self.cloud.region();
            if region.is_any_lingering() {
                region.met.note(Mischief::Lingering);
            }
            let items: Vec<Interface> = region.interfaces().into_iter().map(|(interface, _)| interface).collect();
            region.note("list-interfaces", "", None);
            Listing { items, complete: true, at }
        });
        found.await.map_err(|kind| trouble(what, kind))
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        Ok(nothing())
    }

    async fn clear_away(&self, residue: &OwnedResidue) -> Result<(), CloudError> {
        Err(unknown_residue(residue))
    }
}

fn describe(id: &str, one: &Resource<MachineParts>, now: Timestamp, read_at: Timestamp) -> Result<Machine, CloudError> {
    let state = match one.life {
        Life::Up | Life::Failed | Life::Stopped if one.ready_at > now => MachineState::Pending,
        Life::Up | Life::Failed => MachineState::Running,
        Life::Stopped => MachineState::Stopped,
        Life::Ending(..) => MachineState::Stopping,
    };
    Ok(Machine {
        id: id_of(id)?,
        name: one.name.clone(),
        tags: one.tags.clone(),
        location: one.location.clone(),
        placement: one.own.placement.clone(),
        slot: one.slot.clone(),
        agent: (state == MachineState::Running && one.decoy.is_none()).then(|| one.own.address.clone()),
        state,
        read_at,
    })
}

#[async_trait]
impl Agents for SimMachines {
    async fn status(&self, address: &str, uid: &EnvUid) -> Result<AgentStatus, String> {
        let asked = self.nerve.call(Call::Status, || {
            let mut region = self.cloud.region();
            let now = region.now();
            let machine = region.machine_at(address).ok_or("connection refused")?;
            let tags = machine.tags.clone().filter(|tags| tags.uid == *uid).ok_or("it is another environment's")?;
            machine.own.work.go_on(now);
            Ok(machine.own.work.status(&tags, now))
        });
        asked.await.map_err(silence)?
    }

    async fn assign(&self, address: &str, assignment: &Assignment) -> Result<(), String> {
        let asked = self.nerve.call(Call::Assign, || {
            let mut region = self.cloud.region();
            let now = region.now();
            let machine = region.machine_at(address).ok_or("connection refused")?;
            if machine.tags.as_ref().is_none_or(|tags| tags.uid != assignment.task.uid) {
                return Err("it is another environment's".to_owned());
            }
            machine.own.work.begin(&assignment.task, now);
            Ok(())
        });
        asked.await.map_err(silence)?
    }

    async fn logs(&self, _: &str, _: &EnvUid, _: &LogWanted) -> Result<LogLines, String> {
        Err("the simulation keeps no logs".to_owned())
    }
}

fn silence(trouble: Trouble) -> String {
    match trouble {
        Trouble::Failed => "500 Internal Server Error",
        Trouble::Throttled(_) => "connection reset",
        Trouble::Lost => "timed out",
    }
    .to_owned()
}

impl Work {
    fn begin(&mut self, task: &Task, now: Timestamp) {
        let digest = task.digest();
        let same = |known: &Task| known.digest() == digest;
        if self.serving.as_ref().is_some_and(same) {
            self.candidate = None;
        } else if !self.candidate.as_ref().is_some_and(|(known, _)| same(known)) {
            self.candidate = Some((task.clone(), now));
        }
    }

    fn go_on(&mut self, now: Timestamp) {
        let done = self.candidate.take_if(|(task, since)| now.since(*since) >= BUILD && !is_broken(task));
        if let Some((task, _)) = done {
            self.serving = Some(task);
        }
    }

    /// The commit that visitors see.
    pub fn serving(&self) -> Option<&Task> {
        self.serving.as_ref()
    }

    fn status(&self, tags: &Tags, now: Timestamp) -> AgentStatus {
        AgentStatus {
            uid: tags.uid.clone(),
            generation: tags.generation,
            version: "simulated".to_owned(),
            sandbox: SandboxLevel::Bubblewrap,
            candidate: self.candidate.as_ref().map(|(task, since)| {
                let failed = is_broken(task) && now.since(*since) >= BUILD;
                let phase = if failed { RolloutPhase::Failed(broken()) } else { RolloutPhase::Working };
                rollout(task, phase, ServiceState::Waiting, *since)
            }),
            serving: self
                .serving
                .as_ref()
                .map(|task| rollout(task, RolloutPhase::Healthy, ServiceState::Healthy, Timestamp::default())),
        }
    }
}

fn is_broken(task: &Task) -> bool {
    task.commit.as_str().starts_with(BROKEN_COMMIT)
}

fn broken() -> StageFailure {
    StageFailure { stage: Stage::Build, reason: "the build failed".to_owned(), log_tail: vec!["error".to_owned()] }
}

fn rollout(task: &Task, phase: RolloutPhase, state: ServiceState, began_at: Timestamp) -> Rollout {
    let address: Option<SocketAddr> = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
    let services = task.services.iter().map(|service| ServiceReport {
        name: service.name.clone(),
        state,
        address: address.filter(|_| state == ServiceState::Healthy),
        restarts: 0,
    });
    Rollout {
        task: task.digest(),
        commit: task.commit.clone(),
        database: task.database.clone(),
        phase,
        stages: vec![StageReport { stage: Stage::Build, began_at, ended_at: None }],
        services: services.collect(),
    }
}

impl Cloud {
    /// The task whose services answer for an environment, whatever any controller has seen of it.
    pub fn serves(&self, uid: &str) -> Option<Task> {
        let mut region = self.region();
        let now = region.now();
        let up = region.machines.values_mut().filter(|one| one.life == Life::Up && one.ready_at <= now);
        let ours = up.filter(|one| one.tags.as_ref().is_some_and(|tags| tags.uid.as_str() == uid));
        ours.filter_map(|machine| {
            machine.own.work.go_on(now);
            machine.own.work.serving.clone()
        })
        .last()
    }
}
