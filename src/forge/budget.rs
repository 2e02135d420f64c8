//! How much we may write on GitHub: comments, deployments and statuses.
//!
//! Guarantees (I22): never more than the limits within any window of their length, and never two writes on
//! one pull request closer together than the pause. Pure: time is given in.
//! Must not know: what is written, or what the caller does while it waits (it keeps only the newest text).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::domain::id::EnvKey;
use crate::domain::time::Timestamp;

/// The limits. GitHub's own are 80 a minute and 500 an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteLimits {
    /// Writes within any minute.
    pub per_minute: usize,
    /// Writes within any hour.
    pub per_hour: usize,
    /// Least time between two writes on one pull request.
    pub pause: Duration,
}

impl Default for WriteLimits {
    fn default() -> Self {
        Self { per_minute: 60, per_hour: 400, pause: Duration::from_secs(30) }
    }
}

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// Counts writes and says when the next one may be made.
#[derive(Debug, Clone, Default)]
pub struct WriteBudget {
    limits: WriteLimits,
    /// The writes of the last hour, oldest first.
    recent: VecDeque<Timestamp>,
    /// The last write on each pull request, kept for the length of the pause.
    last: HashMap<EnvKey, Timestamp>,
}

impl WriteBudget {
    /// Writes longer ago than this do not count.
    pub const WINDOW: Duration = HOUR;

    /// An unused budget.
    pub fn new(limits: WriteLimits) -> Self {
        Self { limits, recent: VecDeque::new(), last: HashMap::new() }
    }

    /// A budget that takes into account what was written before a restart, in any order.
    pub fn resume(limits: WriteLimits, written: impl IntoIterator<Item = (EnvKey, Timestamp)>) -> Self {
        let mut written: Vec<_> = written.into_iter().collect();
        written.sort_by_key(|(_, at)| *at);
        let mut budget = Self::new(limits);
        for (pull, at) in written {
            budget.recent.push_back(at);
            budget.last.insert(pull, at);
        }
        budget
    }

    /// Takes one write on a pull request, or says how long to wait before asking again. A refusal costs
    /// nothing.
    pub fn take(&mut self, pull: EnvKey, now: Timestamp) -> Result<(), Duration> {
        while self.recent.front().is_some_and(|at| now.since(*at) >= HOUR) {
            self.recent.pop_front();
        }
        let pause = self.limits.pause;
        self.last.retain(|_, at| now.since(*at) < pause);

        let own = self.last.get(&pull).map_or(Duration::ZERO, |at| pause.saturating_sub(now.since(*at)));
        let wait = own.max(self.until_room(self.limits.per_minute, MINUTE, now)).max(self.until_room(
            self.limits.per_hour,
            HOUR,
            now,
        ));
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.recent.push_back(now);
        self.last.insert(pull, now);
        Ok(())
    }

    /// How long until the window holds fewer than `limit` writes.
    fn until_room(&self, limit: usize, window: Duration, now: Timestamp) -> Duration {
        let Some(index) = self.recent.len().checked_sub(limit) else { return Duration::ZERO };
        // A limit of nothing never has room; asking again after a full window is as good as any time.
        self.recent.get(index).map_or(window, |at| window.saturating_sub(now.since(*at)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::id::{PrNumber, RepoId};

    fn pull(number: u64) -> EnvKey {
        EnvKey { repo: RepoId(1), pr: PrNumber(number) }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    #[test]
    fn one_pull_request_waits_out_its_pause() {
        let mut budget = WriteBudget::default();
        assert_eq!(budget.take(pull(1), at(0)), Ok(()));
        assert_eq!(budget.take(pull(1), at(12)), Err(Duration::from_secs(18)));
        assert_eq!(budget.take(pull(2), at(12)), Ok(()));
        assert_eq!(budget.take(pull(1), at(30)), Ok(()));
    }

    #[test]
    fn the_sixty_first_of_a_minute_waits() {
        let mut budget = WriteBudget::default();
        for number in 0..60 {
            assert_eq!(budget.take(pull(number), at(i64::try_from(number / 6).unwrap())), Ok(()));
        }
        assert_eq!(budget.take(pull(99), at(9)), Err(Duration::from_secs(51)));
        assert_eq!(budget.take(pull(99), at(60)), Ok(()));
    }

    #[test]
    fn a_restart_forgets_nothing_it_is_told() {
        let written = (0..400_u64).map(|n| (pull(n), at(i64::try_from(n).unwrap()))).rev();
        let mut budget = WriteBudget::resume(WriteLimits::default(), written);
        assert_eq!(budget.take(pull(1000), at(1000)), Err(Duration::from_secs(2600)));
        assert_eq!(budget.take(pull(1000), at(3600)), Ok(()));
    }

    #[test]
    fn a_limit_of_nothing_refuses_everything() {
        let limits = WriteLimits { per_minute: 0, ..WriteLimits::default() };
        assert_eq!(WriteBudget::new(limits).take(pull(1), at(0)), Err(MINUTE));
    }

    proptest! {
        #[test]
        fn no_window_ever_holds_more_than_its_limit(asks in prop::collection::vec((0_u64..90, 0_i64..1_200), 0..2_000)) {
            let mut budget = WriteBudget::default();
            let (mut now, mut granted) = (0, Vec::new());
            for (number, gap) in asks {
                now += gap;
                match budget.take(pull(number), Timestamp(now)) {
                    Ok(()) => granted.push((number, now)),
                    Err(wait) => {
                        // The wait is honest: if nobody else comes, the write is granted then.
                        let then = Timestamp(now).plus(wait);
                        prop_assert_eq!(budget.clone().take(pull(number), then), Ok(()));
                    }
                }
            }
            for (index, (number, start)) in granted.iter().enumerate() {
                let within = |ms| granted[index..].iter().filter(|(_, at)| at - start < ms).count();
                prop_assert!(within(60_000) <= 60);
                prop_assert!(within(3_600_000) <= 400);
                let next = granted[index + 1..].iter().find(|(other, _)| other == number);
                prop_assert!(next.is_none_or(|(_, at)| at - start >= 30_000));
            }
        }
    }
}
