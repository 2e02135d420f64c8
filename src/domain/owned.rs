//! Permission to destroy, as a value.
//!
//! Every destructive call takes an [`Owned`], and the only way to get one is [`prove`]: the live
//! description must carry our installation's tag and the uid and generation that the ledger knows, a name
//! with our prefix, and a place in the allow-list (I1, I7). There is no `delete(String)`.

use std::time::Duration;

use super::id::{DatabaseId, EnvUid, Generation, InstallId, MachineId};
use super::observed::{Database, Location, Machine, Tags};
use super::policy::AllowList;
use super::time::Timestamp;

/// How old the description may be that a destructive call rests on (I1).
pub const EVIDENCE_LIFETIME: Duration = Duration::from_mins(1);

/// An id that was proven to be ours to destroy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned<T> {
    id: T,
    name: String,
    tags: Tags,
    read_at: Timestamp,
}

impl<T> Owned<T> {
    /// The provider's id.
    pub fn id(&self) -> &T {
        &self.id
    }

    /// The resource's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whom it belongs to.
    pub fn tags(&self) -> &Tags {
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
    Ok(tags.clone())
}
