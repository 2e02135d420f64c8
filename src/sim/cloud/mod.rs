//! A cloud: machines and databases with their lives, their quotas and their ways of hiding.
//!
//! What is true changes only by calls and by time; what a listing shows may lag behind it. Times, limits and rules are
//! those of EC2 and RDS, from the sources named where they stand.
//!
//! Guarantees: every call is in the journal; a call that touches what is not ours is kept as a breach; [`Cloud::residue`]
//! names everything that is left.
//! Must not know: pull requests, the store, what the controller wants.

mod database;
mod decoy;
mod golden;
mod machine;
mod region;

pub use database::SimDatabases;
pub use decoy::Decoy;
pub use machine::{BROKEN_COMMIT, SimMachines, Work};
pub use region::{Entry, Quotas, Weather};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cloud::{CloudError, ErrorClass};
use crate::domain::id::Generation;
use crate::domain::observed::{Location, Tags};

use super::chance::Chance;
use super::clock::Time;
use super::fate::Trouble;
use super::mischief::Tally;
use region::Region;

/// Where everything of ours is.
pub fn staging() -> Location {
    Location {
        account: "111111111111".to_owned(),
        region: "eu-central-1".to_owned(),
        network: "vpc-staging".to_owned(),
    }
}

/// The cloud. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Cloud {
    region: Arc<Mutex<Region>>,
}

impl Cloud {
    /// An empty one.
    pub fn new(time: Time, chance: Chance, weather: Weather) -> Self {
        Self { region: Arc::new(Mutex::new(Region::new(time, chance, weather))) }
    }

    /// Changes what listings show and how long things take, for what is made from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.region().weather = weather;
    }

    /// A hand changes the tags of everything that an environment has, as if it were of that generation.
    pub fn retag(&self, uid: &str, generation: Generation) {
        let mut region = self.region();
        let Region { machines, databases, .. } = &mut *region;
        let machines = machines.values_mut().filter_map(|one| one.tags.as_mut());
        let databases = databases.values_mut().filter_map(|one| one.tags.as_mut());
        for tags in machines.chain(databases).filter(|tags| tags.uid.as_str() == uid) {
            tags.generation = generation;
        }
    }

    /// Changes the limits.
    pub fn set_quotas(&self, quotas: Quotas) {
        self.region().quotas = quotas;
    }

    /// Calls that may never be made, in the order of their being made.
    pub fn breaches(&self) -> Vec<String> {
        self.region().breaches.clone()
    }

    /// What it has done by itself.
    pub fn met(&self) -> Tally {
        self.region().met.clone()
    }

    /// Somebody switches deletion protection of everything that an environment has on, or off.
    pub fn protect(&self, uid: &str, protected: bool) {
        let mut region = self.region();
        let Region { machines, databases, .. } = &mut *region;
        let of = |tags: &Option<Tags>| tags.as_ref().is_some_and(|tags| tags.uid.as_str() == uid);
        machines.values_mut().filter(|one| of(&one.tags)).for_each(|one| one.protected = protected);
        databases.values_mut().filter(|one| of(&one.tags)).for_each(|one| one.protected = protected);
    }

    /// Every call, in order.
    pub fn journal(&self) -> Vec<Entry> {
        self.journal_from(0)
    }

    /// Those calls but the first `known` ones.
    pub fn journal_from(&self, known: usize) -> Vec<Entry> {
        self.region().journal[known..].to_vec()
    }

    /// Forgets which calls there were: they fill the memory of a long life.
    pub fn forget_journal(&self) {
        self.region().journal = Vec::new();
    }

    /// How many listings were made, and of how many pages of 100.
    pub fn listed(&self) -> (u64, u64) {
        let region = self.region();
        (region.listings, region.pages)
    }

    /// Names everything of ours that is left: machines, databases, network interfaces in slots.
    pub fn residue(&self) -> Vec<String> {
        self.region().residue()
    }

    /// Whether nothing of ours is left.
    ///
    /// # Errors
    ///
    /// Everything that is, by name.
    pub fn assert_clean(&self) -> Result<(), String> {
        let left = self.residue();
        if left.is_empty() { Ok(()) } else { Err(left.join(", ")) }
    }

    /// Whether an environment's network interfaces are in a slot still.
    pub fn is_in_a_slot(&self, uid: &str) -> bool {
        self.region().is_in_a_slot(uid)
    }

    /// A machine fails: its processes are gone, it is stopped. Which, if there was one.
    pub fn stop_one(&self) -> Option<String> {
        self.region().stop_one()
    }

    /// A machine is taken away by a person, or by the provider.
    pub fn lose_one(&self) -> Option<String> {
        self.region().lose_one()
    }

    /// How many machines and databases of an environment are alive.
    pub fn alive(&self, uid: &str) -> (usize, usize) {
        self.region().alive(uid)
    }

    /// How many of them cost by the hour: what is stopped does not.
    pub fn awake(&self, uid: &str) -> (usize, usize) {
        self.region().awake(uid)
    }

    fn region(&self) -> MutexGuard<'_, Region> {
        self.region.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error in the words that callers sort by.
fn error(class: ErrorClass, what: &str, why: &str) -> CloudError {
    CloudError { class, what: what.to_owned(), why: why.to_owned() }
}

fn trouble(what: &str, trouble: Trouble) -> CloudError {
    match trouble {
        Trouble::Failed => error(ErrorClass::Retry, what, "InternalError: try again"),
        Trouble::Throttled(wait) => error(ErrorClass::SlowDown(wait), what, "RequestLimitExceeded"),
        Trouble::Lost => error(ErrorClass::Ambiguous, what, "no answer in time"),
    }
}
