//! Machines on EC2.
//!
//! Guarantees: see [`crate::cloud::Machines`]. A machine is asked for under the token that the store has; what came of a
//! question whose answer was lost is found by it. Instances are terminated after they were read once more; one that cannot be
//! keeps none of the others.
//! Must not know: what runs on them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_ec2::types::{Instance, InstanceStateName, Reservation};

use super::connection::Connection;
use super::error::{Verb, code, refused, told};
use super::instance::{described, life};
use super::launch::{MachineSettings, request};
use super::pace::{Bucket, Pace};
use super::pairs::of_ec2;
use super::quotas::survey_quotas;
use super::rules::network::Network;
use super::rules::pages::Pages;
use super::rules::quota::tightest;
use super::rules::tags::INSTALL;
use super::survey::filter;
use crate::clock::Clock;
use crate::cloud::{CloudError, ErrorClass, MachineBirth, Machines, Room, nothing, unknown_residue};
use crate::domain::id::{MachineId, SlotId};
use crate::domain::ledger::Token;
use crate::domain::network::Interface;
use crate::domain::observed::{Listing, Machine, MachineState, Residue};
use crate::domain::owned::{Owned, OwnedResidue, machine_name, name_prefix};

/// Where agents listen.
pub const AGENT_PORT: u16 = 7_780;

/// An instance that is older than this when it comes as an answer was made for an earlier question.
const JUST_MADE: Duration = Duration::from_mins(1);

/// Instances that are terminated by one call. EC2 takes a thousand, and recommends fewer at a time; the filter of the look
/// before it takes two hundred ("Filtering your resources").
const TOGETHER: usize = 200;

/// Codes for a refusal of several instances because of one of them: protected, or not within our rights.
const ABOUT_ONE: [&str; 3] = ["OperationNotPermitted", "UnauthorizedOperation", "InvalidInstanceID.Malformed"];

/// States of what is still there.
const LIVING: [InstanceStateName; 5] = [
    InstanceStateName::Pending,
    InstanceStateName::Running,
    InstanceStateName::ShuttingDown,
    InstanceStateName::Stopping,
    InstanceStateName::Stopped,
];

/// Machines on EC2. Cheap to clone.
#[derive(Clone)]
pub struct Ec2Machines {
    inner: Arc<Inner>,
}

struct Inner {
    aws: Connection,
    settings: MachineSettings,
    network: Network,
    pace: Pace,
    clock: Arc<dyn Clock>,
    /// By id: what was stopped and not started since. The answer under its token does not tell so, and its age neither if it
    /// was woken soon.
    stopped: Mutex<HashSet<String>>,
}

impl Ec2Machines {
    /// Machines in that network. Whoever calls has seen that the ground is staging's.
    pub fn new(aws: Connection, settings: MachineSettings, network: Network, clock: Arc<dyn Clock>) -> Self {
        let (pace, stopped) = (Pace::default(), Mutex::default());
        Self { inner: Arc::new(Inner { aws, settings, network, pace, clock, stopped }) }
    }
}

impl Ec2Machines {
    /// Asks whether a machine could be launched, and launches none (`DryRun`).
    pub async fn rehearse(&self, birth: &MachineBirth<'_>) -> Result<(), CloudError> {
        let Inner { aws, settings, network, .. } = self.inner.as_ref();
        let what = "launch a machine (DryRun)";
        let (Some(placement), Some(slot)) = (birth.placement, birth.slot) else {
            return Err(refused(ErrorClass::Bug, what, "it was asked without a place or a slot"));
        };
        match request(aws, settings, network, birth, (placement, slot))?.dry_run(true).send().await {
            Err(error) if code(&error) == Some("DryRunOperation") => Ok(()),
            Err(error) => Err(told(Verb::Read, what, &error)),
            Ok(_) => {
                Err(refused(ErrorClass::Bug, what, "it was not taken for a rehearsal: look for a machine by hand"))
            }
        }
    }
}

impl Inner {
    /// The instances that a reservation shows, with whether all of them could be understood.
    fn machines(&self, reservations: &[Reservation]) -> (Vec<Machine>, bool) {
        let now = self.clock.now();
        let prefix = name_prefix(&self.settings.install, '-');
        let (mut machines, mut understood) = (Vec::new(), true);
        for reservation in reservations {
            let owner = reservation.owner_id().unwrap_or_default();
            for instance in reservation.instances().iter().filter(|instance| life(instance).is_some()) {
                match described(instance, owner, &self.aws.region, &self.network, now) {
                    // Whatever was made of its tags: what is named like ours is seen.
                    Some(machine) if machine.name.starts_with(&prefix) || self.is_tagged(instance) => {
                        machines.push(machine);
                    }
                    Some(_) => {}
                    None => understood = false,
                }
            }
        }
        (machines, understood)
    }

    fn is_tagged(&self, instance: &Instance) -> bool {
        of_ec2(instance.tags()).get(INSTALL) == Some(self.settings.install.as_str())
    }

    /// What came of a token, whatever it was asked with; an error if it has ended since.
    async fn find_by_token(&self, what: &str, token: &Token) -> Result<Option<Instance>, CloudError> {
        self.pace.take(Bucket::Look, what)?;
        let request = self.aws.look.ec2.describe_instances().filters(filter("client-token", [token.0.as_str()]));
        let found = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
        let all: Vec<&Instance> = found.reservations().iter().flat_map(Reservation::instances).collect();
        let living = all.iter().find(|instance| life(instance).is_some());
        if living.is_none() && !all.is_empty() {
            return Err(refused(
                ErrorClass::Denied,
                what,
                "what was made under its token has ended; another one is made",
            ));
        }
        Ok(living.map(|instance| (*instance).clone()))
    }

    /// What was made before may be down: then it is started. Starting what is up changes nothing.
    async fn bring_up(&self, what: &str, instance: &Instance) -> Result<(), CloudError> {
        let Some(id) = instance.instance_id() else { return Ok(()) };
        self.pace.take(Bucket::Change, what)?;
        match self.aws.make.ec2.start_instances().instance_ids(id).send().await {
            Ok(_) => Ok(()),
            // On its way up already.
            Err(error)
                if code(&error) == Some("IncorrectInstanceState")
                    && instance.state().and_then(|state| state.name()) == Some(&InstanceStateName::Pending) =>
            {
                Ok(())
            }
            Err(error) => Err(told(Verb::Change, format!("{what}: start {id}"), &error)),
        }
    }

    fn stopped(&self) -> MutexGuard<'_, HashSet<String>> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_young(&self, instance: &Instance) -> bool {
        let Some(began) = instance.launch_time().and_then(|time| time.to_millis().ok()) else { return true };
        self.clock.now().0.saturating_sub(began) < i64::try_from(JUST_MADE.as_millis()).unwrap_or(i64::MAX)
    }

    async fn launch(&self, birth: MachineBirth<'_>) -> Result<MachineId, CloudError> {
        let what = format!("launch {}", machine_name(birth.tags, birth.attempt));
        if birth.tags.install != self.settings.install {
            let why = format!("its tags name installation {}, not ours", birth.tags.install);
            return Err(refused(ErrorClass::Bug, what, why));
        }
        let Some(placement) = birth.placement else {
            let why = "its record names no zone and type: it was written for another kind of compute. Close the pull \
                       request and reopen it when its preview was destroyed";
            return Err(refused(ErrorClass::Denied, what, why));
        };
        let Some(slot) = birth.slot.filter(|slot| self.network.slots.contains(slot)) else {
            let why = "its record names no slot of this network: close the pull request, and reopen it when its preview \
                       was destroyed";
            return Err(refused(ErrorClass::Denied, what, why));
        };
        let request = request(&self.aws, &self.settings, &self.network, &birth, (placement, slot))?;
        self.pace.take(Bucket::Launch, &what)?;
        let instance = match request.send().await {
            Ok(made) => made.instances().first().cloned(),
            Err(error) if code(&error) == Some("IdempotentParameterMismatch") => {
                self.find_by_token(&what, birth.token).await?
            }
            Err(error) => return Err(told(Verb::Make, what, &error)),
        };
        let Some((instance, id)) = instance.as_ref().and_then(|found| Some((found, found.instance_id()?))) else {
            let why = "what was made under its token is not visible yet; it is looked for again";
            return Err(refused(ErrorClass::Ambiguous, what, why));
        };
        let was_stopped = self.stopped().contains(id);
        if was_stopped || !self.is_young(instance) || life(instance) == Some(MachineState::Stopped) {
            self.bring_up(&what, instance).await?;
            self.stopped().remove(id);
        }
        MachineId::parse(id).map_err(|error| refused(ErrorClass::Bug, what, error.to_string()))
    }

    /// Looks once more: what is to be stopped or terminated is what was proven to be ours.
    async fn look_again(&self, what: &str, machines: &[&Owned<MachineId>]) -> Result<Vec<Reservation>, CloudError> {
        // Asked for by a filter, one that is not there any more does not fail the others.
        let ids = filter("instance-id", machines.iter().map(|machine| machine.id().as_str()));
        let mut pages = Pages::default();
        while let Some(token) = pages.wanted() {
            self.pace.take(Bucket::Look, what)?;
            let request = self.aws.look.ec2.describe_instances().filters(ids.clone());
            let request = request.max_results(MachineSettings::PAGE).set_next_token(token);
            let page = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
            let next = page.next_token().map(str::to_owned);
            pages.add(page.reservations.unwrap_or_default(), next.as_deref());
        }
        let all = pages.gathered();
        if !all.complete {
            // What is not on it would be taken for gone.
            return Err(refused(ErrorClass::Retry, what, "what is there could not be read to its end"));
        }
        Ok(all.items)
    }

    /// Whether it is there, and ours as far as that look shows.
    fn is_as_proven(&self, what: &str, machine: &Owned<MachineId>, found: &[Reservation]) -> Result<bool, CloudError> {
        if !machine.is_fresh(self.clock.now()) {
            let why = "the evidence that it is ours is more than a minute old; list the machines again";
            return Err(refused(ErrorClass::Retry, what, why));
        }
        let id = machine.id().as_str();
        let mut all = found.iter().flat_map(|reservation| {
            reservation.instances().iter().map(|instance| (reservation.owner_id().unwrap_or_default(), instance))
        });
        let Some((owner, instance)) = all.find(|(_, instance)| instance.instance_id() == Some(id)) else {
            return Ok(false);
        };
        if life(instance).is_none() {
            return Ok(false);
        }
        let is_here = owner == self.settings.account && instance.vpc_id() == Some(self.settings.vpc.as_str());
        if of_ec2(instance.tags()).owner().as_ref() == Some(machine.tags()) && is_here {
            return Ok(true);
        }
        let why =
            format!("{id} does not say what the proof says: its tags or its network have changed; look at it by hand");
        Err(refused(ErrorClass::Denied, what, why))
    }

    async fn stop(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        let what = format!("stop {}", machine.name());
        let found = self.look_again(&what, &[machine]).await?;
        if !self.is_as_proven(&what, machine, &found)? {
            return Ok(());
        }
        self.pace.take(Bucket::Change, &what)?;
        match self.aws.make.ec2.stop_instances().instance_ids(machine.id().as_str()).send().await {
            Ok(_) => {
                self.stopped().insert(machine.id().as_str().to_owned());
                Ok(())
            }
            Err(error) if code(&error).is_some_and(|code| code.starts_with("InvalidInstanceID.NotFound")) => Ok(()),
            Err(error) => Err(told(Verb::Change, what, &error)),
        }
    }

    /// What came of each.
    async fn terminate(&self, machines: &[&Owned<MachineId>]) -> Vec<Result<(), CloudError>> {
        let what = match machines {
            [one] => format!("terminate {}", one.name()),
            several => format!("terminate {} machines", several.len()),
        };
        let found = match self.look_again(&what, machines).await {
            Ok(found) => found,
            Err(error) => return machines.iter().map(|_| Err(error.clone())).collect(),
        };
        let looked: Vec<_> = machines.iter().map(|machine| self.is_as_proven(&what, machine, &found)).collect();
        let there = machines.iter().zip(&looked).filter(|(_, looked)| matches!(looked, Ok(true)));
        let there: Vec<&Owned<MachineId>> = there.map(|(machine, _)| *machine).collect();
        let mut ended = if there.is_empty() { Vec::new() } else { self.end(&what, &there).await }.into_iter();
        let unsaid = || Err(refused(ErrorClass::Bug, &*what, "nothing was said of what came of it"));
        let outcome = |looked: Result<bool, CloudError>| match looked {
            Ok(true) => ended.next().unwrap_or_else(unsaid),
            other => other.map(drop),
        };
        looked.into_iter().map(outcome).collect()
    }

    /// Ends machines that are there and ours. What came of each.
    async fn end(&self, what: &str, machines: &[&Owned<MachineId>]) -> Vec<Result<(), CloudError>> {
        let all = |error: CloudError| machines.iter().map(|_| Err(error.clone())).collect();
        if let Err(early) = self.pace.take(Bucket::Terminate, what) {
            return all(early);
        }
        let ids: Vec<String> = machines.iter().map(|machine| machine.id().as_str().to_owned()).collect();
        for id in &ids {
            self.stopped().remove(id);
        }
        let done = self.aws.remove.ec2.terminate_instances().set_instance_ids(Some(ids)).send().await;
        let Err(error) = done else { return machines.iter().map(|_| Ok(())).collect() };
        let is_gone = code(&error).is_some_and(|code| code.starts_with("InvalidInstanceID.NotFound"));
        match machines {
            [_] if is_gone => vec![Ok(())],
            [_] => vec![Err(told(Verb::Remove, what, &error))],
            // One of them is the reason, and others were not ended either: each by itself, after another look.
            several if is_gone || code(&error).is_some_and(|code| ABOUT_ONE.contains(&code)) => {
                let mut done = Vec::with_capacity(several.len());
                for machine in several {
                    done.extend(Box::pin(self.terminate(&[machine])).await);
                }
                done
            }
            _ => all(told(Verb::Remove, what, &error)),
        }
    }

    async fn interfaces(&self) -> Result<Listing<Interface>, CloudError> {
        let (what, at) = ("DescribeNetworkInterfaces", self.clock.now());
        let mut pages = Pages::default();
        while let Some(token) = pages.wanted() {
            self.pace.wait(Bucket::Look).await;
            let request =
                self.aws.look.ec2.describe_network_interfaces().filters(filter("vpc-id", [&self.settings.vpc]));
            let request = request.max_results(self.settings.page).set_next_token(token);
            let page = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
            let interfaces = page.network_interfaces().iter();
            let items = interfaces.filter_map(|interface| {
                let groups = interface.groups().iter().filter_map(|group| group.group_id());
                let slot: SlotId = self.network.slot_of(groups)?;
                Some(Interface { id: interface.network_interface_id().unwrap_or_default().to_owned(), slot })
            });
            pages.add(items, page.next_token());
        }
        let all = pages.gathered();
        Ok(Listing { items: all.items, complete: all.complete, at })
    }
}

#[async_trait]
impl Machines for Ec2Machines {
    async fn list(&self) -> Result<Listing<Machine>, CloudError> {
        let (inner, what) = (&self.inner, "DescribeInstances");
        let at = inner.clock.now();
        let mut pages = Pages::default();
        while let Some(token) = pages.wanted() {
            inner.pace.wait(Bucket::Look).await;
            let request = inner
                .aws
                .look
                .ec2
                .describe_instances()
                .filters(filter("vpc-id", [&inner.settings.vpc]))
                .filters(filter("instance-state-name", LIVING.map(|state| state.as_str().to_owned())))
                .max_results(inner.settings.page)
                .set_next_token(token);
            let page = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
            let (machines, understood) = inner.machines(page.reservations());
            pages.add([(machines, understood)], page.next_token());
        }
        let all = pages.gathered();
        let complete = all.complete && all.items.iter().all(|(_, understood)| *understood);
        Ok(Listing { items: all.items.into_iter().flat_map(|(machines, _)| machines).collect(), complete, at })
    }

    async fn launch(&self, birth: MachineBirth<'_>) -> Result<MachineId, CloudError> {
        self.inner.launch(birth).await
    }

    async fn stop(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        self.inner.stop(machine).await
    }

    async fn terminate(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        self.inner.terminate(&[machine]).await.into_iter().collect()
    }

    async fn terminate_all(&self, machines: &[Owned<MachineId>]) -> Vec<Result<(), CloudError>> {
        let mut done = Vec::with_capacity(machines.len());
        for some in machines.chunks(TOGETHER) {
            done.extend(self.inner.terminate(&some.iter().collect::<Vec<_>>()).await);
        }
        done
    }

    async fn interfaces(&self) -> Result<Listing<Interface>, CloudError> {
        self.inner.interfaces().await
    }

    async fn room(&self) -> Result<Option<Room>, CloudError> {
        let Inner { aws, settings, network, .. } = self.inner.as_ref();
        let quotas = survey_quotas(aws, &settings.install, network, &settings.databases).await?;
        Ok(tightest(&quotas).map(|(environments, quota)| Room { environments, limit: quota.counted.to_string() }))
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        Ok(nothing())
    }

    async fn clear_away(&self, residue: &OwnedResidue) -> Result<(), CloudError> {
        Err(unknown_residue(residue))
    }
}
