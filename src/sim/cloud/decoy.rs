//! Resources that are not ours, or cannot be proven to be: whoever changes one of them is at fault.

use super::Cloud;
use super::region::{DatabaseParts, Life, MachineParts, Region, Resource};
use super::staging;
use crate::domain::id::{EnvKey, EnvUid, Generation, InstallId};
use crate::domain::observed::{Location, Tags};
use crate::domain::owned::{machine_name, name_prefix};

/// Why a resource is not to be touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decoy {
    /// Production's, with a name of its own and no tags.
    Production,
    /// It has a name like ours, but no tags.
    Untagged,
    /// Another installation's, in the same account.
    OtherInstall,
    /// Our tags, copied onto something in production's network.
    CopiedTags,
    /// Our tags in another account.
    OtherAccount,
    /// Our tags, but no name of ours.
    OtherName,
    /// Our tags, of a generation that was never begun.
    Future,
    /// Ours, but somebody has protected it.
    Protected,
    /// A name of ours, and another installation's tags.
    Relabelled,
}

impl Decoy {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Production,
        Self::Untagged,
        Self::OtherInstall,
        Self::CopiedTags,
        Self::OtherAccount,
        Self::OtherName,
        Self::Future,
        Self::Protected,
        Self::Relabelled,
    ];
}

/// How a decoy looks.
struct Looks {
    name: String,
    tags: Option<Tags>,
    location: Location,
    life: Life,
}

fn other(install: &InstallId) -> InstallId {
    InstallId::parse("other").unwrap_or_else(|_| install.clone())
}

fn looks(decoy: Decoy, install: &InstallId, key: EnvKey, separator: char) -> Looks {
    let uid = EnvUid::derive(install, key);
    let prefix = name_prefix(install, separator);
    let ours = Tags { install: install.clone(), uid: uid.clone(), key, generation: Generation::FIRST };
    let named = |what: &str| format!("{prefix}{uid}{separator}{what}");
    let mut looks = Looks { name: named("decoy"), tags: Some(ours.clone()), location: staging(), life: Life::Up };
    match decoy {
        Decoy::Production => {
            "production-main".clone_into(&mut looks.name);
            looks.tags = None;
            "vpc-production".clone_into(&mut looks.location.network);
        }
        Decoy::Untagged => {
            looks.name = named("untagged");
            looks.tags = None;
            looks.life = Life::Stopped;
        }
        Decoy::OtherInstall => {
            let other = other(install);
            looks.name = format!("{}{uid}{separator}x", name_prefix(&other, separator));
            looks.tags = Some(Tags { install: other, ..ours });
        }
        Decoy::CopiedTags => {
            looks.name = named("copied");
            "vpc-production".clone_into(&mut looks.location.network);
        }
        Decoy::OtherAccount => {
            looks.name = named("account");
            "222222222222".clone_into(&mut looks.location.account);
        }
        Decoy::OtherName => looks.name = format!("accounting{separator}reports"),
        Decoy::Future => {
            looks.name = named("future");
            looks.tags = Some(Tags { generation: Generation(9_999), ..ours });
        }
        Decoy::Protected => looks.name = named("protected"),
        Decoy::Relabelled => {
            looks.name = named("relabelled");
            looks.tags = Some(Tags { install: other(install), ..ours });
        }
    }
    looks
}

impl Cloud {
    /// Puts a machine and a database there that look as if they belonged to that pull request.
    pub fn add_decoy(&self, decoy: Decoy, install: &InstallId, key: EnvKey) {
        let mut region = self.region();
        let (now, number) = (region.now(), region.fresh());
        let machine = looks(decoy, install, key, '-');
        let id = format!("i-decoy-{number}");
        region.machines.insert(id, resource(machine, Some(decoy), now, MachineParts::default()));
        let database = looks(decoy, install, key, '_');
        let name = database.name.clone();
        region.databases.insert(name, resource(database, Some(decoy), now, DatabaseParts::default()));
    }

    /// The decoys that are there by now stay, whoever takes others away.
    pub fn keep_decoys(&self) {
        let mut region = self.region();
        let Region { machines, databases, .. } = &mut *region;
        for one in machines.values_mut() {
            one.lasting = one.decoy.is_some();
        }
        for one in databases.values_mut() {
            one.lasting = one.decoy.is_some();
        }
    }

    /// Puts a machine there that is ours by tags, name and place, and that no call of this run has made: what is left
    /// when records are lost.
    pub fn add_stray(&self, install: &InstallId, key: EnvKey) {
        let mut region = self.region();
        let (now, number) = (region.now(), region.fresh());
        let tags =
            Tags { install: install.clone(), uid: EnvUid::derive(install, key), key, generation: Generation::FIRST };
        let name = machine_name(&tags, u32::MAX);
        let looks = Looks { name, tags: Some(tags), location: staging(), life: Life::Up };
        region.machines.insert(format!("i-stray-{number}"), resource(looks, None, now, MachineParts::default()));
    }

    /// Takes decoys away again, as a person would who has looked at them.
    pub fn remove_decoys(&self) {
        let mut region = self.region();
        region.machines.retain(|_, one| one.decoy.is_none() || one.lasting);
        region.databases.retain(|_, one| one.decoy.is_none() || one.lasting);
    }
}

fn resource<T>(looks: Looks, decoy: Option<Decoy>, now: crate::domain::time::Timestamp, own: T) -> Resource<T> {
    Resource {
        name: looks.name,
        tags: looks.tags,
        location: looks.location,
        born_at: now,
        visible_at: now,
        ready_at: now,
        life: looks.life,
        protected: decoy == Some(Decoy::Protected),
        slot: None,
        decoy,
        lasting: false,
        own,
    }
}
