//! One sweep: lists, judges, marks, and takes away what has been nobody's for long enough.
//!
//! The decisions are those of [`crate::plan::sweep`]. Whatever is taken away is looked at again just before: listed
//! anew, its record read anew under the environment's lease, its pull request asked for at GitHub.
//!
//! Guarantees: one sweep at a time, over all replicas; a dry run writes nothing; a lookup that fails spares what it was
//! about and nothing else.
//! Must not know: who asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fleet::in_time;
use super::ports::World;
use super::state::Memory;
use super::{execute, refusals, words};
use crate::domain::brake::{Brake, BrakeKind, SetBy};
use crate::domain::guard::Guard;
use crate::domain::id::EnvKey;
use crate::domain::ledger::Ledger;
use crate::domain::mark::{Mark, Subject};
use crate::domain::owned::{Orphan, Refusal, prove_orphan_database, prove_orphan_machine, prove_residue, prove_words};
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
pub(super) async fn when_due(
    world: &World,
    memory: &Memory,
    scope: Scope,
    every: Duration,
) -> Result<Duration, SweepError> {
    let now = world.clock.now();
    let began = world.store.mark(BEGAN_MARK).await?.map(Timestamp);
    // One of the future was noted before the clock was put back.
    if let Some(began) = began.filter(|began| *began <= now && now.since(*began) < every) {
        return Ok(every.saturating_sub(now.since(began)));
    }
    world.store.set_mark(BEGAN_MARK, now.0).await?;
    match run(world, memory, scope).await {
        // Whoever sweeps by hand does the same.
        Ok(_) | Err(SweepError::Busy) => Ok(every),
        Err(error) => Err(error),
    }
}

/// Runs one sweep.
pub async fn run(world: &World, memory: &Memory, scope: Scope) -> Result<Report, SweepError> {
    let now = world.clock.now();
    let Some(lease) = world.store.acquire(EnvKey::SWEEP, &world.holder, LEASE, now).await? else {
        return Err(SweepError::Busy);
    };
    let mut policy = Policy::clone(&world.policy.load());
    if let Scope::Apply(Some(most)) = scope {
        policy.removals.count = policy.removals.count.max(most);
    }
    let report = Sweep { world, memory, policy }.run(&lease, scope, now).await;
    world.store.release_lease(&lease).await?;
    report
}

struct Sweep<'a> {
    world: &'a World,
    memory: &'a Memory,
    policy: Policy,
}

impl Sweep<'_> {
    async fn run(&self, lease: &Lease, scope: Scope, now: Timestamp) -> Result<Report, SweepError> {
        let store = &self.world.store;
        // The cloud and GitHub first and the records second: see `plan::sweep`.
        let mut inventory = self.list().await;
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

    async fn list(&self) -> Inventory {
        let world = self.world;
        let (snapshot, beside, goldens) = tokio::join!(
            self.memory.fleet.now(),
            in_time("what is beside the machines", world.machines.residue()),
            in_time("goldens", world.databases.residue()),
        );
        Inventory {
            machines: snapshot.machines.clone().map(|roll| roll.listing).map_err(|error| error.to_string()),
            databases: snapshot.databases.clone().map(|roll| roll.listing).map_err(|error| error.to_string()),
            beside: beside.map_err(|error| error.to_string()),
            goldens: goldens.map_err(|error| error.to_string()),
            words: BTreeMap::new(),
        }
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

    /// Looks at what is due again, and takes it away if nothing has changed.
    async fn remove(&self, lease: &Lease, verdicts: &mut [Verdict]) -> Result<(), StoreError> {
        if verdicts.iter().all(|verdict| verdict.ruling != Ruling::Due) {
            return Ok(());
        }
        let mut lease = lease.clone();
        let mut fresh = self.list().await;
        let mut listed_at = self.world.clock.now();
        for verdict in verdicts.iter_mut().filter(|verdict| verdict.ruling == Ruling::Due) {
            let now = self.world.clock.now();
            lease = self.world.store.renew(&lease, LEASE, now).await?;
            if now.since(listed_at) > crate::domain::owned::EVIDENCE_LIFETIME / 2 {
                fresh = self.list().await;
                listed_at = now;
            }
            let (ruling, why, guard) = match self.remove_one(&lease, &fresh, verdict).await {
                Ok(()) => (Ruling::Removed, None, None),
                Err(Removal::Spared(guard, why)) => (Ruling::Wait, Some(why), Some(guard)),
                Err(Removal::Later(why)) => (Ruling::Wait, Some(why), None),
                Err(Removal::Failed(why)) => (Ruling::Failed, Some(why), None),
                Err(Removal::Store(error)) => return Err(error),
            };
            (verdict.ruling, verdict.guard) = (ruling, guard);
            if let Some(why) = why {
                verdict.why = format!("{}; {why}", verdict.why);
            }
        }
        Ok(())
    }

    async fn remove_one(&self, sweeping: &Lease, fresh: &Inventory, verdict: &Verdict) -> Result<(), Removal> {
        let Some(mark) = &verdict.mark else {
            return Err(Removal::Spared(Guard::Unmarked, "it carries no mark".to_owned()));
        };
        let key = match (&mark.subject, &mark.tags, verdict.owner) {
            (_, Some(tags), _) => tags.key,
            (Subject::Comment(_) | Subject::Deployment(_), None, Some(key)) => key,
            (_, None, owner) => return self.clear_away(sweeping, fresh, owner, mark).await,
        };
        let now = self.world.clock.now();
        let store = &self.world.store;
        let Some(lease) = store.acquire(key, &self.world.holder, Duration::from_mins(1), now).await? else {
            let why = "somebody works on its environment at this moment".to_owned();
            return Err(Removal::Spared(Guard::LeaseTaken, why));
        };
        let done = self.remove_under(&lease, fresh, mark).await;
        store.release_lease(&lease).await?;
        done
    }

    async fn remove_under(&self, lease: &Lease, fresh: &Inventory, mark: &Mark) -> Result<(), Removal> {
        let (world, store) = (self.world, &self.world.store);
        let now = world.clock.now();
        let record = store.ledger(lease.key).await?;
        if let Some(brake) = store.brakes(now).await?.into_iter().find(|brake| brake.concerns(lease.key)) {
            return Err(Removal::Spared(brake.guard(), brake.to_string()));
        }
        let orphan = Orphan { install: &self.policy.install, record: record.as_ref(), mark, now };
        let detail = detail(mark);
        match &mark.subject {
            Subject::Machine(id) => {
                let listing = fresh.machines.as_ref().map_err(|why| unlisted(why))?;
                let machine = listing.items.iter().find(|machine| machine.id == *id).ok_or_else(gone)?;
                let owned = prove_orphan_machine(machine, orphan, &self.policy.allow)?;
                store.note_sweep_removal(&mark.subject, now, WINDOW).await?;
                let begun = store.begin(lease, "sweep-machine", detail, now).await?;
                finish(world, begun, world.machines.terminate(&owned).await).await
            }
            Subject::Database(id) => {
                let listing = fresh.databases.as_ref().map_err(|why| unlisted(why))?;
                let database = listing.items.iter().find(|database| database.id == *id).ok_or_else(gone)?;
                let owned = prove_orphan_database(database, orphan, &self.policy.allow)?;
                store.note_sweep_removal(&mark.subject, now, WINDOW).await?;
                let begun = store.begin(lease, "sweep-database", detail, now).await?;
                finish(world, begun, world.databases.delete(&owned).await).await
            }
            Subject::Comment(_) | Subject::Deployment(_) => self.take_back(lease, mark).await,
            Subject::Process(_) | Subject::Directory(_) | Subject::Golden(_) => Err(gone()),
        }
    }

    /// Takes back what was said on GitHub, if it may be written there now.
    async fn take_back(&self, lease: &Lease, mark: &Mark) -> Result<(), Removal> {
        let (world, store) = (self.world, &self.world.store);
        let found = words::again(world, &self.policy, lease.key, &mark.subject).await?;
        let residue = found.map_err(|error| unlisted(&chain(&error).to_string()))?.ok_or_else(gone)?;
        let now = world.clock.now();
        let owned = prove_words(&residue, mark, &self.policy, now)?;
        let repo = store.repo(lease.key.repo).await?.ok_or_else(gone)?;
        if let Err(wait) = world.take_write(lease.key).await? {
            return Err(Removal::Later(format!("GitHub's write budget is used up for {} s", wait.as_secs())));
        }
        store.note_sweep_removal(&mark.subject, now, WINDOW).await?;
        let begun = store.begin(lease, &format!("sweep-{}", mark.subject.kind()), detail(mark), now).await?;
        finish(world, begun, words::take_back(world, &repo, &owned).await).await
    }

    /// Clears away what is no environment's, under the lease of the sweep itself.
    async fn clear_away(
        &self,
        sweeping: &Lease,
        fresh: &Inventory,
        owner: Option<EnvKey>,
        mark: &Mark,
    ) -> Result<(), Removal> {
        let (world, store) = (self.world, &self.world.store);
        let now = world.clock.now();
        let key = owner.unwrap_or(EnvKey::SWEEP);
        if let Some(brake) = store.brakes(now).await?.into_iter().find(|brake| brake.concerns(key)) {
            return Err(Removal::Spared(brake.guard(), brake.to_string()));
        }
        let is_golden = matches!(mark.subject, Subject::Golden(_));
        let listing = if is_golden { &fresh.goldens } else { &fresh.beside };
        let listing = listing.as_ref().map_err(|why| unlisted(why))?;
        let residue = listing.items.iter().find(|residue| residue.subject == mark.subject).ok_or_else(gone)?;
        let owned = prove_residue(residue, &self.policy.install, mark, &self.policy.allow, now)?;
        store.note_sweep_removal(&mark.subject, now, WINDOW).await?;
        let begun = store.begin(sweeping, &format!("sweep-{}", mark.subject.kind()), detail(mark), now).await?;
        let done =
            if is_golden { world.databases.clear_away(&owned).await } else { world.machines.clear_away(&owned).await };
        finish(world, begun, done).await
    }
}

fn unlisted(why: &str) -> Removal {
    Removal::Spared(Guard::UnknownListing, why.to_owned())
}

fn gone() -> Removal {
    Removal::Spared(Guard::Vanished, "it was not there any more when it was looked at again".to_owned())
}

/// What the journal says of a removal.
fn detail(mark: &Mark) -> serde_json::Value {
    serde_json::json!({"subject": mark.subject, "evidence": mark.tags, "marked_at": mark.first_at,
        "sightings": mark.sightings})
}

async fn finish<E: ToString>(
    world: &World,
    begun: crate::store::JournalId,
    done: Result<(), E>,
) -> Result<(), Removal> {
    execute::finish(world, begun, done.as_ref().err()).await?;
    done.map_err(|error| Removal::Failed(error.to_string()))
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

/// Why something was not taken away.
enum Removal {
    Spared(Guard, String),
    Later(String),
    Failed(String),
    Store(StoreError),
}

impl From<StoreError> for Removal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Refusal> for Removal {
    fn from(refusal: Refusal) -> Self {
        Self::Spared(refusal.guard(), refusal.to_string())
    }
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
