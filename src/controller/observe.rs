//! From a fleet's snapshot and an agent's answer to what is known of one environment.
//!
//! Absence is concluded only from a complete listing that began after the last question of ours.

use crate::cloud::CloudError;
use crate::domain::id::EnvUid;
use crate::domain::ledger::{Ledger, Role};
use crate::domain::observed::{Database, Listing, Machine, Tags};
use crate::domain::policy::Policy;
use crate::domain::seen::{Doubt, Seen};
use crate::domain::time::Timestamp;

use super::fleet::Snapshot;

/// The machines of one environment.
pub fn machines(snapshot: &Snapshot, uid: &EnvUid, ledger: Option<&Ledger>, policy: &Policy) -> Seen<Vec<Machine>> {
    let young = is_young(ledger, policy, snapshot.at, |role| *role == Role::Machine);
    select(&snapshot.machines, young, |machine| is_of(&machine.name, machine.tags.as_ref(), uid))
}

/// The databases of one environment.
pub fn databases(snapshot: &Snapshot, uid: &EnvUid, ledger: Option<&Ledger>, policy: &Policy) -> Seen<Vec<Database>> {
    let young = is_young(ledger, policy, snapshot.at, |role| matches!(role, Role::Database(_)));
    select(&snapshot.databases, young, |database| is_of(&database.name, database.tags.as_ref(), uid))
}

/// A resource is looked at by the environment whose uid it carries, or whose uid its name contains: one
/// without tags is never touched, but must be seen.
fn is_of(name: &str, tags: Option<&Tags>, uid: &EnvUid) -> bool {
    match tags {
        Some(tags) => tags.uid == *uid,
        None => name.contains(uid.as_str()),
    }
}

/// Whether a question is so young that its object may not be visible yet.
fn is_young(ledger: Option<&Ledger>, policy: &Policy, at: Timestamp, about: impl Fn(&Role) -> bool) -> bool {
    ledger.is_some_and(|ledger| {
        ledger
            .intents
            .iter()
            .filter(|intent| about(&intent.role))
            .any(|intent| at.since(intent.asked_at) < policy.pace.grace)
    })
}

fn select<T: Clone>(
    listing: &Result<Listing<T>, CloudError>,
    young: bool,
    is_ours: impl Fn(&T) -> bool,
) -> Seen<Vec<T>> {
    let listing = match listing {
        Ok(listing) => listing,
        Err(error) => return Seen::Unknown(Doubt::ReadFailed(error.to_string())),
    };
    let ours: Vec<T> = listing.items.iter().filter(|item| is_ours(item)).cloned().collect();
    if !ours.is_empty() {
        Seen::Present(ours)
    } else if !listing.complete {
        Seen::Unknown(Doubt::Partial)
    } else if young {
        Seen::Unknown(Doubt::TooYoung)
    } else {
        Seen::Absent
    }
}
