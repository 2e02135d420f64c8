//! Takes away what is due: each thing after it was looked at once more, under its environment's lease, with a row in the
//! journal before and after.
//!
//! Guarantees: what has changed since it was judged is spared; a thing that cannot be taken away keeps no other.
//! Must not know: why something is due.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::json;

use super::{LEASE, Sweep, WINDOW};
use crate::controller::grounds::Grounds;
use crate::controller::ports::World;
use crate::controller::{execute, words};
use crate::domain::guard::Guard;
use crate::domain::id::{EnvKey, MachineId};
use crate::domain::ledger::Ledger;
use crate::domain::mark::{Mark, Subject};
use crate::domain::owned::{
    Orphan, Owned, Refusal, prove_orphan_database, prove_orphan_machine, prove_residue, prove_words,
};
use crate::domain::time::Timestamp;
use crate::plan::sweep::{Inventory, Ruling, Verdict};
use crate::store::{JournalId, Lease, StoreError};
use crate::telemetry::chain;

/// Machines that are taken away together: one call of a provider that has such.
const TOGETHER: usize = 50;

/// For how long machines are gathered that are taken away together. Listing, gathering and the call fit into the lifetime of
/// the evidence and of the leases, which is a minute for both.
const GATHERING: Duration = Duration::from_secs(15);

/// What is known while things are taken away.
struct Sight {
    /// The right to sweep.
    lease: Lease,
    listed_at: Timestamp,
    fresh: Inventory,
}

impl Sweep<'_> {
    /// Looks at what is due again, and takes it away if nothing has changed: machines several at a time.
    pub(super) async fn remove(&self, lease: &Lease, verdicts: &mut [Verdict]) -> Result<(), StoreError> {
        let (machines, others): (Vec<&mut Verdict>, Vec<&mut Verdict>) = verdicts
            .iter_mut()
            .filter(|verdict| verdict.ruling == Ruling::Due)
            .partition(|verdict| matches!(verdict.subject, Subject::Machine(_)));
        if machines.is_empty() && others.is_empty() {
            return Ok(());
        }
        let mut sight = Sight { lease: lease.clone(), listed_at: self.world.clock.now(), fresh: self.list().await };
        let mut machines = VecDeque::from(machines);
        while !machines.is_empty() {
            self.look_again(&mut sight).await?;
            let done = self.remove_machines(&sight.fresh, &machines).await?;
            for (verdict, done) in machines.drain(..done.len()).zip(done) {
                settle(verdict, done)?;
            }
        }
        for verdict in others {
            self.look_again(&mut sight).await?;
            let done = self.remove_one(&sight.lease, &sight.fresh, verdict).await;
            settle(verdict, done)?;
        }
        Ok(())
    }

    /// Keeps the right to sweep, and lists anew what was listed a while ago.
    async fn look_again(&self, sight: &mut Sight) -> Result<(), StoreError> {
        let now = self.world.clock.now();
        sight.lease = self.world.store.renew(&sight.lease, LEASE, now).await?;
        if now.since(sight.listed_at) > crate::domain::owned::EVIDENCE_LIFETIME / 2 {
            sight.fresh = self.list().await;
            sight.listed_at = now;
        }
        Ok(())
    }

    /// Takes the first machines away together, each under its environment's lease: as many as can be looked at before what
    /// was seen of them is old. What came of each.
    async fn remove_machines(
        &self,
        fresh: &Inventory,
        verdicts: &VecDeque<&mut Verdict>,
    ) -> Result<Vec<Result<(), Removal>>, StoreError> {
        let (world, store) = (self.world, &self.world.store);
        // An environment may have left several.
        let mut leases: BTreeMap<EnvKey, Lease> = BTreeMap::new();
        let (mut going, mut begun, mut done) = (Vec::new(), Vec::new(), Vec::new());
        let began = world.clock.now();
        for verdict in verdicts.iter().take(TOGETHER) {
            if !done.is_empty() && world.clock.now().since(began) > GATHERING {
                break;
            }
            done.push(match self.doomed(&mut leases, fresh, verdict).await {
                Ok((owned, id)) => {
                    going.push(owned);
                    begun.push(id);
                    None
                }
                Err(removal) => Some(Err(removal)),
            });
        }
        let mut ended = begun.into_iter().zip(world.machines.terminate_all(&going).await);
        for place in done.iter_mut().filter(|place| place.is_none()) {
            *place = match ended.next() {
                Some((id, outcome)) => Some(finish(world, id, outcome).await),
                None => Some(Err(Removal::Failed("the provider did not say what came of it".to_owned()))),
            };
        }
        for lease in leases.values() {
            store.release_lease(lease).await?;
        }
        Ok(done.into_iter().flatten().collect())
    }

    /// A machine that may be taken away now, with the row of the journal that says that it is about to be.
    async fn doomed(
        &self,
        leases: &mut BTreeMap<EnvKey, Lease>,
        fresh: &Inventory,
        verdict: &Verdict,
    ) -> Result<(Owned<MachineId>, JournalId), Removal> {
        let mark = marked(verdict)?;
        let Some(key) = mark.tags.as_ref().map(|tags| tags.key) else { return Err(gone()) };
        let lease = match leases.entry(key) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(place) => place.insert(self.lease_of(key).await?),
        };
        let now = self.world.clock.now();
        let record = self.unbraked(key, now).await?;
        let orphan = Orphan { install: &self.policy.install, record: record.as_ref(), mark, now };
        let listing = fresh.machines.as_ref().map_err(|why| unlisted(why))?;
        let machine = listing.items.iter().find(|machine| mark.subject == Subject::Machine(machine.id.clone()));
        let owned = prove_orphan_machine(machine.ok_or_else(gone)?, orphan, &self.policy.allow)?;
        let begun = self.announce(lease, key, verdict, mark, now).await?;
        Ok((owned, begun))
    }

    /// Counts a removal that is about to be, and says in the journal of what, why, and on which evidence.
    async fn announce(
        &self,
        lease: &Lease,
        key: EnvKey,
        verdict: &Verdict,
        mark: &Mark,
        now: Timestamp,
    ) -> Result<JournalId, StoreError> {
        let store = &self.world.store;
        store.note_sweep_removal(&mark.subject, now, WINDOW).await?;
        let evidence = json!({"subject": mark.subject, "evidence": mark.tags, "marked_at": mark.first_at,
            "sightings": mark.sightings});
        let grounds = Grounds::of_leftover(self.world, key, &verdict.why).await?;
        store.begin(lease, &format!("sweep-{}", mark.subject.kind()), grounds.entry(evidence), now).await
    }

    /// The right to change what belongs to that environment.
    async fn lease_of(&self, key: EnvKey) -> Result<Lease, Removal> {
        let world = self.world;
        let lease = world.store.acquire(key, &world.holder, Duration::from_mins(1), world.clock.now()).await?;
        lease.ok_or_else(|| {
            let why = "somebody works on its environment at this moment".to_owned();
            Removal::Spared(Guard::LeaseTaken, why)
        })
    }

    /// The environment's record as it is now, if nothing holds its removal up.
    async fn unbraked(&self, key: EnvKey, now: Timestamp) -> Result<Option<Ledger>, Removal> {
        let record = self.world.store.ledger(key).await?;
        match self.world.store.brakes(now).await?.into_iter().find(|brake| brake.concerns(key)) {
            Some(brake) => Err(Removal::Spared(brake.guard(), brake.to_string())),
            None => Ok(record),
        }
    }

    async fn remove_one(&self, sweeping: &Lease, fresh: &Inventory, verdict: &Verdict) -> Result<(), Removal> {
        let mark = marked(verdict)?;
        let key = match (&mark.subject, &mark.tags, verdict.owner) {
            (_, Some(tags), _) => tags.key,
            (Subject::Comment(_) | Subject::Deployment(_), None, Some(key)) => key,
            (_, None, _) => return self.clear_away(sweeping, fresh, verdict, mark).await,
        };
        let lease = self.lease_of(key).await?;
        let done = self.remove_under(&lease, fresh, verdict, mark).await;
        self.world.store.release_lease(&lease).await?;
        done
    }

    async fn remove_under(
        &self,
        lease: &Lease,
        fresh: &Inventory,
        verdict: &Verdict,
        mark: &Mark,
    ) -> Result<(), Removal> {
        let world = self.world;
        let now = world.clock.now();
        let record = self.unbraked(lease.key, now).await?;
        let orphan = Orphan { install: &self.policy.install, record: record.as_ref(), mark, now };
        match &mark.subject {
            Subject::Database(id) => {
                let listing = fresh.databases.as_ref().map_err(|why| unlisted(why))?;
                let database = listing.items.iter().find(|database| database.id == *id).ok_or_else(gone)?;
                let owned = prove_orphan_database(database, orphan, &self.policy.allow)?;
                let begun = self.announce(lease, lease.key, verdict, mark, now).await?;
                finish(world, begun, world.databases.delete(&owned).await).await
            }
            Subject::Comment(_) | Subject::Deployment(_) => self.take_back(lease, verdict, mark).await,
            Subject::Machine(_) | Subject::Process(_) | Subject::Directory(_) | Subject::Golden(_) => Err(gone()),
        }
    }

    /// Takes back what was said on GitHub, if it may be written there now.
    async fn take_back(&self, lease: &Lease, verdict: &Verdict, mark: &Mark) -> Result<(), Removal> {
        let (world, store) = (self.world, &self.world.store);
        let found = words::again(world, &self.policy, lease.key, &mark.subject).await?;
        let residue = found.map_err(|error| unlisted(&chain(&error).to_string()))?.ok_or_else(gone)?;
        let now = world.clock.now();
        let owned = prove_words(&residue, mark, &self.policy, now)?;
        let repo = store.repo(lease.key.repo).await?.ok_or_else(gone)?;
        if let Err(wait) = world.take_write(lease.key).await? {
            return Err(Removal::Later(format!("GitHub's write budget is used up for {} s", wait.as_secs())));
        }
        let begun = self.announce(lease, lease.key, verdict, mark, now).await?;
        finish(world, begun, words::take_back(world, &repo, &owned).await).await
    }

    /// Clears away what is no environment's, under the lease of the sweep itself.
    async fn clear_away(
        &self,
        sweeping: &Lease,
        fresh: &Inventory,
        verdict: &Verdict,
        mark: &Mark,
    ) -> Result<(), Removal> {
        let world = self.world;
        let now = world.clock.now();
        let key = verdict.owner.unwrap_or(EnvKey::SWEEP);
        self.unbraked(key, now).await?;
        let is_golden = matches!(mark.subject, Subject::Golden(_));
        let listing = if is_golden { &fresh.goldens } else { &fresh.beside };
        let listing = listing.as_ref().map_err(|why| unlisted(why))?;
        let residue = listing.items.iter().find(|residue| residue.subject == mark.subject).ok_or_else(gone)?;
        let owned = prove_residue(residue, &self.policy.install, mark, &self.policy.allow, now)?;
        let begun = self.announce(sweeping, key, verdict, mark, now).await?;
        let done =
            if is_golden { world.databases.clear_away(&owned).await } else { world.machines.clear_away(&owned).await };
        finish(world, begun, done).await
    }
}

/// Writes down what came of it.
fn settle(verdict: &mut Verdict, done: Result<(), Removal>) -> Result<(), StoreError> {
    let (ruling, why, guard) = match done {
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
    Ok(())
}

fn marked(verdict: &Verdict) -> Result<&Mark, Removal> {
    let unmarked = || Removal::Spared(Guard::Unmarked, "it carries no mark".to_owned());
    verdict.mark.as_ref().ok_or_else(unmarked)
}

fn unlisted(why: &str) -> Removal {
    Removal::Spared(Guard::UnknownListing, why.to_owned())
}

fn gone() -> Removal {
    Removal::Spared(Guard::Vanished, "it was not there any more when it was looked at again".to_owned())
}

async fn finish<E: ToString>(world: &World, begun: JournalId, done: Result<(), E>) -> Result<(), Removal> {
    execute::finish(world, begun, done.as_ref().err()).await?;
    done.map_err(|error| Removal::Failed(error.to_string()))
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
        match error {
            // One record that nobody can read keeps no other.
            StoreError::Corrupt { .. } => Self::Failed(chain(&error).to_string()),
            error => Self::Store(error),
        }
    }
}

impl From<Refusal> for Removal {
    fn from(refusal: Refusal) -> Self {
        Self::Spared(refusal.guard(), refusal.to_string())
    }
}
