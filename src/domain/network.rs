//! Where machines stand in a provider's network, and how environments are kept apart there.
//!
//! A slot is a security group that was made beforehand: an environment's machine and its database are members of one
//! slot, and nothing else is. Their number is fixed, so that no limit of the provider can be reached by load.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{EnvUid, SlotId};
use super::time::Timestamp;

/// A slot is free again after two reads without interfaces that lie so far apart (I17).
pub const VACANCY: Duration = Duration::from_mins(1);

/// Reads that are remembered: far more than it takes.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Where a machine is put, and as what: an Availability Zone and an instance type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// The zone.
    pub zone: String,
    /// The instance type.
    pub kind: String,
}

/// All placements that the operator allows; none where the provider knows of no such thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placements {
    /// The zones that have a subnet for machines.
    pub zones: Vec<String>,
    /// The instance types, the preferred one first.
    pub kinds: Vec<String>,
}

impl Placements {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.zones.len() * self.kinds.len()
    }

    /// The placement of an attempt, from 1. Each further one goes elsewhere: first to another zone, then as another type.
    /// Environments begin in different zones.
    pub fn of(&self, uid: &EnvUid, attempt: u32) -> Option<Placement> {
        let tried = usize::try_from(attempt.saturating_sub(1)).unwrap_or_default();
        let begin = uid.as_str().bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let zones = self.zones.len().max(1);
        let zone = self.zones.get(begin.wrapping_add(tried) % zones)?;
        let kind = self.kinds.get((tried / zones) % self.kinds.len().max(1))?;
        Some(Placement { zone: zone.clone(), kind: kind.clone() })
    }
}

/// A network interface that is a member of a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The provider's id.
    pub id: String,
    /// The slot.
    pub slot: SlotId,
}

/// Which slots had interfaces at which reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Complete reads, oldest first.
    reads: VecDeque<Timestamp>,
    /// When each slot was last seen with an interface, and with how many.
    occupied: BTreeMap<SlotId, (Timestamp, usize)>,
}

/// What is known of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vacancy {
    /// Two reads that lie far enough apart have shown nothing.
    Vacant,
    /// So many interfaces are there.
    Occupied(usize),
    /// It was empty, but not for long enough.
    Unproven,
}

impl Occupancy {
    /// Notes a complete read that began then.
    pub fn note(&mut self, at: Timestamp, interfaces: &[Interface]) {
        if self.reads.back().is_some_and(|last| *last >= at) {
            return;
        }
        self.reads.push_back(at);
        while self.reads.front().is_some_and(|first| at.since(*first) > REMEMBERED) {
            self.reads.pop_front();
        }
        for interface in interfaces {
            let (seen, count) = self.occupied.entry(interface.slot.clone()).or_insert((at, 0));
            *count = if *seen == at { *count + 1 } else { 1 };
            *seen = at;
        }
    }

    /// Slots in which something stands, or stood less than [`VACANCY`] before the last read; `None` where that was longer than
    /// twice as long ago, or there was none.
    pub fn slots(&self, now: Timestamp) -> Option<BTreeSet<SlotId>> {
        let last = self.reads.back().filter(|last| now.since(**last) <= 2 * VACANCY)?;
        let held = self.occupied.iter().filter(|(_, (seen, _))| last.since(*seen) < VACANCY);
        Some(held.map(|(slot, _)| slot.clone()).collect())
    }

    /// Whether a slot has been without interfaces for long enough since a time.
    pub fn of(&self, slot: &SlotId, since: Timestamp) -> Vacancy {
        let Some(last) = self.reads.back() else { return Vacancy::Unproven };
        let after = match self.occupied.get(slot) {
            Some((seen, count)) if seen == last => return Vacancy::Occupied(*count),
            Some((seen, _)) => since.max(*seen),
            None => since,
        };
        match self.reads.iter().find(|read| **read > after) {
            Some(first) if last.since(*first) >= VACANCY => Vacancy::Vacant,
            _ => Vacancy::Unproven,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{EnvKey, InstallId, PrNumber, RepoId};

    fn uid(pr: u64) -> EnvUid {
        let key = EnvKey { repo: RepoId(1), pr: PrNumber(pr) };
        EnvUid::derive(&InstallId::parse("dev").unwrap(), key)
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    fn slot(number: u32) -> SlotId {
        SlotId::parse(format!("sg-{number}")).unwrap()
    }

    fn interfaces(slots: &[u32]) -> Vec<Interface> {
        slots.iter().map(|number| Interface { id: format!("eni-{number}"), slot: slot(*number) }).collect()
    }

    #[test]
    fn every_attempt_goes_elsewhere_until_all_were_tried() {
        let texts = |all: [&str; 2]| all.map(str::to_owned).to_vec();
        let all = Placements { zones: texts(["a", "b"]), kinds: texts(["small", "medium"]) };
        for pr in 0..20 {
            let tried: Vec<Placement> = (1..=4).filter_map(|attempt| all.of(&uid(pr), attempt)).collect();
            assert_eq!(tried.len(), 4);
            assert!(tried.iter().all(|one| tried.iter().filter(|other| *other == one).count() == 1));
            assert!(tried[..2].iter().all(|one| one.kind == "small"), "the preferred type in every zone first");
            assert_eq!(all.of(&uid(pr), 5).as_ref(), tried.first());
        }
        let zones: BTreeSet<String> = (0..20).map(|pr| all.of(&uid(pr), 1).unwrap().zone).collect();
        assert_eq!(zones.len(), 2, "not all begin in one zone");
        assert_eq!(Placements::default().of(&uid(1), 1), None);
    }

    #[test]
    fn a_slot_is_vacant_after_two_empty_reads_a_minute_apart() {
        let mut known = Occupancy::default();
        assert_eq!(known.of(&slot(1), at(0)), Vacancy::Unproven);
        known.note(at(10), &interfaces(&[1, 1, 2]));
        assert_eq!(known.of(&slot(1), at(0)), Vacancy::Occupied(2));
        assert_eq!(known.of(&slot(3), at(0)), Vacancy::Unproven);
        known.note(at(20), &interfaces(&[2]));
        known.note(at(79), &interfaces(&[]));
        assert_eq!(known.of(&slot(1), at(0)), Vacancy::Unproven, "59 s");
        known.note(at(80), &interfaces(&[]));
        assert_eq!(known.of(&slot(1), at(0)), Vacancy::Vacant);
        assert_eq!(known.of(&slot(2), at(0)), Vacancy::Unproven, "its first empty read is a second old");
        assert_eq!(known.of(&slot(1), at(30)), Vacancy::Unproven, "what was seen before it was left proves nothing");
    }

    #[test]
    fn an_interface_that_comes_back_begins_the_minute_anew() {
        let mut known = Occupancy::default();
        known.note(at(0), &interfaces(&[]));
        known.note(at(50), &interfaces(&[1]));
        known.note(at(70), &interfaces(&[]));
        known.note(at(129), &interfaces(&[]));
        assert_eq!(known.of(&slot(1), at(-1)), Vacancy::Unproven);
        known.note(at(130), &interfaces(&[]));
        assert_eq!(known.of(&slot(1), at(-1)), Vacancy::Vacant);
    }

    #[test]
    fn what_stood_in_a_slot_a_moment_ago_still_holds_it() {
        let mut known = Occupancy::default();
        assert_eq!(known.slots(at(0)), None);
        known.note(at(0), &interfaces(&[1, 2]));
        known.note(at(10), &interfaces(&[2]));
        assert_eq!(known.slots(at(10)), Some(BTreeSet::from([slot(1), slot(2)])));
        known.note(at(60), &interfaces(&[]));
        assert_eq!(known.slots(at(60)), Some(BTreeSet::from([slot(2)])));
        known.note(at(70), &interfaces(&[]));
        assert_eq!(known.slots(at(190)), Some(BTreeSet::new()));
        assert_eq!(known.slots(at(191)), None, "what was seen so long ago is not known");
    }

    #[test]
    fn reads_out_of_order_and_long_past_are_not_counted() {
        let mut known = Occupancy::default();
        known.note(at(100), &interfaces(&[]));
        known.note(at(40), &interfaces(&[]));
        assert_eq!(known.of(&slot(1), at(0)), Vacancy::Unproven);
        known.note(at(2_000), &interfaces(&[]));
        assert_eq!(known.of(&slot(1), at(0)), Vacancy::Unproven, "the first one is forgotten");
        known.note(at(2_600), &interfaces(&[]));
        assert_eq!(known.of(&slot(1), at(1_999)), Vacancy::Vacant, "one of ten minutes ago is not");
    }
}
