//! From a fleet's snapshot and an agent's answer to what is known of one environment.
//!
//! Absence is concluded only from a complete listing that began after the last question of ours.

use std::collections::BTreeSet;

use crate::cloud::CloudError;
use crate::domain::id::{EnvUid, SlotId};
use crate::domain::ledger::{Answer, Ledger, Role, Standing};
use crate::domain::network::Vacancy;
use crate::domain::observed::{Database, Machine};
use crate::domain::policy::Policy;
use crate::domain::seen::{Doubt, Seen};
use crate::domain::time::Timestamp;

use super::fleet::{Item, Roll, Snapshot};

/// The machines of one environment.
pub fn machines(snapshot: &Snapshot, uid: &EnvUid, ledger: Option<&Ledger>, policy: &Policy) -> Seen<Vec<Machine>> {
    let young = is_young(ledger, policy, snapshot.at, |role| *role == Role::Machine);
    select(&snapshot.machines, young, uid)
}

/// The databases of one environment.
pub fn databases(snapshot: &Snapshot, uid: &EnvUid, ledger: Option<&Ledger>, policy: &Policy) -> Seen<Vec<Database>> {
    let young = is_young(ledger, policy, snapshot.at, |role| matches!(role, Role::Database(_)));
    select(&snapshot.databases, young, uid)
}

/// How many interfaces are members of an environment's slot. None is known only by two reads after it was left.
pub fn interfaces(snapshot: &Snapshot, ledger: Option<&Ledger>) -> Seen<usize> {
    let Some(Ledger { slot: Some(slot), standing: Standing::Leaving(since), .. }) = ledger else { return Seen::Absent };
    match &snapshot.occupancy {
        Err(error) => Seen::Unknown(Doubt::ReadFailed(error.to_string())),
        Ok(occupancy) => match occupancy.of(slot, *since) {
            Vacancy::Vacant => Seen::Absent,
            Vacancy::Occupied(count) => Seen::Present(count),
            Vacancy::Unproven => Seen::Unknown(Doubt::TooYoung),
        },
    }
}

/// Slots that something stands in.
pub fn occupied(snapshot: &Snapshot) -> Seen<BTreeSet<SlotId>> {
    match &snapshot.occupancy {
        Err(error) => Seen::Unknown(Doubt::ReadFailed(error.to_string())),
        Ok(occupancy) => match occupancy.slots(snapshot.at) {
            None => Seen::Unknown(Doubt::Partial),
            Some(slots) if slots.is_empty() => Seen::Absent,
            Some(slots) => Seen::Present(slots),
        },
    }
}

/// Whether a question is so young that its object may not be visible yet.
fn is_young(ledger: Option<&Ledger>, policy: &Policy, at: Timestamp, about: impl Fn(&Role) -> bool) -> bool {
    ledger.is_some_and(|ledger| {
        ledger
            .intents
            .iter()
            // What there was no room for was surely not made.
            .filter(|intent| about(&intent.role) && !matches!(intent.answer, Some(Answer::NoRoom(_))))
            .any(|intent| at.since(intent.asked_at) < policy.pace.grace)
    })
}

fn select<T: Item>(roll: &Result<Roll<T>, CloudError>, young: bool, uid: &EnvUid) -> Seen<Vec<T>> {
    let roll = match roll {
        Ok(roll) => roll,
        Err(error) => return Seen::Unknown(Doubt::ReadFailed(error.to_string())),
    };
    let ours = roll.of(uid);
    if !ours.is_empty() {
        Seen::Present(ours)
    } else if !roll.listing.complete {
        Seen::Unknown(Doubt::Partial)
    } else if young {
        Seen::Unknown(Doubt::TooYoung)
    } else {
        Seen::Absent
    }
}
