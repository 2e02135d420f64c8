//! Seats at hand: applies [`admit`] to those who hold and those who wait, and remembers who was let in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::id::EnvKey;
use crate::domain::policy::Limits;
use crate::domain::time::Timestamp;
use crate::plan::{Applicant, Seat, Seated, admit};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Seats {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    held: BTreeSet<EnvKey>,
    waiting: BTreeMap<EnvKey, Timestamp>,
}

impl Inner {
    fn verdict(&self, key: EnvKey, since: Timestamp, limits: &Limits) -> Seat {
        let held = self.held.iter().map(|key| Applicant { key: *key, since, seated: Seated::Yes });
        let waiting =
            self.waiting.iter().map(|(key, since)| Applicant { key: *key, since: *since, seated: Seated::No });
        let mut applicants: Vec<Applicant> = held.chain(waiting).collect();
        if !applicants.iter().any(|applicant| applicant.key == key) {
            applicants.push(Applicant { key, since, seated: Seated::No });
        }
        admit(&applicants, limits).remove(&key).unwrap_or(Seat::Granted)
    }
}

impl Seats {
    /// Notes that an environment has resources, whoever let it in.
    pub fn hold(&self, key: EnvKey) {
        let mut inner = self.lock();
        inner.waiting.remove(&key);
        inner.held.insert(key);
    }

    /// Asks for a seat. A granted one is held from then on.
    pub fn ask(&self, key: EnvKey, since: Timestamp, limits: &Limits) -> Seat {
        let mut inner = self.lock();
        if !inner.held.contains(&key) {
            inner.waiting.entry(key).or_insert(since);
        }
        let seat = inner.verdict(key, since, limits);
        if seat == Seat::Granted {
            inner.waiting.remove(&key);
            inner.held.insert(key);
        }
        seat
    }

    /// What asking would give, without asking.
    pub fn peek(&self, key: EnvKey, since: Timestamp, limits: &Limits) -> Seat {
        self.lock().verdict(key, since, limits)
    }

    /// Gives up a seat or a place in the queue. Returns those who may now be let in.
    pub fn leave(&self, key: EnvKey) -> Vec<EnvKey> {
        let mut inner = self.lock();
        let freed = inner.held.remove(&key);
        let left = inner.waiting.remove(&key).is_some();
        if freed || left { inner.waiting.keys().copied().collect() } else { Vec::new() }
    }

    /// Others were let in by other replicas: these hold seats. Who was let in here and is not among them asks again.
    /// Returns those who were not known to hold one: they may have left after they were read.
    #[must_use]
    pub fn correct(&self, holders: impl IntoIterator<Item = EnvKey>) -> Vec<EnvKey> {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.held, holders.into_iter().collect());
        let Inner { held, waiting } = &mut *inner;
        waiting.retain(|key, _| !held.contains(key));
        held.difference(&before).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{PrNumber, RepoId};

    #[test]
    fn whoever_is_found_to_hold_a_seat_is_named_once() {
        let key = |pr| EnvKey { repo: RepoId(1), pr: PrNumber(pr) };
        let seats = Seats::default();
        seats.hold(key(1));
        assert_eq!(seats.leave(key(2)), []);
        assert_eq!(seats.correct([key(1), key(2)]), [key(2)], "it may have left before it was known to be there");
        assert_eq!(seats.correct([key(1), key(2)]), []);
    }
}
