//! From stored deliveries to wakes: each says where to look, and we look.
//!
//! Guarantees: a delivery is marked as processed only after we have looked, or have given up in a way that the next
//! resync makes good; looks at different targets do not wait for each other.
//! Must not know: what follows from what is seen.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};

use super::backlog::{Backlog, Look, Target, pause};
use super::ports::World;
use super::refresh::{self, RefreshError};
use super::resync;
use super::state::Memory;
use crate::domain::id::{EnvKey, RepoId};
use crate::domain::pull::PullState;
use crate::forge::RepoRef;
use crate::forge::webhook::{Event, Place, Touch};
use crate::store::{StoreError, StoredDelivery};

/// Rows read at once.
const BATCH: u32 = 100;

/// Targets at hand beyond which no more deliveries are read.
const AT_HAND: usize = 64;

/// Targets looked at at once.
const PARALLEL: usize = 8;

/// Between two looks at an inbox that nobody has announced anything in, and between two prolongations of our claims.
const TICK: Duration = Duration::from_secs(20);

/// How long a delivery is kept after it was processed: GitHub sends one again for three days at the most, and it is
/// then known to have been processed.
const KEPT: Duration = Duration::from_hours(7 * 24);

/// Rows deleted at once, so that no webhook waits long for its commit.
const PRUNED: u32 = 1_000;

/// After an error of the store.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// Works through the inbox, for ever.
pub async fn run(world: &World, memory: &Memory) {
    let mut arrivals = world.store.inbox().arrivals();
    let mut backlog = Backlog::default();
    let mut looks = FuturesUnordered::new();
    let mut unread = true;
    let mut kept_at = world.clock.now();
    loop {
        let mut wait = TICK;
        if world.clock.now().since(kept_at) >= TICK {
            kept_at = world.clock.now();
            if let Err(error) = world.store.inbox().keep_claims(&backlog.seqs(), &world.holder, kept_at).await {
                tracing::warn!(error = %crate::telemetry::chain(&error), "others may look at the same deliveries");
            }
        }
        // Another replica may have time for what is too much for this one.
        if unread && backlog.fresh() < AT_HAND {
            match read(world, &mut backlog).await {
                Ok(Remaining::Some) => wait = Duration::ZERO,
                Ok(Remaining::None) => unread = false,
                Err(error) => {
                    tracing::error!(error = %crate::telemetry::chain(&error), "the inbox could not be read");
                    wait = STORE_PAUSE;
                }
            }
        }
        while looks.len() < PARALLEL
            && let Some(next) = backlog.take(world.clock.now())
        {
            looks.push(look(world, memory, next));
        }
        if looks.len() < PARALLEL {
            wait = backlog.wait(world.clock.now()).map_or(wait, |due| due.min(wait));
        }
        tokio::select! {
            Some((ended, again)) = looks.next() => backlog.done(&ended, again, world.clock.now()),
            () = tokio::time::sleep(wait) => unread = true,
            changed = arrivals.changed() => {
                if changed.is_err() { return }
                unread = true;
            }
        }
    }
}

/// Works through what is due now, one look after the other, and returns. How long until the next look is due, if
/// one waits.
pub async fn catch_up(world: &World, memory: &Memory, backlog: &mut Backlog) -> Result<Option<Duration>, StoreError> {
    while let Remaining::Some = read(world, backlog).await? {}
    while let Some(next) = backlog.take(world.clock.now()) {
        let (ended, again) = look(world, memory, next).await;
        backlog.done(&ended, again, world.clock.now());
    }
    Ok(backlog.wait(world.clock.now()))
}

/// Whether a reading has left something.
enum Remaining {
    Some,
    None,
}

/// Adds what has arrived.
async fn read(world: &World, backlog: &mut Backlog) -> Result<Remaining, StoreError> {
    let now = world.clock.now();
    let pending = world.store.inbox().claim(backlog.read_up_to(), &world.holder, BATCH, now).await?;
    for delivery in &pending {
        let (target, place) = target(delivery);
        backlog.add(target, place, delivery.seq, now);
    }
    Ok(if pending.len() < BATCH as usize { Remaining::None } else { Remaining::Some })
}

fn target(delivery: &StoredDelivery) -> (Target, Option<Place>) {
    match Event::read(&delivery.event, &delivery.body) {
        Ok(event) => match event.touches() {
            Touch::Pull(place, number) => (Target::Pull(EnvKey { repo: place.repo, pr: number }), Some(place)),
            Touch::Repository(place) => (Target::Repository(place.repo), Some(place)),
            Touch::Branch(place, branch) => (Target::Branch(place.repo, branch), Some(place)),
            Touch::Installations => (Target::Installations, None),
            Touch::Nothing => (Target::Nothing, None),
        },
        Err(error) => {
            tracing::warn!(
                delivery.guid = delivery.guid,
                delivery.event = delivery.event,
                error = %crate::telemetry::chain(&error),
                "a delivery could not be read; the next resync finds what it was about"
            );
            (Target::Nothing, None)
        }
    }
}

/// Looks, and marks the deliveries as processed unless looking has to be repeated: then after how long.
async fn look(world: &World, memory: &Memory, look: Look) -> (Look, Option<Duration>) {
    // A panic is a mistake of ours about one target: the others go on, and the resync finds this one.
    let seen = AssertUnwindSafe(look_at(world, memory, &look)).catch_unwind().await;
    let again = match seen {
        Ok(Ok(())) => None,
        Ok(Err(RefreshError::Store(error))) => {
            tracing::error!(target = ?look.target, error = %crate::telemetry::chain(&error), "the store failed; trying again");
            Some(STORE_PAUSE)
        }
        Ok(Err(RefreshError::Forge(error))) => {
            let again = pause(error.kind, look.failures);
            tracing::warn!(
                target = ?look.target,
                error = %error,
                retry.s = again.map(|wait| wait.as_secs()),
                "GitHub could not be read after a delivery; nothing was changed"
            );
            again
        }
        Err(_) => {
            tracing::error!(target = ?look.target, "looking after a delivery panicked; the log has its place");
            None
        }
    };
    if again.is_none()
        && let Err(error) = world.store.inbox().mark_processed(&look.seqs, world.clock.now()).await
    {
        tracing::error!(error = %crate::telemetry::chain(&error), "deliveries could not be marked; they are looked at again");
        return (look, Some(STORE_PAUSE));
    }
    (look, again)
}

async fn look_at(world: &World, memory: &Memory, look: &Look) -> Result<(), RefreshError> {
    match &look.target {
        Target::Nothing => Ok(()),
        Target::Installations => resync::repositories(world).await.map(|_| ()),
        Target::Pull(key) => {
            let Some(repo) = repo_at(world, key.repo, look.place.as_ref()).await? else { return Ok(()) };
            if let Some(newest) = look.seqs.iter().max() {
                world.store.touch(*key, *newest).await?;
            }
            let read = refresh::pull(world, &repo, key.pr).await.map(|_| ());
            // Part of it may have been stored even if not all could be read.
            memory.queue.wake(*key);
            read
        }
        Target::Repository(id) => match repo_at(world, *id, look.place.as_ref()).await? {
            Some(repo) => resync::repository(world, memory, &repo).await,
            None => Ok(()),
        },
        Target::Branch(id, branch) => match repo_at(world, *id, look.place.as_ref()).await? {
            Some(repo) => base_moved(world, memory, &repo, branch).await,
            None => Ok(()),
        },
    }
}

/// A branch has moved. If open pull requests are based on it and its configuration is another than before, theirs is
/// read again: one question for a push, however many pull requests there are.
async fn base_moved(world: &World, memory: &Memory, repo: &RepoRef, branch: &str) -> Result<(), RefreshError> {
    let open = world.store.all_pulls().await?;
    let based: Vec<_> = open.iter().filter(|pull| pull.key.repo == repo.id && pull.base_ref == branch).collect();
    if based.is_empty() {
        return Ok(());
    }
    let base = refresh::base(world, repo, branch).await?;
    for facts in based {
        if facts.state == PullState::Open
            && refresh::is_config_outdated(world, facts, Some(&base)).await?
            && refresh::config(world, repo, facts).await?
        {
            memory.queue.wake(facts.key);
        }
    }
    Ok(())
}

/// The repository, as the store knows it, or else as the delivery names it: an address to look at, whose
/// answer must carry the same id.
async fn repo_at(world: &World, id: RepoId, place: Option<&Place>) -> Result<Option<RepoRef>, RefreshError> {
    if let Some(repo) = world.store.repo(id).await? {
        let renamed = place.is_some_and(|place| place.name != repo.name);
        if !renamed {
            return Ok(Some(repo));
        }
    }
    let known = resync::repositories(world).await?;
    if let Some(repo) = known.into_iter().find(|repo| repo.id == id) {
        return Ok(Some(repo));
    }
    tracing::info!(repo.id = id.0, "a delivery names a repository that the App has no access to");
    Ok(None)
}

/// Deletes deliveries that nobody will ask for again.
pub async fn prune(world: &World) -> Result<(), StoreError> {
    let before = world.clock.now().minus(KEPT);
    while world.store.inbox().prune(before, PRUNED).await? == u64::from(PRUNED) {}
    Ok(())
}
