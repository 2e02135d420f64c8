//! One sweep: lists, judges, marks, and takes away what has been nobody's for long enough.
//!
//! The decisions are those of [`crate::plan::sweep`]. Whatever is taken away is looked at again just before: listed
//! anew, its record read anew under the environment's lease, its pull request asked for at GitHub.
//!
//! Guarantees: one sweep at a time, over all replicas; a dry run writes nothing; a lookup that fails spares what it was
//! about and nothing else.
//! Must not know: who asked.

mod remove;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fleet::in_time;
use super::ports::World;
use super::{refusals, words};
use crate::cloud::CloudError;
use crate::domain::brake::{Brake, BrakeKind, SetBy};
use crate::domain::guard::Guard;
use crate::domain::id::EnvKey;
use crate::domain::ledger::Ledger;
use crate::domain::mark::{Mark, Subject};
use crate::domain::observed::Listing;
use crate::domain::policy::Policy;
use crate::domain::time::Timestamp;
use crate::plan::sweep::{
    Counts, Gate, Inventory, Known, Past, Ruling, Verdict, Wanted, after, before, judge, lifted, questionable, wanted,
};
use crate::store::{Lease, StoreError};
use crate::telemetry::chain;

/// How long the right to sweep lasts without being renewed.
const LEASE: Duration = Duration::from_mins(5);

/// Within which time removals are counted (I3).
pub(super) const WINDOW: Duration = Duration::from_hours(1);

/// How long a freeze lasts that a guard has set.
const FREEZE: Duration = Duration::from_hours(24);

/// What a sweep may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Look only.
    DryRun,
    /// Mark, and take away; up to so many for once, where a person has looked.
    Apply(Option<u32>),
}

/// What a sweep came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", content = "reason", rename_all = "snake_case")]
pub enum Outcome {
    /// Everything belongs to an environment.
    Clean,
    /// Something does not.
    Found,
    /// Something does not, and nothing may be taken away; why.
    Frozen(String),
    /// What was listed is not to be believed, and nothing was done; why.
    Refused(String),
}

/// What a sweep has found and done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When it began.
    pub at: Timestamp,
    /// Whether it was to act.
    pub applied: bool,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What could not be looked at, and why.
    pub doubts: Vec<String>,
    /// A verdict on everything that is there.
    pub verdicts: Vec<Verdict>,
}

/// Why there was no sweep.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Another one is under way.
    #[error("another sweep is under way; try again when it has ended")]
    Busy,
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

/// When the last sweep by itself began, of whichever replica.
pub const BEGAN_MARK: &str = "sweep.began_at";

/// Runs one sweep if it is time. How long until it is time to look again.
pub(super) async fn when_due(world: &World, scope: Scope, every: Duration) -> Result<Duration, SweepError> {
    let now = world.clock.now();
    let began = world.store.mark(BEGAN_MARK).await?.map(Timestamp);
    // One of the future was noted before the clock was put back.
    if let Some(began) = began.filter(|began| *began <= now && now.since(*began) < every) {
        return Ok(every.saturating_sub(now.since(began)));
    }
    world.store.set_mark(BEGAN_MARK, now.0).await?;
    match run(world, scope).await {
        // Whoever sweeps by hand does the same.
        Ok(_) | Err(SweepError::Busy) => Ok(every),
        Err(error) => Err(error),
    }
}

/// Runs one sweep.
pub async fn run(world: &World, scope: Scope) -> Result<Report, SweepError> {
    let now = world.clock.now();
    let Some(lease) = world.store.acquire(EnvKey::SWEEP, &world.holder, LEASE, now).await? else {
        return Err(SweepError::Busy);
    };
    let mut policy = Policy::clone(&world.policy.load());
    if let Scope::Apply(Some(most)) = scope {
        policy.removals.count = policy.removals.count.max(most);
    }
    let report = Sweep { world, policy }.run(&lease, scope, now).await;
    world.store.release_lease(&lease).await?;
    report
}

struct Sweep<'a> {
    world: &'a World,
    policy: Policy,
}

impl Sweep<'_> {
    async fn run(&self, lease: &Lease, scope: Scope, now: Timestamp) -> Result<Report, SweepError> {
        let store = &self.world.store;
        // The cloud and GitHub first and the records second: see `plan::sweep`.
        let mut inventory = self.list(|_| true).await;
        let marks = store.sweep_marks().await?;
        let heard = words::hear(self.world, &self.policy, &marks).await?;
        let ledgers = store.ledgers().await?;
        let mut found = words::compare(self.world, &self.policy, heard, &ledgers, &marks).await?;
        inventory.words = std::mem::take(&mut found.words);
        let brakes = store.brakes(now).await?;
        let past = Past { last: store.last_sweep().await?, removed: store.sweep_removals(now, WINDOW).await? };
        let mut known = Known { ledgers, wanted: BTreeMap::new(), brakes };
        let gate = before(&inventory, &known, &past, &self.policy, now);
        known.wanted = self.ask(&inventory, &known.ledgers, &marks, now).await?;
        let mut verdicts = judge(&inventory, &known, &marks, &self.policy, now);
        let doubts = inventory.doubts();
        if let Gate::Refused(guard, _) | Gate::Frozen(guard, _) = &gate {
            refusals::count(*guard);
        }
        let mut outcome = match &gate {
            Gate::Refused(_, why) => Outcome::Refused(why.clone()),
            Gate::Frozen(_, why) => Outcome::Frozen(why.clone()),
            Gate::Open if verdicts.iter().all(|verdict| verdict.ruling == Ruling::Keep) => Outcome::Clean,
            Gate::Open => Outcome::Found,
        };
        if matches!(gate, Gate::Open)
            && let Some(why) = after(&verdicts, &past, &self.policy)
        {
            refusals::count(Guard::ManySwept);
            if scope != Scope::DryRun {
                freeze(self.world, &why, now).await?;
            }
            outcome = Outcome::Frozen(why);
        }
        if scope != Scope::DryRun && !matches!(outcome, Outcome::Refused(_)) {
            self.remember(&verdicts, &marks, &inventory, now).await?;
            found.note(self.world).await?;
            if outcome == Outcome::Found {
                self.remove(lease, &mut verdicts).await?;
            }
        }
        verdicts.iter().filter_map(|verdict| verdict.guard).for_each(refusals::count);
        tell(&outcome, &verdicts);
        Ok(Report { at: now, applied: scope != Scope::DryRun, outcome, doubts, verdicts })
    }

    /// Lists what is of the kinds that are wanted. Passes look at more, the network's interfaces among it.
    async fn list(&self, is_wanted: impl Fn(&str) -> bool) -> Inventory {
        let world = self.world;
        let (machines, databases, beside, goldens) = tokio::join!(
            listed("machines", is_wanted("machine"), world.machines.list()),
            listed("databases", is_wanted("database"), world.databases.list()),
            listed(
                "what is beside the machines",
                is_wanted("process") || is_wanted("directory"),
                world.machines.residue()
            ),
            listed("goldens", is_wanted("golden"), world.databases.residue()),
        );
        Inventory { machines, databases, beside, goldens, words: BTreeMap::new() }
    }

    /// Whether pull requests of orphans are to have an environment. Of those whose mark is old GitHub itself is asked;
    /// for the others what the store knows is enough.
    async fn ask(
        &self,
        inventory: &Inventory,
        ledgers: &[Ledger],
        marks: &[Mark],
        now: Timestamp,
    ) -> Result<BTreeMap<EnvKey, Wanted>, StoreError> {
        let old = |mark: &&Mark| now.since(mark.first_at) >= crate::domain::owned::ORPHAN_AGE;
        let tagged = marks.iter().filter(old).filter_map(|mark| Some(mark.tags.as_ref()?.key));
        let old: BTreeSet<EnvKey> = tagged.chain(words::keys_of(&inventory.words, marks.iter().filter(old))).collect();
        let mut answers = BTreeMap::new();
        for key in questionable(inventory, ledgers, &self.policy) {
            let readings = self.world.store.readings(key, now).await?;
            let pull = match (old.contains(&key), readings.repo, readings.pull) {
                (false, _, Some(pull)) => Ok(pull),
                (_, Some(repo), _) => self
                    .world
                    .forge
                    .pull(&repo, key.pr)
                    .await
                    .map_err(|error| format!("its pull request could not be read: {}", chain(&error))),
                (_, None, _) => Err(format!("repository {} is not known; take it away by hand", key.repo.0)),
            };
            answers.insert(key, wanted(pull.as_ref().map_err(String::clone), &self.policy));
        }
        Ok(answers)
    }

    async fn remember(
        &self,
        verdicts: &[Verdict],
        marks: &[Mark],
        inventory: &Inventory,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let set: Vec<Mark> = verdicts.iter().filter_map(|verdict| verdict.mark.clone()).collect();
        let lift: Vec<Subject> = lifted(marks, verdicts, inventory, now).map(|mark| mark.subject.clone()).collect();
        self.world.store.put_sweep_marks(&set, &lift).await?;
        self.world.store.put_last_sweep(&Counts::of(inventory, now)).await
    }
}

/// What was listed, or why it is not known.
async fn listed<T>(
    what: &str,
    is_wanted: bool,
    listing: impl Future<Output = Result<Listing<T>, CloudError>>,
) -> Result<Listing<T>, String> {
    if !is_wanted {
        return Err(format!("the {what} were not asked for"));
    }
    in_time(what, listing).await.map_err(|error| error.to_string())
}

/// Stops removals that nobody asked for, because there were too many, until a person has looked.
pub(super) async fn freeze(world: &World, why: &str, now: Timestamp) -> Result<(), StoreError> {
    let brake = Brake {
        kind: BrakeKind::Freeze,
        key: None,
        reason: why.to_owned(),
        by: SetBy::Guard,
        at: now,
        until: now.plus(FREEZE),
    };
    world.store.set_brake(&brake).await?;
    tracing::error!(reason = why, until = %brake.until, "removals are frozen; look at `kagero sweep`, then `kagero thaw`");
    metrics::counter!("kagero_freezes_total").increment(1);
    Ok(())
}

/// Tells whoever watches: what waits is told at every sweep, so that nothing goes without a word before.
fn tell(outcome: &Outcome, verdicts: &[Verdict]) {
    for verdict in verdicts.iter().filter(|verdict| verdict.ruling != Ruling::Keep) {
        tracing::warn!(
            kind = verdict.subject.kind(),
            id = verdict.subject.id(),
            ruling = ?verdict.ruling,
            "{}",
            verdict.why
        );
    }
    let of = |ruling: Ruling| verdicts.iter().filter(|verdict| verdict.ruling == ruling).count();
    #[expect(clippy::cast_precision_loss, reason = "counts of resources are small")]
    metrics::gauge!("kagero_orphans").set((verdicts.len() - of(Ruling::Keep)) as f64);
    tracing::info!(
        outcome = ?outcome,
        kept = of(Ruling::Keep),
        foreign = of(Ruling::Foreign),
        spared = of(Ruling::Spare),
        waiting = of(Ruling::Wait),
        removed = of(Ruling::Removed),
        failed = of(Ruling::Failed),
        "sweep"
    );
}
