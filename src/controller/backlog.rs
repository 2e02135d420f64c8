//! Where deliveries have told us to look and we have not looked yet: one entry per target, each on its own time.
//!
//! Guarantees: a target that GitHub does not answer for holds up no other; further deliveries about a target join
//! the look that is due; a look that fails is repeated ever more slowly. Pure: time is given in.
//! Must not know: how one looks, the inbox.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::id::{EnvKey, RepoId};
use crate::domain::time::Timestamp;
use crate::forge::ForgeErrorKind;
use crate::forge::webhook::Place;

/// What several deliveries have in common: looked at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// One pull request.
    Pull(EnvKey),
    /// A repository's list of open pull requests.
    Repository(RepoId),
    /// A branch that pull requests may be based on.
    Branch(RepoId, String),
    /// The list of installations and repositories.
    Installations,
    /// Nothing: the deliveries only have to be marked.
    Nothing,
}

/// A look that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// At what.
    pub target: Target,
    /// Where the newest delivery says that it is.
    pub place: Option<Place>,
    /// The deliveries that are answered by it.
    pub seqs: Vec<i64>,
    /// How often it has failed before.
    pub failures: u32,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Backlog {
    entries: BTreeMap<Target, Entry>,
    read_up_to: i64,
}

#[derive(Debug)]
struct Entry {
    place: Option<Place>,
    seqs: Vec<i64>,
    failures: u32,
    due: Timestamp,
    looking: bool,
}

impl Backlog {
    /// The newest delivery that was added.
    pub fn read_up_to(&self) -> i64 {
        self.read_up_to
    }

    /// Every delivery that waits for a look or is being looked at.
    pub fn seqs(&self) -> Vec<i64> {
        self.entries.values().flat_map(|entry| &entry.seqs).copied().collect()
    }

    /// How many targets have not been looked at in vain before.
    pub fn fresh(&self) -> usize {
        self.entries.values().filter(|entry| entry.failures == 0).count()
    }

    /// A delivery tells of a target. It is due at once, unless an earlier look at it is waiting for its time.
    pub fn add(&mut self, target: Target, place: Option<Place>, seq: i64, now: Timestamp) {
        self.read_up_to = self.read_up_to.max(seq);
        let new = || Entry { place: None, seqs: Vec::new(), failures: 0, due: now, looking: false };
        let entry = self.entries.entry(target).or_insert_with(new);
        entry.place = place.or(entry.place.take());
        // One that was claimed again after the claim on it had expired is here already.
        if !entry.seqs.contains(&seq) {
            entry.seqs.push(seq);
        }
    }

    /// The look that has been due the longest. Say what became of it by [`Backlog::done`].
    pub fn take(&mut self, now: Timestamp) -> Option<Look> {
        let waiting = self.entries.iter_mut().filter(|(_, entry)| !entry.looking && entry.due <= now);
        let (target, entry) = waiting.min_by_key(|(_, entry)| entry.due)?;
        entry.looking = true;
        Some(Look {
            target: target.clone(),
            place: entry.place.clone(),
            seqs: entry.seqs.clone(),
            failures: entry.failures,
        })
    }

    /// A look has ended: for good, or to be repeated after that long.
    pub fn done(&mut self, look: &Look, again: Option<Duration>, now: Timestamp) {
        let Some(entry) = self.entries.get_mut(&look.target) else { return };
        entry.looking = false;
        if let Some(wait) = again {
            entry.failures = entry.failures.saturating_add(1);
            entry.due = now.plus(wait);
            return;
        }
        entry.failures = 0;
        entry.due = now;
        entry.seqs.retain(|seq| !look.seqs.contains(seq));
        if entry.seqs.is_empty() {
            self.entries.remove(&look.target);
        }
    }

    /// How long until the next look is due, if one waits.
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        let waiting = self.entries.values().filter(|entry| !entry.looking);
        waiting.map(|entry| entry.due.since(now)).min()
    }
}

/// The first pause after a look that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Looks after which what GitHub does not have, or answers in a form that we do not know, is given up: two minutes, in
/// which its replicas have caught up with a push. The next resync looks again.
const PATIENT_LOOKS: u32 = 6;

/// When to look again after a failure; `None`: not because of these deliveries.
pub fn pause(kind: ForgeErrorKind, failures: u32) -> Option<Duration> {
    let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(10)).min(LONGEST_PAUSE);
    match kind {
        ForgeErrorKind::Retry => Some(pause),
        ForgeErrorKind::SlowDown(asked) => Some(asked.max(pause)),
        ForgeErrorKind::NotFound | ForgeErrorKind::Garbled => (failures < PATIENT_LOOKS).then_some(pause),
        ForgeErrorKind::Denied | ForgeErrorKind::Rejected => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::PrNumber;

    const NOW: Timestamp = Timestamp(1_000);

    fn pull(number: u64) -> Target {
        Target::Pull(EnvKey { repo: RepoId(1), pr: PrNumber(number) })
    }

    #[test]
    fn a_target_that_waits_holds_up_no_other() {
        let mut backlog = Backlog::default();
        backlog.add(pull(1), None, 1, NOW);
        backlog.add(pull(2), None, 2, NOW);
        let first = backlog.take(NOW).unwrap();
        backlog.done(&first, Some(Duration::from_mins(4)), NOW);
        let second = backlog.take(NOW).unwrap();
        assert_eq!((first.target, second.target.clone()), (pull(1), pull(2)));
        backlog.done(&second, None, NOW);
        assert_eq!(backlog.take(NOW), None);
        assert_eq!(backlog.wait(NOW), Some(Duration::from_mins(4)));
    }

    #[test]
    fn deliveries_about_one_target_are_one_look_and_those_that_come_meanwhile_are_another() {
        let mut backlog = Backlog::default();
        backlog.add(pull(1), None, 1, NOW);
        backlog.add(pull(1), None, 2, NOW);
        let look = backlog.take(NOW).unwrap();
        assert_eq!(look.seqs, [1, 2]);
        backlog.add(pull(1), None, 3, NOW);
        assert_eq!(backlog.take(NOW), None, "one target is not looked at twice at once");
        backlog.done(&look, None, NOW);
        let again = backlog.take(NOW).unwrap();
        assert_eq!(again.seqs, [3]);
        backlog.done(&again, None, NOW);
        assert_eq!(backlog.wait(NOW), None);
        assert_eq!(backlog.read_up_to(), 3);
    }

    #[test]
    fn a_delivery_does_not_hurry_a_look_that_is_being_put_off() {
        let mut backlog = Backlog::default();
        backlog.add(pull(1), None, 1, NOW);
        let look = backlog.take(NOW).unwrap();
        backlog.done(&look, Some(Duration::from_secs(8)), NOW);
        backlog.add(pull(1), None, 2, NOW);
        assert_eq!(backlog.take(NOW), None);
        let later = backlog.take(NOW.plus(Duration::from_secs(8))).unwrap();
        assert_eq!((later.seqs, later.failures), (vec![1, 2], 1));
    }

    #[test]
    fn failures_are_repeated_ever_more_slowly_and_those_that_cannot_pass_are_given_up() {
        let retry: Vec<u64> = (0..9).map(|n| pause(ForgeErrorKind::Retry, n).unwrap().as_secs()).collect();
        assert_eq!(retry, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        let asked = Duration::from_mins(20);
        assert_eq!(pause(ForgeErrorKind::SlowDown(asked), 3), Some(asked));
        assert_eq!(pause(ForgeErrorKind::SlowDown(Duration::ZERO), 3), Some(Duration::from_secs(16)));
        for kind in [ForgeErrorKind::NotFound, ForgeErrorKind::Garbled] {
            let patience: u64 = (0..).map_while(|n| pause(kind, n)).map(|pause| pause.as_secs()).sum();
            assert_eq!(patience, 126);
        }
        assert_eq!(pause(ForgeErrorKind::Denied, 0), None);
        assert_eq!(pause(ForgeErrorKind::Rejected, 0), None);
    }
}
