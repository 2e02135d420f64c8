//! Rebuilds a lost store: reads what lives and what GitHub says of it, and writes the records that follow.
//!
//! Guarantees: reading changes nothing; a record first appears with everything that it is known to hold, with a row in the
//! journal that says where it comes from; nothing is made or destroyed.
//! Must not know: which records follow from what, who asked.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::clock::Clock;
use crate::cloud::{CloudError, Databases, Machines};
use crate::domain::id::{EnvKey, RepoId};
use crate::domain::ledger::Ledger;
use crate::domain::policy::Policy;
use crate::domain::pull::{PullFacts, RepoRef};
use crate::forge::{Forge, ForgeError};
use crate::plan::{Adoption, Remains, adopt, keys_of};
use crate::store::{Store, StoreError};

/// How long a record may take to write.
const LEASE: Duration = Duration::from_mins(1);

/// What an adoption works with.
#[derive(Clone, Copy)]
pub struct Adopter<'a> {
    /// The store that has lost its records, or all that is left of it.
    pub store: &'a Store,
    /// GitHub.
    pub forge: &'a dyn Forge,
    /// Machines.
    pub machines: &'a dyn Machines,
    /// Databases.
    pub databases: &'a dyn Databases,
    /// The operator's policy.
    pub policy: &'a Policy,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Who holds the leases.
    pub holder: &'a str,
}

/// Everything that was read, and what follows.
pub struct Found {
    /// The records to write, and what a person has to look at.
    pub adoption: Adoption,
    /// The repositories that there is access to.
    pub repos: Vec<RepoRef>,
    /// The pull requests that what lives names; an error says why one could not be read.
    pub pulls: BTreeMap<EnvKey, Result<PullFacts, String>>,
}

/// Why nothing is adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptionError {
    /// The provider failed.
    #[error("{0} could not be listed")]
    Cloud(&'static str, #[source] CloudError),
    /// A listing lacks something.
    #[error("the listing of what lives broke off, and what it left out would be made again; try again")]
    Partial,
    /// GitHub failed.
    #[error("GitHub could not be asked for the repositories")]
    Forge(#[source] ForgeError),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
    /// A record was not written.
    #[error("the record of {0} was not written")]
    Record(EnvKey, #[source] StoreError),
    /// Somebody holds the lease.
    #[error("the record of {0} was not written: somebody else works on it; stop every controller first")]
    Busy(EnvKey),
}

impl Adopter<'_> {
    /// Reads everything. Changes nothing.
    pub async fn look(self) -> Result<Found, AdoptionError> {
        let machines = self.machines.list().await.map_err(|error| AdoptionError::Cloud("machines", error))?;
        let databases = self.databases.list().await.map_err(|error| AdoptionError::Cloud("databases", error))?;
        if !(machines.complete && databases.complete) {
            return Err(AdoptionError::Partial);
        }
        let repos = self.forge.repositories().await.map_err(AdoptionError::Forge)?.items;
        let by_id: BTreeMap<RepoId, &RepoRef> = repos.iter().map(|repo| (repo.id, repo)).collect();
        let mut pulls = BTreeMap::new();
        for key in keys_of(&machines.items, &databases.items) {
            let read = match by_id.get(&key.repo) {
                Some(repo) => self.forge.pull(repo, key.pr).await.map_err(|error| error.to_string()),
                None => Err(format!("the App has no access to repository {}", key.repo.0)),
            };
            pulls.insert(key, read);
        }
        let known = self.store.ledgers().await?;
        let adoption = adopt(Remains {
            machines: &machines.items,
            databases: &databases.items,
            pulls: &pulls,
            known: &known,
            policy: self.policy,
            now: self.clock.now(),
        });
        Ok(Found { adoption, repos, pulls })
    }

    /// Writes the records.
    pub async fn write(self, found: &Found) -> Result<(), AdoptionError> {
        for ledger in &found.adoption.ledgers {
            if let Some(repo) = found.repos.iter().find(|repo| repo.id == ledger.key.repo) {
                self.store.put_repo(repo, self.clock.now()).await?;
            }
            let written = self.record(ledger).await.map_err(|error| AdoptionError::Record(ledger.key, error))?;
            written.ok_or(AdoptionError::Busy(ledger.key))?;
        }
        Ok(())
    }

    /// `None`: somebody else holds the lease.
    async fn record(self, ledger: &Ledger) -> Result<Option<()>, StoreError> {
        let now = self.clock.now();
        let Some(lease) = self.store.acquire(ledger.key, self.holder, LEASE, now).await? else { return Ok(None) };
        let detail = json!({
            "reason": "the store was lost; adopted by its tags",
            "generation": ledger.generation,
            "holds": ledger.intents.iter().map(|intent| &intent.answer).collect::<Vec<_>>(),
        });
        let begun = self.store.begin(&lease, "adopt", detail, now).await?;
        let done = self.store.enroll(&lease, ledger).await;
        let outcome = done.as_ref().err().map_or_else(|| "ok".to_owned(), |error| format!("failed: {error}"));
        self.store.finish(begun, &outcome, self.clock.now()).await?;
        self.store.release_lease(&lease).await?;
        done.map(Some)
    }
}
