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
    /// Who has resources.
    held: BTreeSet<EnvKey>,
    /// Who was let in here and has none yet. Meanwhile other replicas may let others in.
    granted: BTreeSet<EnvKey>,
    waiting: BTreeMap<EnvKey, Timestamp>,
}

impl Inner {
    fn verdict(&self, key: EnvKey, since: Timestamp, limits: &Limits) -> Seat {
        let seated = self.held.union(&self.granted).filter(|one| **one != key);
        let seated = seated.map(|key| Applicant { key: *key, since, seated: Seated::Yes });
        // Whoever was let in has waited.
        let was_granted = self.granted.contains(&key) || self.held.contains(&key);
        let others = self.waiting.iter().filter(|(one, _)| **one != key && !was_granted);
        let others = others.map(|(key, since)| Applicant { key: *key, since: *since, seated: Seated::No });
        let since = self.waiting.get(&key).copied().unwrap_or(since);
        let asks = Applicant { key, since, seated: Seated::No };
        let applicants: Vec<Applicant> = seated.chain(others).chain([asks]).collect();
        admit(&applicants, limits).remove(&key).unwrap_or(Seat::Granted)
    }
}

impl Seats {
    /// Notes that an environment has resources, whoever let it in.
    pub fn hold(&self, key: EnvKey) {
        let mut inner = self.lock();
        inner.waiting.remove(&key);
        inner.granted.remove(&key);
        inner.held.insert(key);
    }

    /// Asks for a seat, for an environment without resources. A granted one is kept as long as those who have resources
    /// leave it.
    pub fn ask(&self, key: EnvKey, since: Timestamp, limits: &Limits) -> Seat {
        let mut inner = self.lock();
        let seat = inner.verdict(key, since, limits);
        // What it had is gone, or it would not ask.
        inner.held.remove(&key);
        if seat == Seat::Granted {
            inner.waiting.remove(&key);
            inner.granted.insert(key);
        } else {
            inner.granted.remove(&key);
            inner.waiting.entry(key).or_insert(since);
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
        let freed = inner.held.remove(&key) | inner.granted.remove(&key);
        let left = inner.waiting.remove(&key).is_some();
        if freed || left { inner.waiting.keys().copied().collect() } else { Vec::new() }
    }

    /// Others were let in by other replicas: these hold seats. Who was let in here and is not among them asks again.
    /// Returns those who were not known to hold one: they may have left after they were read.
    #[must_use]
    pub fn correct(&self, holders: impl IntoIterator<Item = EnvKey>) -> Vec<EnvKey> {
        let mut inner = self.lock();
        let Inner { held, granted, waiting } = &mut *inner;
        let mut before = std::mem::replace(held, holders.into_iter().collect());
        before.append(granted);
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

    #[test]
    fn a_promised_seat_is_kept_only_while_those_who_have_resources_leave_it() {
        let key = |pr| EnvKey { repo: RepoId(1), pr: PrNumber(pr) };
        let limits = Limits { environments: 2, per_repository: 2, builds: 1, attempts: 1 };
        let (seats, early, late) = (Seats::default(), Timestamp(1), Timestamp(2));
        seats.hold(key(1));
        assert_eq!(seats.ask(key(2), late, &limits), Seat::Granted);
        assert!(matches!(seats.ask(key(3), early, &limits), Seat::Waiting(_)), "the second seat is promised");
        assert_eq!(seats.ask(key(2), late, &limits), Seat::Granted, "whoever waits does not push it out");
        // Another replica has let the third one in.
        seats.hold(key(3));
        assert!(matches!(seats.peek(key(2), late, &limits), Seat::Waiting(_)));
        assert!(matches!(seats.ask(key(2), late, &limits), Seat::Waiting(_)), "two have resources");
        assert_eq!(seats.leave(key(1)), [key(2)]);
        assert_eq!(seats.ask(key(2), late, &limits), Seat::Granted);
    }
}
