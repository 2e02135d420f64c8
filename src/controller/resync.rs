//! Finds what no webhook told: lists repositories, open pull requests and failed deliveries.
//!
//! A listing never tears anything down (I4). A pull request that has vanished from its list is read by
//! itself; only that reading can say that it was closed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ports::World;
use super::refresh::{self, RefreshError};
use super::state::Memory;
use crate::domain::id::{EnvKey, RepoId};
use crate::domain::pull::{PullFacts, PullState};
use crate::domain::time::Timestamp;
use crate::forge::{ForgeErrorKind, RepoRef};
use crate::store::StoreError;

const RESYNC_MARK: &str = "resync.began_at";
const DELIVERIES_MARK: &str = "deliveries.checked_until";

/// GitHub keeps deliveries for three days.
const DELIVERIES_KEPT: Duration = Duration::from_hours(72);

/// How often one delivery is asked for again.
const REDELIVERIES: u32 = 3;

/// A delivery younger than this may still be under way.
const DELIVERY_GRACE: Duration = Duration::from_mins(1);

/// Readings kept in one commit: many are cheap together, and no webhook waits long for its turn to write.
const AT_ONCE: usize = 100;

/// Everything once. Each part stands alone: one that fails is logged and the rest goes on.
pub async fn all(world: &World, memory: &Memory) {
    match is_done_by_another(world, memory).await {
        Ok(false) => from_github(world, memory).await,
        Ok(true) => tracing::debug!("another replica has looked at GitHub"),
        Err(error) => report("finding out whether another replica has looked", &error.into()),
    }
    match world.store.unreleased().await {
        Ok(ledgers) => ledgers.iter().for_each(|ledger| memory.queue.wake(ledger.key)),
        Err(error) => tracing::error!(error = %error, "the store could not be read; trying again at the next resync"),
    }
}

/// Whether another replica has begun to look since this one last came here: then once is enough. A replica that
/// starts looks by itself.
async fn is_done_by_another(world: &World, memory: &Memory) -> Result<bool, StoreError> {
    let now = world.clock.now();
    let before = memory.resyncs(now);
    let newest = world.store.mark(RESYNC_MARK).await?.map(Timestamp);
    if before.is_some_and(|before| newest.is_some_and(|newest| newest > before)) {
        return Ok(true);
    }
    world.store.set_mark(RESYNC_MARK, now.0).await?;
    Ok(false)
}

async fn from_github(world: &World, memory: &Memory) {
    let repos = match repositories(world).await {
        Ok(repos) => repos,
        Err(error) => {
            report("listing repositories", &error);
            world.store.repos().await.unwrap_or_default()
        }
    };
    for repo in &repos {
        if let Err(error) = repository(world, memory, repo).await {
            report(&format!("listing pull requests of {}", repo.name), &error);
        }
    }
    if let Err(error) = deliveries(world, memory).await {
        report("listing failed deliveries", &error);
    }
}

fn report(what: &str, error: &RefreshError) {
    tracing::warn!(error = %crate::telemetry::chain(error), "{what} failed; nothing was changed because of it");
}

/// Lists the repositories that we have access to and notes them.
pub async fn repositories(world: &World) -> Result<Vec<RepoRef>, RefreshError> {
    let listing = world.forge.repositories().await?;
    let now = world.clock.now();
    for repo in &listing.items {
        world.store.put_repo(repo, now).await?;
    }
    Ok(listing.items)
}

/// Lists a repository's open pull requests, repairs the facts and wakes what changed.
pub async fn repository(world: &World, memory: &Memory, repo: &RepoRef) -> Result<(), RefreshError> {
    let listing = world.forge.open_pulls(repo).await?;
    let listed: BTreeSet<EnvKey> = listing.items.iter().map(|facts| facts.key).collect();
    let mut current = Vec::new();
    for facts in listing.items {
        if !refresh::is_behind(world, &facts).await? {
            current.push(facts);
        }
    }
    let mut changed = Vec::new();
    for some in current.chunks(AT_ONCE) {
        changed.extend(world.store.put_pulls(some).await?);
    }
    let read = configurations(world, memory, repo, &current).await;
    // Also where not all could be read: what is stored counts.
    for key in changed {
        memory.queue.wake(key);
    }
    read?;
    for key in thought_open(world, repo.id).await?.difference(&listed) {
        match refresh::pull(world, repo, key.pr).await {
            Ok(facts) => {
                if facts.state != PullState::Open {
                    tracing::info!(env.key = %key, "a pull request was closed without our being told");
                }
                memory.queue.wake(*key);
            }
            Err(error) => report(&format!("reading {key}, which is missing from the list,"), &error),
        }
    }
    Ok(())
}

/// Reads the configuration of those pull requests again whose commit or base is another than before.
async fn configurations(
    world: &World,
    memory: &Memory,
    repo: &RepoRef,
    pulls: &[PullFacts],
) -> Result<(), RefreshError> {
    let mut bases = BTreeMap::new();
    for facts in pulls {
        if !bases.contains_key(&facts.base_ref) {
            let base = refresh::base(world, repo, &facts.base_ref).await;
            if let Err(error) = &base {
                tracing::warn!(
                    error = %crate::telemetry::chain(error),
                    "the configuration on {} of {} could not be read; trying again at the next resync",
                    facts.base_ref,
                    repo.name
                );
            }
            bases.insert(facts.base_ref.clone(), base.ok());
        }
        let base = bases.get(&facts.base_ref).and_then(|base| base.as_deref());
        if refresh::is_config_outdated(world, facts, base).await? {
            match refresh::config(world, repo, facts).await {
                Ok(true) => memory.queue.wake(facts.key),
                Ok(false) => {}
                // One pull request whose configuration cannot be read does not hide the others.
                Err(error) => report(&format!("reading the configuration of {}", facts.key), &error),
            }
        }
    }
    Ok(())
}

/// Pull requests that the store takes for open, and those that hold resources.
async fn thought_open(world: &World, repo: RepoId) -> Result<BTreeSet<EnvKey>, RefreshError> {
    let mut keys: BTreeSet<EnvKey> = world.store.open_pulls(repo).await?.into_iter().collect();
    let live = world.store.unreleased().await?;
    keys.extend(live.into_iter().map(|ledger| ledger.key).filter(|key| key.repo == repo));
    Ok(keys)
}

/// Asks GitHub to send again what did not reach us. A delivery that we refuse time and again is given up: what it is
/// about has been found by the listings.
async fn deliveries(world: &World, memory: &Memory) -> Result<(), RefreshError> {
    let now = world.clock.now();
    let oldest = now.minus(DELIVERIES_KEPT);
    let since = world.store.mark(DELIVERIES_MARK).await?.map_or(oldest, Timestamp).max(oldest);
    let failed = world.forge.failed_deliveries(since).await?;
    for delivery in &failed.items {
        if memory.asked_again(&delivery.guid) >= REDELIVERIES {
            continue;
        }
        tracing::info!(delivery.guid = delivery.guid, "asking GitHub to send a failed delivery again");
        match world.forge.redeliver(delivery.id).await {
            // Too old, or gone: the listing of pull requests has found what it was about.
            Err(error) if matches!(error.kind, ForgeErrorKind::NotFound | ForgeErrorKind::Rejected) => {}
            other => other?,
        }
    }
    world.store.set_mark(DELIVERIES_MARK, now.minus(DELIVERY_GRACE).0).await?;
    Ok(())
}
