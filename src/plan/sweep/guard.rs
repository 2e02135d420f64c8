//! Guards of a whole sweep: whether it may decide anything at all, and whether it would take too much.

use serde::{Deserialize, Serialize};

use super::{Inventory, Known, Ruling, Thing, Verdict};
use crate::domain::brake::BrakeKind;
use crate::domain::guard::Guard;
use crate::domain::ledger::{Held, Standing};
use crate::domain::owned::ORPHAN_AGE;
use crate::domain::policy::Policy;
use crate::domain::time::Timestamp;

/// Whether a sweep may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// It may look and mark, but take nothing away; the text says why.
    Frozen(Guard, String),
    /// It may not even mark: what it sees is not to be believed. The text says why and what to do.
    Refused(Guard, String),
}

/// How much was listed at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Machines; `None`: they could not be listed in full.
    pub machines: Option<u32>,
    /// Databases; `None`: they could not be listed in full.
    pub databases: Option<u32>,
    /// When.
    pub at: Timestamp,
}

impl Counts {
    /// Of what is proven to be there.
    pub fn of(inventory: &Inventory, at: Timestamp) -> Self {
        let count = |complete: bool, items: usize| complete.then(|| u32::try_from(items).unwrap_or(u32::MAX));
        let machines = inventory.machines.as_ref().ok().and_then(|all| count(all.complete, all.items.len()));
        let databases = inventory.databases.as_ref().ok().and_then(|all| count(all.complete, all.items.len()));
        Self { machines, databases, at }
    }
}

/// What earlier sweeps have left for this one to compare with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// What the last sweep that was believed has listed.
    pub last: Option<Counts>,
    /// How many resources sweeps have taken away within the last hour.
    pub removed: usize,
}

/// What has to hold before anything is judged.
pub fn before(inventory: &Inventory, known: &Known, past: &Past, policy: &Policy, now: Timestamp) -> Gate {
    let allow = &policy.allow;
    for (what, list) in [("accounts", &allow.accounts), ("regions", &allow.regions), ("networks", &allow.networks)] {
        if list.is_empty() {
            let why = format!("the allow-list names no {what}: an emptied list allows nothing; fill it");
            return Gate::Refused(Guard::EmptyAllowList, why);
        }
    }
    if let (Err(machines), Err(databases)) = (&inventory.machines, &inventory.databases) {
        let why = format!("nothing can be listed: {machines}; {databases}; try again when it can");
        return Gate::Refused(Guard::NothingListed, why);
    }
    if let Some(why) = elsewhere(inventory, policy) {
        return Gate::Refused(Guard::Elsewhere, why);
    }
    if let Some(why) = shrunk(inventory, known, past, policy, now) {
        return Gate::Refused(Guard::Shrunk, why);
    }
    let mut on = known.brakes.iter().filter(|brake| brake.is_on(now) && brake.key.is_none());
    match on.find(|brake| matches!(brake.kind, BrakeKind::Freeze | BrakeKind::Pause)) {
        Some(brake) => Gate::Frozen(brake.guard(), brake.to_string()),
        None => Gate::Open,
    }
}

/// Something carries our tags, and nothing of that is where we may act: this is another account, Region or network.
fn elsewhere(inventory: &Inventory, policy: &Policy) -> Option<String> {
    let ours = |thing: &Thing<'_>| thing.tags().is_some_and(|tags| tags.install == policy.install);
    let allow = &policy.allow;
    let is_allowed = |thing: &Thing<'_>| {
        let place = thing.location();
        allow.accounts.contains(&place.account)
            && allow.regions.contains(&place.region)
            && allow.networks.contains(&place.network)
    };
    let first = inventory.things().find(ours)?;
    if inventory.things().filter(ours).any(|thing| is_allowed(&thing)) {
        return None;
    }
    let place = first.location();
    Some(format!(
        "everything with our tags is in account {}, Region {}, network {}, which is not in the allow-list; are these the \
         right credentials?",
        place.account, place.region, place.network
    ))
}

/// Much less is there than the last time, and nobody took it away.
fn shrunk(inventory: &Inventory, known: &Known, past: &Past, policy: &Policy, now: Timestamp) -> Option<String> {
    // What is old enough is no measure any more: otherwise one refusal would last for ever.
    let last = past.last.filter(|last| now.since(last.at) < ORPHAN_AGE)?;
    let counts = Counts::of(inventory, now);
    let gone = |since: Timestamp| {
        known.ledgers.iter().filter(move |ledger| match ledger.standing {
            Standing::Released(at) => at >= since,
            Standing::Leaving(_) => true,
            Standing::Live => false,
        })
    };
    let held = |of: fn(&Held) -> usize| -> usize {
        gone(last.at).map(|ledger| ledger.left.as_ref().map_or(1, |left| of(&left.held).max(1))).sum()
    };
    let kinds = [
        ("machines", last.machines, counts.machines, held(|held| held.machines)),
        ("databases", last.databases, counts.databases, held(|held| held.databases)),
    ];
    kinds.into_iter().find_map(|(what, last_time, now, explained)| {
        let (last_time, now) = (last_time? as usize, now? as usize);
        let accounted = now + explained + past.removed;
        let missing = last_time.saturating_sub(accounted);
        (missing > policy.removals.count as usize && accounted < last_time / 2).then(|| {
            format!(
                "only {now} {what} are listed, after {last_time} at {}, and nothing explains it; a sweep on a listing that \
                 is too small would take what lives for orphans",
                last.at
            )
        })
    })
}

/// Whether what is due is too much to be taken away (I3): why, if it is.
pub fn after(verdicts: &[Verdict], past: &Past, policy: &Policy) -> Option<String> {
    let due = verdicts.iter().filter(|verdict| verdict.ruling == Ruling::Due).count();
    let limit = policy.removals.of(verdicts.len());
    (due > 0 && due + past.removed > limit).then(|| {
        format!(
            "a sweep would take away {due} of {} resources, after {} within the hour; {limit} are allowed (sweep.count, \
             sweep.share)",
            verdicts.len(),
            past.removed
        )
    })
}
