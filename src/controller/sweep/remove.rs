//! Takes away what is due: each thing after it was looked at once more, under its environment's lease, with a row in the
//! journal before and after.
//!
//! Guarantees: what has changed since it was judged is spared; a thing that cannot be taken away keeps no other.
//! Must not know: why something is due.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::json;

use super::{LEASE, Sweep, WINDOW};
use crate::cloud::{CloudError, ErrorClass};
use crate::controller::grounds::Grounds;
use crate::controller::ports::World;
use crate::controller::{execute, words};
use crate::domain::guard::Guard;
use crate::domain::id::{DatabaseId, EnvKey, MachineId};
use crate::domain::ledger::Ledger;
use crate::domain::mark::{Mark, Subject};
use crate::domain::owned::{
    Orphan, Owned, Refusal, prove_orphan_database, prove_orphan_machine, prove_residue, prove_words,
};
use crate::domain::time::Timestamp;
use crate::forge::{ForgeError, ForgeErrorKind};
use crate::plan::sweep::{Inventory, Ruling, Verdict};
use crate::store::{JournalId, Lease, StoreError};
use crate::telemetry::chain;

/// Machines that are taken away together: one call of a provider that has such.
const MACHINES: usize = 200;

/// Databases that are taken away together: as many as RDS has turns for in a quarter of a minute.
const DATABASES: usize = 20;

/// For how long things are gathered that are taken away together. Listing, gathering and the call fit into the lifetime of
/// the evidence and of the leases, which is a minute for both.
const GATHERING: Duration = Duration::from_secs(15);

/// What is known while things are taken away.
struct Sight {
    /// The right to sweep.
    lease: Lease,
    listed_at: Timestamp,
    fresh: Inventory,
    /// Of which kinds something is due still: nothing else is listed anew.
    kinds: BTreeSet<&'static str>,
}

impl Sweep<'_> {
    /// Looks at what is due again, and takes it away if nothing has changed: machines and databases several at a time.
    pub(super) async fn remove(&self, lease: &Lease, verdicts: &mut [Verdict]) -> Result<(), StoreError> {
        let (mut machines, mut databases, mut others) = (VecDeque::new(), VecDeque::new(), Vec::new());
        for verdict in verdicts.iter_mut().filter(|verdict| verdict.ruling == Ruling::Due) {
            match verdict.subject {
                Subject::Machine(_) => machines.push_back(verdict),
                Subject::Database(_) => databases.push_back(verdict),
                _ => others.push(verdict),
            }
        }
        if machines.is_empty() && databases.is_empty() && others.is_empty() {
            return Ok(());
        }
        let all = machines.iter().chain(&databases).chain(&others);
        let kinds: BTreeSet<&str> = all.map(|verdict| verdict.subject.kind()).collect();
        let listed_at = self.world.clock.now();
        let fresh = self.list(|kind| kinds.contains(kind)).await;
        let mut sight = Sight { lease: lease.clone(), listed_at, fresh, kinds };
        for (kind, mut several, most) in [("machine", machines, MACHINES), ("database", databases, DATABASES)] {
            while !several.is_empty() {
                self.look_again(&mut sight).await?;
                let done = self.remove_together(&sight.fresh, several.iter().take(most)).await?;
                for (verdict, done) in several.drain(..done.len()).zip(done) {
                    settle(verdict, done)?;
                }
            }
            sight.kinds.remove(kind);
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
            sight.fresh = self.list(|kind| sight.kinds.contains(kind)).await;
            sight.listed_at = now;
        }
        Ok(())
    }

    /// Takes the first ones of a kind away together, each under its environment's lease: as many as can be looked at before
    /// what was seen of them is old. What came of each.
    async fn remove_together<'v>(
        &self,
        fresh: &Inventory,
        verdicts: impl Iterator<Item = &'v &'v mut Verdict>,
    ) -> Result<Vec<Result<(), Removal>>, StoreError> {
        let (world, store) = (self.world, &self.world.store);
        // An environment may have left several.
        let mut leases: BTreeMap<EnvKey, Lease> = BTreeMap::new();
        let (mut machines, mut databases) = (Vec::new(), Vec::new());
        let (mut begun, mut done) = (Vec::new(), Vec::new());
        let began = world.clock.now();
        for verdict in verdicts {
            if !done.is_empty() && world.clock.now().since(began) > GATHERING {
                break;
            }
            done.push(match self.doomed(&mut leases, fresh, verdict).await {
                Ok((doomed, id)) => {
                    match doomed {
                        Doomed::Machine(owned) => machines.push(owned),
                        Doomed::Database(owned) => databases.push(owned),
                    }
                    begun.push(id);
                    None
                }
                Err(removal) => Some(Err(removal)),
            });
        }
        // All of one kind: the other list is empty.
        let mut came = world.machines.terminate_all(&machines).await;
        came.extend(world.databases.delete_all(&databases).await);
        let mut ended = begun.into_iter().zip(came);
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

    /// Something that may be taken away now, with the row of the journal that says that it is about to be.
    async fn doomed(
        &self,
        leases: &mut BTreeMap<EnvKey, Lease>,
        fresh: &Inventory,
        verdict: &Verdict,
    ) -> Result<(Doomed, JournalId), Removal> {
        let mark = marked(verdict)?;
        let Some(key) = mark.tags.as_ref().map(|tags| tags.key) else { return Err(gone()) };
        let lease = match leases.entry(key) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(place) => place.insert(self.lease_of(key).await?),
        };
        let now = self.world.clock.now();
        let record = self.unbraked(key, now).await?;
        let orphan = Orphan { install: &self.policy.install, record: record.as_ref(), mark, now };
        let doomed = match &mark.subject {
            Subject::Machine(id) => {
                let listing = fresh.machines.as_ref().map_err(|why| unlisted(why))?;
                let machine = listing.items.iter().find(|machine| machine.id == *id).ok_or_else(gone)?;
                Doomed::Machine(prove_orphan_machine(machine, orphan, &self.policy.allow)?)
            }
            Subject::Database(id) => {
                let listing = fresh.databases.as_ref().map_err(|why| unlisted(why))?;
                let database = listing.items.iter().find(|database| database.id == *id).ok_or_else(gone)?;
                Doomed::Database(prove_orphan_database(database, orphan, &self.policy.allow)?)
            }
            _ => return Err(gone()),
        };
        let begun = self.announce(lease, key, verdict, mark, now).await?;
        Ok((doomed, begun))
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
            (Subject::Comment(_) | Subject::Deployment(_), Some(tags), _) => tags.key,
            (Subject::Comment(_) | Subject::Deployment(_), None, Some(key)) => key,
            (_, Some(_), _) => return Err(gone()),
            (_, None, _) => return self.clear_away(sweeping, fresh, verdict, mark).await,
        };
        let lease = self.lease_of(key).await?;
        let done = self.take_back(&lease, verdict, mark).await;
        self.world.store.release_lease(&lease).await?;
        done
    }

    /// Takes back what was said on GitHub, if it may be written there now.
    async fn take_back(&self, lease: &Lease, verdict: &Verdict, mark: &Mark) -> Result<(), Removal> {
        let (world, store) = (self.world, &self.world.store);
        self.unbraked(lease.key, world.clock.now()).await?;
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

async fn finish<E>(world: &World, begun: JournalId, done: Result<(), E>) -> Result<(), Removal>
where
    E: ToString + Into<Removal>,
{
    execute::finish(world, begun, done.as_ref().err()).await?;
    done.map_err(Into::into)
}

/// Something that may go, and is proven to be ours.
enum Doomed {
    Machine(Owned<MachineId>),
    Database(Owned<DatabaseId>),
}

/// Why something was not taken away.
enum Removal {
    Spared(Guard, String),
    Later(String),
    Failed(String),
    Store(StoreError),
}

impl From<CloudError> for Removal {
    fn from(error: CloudError) -> Self {
        match error.class {
            // Nobody has to look at what only came too soon.
            ErrorClass::SlowDown(_) => Self::Later(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<ForgeError> for Removal {
    fn from(error: ForgeError) -> Self {
        match error.kind {
            ForgeErrorKind::SlowDown(_) => Self::Later(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
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
