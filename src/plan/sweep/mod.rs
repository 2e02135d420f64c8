//! What a sweep makes of everything that is there: whose is it, and may it go?
//!
//! A sweep lists the cloud first and reads the records second: what was made in between has a record, and what was
//! released in between is seen once too often, never once too little. What belongs to no environment is marked, told,
//! waited for, looked at again, and only then taken away ([`crate::domain::owned::Orphan`]). Each verdict explains
//! itself.
//!
//! Guarantees: whatever is not known spares; one thing that could not be read changes nothing about the others.
//! Must not know: who asked for the sweep.

mod guard;
mod residue;
mod wanted;
pub mod words;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::domain::brake::{Brake, BrakeKind};
use crate::domain::guard::Guard;
use crate::domain::id::{EnvKey, EnvUid, RepoId};
use crate::domain::ledger::{Ledger, Standing};
use crate::domain::mark::{Mark, Subject};
use crate::domain::observed::{Database, DatabaseState, Listing, Location, Machine, MachineState, Residue, Tags};
use crate::domain::owned::{Orphan, Refusal, prove_orphan_database, prove_orphan_machine};
use crate::domain::policy::Policy;
use crate::domain::time::Timestamp;

pub use guard::{Counts, Gate, Past, after, before};
pub use wanted::{Wanted, wanted};

/// What was listed, of each kind on its own: one that failed says nothing of the other.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// Machines, or why they could not be listed.
    pub machines: Result<Listing<Machine>, String>,
    /// Databases, or why they could not be listed.
    pub databases: Result<Listing<Database>, String>,
    /// Processes and directories beside the machines, or why they could not be listed.
    pub beside: Result<Listing<Residue>, String>,
    /// Goldens, or why they could not be listed.
    pub goldens: Result<Listing<Residue>, String>,
    /// What was said on GitHub, by repository: what is of no use any more or carries a mark, or why it is not known.
    pub words: BTreeMap<RepoId, Result<Vec<Residue>, String>>,
}

/// What the records say.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Every environment's record, released ones included.
    pub ledgers: Vec<Ledger>,
    /// Whether pull requests are to have an environment, as far as it was asked.
    pub wanted: BTreeMap<EnvKey, Wanted>,
    /// Brakes that are on.
    pub brakes: Vec<Brake>,
}

/// What was found out about one resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Which.
    #[serde(flatten)]
    pub subject: Subject,
    /// Its name.
    pub name: String,
    /// The pull request that it says it belongs to.
    pub owner: Option<EnvKey>,
    /// What follows.
    pub ruling: Ruling,
    /// One sentence: why.
    pub why: String,
    /// Which guard keeps what no environment claims, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guard>,
    /// The mark that it carries after this sweep.
    pub mark: Option<Mark>,
}

/// What follows for a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// An environment's; that one takes it away when it is time.
    Keep,
    /// It looks like ours and cannot be proven to be: never touched, a person has to look.
    Foreign,
    /// Nobody's, but it is not to go.
    Spare,
    /// Nobody's; it goes once it has been so for long enough.
    Wait,
    /// Nobody's, for long enough.
    Due,
    /// It was asked to go.
    Removed,
    /// It was asked to go, and that failed.
    Failed,
}

/// One resource, whatever its kind.
#[derive(Clone, Copy)]
enum Thing<'a> {
    Machine(&'a Machine),
    Database(&'a Database),
}

impl<'a> Thing<'a> {
    fn subject(self) -> Subject {
        match self {
            Self::Machine(machine) => Subject::Machine(machine.id.clone()),
            Self::Database(database) => Subject::Database(database.id.clone()),
        }
    }

    fn name(self) -> &'a str {
        match self {
            Self::Machine(machine) => &machine.name,
            Self::Database(database) => &database.name,
        }
    }

    fn tags(self) -> Option<&'a Tags> {
        match self {
            Self::Machine(machine) => machine.tags.as_ref(),
            Self::Database(database) => database.tags.as_ref(),
        }
    }

    fn location(self) -> &'a Location {
        match self {
            Self::Machine(machine) => &machine.location,
            Self::Database(database) => &database.location,
        }
    }

    fn is_leaving(self) -> bool {
        match self {
            Self::Machine(machine) => machine.state == MachineState::Stopping,
            Self::Database(database) => database.state == DatabaseState::Dropping,
        }
    }

    fn prove(self, orphan: Orphan<'_>, policy: &Policy) -> Result<(), Refusal> {
        match self {
            Self::Machine(machine) => prove_orphan_machine(machine, orphan, &policy.allow).map(drop),
            Self::Database(database) => prove_orphan_database(database, orphan, &policy.allow).map(drop),
        }
    }
}

impl Inventory {
    fn things(&self) -> impl Iterator<Item = Thing<'_>> {
        let machines = self.machines.iter().flat_map(|listing| &listing.items).map(Thing::Machine);
        machines.chain(self.databases.iter().flat_map(|listing| &listing.items).map(Thing::Database))
    }

    /// Environments of which a machine that carries our tags is there; `None` if it is not known of which.
    fn housed(&self, policy: &Policy) -> Option<BTreeSet<&EnvUid>> {
        let listing = self.machines.as_ref().ok().filter(|listing| listing.complete)?;
        let tagged = listing.items.iter().filter_map(|machine| machine.tags.as_ref());
        Some(tagged.filter(|tags| tags.install == policy.install).map(|tags| &tags.uid).collect())
    }

    fn is_whole(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Machine(_) => self.machines.as_ref().is_ok_and(|listing| listing.complete),
            Subject::Database(_) => self.databases.as_ref().is_ok_and(|listing| listing.complete),
            Subject::Process(_) | Subject::Directory(_) => self.beside.as_ref().is_ok_and(|listing| listing.complete),
            Subject::Golden(_) => self.goldens.as_ref().is_ok_and(|listing| listing.complete),
            Subject::Comment(_) | Subject::Deployment(_) => {
                words::place_of(subject).and_then(|(repo, _)| self.words.get(&repo)).is_some_and(Result::is_ok)
            }
        }
    }

    /// What could not be listed, and why.
    pub fn doubts(&self) -> Vec<String> {
        let failed = [self.machines.as_ref().err(), self.databases.as_ref().err()];
        let others = [self.beside.as_ref().err(), self.goldens.as_ref().err()];
        let words = self.words.values().map(|found| found.as_ref().err());
        failed.into_iter().chain(others).chain(words).flatten().cloned().collect()
    }
}

/// Pull requests whose resources carry our tags and belong to no environment: whether they are to have one has to be
/// known before anything of theirs may go.
pub fn questionable(inventory: &Inventory, ledgers: &[Ledger], policy: &Policy) -> BTreeSet<EnvKey> {
    let records: HashMap<&EnvUid, &Ledger> = ledgers.iter().map(|ledger| (&ledger.uid, ledger)).collect();
    let tags = inventory.things().filter_map(Thing::tags).filter(|tags| tags.install == policy.install);
    let orphans = tags.filter(|tags| records.get(&tags.uid).is_none_or(|record| record.is_released()));
    orphans.map(|tags| tags.key).chain(inventory.lone_words(ledgers)).collect()
}

/// A verdict on everything that is there.
pub fn judge(inventory: &Inventory, known: &Known, marks: &[Mark], policy: &Policy, now: Timestamp) -> Vec<Verdict> {
    let court = Court {
        inventory,
        known,
        policy,
        now,
        records: known.ledgers.iter().map(|ledger| (&ledger.uid, ledger)).collect(),
        marks: marks.iter().map(|mark| (&mark.subject, mark)).collect(),
        housed: inventory.housed(policy),
    };
    let things = inventory.things().map(|thing| court.verdict(thing));
    things.chain(inventory.residue().map(|residue| court.verdict_on_residue(residue))).collect()
}

/// A ruling with its reason.
struct Reason {
    ruling: Ruling,
    why: String,
    guard: Option<Guard>,
}

impl Reason {
    fn because(ruling: Ruling, guard: impl Into<Option<Guard>>, why: String) -> Self {
        Self { ruling, why, guard: guard.into() }
    }
}

struct Court<'a> {
    inventory: &'a Inventory,
    known: &'a Known,
    policy: &'a Policy,
    now: Timestamp,
    records: HashMap<&'a EnvUid, &'a Ledger>,
    marks: HashMap<&'a Subject, &'a Mark>,
    housed: Option<BTreeSet<&'a EnvUid>>,
}

impl Court<'_> {
    fn verdict(&self, thing: Thing<'_>) -> Verdict {
        let subject = thing.subject();
        let (Reason { ruling, why, guard }, mark) = match self.orphan(thing) {
            Err(reason) => (reason, None),
            Ok(tags) => {
                let before = self.marks.get(&subject).filter(|mark| mark.tags.as_ref() == Some(tags));
                let mark = if self.inventory.is_whole(&subject) {
                    Some(before.map_or_else(
                        || Mark::begin(subject.clone(), tags.clone(), self.now),
                        |mark| mark.again(self.now),
                    ))
                } else {
                    before.map(|mark| (*mark).clone())
                };
                (self.future(thing, tags, mark.as_ref()), mark)
            }
        };
        let owner = thing.tags().map(|tags| tags.key);
        Verdict { subject, name: thing.name().to_owned(), owner, ruling, why, guard, mark }
    }

    /// The tags of something that is ours and that neither an environment nor, without a record, an open pull request
    /// claims.
    fn orphan<'t>(&self, thing: Thing<'t>) -> Result<&'t Tags, Reason> {
        let foreign =
            |guard, why: String| Reason::because(Ruling::Foreign, guard, format!("{why}; never touched, have a look"));
        let keep = |why: String| Reason::because(Ruling::Keep, None, why);
        let Some(tags) = thing.tags() else {
            return Err(foreign(Guard::Untagged, "it carries no owner tags".to_owned()));
        };
        if tags.install != self.policy.install {
            return Err(foreign(Guard::OtherInstall, format!("it belongs to installation {}", tags.install)));
        }
        let record = self.records.get(&tags.uid);
        match record.map(|record| (record, record.standing)) {
            Some((_, Standing::Live)) => return Err(keep(format!("environment {} lives", tags.key))),
            Some((_, Standing::Leaving(since))) => {
                return Err(keep(format!("environment {} is being taken away since {since}", tags.key)));
            }
            Some((record, Standing::Released(_))) if tags.generation > record.generation => {
                let why = format!(
                    "it is of generation {}, and the record of {} only knows {}: the records are older than the world",
                    tags.generation, tags.key, record.generation
                );
                return Err(foreign(Guard::FutureGeneration, why));
            }
            Some((_, Standing::Released(_))) | None => {}
        }
        // Place and name are what no mark and no time can mend.
        let proof = Orphan {
            install: &self.policy.install,
            record: record.copied(),
            mark: &ripe(thing.subject(), Some(tags.clone())),
            now: self.now,
        };
        match thing.prove(proof, self.policy) {
            Err(refusal @ (Refusal::Name { .. } | Refusal::Place { .. })) => {
                Err(foreign(refusal.guard(), refusal.to_string()))
            }
            _ if record.is_none() && self.known.wanted.get(&tags.key) == Some(&Wanted::Yes) => Err(is_open(tags.key)),
            _ => Ok(tags),
        }
    }

    /// What the pull request says of an orphan: why that may go, or the reason that spares it.
    ///
    /// A record that is closed has left the generation behind for good, and what its pull request has next will be of
    /// a later one: that it is open again, a draft perhaps, claims nothing. Without a record there is no such proof.
    fn released_by_pull(&self, tags: &Tags) -> Result<String, Reason> {
        let unread =
            |why: &str| Reason::because(Ruling::Spare, Guard::UnreadPull, format!("{}, but {why}", self.nobody(tags)));
        match self.known.wanted.get(&tags.key) {
            Some(Wanted::No(why)) => Ok(why.clone()),
            Some(Wanted::Yes) if self.records.contains_key(&tags.uid) => {
                Ok(format!("what pull request {} has next is of a later generation", tags.key))
            }
            // Caught above; repeated so that no order of rules can let it through.
            Some(Wanted::Yes) => Err(is_open(tags.key)),
            Some(Wanted::Unknown(why)) => Err(unread(why)),
            None => Err(unread("its pull request was not asked for")),
        }
    }

    /// Why no environment claims an orphan.
    fn nobody(&self, tags: &Tags) -> String {
        match self.records.get(&tags.uid).map(|record| record.standing) {
            Some(Standing::Released(at)) => format!("environment {} was closed at {at}", tags.key),
            _ => format!("environment {} has no record", tags.key),
        }
    }

    /// What is to become of an orphan.
    fn future(&self, thing: Thing<'_>, tags: &Tags, mark: Option<&Mark>) -> Reason {
        let nobody = self.nobody(tags);
        let spare = |guard, why: &str| Reason::because(Ruling::Spare, guard, format!("{nobody}, but {why}"));
        let wait = |guard: Option<Guard>, why: &str| Reason::because(Ruling::Wait, guard, format!("{nobody}; {why}"));
        let mut holds = self.known.brakes.iter().filter(|brake| brake.is_on(self.now) && brake.kind == BrakeKind::Hold);
        if let Some(hold) = holds.find(|brake| brake.concerns(tags.key)) {
            return spare(hold.guard(), &hold.to_string());
        }
        if thing.is_leaving() {
            return wait(None, "it is being taken away");
        }
        let Some(mark) = mark.filter(|mark| self.inventory.is_whole(&mark.subject)) else {
            return wait(Some(Guard::PartialSweep), "the listing was not complete, which proves nothing");
        };
        let record = self.records.get(&tags.uid).copied();
        let proof = Orphan { install: &self.policy.install, record, mark, now: self.now };
        if let Err(refusal) = thing.prove(proof, self.policy) {
            return wait(Some(refusal.guard()), &refusal.to_string());
        }
        let reason = match self.released_by_pull(tags) {
            Ok(reason) => reason,
            Err(spared) => return spared,
        };
        if matches!(thing, Thing::Database(_)) {
            match &self.housed {
                None => {
                    return wait(Some(Guard::UnknownMachines), "the machines could not be listed, and one may use it");
                }
                Some(housed) if housed.contains(&tags.uid) => {
                    return wait(Some(Guard::HousedOrphan), "its machine goes first");
                }
                Some(_) => {}
            }
        }
        Reason::because(Ruling::Due, None, format!("{nobody}, and {reason}; marked since {}", mark.first_at))
    }
}

fn is_open(key: EnvKey) -> Reason {
    Reason::because(Ruling::Spare, Guard::OpenPull, format!("pull request {key} is open"))
}

/// A mark as old as can be, to ask what else would be in the way.
fn ripe(subject: Subject, tags: Option<Tags>) -> Mark {
    Mark { sightings: u32::MAX, ..Mark::begin(subject, tags, Timestamp::default()) }
}

/// Marks that nothing carries any more: what they stood on is claimed, spared, or has not been seen for as long as
/// a mark takes to be believed. One listing that lacks something proves little.
pub fn lifted<'a>(
    marks: &'a [Mark],
    verdicts: &'a [Verdict],
    inventory: &'a Inventory,
    now: Timestamp,
) -> impl Iterator<Item = &'a Mark> {
    let seen: HashMap<&Subject, &Verdict> = verdicts.iter().map(|verdict| (&verdict.subject, verdict)).collect();
    marks.iter().filter(move |mark| match seen.get(&mark.subject) {
        Some(verdict) => verdict.mark.is_none(),
        None => inventory.is_whole(&mark.subject) && now.since(mark.last_at) >= crate::domain::owned::ORPHAN_AGE,
    })
}

#[cfg(test)]
mod tests;
