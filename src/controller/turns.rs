//! Whose turn it is to ask a provider that has asked us to slow down.
//!
//! A provider's bucket gives so many calls a second, whoever makes them. Environments that each try again by themselves
//! either try too often or leave the bucket full. So they line up: one after the other asks, until one is refused;
//! then all wait as long as the provider said, and the one that was refused is the next to ask.
//!
//! Guarantees: nobody waits while the provider has never refused; whoever is answered says who is next; one that does
//! not ask any more holds up nobody.
//! Must not know: what is asked for.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::domain::id::EnvKey;

/// Whoever is not the first looks again after that long, should nobody say that it is its turn.
const PATIENCE: Duration = Duration::from_secs(15);

/// See the module's documentation. Times are uptimes of the clock; `kind` says for what a bucket is.
#[derive(Debug, Default)]
pub struct Turns {
    lines: Mutex<HashMap<&'static str, Line>>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<EnvKey>,
    open_at: Duration,
}

impl Turns {
    /// May it ask now? If not, it is in the line; when it is to ask again. The first does so in time.
    pub fn ask(&self, kind: &'static str, key: EnvKey, now: Duration) -> Result<(), Duration> {
        let mut lines = self.lock();
        let Some(line) = lines.get_mut(kind) else { return Ok(()) };
        if line.open_at <= now {
            return Ok(());
        }
        if !line.waiting.contains(&key) {
            line.waiting.push_back(key);
        }
        let left = line.open_at.saturating_sub(now);
        Err(if line.waiting.front() == Some(&key) { left } else { left.max(PATIENCE) })
    }

    /// It was refused: nobody asks for that long, and it is the first afterwards.
    pub fn refused(&self, kind: &'static str, key: EnvKey, now: Duration, wait: Duration) {
        let mut lines = self.lock();
        let line = lines.entry(kind).or_default();
        line.open_at = line.open_at.max(now.saturating_add(wait));
        line.waiting.retain(|other| *other != key);
        line.waiting.push_front(key);
    }

    /// It has been answered and leaves the line: who is next.
    pub fn answered(&self, kind: &'static str, key: EnvKey) -> Option<EnvKey> {
        let mut lines = self.lock();
        let line = lines.get_mut(kind)?;
        line.waiting.retain(|other| *other != key);
        let next = line.waiting.front().copied();
        if next.is_none() {
            lines.remove(kind);
        }
        next
    }

    /// It leaves every line in which it does not want to ask any more: who is next in those.
    pub fn give_up(&self, key: EnvKey, wants: impl Fn(&str) -> bool) -> Vec<EnvKey> {
        let mut lines = self.lock();
        let mut next = Vec::new();
        lines.retain(|kind, line| {
            if !wants(kind) && line.waiting.contains(&key) {
                line.waiting.retain(|other| *other != key);
                next.extend(line.waiting.front());
            }
            !line.waiting.is_empty()
        });
        next
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{PrNumber, RepoId};

    const KIND: &str = "launch-machine";

    fn key(pr: u64) -> EnvKey {
        EnvKey { repo: RepoId(1), pr: PrNumber(pr) }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn all_wait_for_a_refusal_and_then_ask_one_after_the_other() {
        let turns = Turns::default();
        assert_eq!(turns.ask(KIND, key(1), at(0)), Ok(()));
        assert_eq!(turns.answered(KIND, key(1)), None);
        turns.refused(KIND, key(2), at(0), at(10));
        assert_eq!(turns.ask(KIND, key(2), at(4)), Err(at(6)), "the first, woken by something else");
        assert_eq!(turns.ask(KIND, key(3), at(4)), Err(PATIENCE));
        assert_eq!(turns.ask(KIND, key(4), at(4)), Err(PATIENCE));
        assert_eq!(turns.ask("drop-database", key(4), at(4)), Ok(()), "another bucket");
        assert_eq!(turns.ask(KIND, key(2), at(10)), Ok(()));
        assert_eq!(turns.answered(KIND, key(2)), Some(key(3)));
        turns.refused(KIND, key(3), at(10), at(10));
        assert_eq!(turns.ask(KIND, key(4), at(11)), Err(PATIENCE));
        assert_eq!(turns.give_up(key(3), |kind| kind == KIND), [], "it still wants to ask");
        assert_eq!(turns.give_up(key(3), |_| false), [key(4)], "one that gives up lets the next ask");
        assert_eq!(turns.give_up(key(9), |_| false), []);
        assert_eq!(turns.answered(KIND, key(4)), None);
        assert_eq!(turns.ask(KIND, key(5), at(12)), Ok(()), "nobody is left who was refused");
    }
}
