//! Permission to destroy, as a value.
//!
//! Every destructive call takes an [`Owned`], and the only way to get one is a proof: the live
//! description must carry our installation's tag and the uid and generation that the ledger knows, a name
//! with our prefix, and a place in the allow-list (I1, I7). What no environment claims needs an old mark
//! besides ([`Orphan`]). There is no `delete(String)`.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::guard::Guard;
use super::id::{DatabaseId, EnvUid, Generation, InstallId, MachineId};
use super::ledger::{Ledger, Standing};
use super::mark::{Mark, Subject};
use super::observed::{Database, Location, Machine, Residue, ResidueState, Tags};
use super::policy::{AllowList, Policy};
use super::time::Timestamp;

/// How old the description may be that a destructive call rests on (I1).
pub const EVIDENCE_LIFETIME: Duration = Duration::from_mins(1);

/// How old a mark has to be before an orphan may be taken away (I1).
pub const ORPHAN_AGE: Duration = Duration::from_hours(24);

/// How many sweeps have to have seen an orphan (I1).
pub const ORPHAN_SIGHTINGS: u32 = 3;

/// An id that was proven to be ours to destroy, and whose it is: an environment's, if nothing else is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned<T, O = Tags> {
    id: T,
    name: String,
    tags: O,
    read_at: Timestamp,
}

/// Permission to clear away what is no environment's.
pub type OwnedResidue = Owned<Subject, InstallId>;

impl<T, O> Owned<T, O> {
    /// The provider's id.
    pub fn id(&self) -> &T {
        &self.id
    }

    /// The resource's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whom it belongs to.
    pub fn tags(&self) -> &O {
        &self.tags
    }

    /// When the description was read that this rests on.
    pub fn read_at(&self) -> Timestamp {
        self.read_at
    }

    /// Whether the evidence is still young enough to act on.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.since(self.read_at) <= EVIDENCE_LIFETIME
    }

    /// Refuses what rests on evidence that is too old.
    pub fn check_age(&self, now: Timestamp) -> Result<(), Refusal> {
        if self.is_fresh(now) { Ok(()) } else { Err(Refusal::Stale { name: self.name.clone() }) }
    }
}

/// What the ledger says of an environment, to be compared with what a resource says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// This installation.
    pub install: &'a InstallId,
    /// The environment of the ledger's row.
    pub uid: &'a EnvUid,
    /// The newest generation that the ledger knows. Older ones are ours too.
    pub generation: Generation,
}

/// Why a resource may not be destroyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It carries no tags.
    #[error("{name} carries no owner tags")]
    Untagged {
        /// The resource.
        name: String,
    },
    /// Another installation's.
    #[error("{name} belongs to installation {found}, not to {ours}")]
    OtherInstall {
        /// The resource.
        name: String,
        /// Whose it says it is.
        found: InstallId,
        /// Ours.
        ours: InstallId,
    },
    /// Another environment's.
    #[error("{name} belongs to environment {found}, not to {ours}")]
    OtherEnvironment {
        /// The resource.
        name: String,
        /// Whose it says it is.
        found: EnvUid,
        /// The ledger's.
        ours: EnvUid,
    },
    /// From a generation that the ledger has not reached: our ledger is older than the world.
    #[error("{name} is of generation {found}, the ledger only knows {known}")]
    FutureGeneration {
        /// The resource.
        name: String,
        /// What it says.
        found: Generation,
        /// What the ledger knows.
        known: Generation,
    },
    /// An environment claims it: that one takes it away when it is time.
    #[error("{name} belongs to environment {uid}, which has a record that is not closed")]
    Claimed {
        /// The resource.
        name: String,
        /// Whose it is.
        uid: EnvUid,
    },
    /// Something uses it.
    #[error("{name} is of use: {by}")]
    Used {
        /// The resource.
        name: String,
        /// What for.
        by: String,
    },
    /// The mark is not on this.
    #[error("{name} does not carry the mark that it is to be taken away for")]
    Unmarked {
        /// The resource.
        name: String,
    },
    /// The mark is too young, or too few sweeps have seen it.
    #[error("{name} has been an orphan for {} h in {sightings} sweeps; it takes {} h and {ORPHAN_SIGHTINGS} sweeps", age.as_secs() / 3600, ORPHAN_AGE.as_secs() / 3600)]
    YoungMark {
        /// The resource.
        name: String,
        /// For how long.
        age: Duration,
        /// In how many sweeps.
        sightings: u32,
    },
    /// The description is too old.
    #[error("{name} was read more than a minute ago")]
    Stale {
        /// The resource.
        name: String,
    },
    /// Its name lacks our prefix.
    #[error("{name} does not begin with {prefix}")]
    Name {
        /// The resource.
        name: String,
        /// What it should begin with.
        prefix: String,
    },
    /// It is outside staging.
    #[error("{name} is in {place}, which is not in the allow-list")]
    Place {
        /// The resource.
        name: String,
        /// Where it is.
        place: String,
    },
}

impl Refusal {
    /// The guard that refuses.
    pub fn guard(&self) -> Guard {
        match self {
            Self::Untagged { .. } => Guard::Untagged,
            Self::OtherInstall { .. } => Guard::OtherInstall,
            Self::OtherEnvironment { .. } => Guard::OtherEnvironment,
            Self::FutureGeneration { .. } => Guard::FutureGeneration,
            Self::Claimed { .. } => Guard::Claimed,
            Self::Used { .. } => Guard::InUse,
            Self::Unmarked { .. } => Guard::Unmarked,
            Self::YoungMark { .. } => Guard::YoungMark,
            Self::Stale { .. } => Guard::StaleEvidence,
            Self::Name { .. } => Guard::Name,
            Self::Place { .. } => Guard::Place,
        }
    }
}

/// What the names of all resources of an installation begin with: `kagero-<install>-`, or with
/// underscores for databases.
pub fn name_prefix(install: &InstallId, separator: char) -> String {
    let install = install.as_str();
    let install = if separator == '_' { install.replace('-', "_") } else { install.to_owned() };
    format!("kagero{separator}{install}{separator}")
}

/// What a machine that comes of an attempt is called.
pub fn machine_name(tags: &Tags, attempt: u32) -> String {
    let Tags { install, uid, generation, .. } = tags;
    format!("{}{uid}-g{generation}-a{attempt}", name_prefix(install, '-'))
}

/// Which attempt a machine came of, if its name is the one that goes with its tags.
pub fn attempt_in_name(name: &str, tags: &Tags) -> Option<u32> {
    let attempt = name.rsplit_once("-a")?.1.parse().ok()?;
    (machine_name(tags, attempt) == name).then_some(attempt)
}

/// Permission to terminate a machine.
pub fn prove_machine(machine: &Machine, claim: Claim<'_>, allow: &AllowList) -> Result<Owned<MachineId>, Refusal> {
    let prefix = name_prefix(claim.install, '-');
    let tags = check(&machine.name, machine.tags.as_ref(), &machine.location, claim, allow, &prefix)?;
    Ok(Owned { id: machine.id.clone(), name: machine.name.clone(), tags, read_at: machine.read_at })
}

/// Permission to drop a database.
pub fn prove_database(database: &Database, claim: Claim<'_>, allow: &AllowList) -> Result<Owned<DatabaseId>, Refusal> {
    let prefix = name_prefix(claim.install, '_');
    let tags = check(&database.name, database.tags.as_ref(), &database.location, claim, allow, &prefix)?;
    Ok(Owned { id: database.id.clone(), name: database.name.clone(), tags, read_at: database.read_at })
}

/// What has to be known of a resource that no environment claims.
#[derive(Debug, Clone, Copy)]
pub struct Orphan<'a> {
    /// This installation.
    pub install: &'a InstallId,
    /// The record of the environment whose uid it carries, if there is one.
    pub record: Option<&'a Ledger>,
    /// The mark on it.
    pub mark: &'a Mark,
    /// The present instant.
    pub now: Timestamp,
}

/// Permission to terminate a machine that no environment claims.
pub fn prove_orphan_machine(
    machine: &Machine,
    orphan: Orphan<'_>,
    allow: &AllowList,
) -> Result<Owned<MachineId>, Refusal> {
    let claim = check_mark(
        &machine.name,
        machine.tags.as_ref(),
        &Subject::Machine(machine.id.clone()),
        machine.read_at,
        orphan,
    )?;
    prove_machine(machine, claim, allow)
}

/// Permission to drop a database that no environment claims.
pub fn prove_orphan_database(
    database: &Database,
    orphan: Orphan<'_>,
    allow: &AllowList,
) -> Result<Owned<DatabaseId>, Refusal> {
    let claim = check_mark(
        &database.name,
        database.tags.as_ref(),
        &Subject::Database(database.id.clone()),
        database.read_at,
        orphan,
    )?;
    prove_database(database, claim, allow)
}

/// Permission to clear away what is neither machine nor database: it carries our marker, has our prefix and place, nothing
/// uses it, and an old mark stands on it.
pub fn prove_residue(
    residue: &Residue,
    install: &InstallId,
    mark: &Mark,
    allow: &AllowList,
    now: Timestamp,
) -> Result<OwnedResidue, Refusal> {
    let name = residue.name.clone();
    let Some(found) = residue.install.clone() else { return Err(Refusal::Untagged { name }) };
    if found != *install {
        return Err(Refusal::OtherInstall { name, found, ours: install.clone() });
    }
    let prefix = match residue.subject {
        Subject::Database(_) | Subject::Golden(_) => name_prefix(install, '_'),
        // What was said on GitHub has no such name, and takes another proof.
        Subject::Machine(_)
        | Subject::Process(_)
        | Subject::Directory(_)
        | Subject::Comment(_)
        | Subject::Deployment(_) => name_prefix(install, '-'),
    };
    check_place(&name, &residue.location, allow, &prefix)?;
    check_unused(residue, mark, now)?;
    Ok(Owned { id: residue.subject.clone(), name, tags: found, read_at: residue.read_at })
}

/// Permission to take back what was said on GitHub: it names the environment of the pull request that it stands on, in a
/// repository that we serve, no record names it, and an old mark stands on it.
pub fn prove_words(words: &Residue, mark: &Mark, policy: &Policy, now: Timestamp) -> Result<OwnedResidue, Refusal> {
    let (name, install) = (words.name.clone(), &policy.install);
    let (Some(found), Some(uid), Some(key)) = (words.install.clone(), words.uid.clone(), words.key) else {
        return Err(Refusal::Untagged { name });
    };
    if found != *install {
        return Err(Refusal::OtherInstall { name, found, ours: install.clone() });
    }
    let ours = EnvUid::derive(install, key);
    if uid != ours {
        return Err(Refusal::OtherEnvironment { name, found: uid, ours });
    }
    if !policy.serves(&words.location.account) {
        return Err(Refusal::Place { name, place: words.location.account.clone() });
    }
    check_unused(words, mark, now)?;
    Ok(Owned { id: words.subject.clone(), name, tags: found, read_at: words.read_at })
}

/// Nothing uses it, and an old mark stands on it and nothing else.
fn check_unused(residue: &Residue, mark: &Mark, now: Timestamp) -> Result<(), Refusal> {
    let name = residue.name.clone();
    if let ResidueState::Used(by) = &residue.state {
        return Err(Refusal::Used { name, by: by.clone() });
    }
    if mark.subject != residue.subject || mark.tags.is_some() {
        return Err(Refusal::Unmarked { name });
    }
    check_age(&name, mark, mark.first_at, residue.read_at, now)
}

/// What an orphan may be compared with: its own tags, if the record leaves it to the sweep and the mark is old enough.
fn check_mark<'a>(
    name: &str,
    tags: Option<&Tags>,
    subject: &Subject,
    read_at: Timestamp,
    orphan: Orphan<'a>,
) -> Result<Claim<'a>, Refusal> {
    let Orphan { install, record, mark, now } = orphan;
    let name = name.to_owned();
    let Some(tags) = tags else { return Err(Refusal::Untagged { name }) };
    let Some(marked) = mark.tags.as_ref().filter(|marked| *marked == tags && mark.subject == *subject) else {
        return Err(Refusal::Unmarked { name });
    };
    let (generation, closed_at) = match record {
        None => (marked.generation, mark.first_at),
        Some(record) if record.uid != marked.uid => return Err(Refusal::Unmarked { name }),
        Some(record) => match record.standing {
            Standing::Released(at) => (record.generation, at),
            Standing::Live | Standing::Leaving(_) => return Err(Refusal::Claimed { name, uid: record.uid.clone() }),
        },
    };
    // Whatever was seen before its environment was closed says nothing of an orphan.
    check_age(&name, mark, mark.first_at.max(closed_at), read_at, now)?;
    Ok(Claim { install, uid: &marked.uid, generation })
}

/// A mark that is old enough, on a description that is young enough.
fn check_age(name: &str, mark: &Mark, since: Timestamp, read_at: Timestamp, now: Timestamp) -> Result<(), Refusal> {
    let (name, age) = (name.to_owned(), now.since(since));
    if age < ORPHAN_AGE || mark.sightings < ORPHAN_SIGHTINGS {
        return Err(Refusal::YoungMark { name, age, sightings: mark.sightings });
    }
    if now.since(read_at) > EVIDENCE_LIFETIME {
        return Err(Refusal::Stale { name });
    }
    Ok(())
}

fn check(
    name: &str,
    tags: Option<&Tags>,
    location: &Location,
    claim: Claim<'_>,
    allow: &AllowList,
    prefix: &str,
) -> Result<Tags, Refusal> {
    let name = name.to_owned();
    let Some(tags) = tags else { return Err(Refusal::Untagged { name }) };
    if tags.install != *claim.install {
        return Err(Refusal::OtherInstall { name, found: tags.install.clone(), ours: claim.install.clone() });
    }
    if tags.uid != *claim.uid {
        return Err(Refusal::OtherEnvironment { name, found: tags.uid.clone(), ours: claim.uid.clone() });
    }
    if tags.generation > claim.generation {
        return Err(Refusal::FutureGeneration { name, found: tags.generation, known: claim.generation });
    }
    check_place(&name, location, allow, prefix)?;
    Ok(tags.clone())
}

fn check_place(name: &str, location: &Location, allow: &AllowList, prefix: &str) -> Result<(), Refusal> {
    let name = name.to_owned();
    if !name.starts_with(prefix) {
        return Err(Refusal::Name { name, prefix: prefix.to_owned() });
    }
    let places = [
        (&location.account, &allow.accounts),
        (&location.region, &allow.regions),
        (&location.network, &allow.networks),
    ];
    for (place, allowed) in places {
        if !allowed.contains(place) {
            return Err(Refusal::Place { name, place: place.clone() });
        }
    }
    Ok(())
}
