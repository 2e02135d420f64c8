//! A lost store, from what lives and from GitHub: which records to write, and what only a person can tell.
//!
//! Guarantees: a record is written only for what [`prove_machine`] and [`prove_database`] would let us destroy, so that
//! nothing of anyone else's becomes ours; nothing that lives is left out silently.
//! Must not know: where machines and databases come from.

use std::collections::{BTreeMap, BTreeSet};

use super::hosts;
use crate::domain::id::{EnvKey, EnvUid, Generation, HostLabel, SlotId};
use crate::domain::ledger::{Answer, DeploymentSaid, Host, Intent, Ledger, Role, Said, Standing, Token};
use crate::domain::network::Placement;
use crate::domain::observed::{Database, Machine, Tags};
use crate::domain::owned::{Claim, attempt_in_name, prove_database, prove_machine};
use crate::domain::policy::Policy;
use crate::domain::pull::PullFacts;
use crate::domain::time::Timestamp;

/// Everything that the records are rebuilt from.
#[derive(Debug, Clone, Copy)]
pub struct Remains<'a> {
    /// Complete listings of what there is.
    pub machines: &'a [Machine],
    /// The same.
    pub databases: &'a [Database],
    /// The pull requests that the tags name; an error says why one could not be read.
    pub pulls: &'a BTreeMap<EnvKey, Result<PullFacts, String>>,
    /// Records that there are.
    pub known: &'a [Ledger],
    /// The operator's policy.
    pub policy: &'a Policy,
    /// The present instant.
    pub now: Timestamp,
}

/// What follows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Records to write, by key.
    pub ledgers: Vec<Ledger>,
    /// What a person has to look at.
    pub leftovers: Vec<Leftover>,
}

/// Something that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Leftover {
    /// `machine`, `database` or `pull request`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Why, and what to do.
    pub why: String,
}

/// What is ours of one pull request.
#[derive(Debug, Default)]
struct Holding<'a> {
    machines: Vec<(&'a Machine, &'a Tags)>,
    databases: Vec<(&'a Database, &'a Tags)>,
}

impl Holding<'_> {
    fn generation(&self) -> Generation {
        let machines = self.machines.iter().map(|(_, tags)| tags.generation);
        machines.chain(self.databases.iter().map(|(_, tags)| tags.generation)).max().unwrap_or(Generation::NONE)
    }

    /// The slot of what lives in that generation.
    fn slot(&self, generation: Generation) -> Option<SlotId> {
        let machines = self.machines.iter().map(|(machine, tags)| (tags.generation, machine.slot.as_ref()));
        let databases = self.databases.iter().map(|(database, tags)| (tags.generation, database.slot.as_ref()));
        machines.chain(databases).filter(|(of, _)| *of == generation).find_map(|(_, slot)| slot.cloned())
    }

    fn leftovers(&self, why: &str) -> Vec<Leftover> {
        let machines = self.machines.iter().map(|(machine, _)| left("machine", &machine.name, why));
        machines.chain(self.databases.iter().map(|(database, _)| left("database", &database.name, why))).collect()
    }
}

/// The pull requests that what lives belongs to, by its own word: those to read.
pub fn keys_of(machines: &[Machine], databases: &[Database]) -> BTreeSet<EnvKey> {
    let machines = machines.iter().filter_map(|machine| machine.tags.as_ref());
    machines.chain(databases.iter().filter_map(|database| database.tags.as_ref())).map(|tags| tags.key).collect()
}

/// Which records to write.
pub fn adopt(remains: Remains<'_>) -> Adoption {
    let mut adoption = Adoption::default();
    let known: BTreeMap<EnvKey, &Ledger> = remains.known.iter().map(|ledger| (ledger.key, ledger)).collect();
    let mut taken: BTreeMap<HostLabel, EnvKey> = remains
        .known
        .iter()
        .flat_map(|ledger| ledger.hosts.iter().map(|host| (host.label.clone(), ledger.key)))
        .collect();
    for (key, holding) in sort(remains, &mut adoption.leftovers) {
        let generation = holding.generation();
        let before = known.get(&key).copied();
        if let Some(ledger) = before {
            match (ledger.is_released(), generation > ledger.generation) {
                // Ours, and known to be.
                (false, false) => continue,
                (true, true) => {}
                (false, true) => {
                    let why = format!(
                        "it is of generation {generation}, the record of {key} is of generation {} and not closed: the \
                         store is older than what lives. Stop the controller and take it away by hand, or adopt into \
                         an empty store",
                        ledger.generation
                    );
                    adoption.leftovers.extend(holding.leftovers(&why));
                    continue;
                }
                (true, false) => {
                    let why = format!("the record of {key} says that nothing was left; take it away by hand");
                    adoption.leftovers.extend(holding.leftovers(&why));
                    continue;
                }
            }
        }
        let Some(intents) = intents(&holding, generation, remains.now) else {
            adoption.leftovers.extend(holding.leftovers(
                "a machine's name does not tell which attempt it came from, so the next one could double it; take \
                 it away by hand",
            ));
            continue;
        };
        let pull = match remains.pulls.get(&key) {
            Some(Ok(pull)) => Some(pull),
            unread => {
                let why = unread.and_then(|read| read.as_ref().err()).map_or("it was not asked for", String::as_str);
                let why = format!(
                    "it could not be read: {why}. Its environment is kept as it is until it can be, or until its \
                     maximum age"
                );
                adoption.leftovers.push(left("pull request", &key.to_string(), &why));
                None
            }
        };
        let hosts = match before {
            Some(ledger) => ledger.hosts.clone(),
            None => hosts_of(key, pull, &taken),
        };
        taken.extend(hosts.iter().map(|host| (host.label.clone(), key)));
        let slot = holding.slot(generation);
        adoption.ledgers.push(Ledger {
            key,
            uid: EnvUid::derive(&remains.policy.install, key),
            generation,
            hosts,
            enrolled_at: remains.now,
            standing: Standing::Live,
            slot,
            left: None,
            intents,
            proven: None,
            said: said(before, pull),
        });
    }
    adoption
}

/// What is provably ours, by pull request; the rest is left over.
fn sort<'a>(remains: Remains<'a>, leftovers: &mut Vec<Leftover>) -> BTreeMap<EnvKey, Holding<'a>> {
    let mut holdings: BTreeMap<EnvKey, Holding<'a>> = BTreeMap::new();
    let policy = remains.policy;
    for machine in remains.machines {
        let proven = proven(machine.tags.as_ref(), policy, |claim| prove_machine(machine, claim, &policy.allow).err());
        match proven {
            Ok(tags) => holdings.entry(tags.key).or_default().machines.push((machine, tags)),
            Err(why) => leftovers.push(left("machine", &machine.name, &why)),
        }
    }
    for database in remains.databases {
        let refuse = |claim: Claim<'_>| prove_database(database, claim, &policy.allow).err();
        match proven(database.tags.as_ref(), policy, refuse) {
            Ok(tags) => holdings.entry(tags.key).or_default().databases.push((database, tags)),
            Err(why) => leftovers.push(left("database", &database.name, &why)),
        }
    }
    holdings
}

/// The tags, if they say the truth: a uid follows from the pull request.
fn proven<'a>(
    tags: Option<&'a Tags>,
    policy: &Policy,
    refuse: impl FnOnce(Claim<'_>) -> Option<crate::domain::owned::Refusal>,
) -> Result<&'a Tags, String> {
    let Some(tags) = tags else {
        return Err("it carries no owner tags, so nobody can tell whose it is; look at it by hand".to_owned());
    };
    let uid = EnvUid::derive(&policy.install, tags.key);
    let claim = Claim { install: &policy.install, uid: &uid, generation: tags.generation };
    match refuse(claim) {
        None => Ok(tags),
        Some(refusal) => Err(format!("{refusal}; it is left alone")),
    }
}

/// What must have been asked for, as far as what lives shows it; `None` if it does not show which attempt it was.
fn intents(holding: &Holding<'_>, generation: Generation, now: Timestamp) -> Option<Vec<Intent>> {
    let accepted = |tags: &Tags, role: Role, attempt: u32, placement: Option<&Placement>, id: &str| Intent {
        token: Token::derive(&tags.uid, generation, &role, attempt, placement),
        role,
        attempt,
        placement: placement.cloned(),
        asked_at: now,
        answer: Some(Answer::Accepted(id.to_owned())),
    };
    let mut machines = Vec::new();
    for (machine, tags) in holding.machines.iter().filter(|(_, tags)| tags.generation == generation) {
        let attempt = attempt_in_name(&machine.name, tags)?;
        machines.push(accepted(tags, Role::Machine, attempt, machine.placement.as_ref(), machine.id.as_str()));
    }
    machines.sort_by_key(|intent| intent.attempt);
    let databases = holding.databases.iter().filter(|(_, tags)| tags.generation == generation);
    let databases =
        databases.map(|(found, tags)| accepted(tags, Role::Database(found.name.clone()), 1, None, found.id.as_str()));
    Some(machines.into_iter().chain(databases).collect())
}

/// The environment's own host name; those of its services follow when its configuration is read.
fn hosts_of(key: EnvKey, pull: Option<&PullFacts>, taken: &BTreeMap<HostLabel, EnvKey>) -> Vec<Host> {
    let others = taken.iter().filter(|(_, owner)| **owner != key).map(|(label, _)| label.clone()).collect();
    pull.map(|pull| hosts::choose(&pull.repo.name, key, &[], &[], &others)).unwrap_or_default()
}

/// What was said is found again on the pull request: the comment by its marker, the deployment of the head by asking.
fn said(before: Option<&Ledger>, pull: Option<&PullFacts>) -> Said {
    if let Some(ledger) = before {
        return ledger.said.clone().doubted();
    }
    let deployment = pull.map(|pull| DeploymentSaid::asked(pull.head_sha.clone()));
    Said { deployments: deployment.into_iter().collect(), ..Said::default() }
}

fn left(kind: &'static str, name: &str, why: &str) -> Leftover {
    Leftover { kind, name: name.to_owned(), why: why.to_owned() }
}
