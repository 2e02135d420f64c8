//! Where machines and databases come from: the traits, and one folder per provider.
//!
//! Guarantees: a listing says whether it is complete; creates are idempotent under their token or name;
//! destructive calls take [`Owned`] and check that its evidence is fresh.
//! Must not know: pull requests, plans, the store, GitHub.

#[cfg(feature = "aws")]
pub mod aws;
pub mod lanes;
pub mod local;
pub mod postgres;

use async_trait::async_trait;

use crate::domain::desired::DatabaseSpec;
use crate::domain::id::{DatabaseId, MachineId, SlotId};
use crate::domain::ledger::Token;
use crate::domain::network::{Interface, Placement};
use crate::domain::observed::{Database, Listing, Machine, Residue, Tags};
use crate::domain::owned::{Owned, OwnedResidue};
use crate::domain::time::Timestamp;

/// Makes and removes machines, each with a running agent.
#[async_trait]
pub trait Machines: Send + Sync {
    /// Every machine that carries this installation's tag or name prefix.
    async fn list(&self) -> Result<Listing<Machine>, CloudError>;
    /// Makes a machine, or returns the one already made under the token; one that is stopped is started again.
    async fn launch(&self, birth: MachineBirth<'_>) -> Result<MachineId, CloudError>;
    /// Begins to stop a machine, which keeps its disk; stopped already, or gone, is success.
    async fn stop(&self, machine: &Owned<MachineId>) -> Result<(), CloudError>;
    /// Begins to take a machine away; already gone is success.
    async fn terminate(&self, machine: &Owned<MachineId>) -> Result<(), CloudError>;
    /// Begins to take several away, in as few calls as the provider has for it. What came of each, in their order: one
    /// that cannot be taken away keeps none of the others.
    async fn terminate_all(&self, machines: &[Owned<MachineId>]) -> Vec<Result<(), CloudError>> {
        let mut done = Vec::with_capacity(machines.len());
        for machine in machines {
            done.push(self.terminate(machine).await);
        }
        done
    }
    /// Network interfaces that are members of slots, whatever they belong to.
    async fn interfaces(&self) -> Result<Listing<Interface>, CloudError>;
    /// How many environments the provider's limits leave room for at once, whoever else uses them up; `None`: it has none.
    async fn room(&self) -> Result<Option<Room>, CloudError> {
        Ok(None)
    }
    /// What there is beside machines: processes and directories that belong to none.
    async fn residue(&self) -> Result<Listing<Residue>, CloudError>;
    /// Clears such a thing away; already gone is success.
    async fn clear_away(&self, residue: &OwnedResidue) -> Result<(), CloudError>;
}

/// What a machine is born with.
#[derive(Debug, Clone, Copy)]
pub struct MachineBirth<'a> {
    /// The same question has the same token.
    pub token: &'a Token,
    /// Which try.
    pub attempt: u32,
    /// Whose it is.
    pub tags: &'a Tags,
    /// Where it is put, where there is a choice.
    pub placement: Option<&'a Placement>,
    /// What keeps it apart, where there are slots.
    pub slot: Option<&'a SlotId>,
}

impl<'a> MachineBirth<'a> {
    /// Where there is neither choice of place nor slot.
    pub fn plain(token: &'a Token, attempt: u32, tags: &'a Tags) -> Self {
        Self { token, attempt, tags, placement: None, slot: None }
    }
}

/// What a database is born with.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseBirth<'a> {
    /// Whose it is.
    pub tags: &'a Tags,
    /// Which one.
    pub database: &'a DatabaseSpec,
    /// What keeps it apart, where there are slots.
    pub slot: Option<&'a SlotId>,
}

impl<'a> DatabaseBirth<'a> {
    /// Where there are no slots.
    pub fn plain(tags: &'a Tags, database: &'a DatabaseSpec) -> Self {
        Self { tags, database, slot: None }
    }
}

/// What a provider's limits leave room for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// So many environments at once.
    pub environments: u32,
    /// The limit that leaves the least, in words.
    pub limit: String,
}

/// Clones and drops databases.
#[async_trait]
pub trait Databases: Send + Sync {
    /// Every database with this installation's marker or name prefix.
    async fn list(&self) -> Result<Listing<Database>, CloudError>;
    /// Begins to clone a database from its seed, or accepts that it is already there; one that is stopped is started
    /// again. Returns at once; the listing tells how it goes.
    async fn prepare(&self, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError>;
    /// Begins to stop a database, which keeps its data; stopped already, or gone, is success. Only of those that say that
    /// they can be.
    async fn stop(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError>;
    /// Begins to drop a database; already gone is success.
    async fn delete(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError>;
    /// Begins to drop several, after as few looks as the provider has for it, each when it is its turn. What came of each, in
    /// their order: one that cannot be dropped keeps none of the others.
    async fn delete_all(&self, databases: &[Owned<DatabaseId>]) -> Vec<Result<(), CloudError>> {
        let mut done = Vec::with_capacity(databases.len());
        for database in databases {
            done.push(self.delete(database).await);
        }
        done
    }
    /// Goldens: those that configured seeds make, and others.
    async fn residue(&self) -> Result<Listing<Residue>, CloudError>;
    /// Drops a golden; already gone is success.
    async fn clear_away(&self, golden: &OwnedResidue) -> Result<(), CloudError>;
    /// The addresses that an environment gets: computed, never stored. `None` if this provider does not
    /// hold that database.
    async fn access(&self, database: &DatabaseSpec) -> Result<DatabaseAccess, CloudError>;
}

/// The listing of a provider that has no such thing.
pub fn nothing<T>() -> Listing<T> {
    Listing { items: Vec::new(), complete: true, at: Timestamp::default() }
}

/// What such a provider answers if it is asked to clear one away.
pub fn unknown_residue(residue: &OwnedResidue) -> CloudError {
    CloudError {
        class: ErrorClass::Bug,
        what: format!("clearing {} away", residue.name()),
        why: "this provider has listed no such thing".to_owned(),
    }
}

/// What a provider answers if it is asked to stop a database of a kind that cannot be.
pub fn cannot_stop(database: &Owned<DatabaseId>) -> CloudError {
    CloudError {
        class: ErrorClass::Bug,
        what: format!("stopping {}", database.name()),
        why: "databases of this kind have no server of their own that could be stopped".to_owned(),
    }
}

/// Database addresses with their passwords. No `Debug`, so that it cannot be logged.
#[derive(Clone)]
pub struct DatabaseAccess {
    /// For the application's role.
    pub application_url: String,
    /// For the migration role.
    pub migration_url: String,
    /// Directories or sockets that a sandboxed process needs to reach it.
    pub paths: Vec<std::path::PathBuf>,
}

/// A provider's error, sorted by what the caller should do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct CloudError {
    /// What to do about it.
    pub class: ErrorClass,
    /// What was attempted, with the name of the thing.
    pub what: String,
    /// The cause and, where there is one, the next step. No secrets.
    pub why: String,
}

/// What a caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Try again soon.
    Retry,
    /// Try again after that long.
    SlowDown(std::time::Duration),
    /// A limit is reached: queue.
    Quota,
    /// Nothing was made for want of room there: ask elsewhere.
    NoRoom,
    /// Not allowed: a person has to act.
    Denied,
    /// It may or may not have happened: look before asking again.
    Ambiguous,
    /// A mistake of ours, or a request that can never succeed.
    Bug,
}
