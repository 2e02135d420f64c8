//! Which commits may be built now: at most so many at once, in the order of asking.
//!
//! Guarantees: asking and taking is one act, so that two passes cannot take the last turn together; a turn ends when
//! the agent is seen to work no more, or when there is no agent.
//! Must not know: how commits are built.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::id::EnvKey;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Builds {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    building: BTreeSet<EnvKey>,
    waiting: Vec<EnvKey>,
    /// Ended, and the store does not know yet.
    over: BTreeSet<EnvKey>,
}

/// Whether a build may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Now,
    /// When others have ended.
    Later,
}

impl Inner {
    fn turn(&self, key: EnvKey, limit: u32) -> Turn {
        let before = self.waiting.iter().position(|other| *other == key).unwrap_or(self.waiting.len());
        let has_one = self.building.contains(&key);
        let is_free = self.building.len() + before < usize::try_from(limit).unwrap_or(usize::MAX);
        if has_one || is_free { Turn::Now } else { Turn::Later }
    }
}

impl Builds {
    /// Asks for a turn. One that is given is taken.
    pub fn ask(&self, key: EnvKey, limit: u32) -> Turn {
        let mut inner = self.lock();
        let turn = inner.turn(key, limit);
        match turn {
            Turn::Now => {
                inner.waiting.retain(|other| *other != key);
                inner.building.insert(key);
                inner.over.remove(&key);
            }
            Turn::Later if !inner.waiting.contains(&key) => inner.waiting.push(key),
            Turn::Later => {}
        }
        turn
    }

    /// What asking would give, without asking.
    pub fn peek(&self, key: EnvKey, limit: u32) -> Turn {
        self.lock().turn(key, limit)
    }

    /// It is being built, also where it was begun before we were started.
    pub fn goes_on(&self, key: EnvKey) {
        self.lock().building.insert(key);
    }

    /// It is not being built and does not ask to be. Who may be next, if that frees a turn.
    pub fn rests(&self, key: EnvKey) -> Option<EnvKey> {
        let mut inner = self.lock();
        let waited = inner.waiting.iter().position(|other| *other == key).map(|place| inner.waiting.remove(place));
        let built = inner.building.remove(&key);
        if built {
            inner.over.insert(key);
        }
        if waited.is_some() || built { inner.waiting.first().copied() } else { None }
    }

    /// Whether a build has ended, and that was not noted yet.
    pub fn is_over(&self, key: EnvKey) -> bool {
        self.lock().over.contains(&key)
    }

    /// The end of a build was noted.
    pub fn noted(&self, key: EnvKey) {
        self.lock().over.remove(&key);
    }

    /// Another replica was faster: these build, and this one waits before all others.
    pub fn correct(&self, key: EnvKey, building: impl IntoIterator<Item = EnvKey>) {
        let mut inner = self.lock();
        inner.building = building.into_iter().filter(|builder| *builder != key).collect();
        inner.waiting.retain(|other| *other != key);
        inner.waiting.insert(0, key);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{PrNumber, RepoId};

    fn key(pr: u64) -> EnvKey {
        EnvKey { repo: RepoId(1), pr: PrNumber(pr) }
    }

    #[test]
    fn as_many_as_allowed_build_and_the_others_follow_in_the_order_of_asking() {
        let builds = Builds::default();
        let turns: Vec<Turn> = (1..=4).map(|pr| builds.ask(key(pr), 2)).collect();
        assert_eq!(turns, [Turn::Now, Turn::Now, Turn::Later, Turn::Later]);
        assert_eq!(builds.rests(key(1)), Some(key(3)));
        assert_eq!(builds.ask(key(4), 2), Turn::Later, "the third asked before");
        assert_eq!(builds.ask(key(5), 2), Turn::Later);
        assert_eq!(builds.ask(key(3), 2), Turn::Now);
        assert_eq!(builds.ask(key(3), 2), Turn::Now, "asking again takes no second turn");
        assert_eq!(builds.peek(key(4), 2), Turn::Later);
        assert_eq!(builds.rests(key(4)), Some(key(5)), "one that gives up lets the next move up");
        assert_eq!(builds.rests(key(2)), Some(key(5)));
        assert_eq!(builds.peek(key(5), 2), Turn::Now);
        assert_eq!(builds.rests(key(9)), None);
    }

    #[test]
    fn a_turn_that_another_replica_has_taken_is_waited_for_and_an_end_is_noted_once() {
        let builds = Builds::default();
        assert_eq!(builds.ask(key(1), 1), Turn::Now);
        builds.correct(key(1), [key(7)]);
        assert_eq!(builds.ask(key(1), 1), Turn::Later);
        assert_eq!(builds.ask(key(2), 1), Turn::Later);
        assert_eq!(builds.rests(key(7)), Some(key(1)));
        assert!(builds.is_over(key(7)) && !builds.is_over(key(1)));
        builds.noted(key(7));
        assert!(!builds.is_over(key(7)));
        assert_eq!(builds.ask(key(1), 1), Turn::Now);
    }

    #[test]
    fn builds_that_were_begun_before_a_restart_count() {
        let builds = Builds::default();
        builds.goes_on(key(1));
        assert_eq!(builds.ask(key(2), 1), Turn::Later);
    }
}
