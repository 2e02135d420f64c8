//! Who gets a seat when there are fewer seats than pull requests.
//!
//! First come, first served, under two limits. Nothing is dropped: whoever does not get a seat keeps a
//! place in a visible queue.

use std::collections::BTreeMap;

use crate::domain::desired::{CapacityLimit, QueueReason};
use crate::domain::id::{EnvKey, RepoId};
use crate::domain::policy::Limits;
use crate::domain::time::Timestamp;

/// Someone who holds a seat or wants one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applicant {
    /// The pull request.
    pub key: EnvKey,
    /// When it first asked.
    pub since: Timestamp,
    /// Whether it has resources already.
    pub seated: Seated,
}

/// Whether an applicant has resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seated {
    /// It holds a seat, and keeps it.
    Yes,
    /// It waits for one.
    No,
}

/// The verdict on one applicant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seat {
    /// Go ahead.
    Granted,
    /// Wait.
    Waiting(QueueReason),
}

/// Distributes the seats. Holders keep theirs, even above a limit that was lowered since.
pub fn admit(applicants: &[Applicant], limits: &Limits) -> BTreeMap<EnvKey, Seat> {
    let mut total = 0u32;
    let mut by_repo: BTreeMap<RepoId, u32> = BTreeMap::new();
    let mut verdicts = BTreeMap::new();
    for holder in applicants.iter().filter(|a| a.seated == Seated::Yes) {
        total += 1;
        *by_repo.entry(holder.key.repo).or_default() += 1;
        verdicts.insert(holder.key, Seat::Granted);
    }
    let mut waiting: Vec<&Applicant> = applicants.iter().filter(|a| a.seated == Seated::No).collect();
    waiting.sort_by_key(|a| (a.since, a.key));
    let mut queue = 0u32;
    for applicant in waiting {
        let of_repo = by_repo.entry(applicant.key.repo).or_default();
        let reached = if total >= limits.environments {
            Some((CapacityLimit::Environments, total))
        } else if *of_repo >= limits.per_repository {
            Some((CapacityLimit::PerRepository, *of_repo))
        } else {
            None
        };
        let seat = if let Some((limit, holders)) = reached {
            queue += 1;
            Seat::Waiting(QueueReason { position: queue, limit, holders })
        } else {
            total += 1;
            *of_repo += 1;
            Seat::Granted
        };
        verdicts.insert(applicant.key, seat);
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::PrNumber;

    fn applicant(repo: u64, pr: u64, since: i64, seated: Seated) -> Applicant {
        Applicant { key: EnvKey { repo: RepoId(repo), pr: PrNumber(pr) }, since: Timestamp(since), seated }
    }

    fn limits(environments: u32, per_repository: u32) -> Limits {
        Limits { environments, per_repository, builds: 100, attempts: 3 }
    }

    #[test]
    fn the_earliest_gets_the_free_seat_and_the_rest_see_their_place() {
        let all = [
            applicant(1, 1, 0, Seated::Yes),
            applicant(1, 4, 30, Seated::No),
            applicant(1, 2, 10, Seated::No),
            applicant(1, 3, 20, Seated::No),
        ];
        let seats = admit(&all, &limits(2, 10));
        assert_eq!(seats[&all[2].key], Seat::Granted);
        let place = |i: usize| match &seats[&all[i].key] {
            Seat::Waiting(reason) => (reason.position, reason.holders, reason.limit),
            Seat::Granted => panic!("granted"),
        };
        assert_eq!(place(3), (1, 2, CapacityLimit::Environments));
        assert_eq!(place(1), (2, 2, CapacityLimit::Environments));
    }

    #[test]
    fn a_full_repository_does_not_hold_up_another_one() {
        let all = [applicant(1, 1, 0, Seated::Yes), applicant(1, 2, 10, Seated::No), applicant(2, 1, 20, Seated::No)];
        let seats = admit(&all, &limits(5, 1));
        assert!(matches!(&seats[&all[1].key], Seat::Waiting(r) if r.limit == CapacityLimit::PerRepository));
        assert_eq!(seats[&all[2].key], Seat::Granted);
    }

    #[test]
    fn holders_keep_their_seat_when_the_limit_is_lowered() {
        let all = [applicant(1, 1, 0, Seated::Yes), applicant(1, 2, 1, Seated::Yes)];
        let seats = admit(&all, &limits(1, 1));
        assert!(seats.values().all(|seat| *seat == Seat::Granted));
    }
}
