//! From stored deliveries to wakes: each says where to look, and we look.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;

use super::ports::World;
use super::refresh::{self, RefreshError};
use super::resync;
use super::state::Memory;
use crate::domain::id::{EnvKey, RepoId};
use crate::forge::webhook::{Event, Place, Touch};
use crate::forge::{ForgeErrorKind, RepoRef};
use crate::store::{StoreError, StoredDelivery};

const BATCH: u32 = 200;
const PARALLEL: usize = 8;

/// What several deliveries have in common: looked at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    Pull(EnvKey),
    Repository(RepoId),
    Installations,
    Nothing,
}

/// Works through what is pending. Returns how long to wait before trying the rest again, if there is a
/// rest.
pub async fn drain(world: &World, memory: &Memory) -> Result<Option<Duration>, StoreError> {
    let pending = world.store.inbox().pending(BATCH).await?;
    if pending.is_empty() {
        return Ok(None);
    }
    let full = pending.len() == BATCH as usize;
    let mut groups: BTreeMap<Target, (Option<Place>, Vec<i64>)> = BTreeMap::new();
    for delivery in &pending {
        let (target, place) = target(delivery);
        let group = groups.entry(target).or_default();
        group.0 = place.or(group.0.take());
        group.1.push(delivery.seq);
    }
    let waits: Vec<Option<Duration>> = futures::stream::iter(groups)
        .map(|(target, (place, seqs))| look(world, memory, target, place, seqs))
        .buffer_unordered(PARALLEL)
        .collect::<Vec<Result<Option<Duration>, StoreError>>>()
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    let wait = waits.into_iter().flatten().min();
    Ok(wait.or(full.then_some(Duration::ZERO)))
}

fn target(delivery: &StoredDelivery) -> (Target, Option<Place>) {
    match Event::read(&delivery.event, &delivery.body) {
        Ok(event) => match event.touches() {
            Touch::Pull(place, number) => (Target::Pull(EnvKey { repo: place.repo, pr: number }), Some(place)),
            Touch::Repository(place) => (Target::Repository(place.repo), Some(place)),
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

/// Looks where a group of deliveries points, and marks them processed unless looking has to be repeated.
async fn look(
    world: &World,
    memory: &Memory,
    target: Target,
    place: Option<Place>,
    seqs: Vec<i64>,
) -> Result<Option<Duration>, StoreError> {
    let done = match target {
        Target::Nothing => Ok(()),
        Target::Installations => resync::repositories(world).await.map(|_| ()),
        Target::Pull(key) => match repo_at(world, key.repo, place).await {
            Ok(Some(repo)) => {
                let read = refresh::pull(world, &repo, key.pr).await.map(|_| ());
                // Part of it may have been stored even if not all could be read.
                memory.queue.wake(key);
                read
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        },
        Target::Repository(id) => match repo_at(world, id, place).await {
            Ok(Some(repo)) => resync::repository(world, memory, &repo, resync::Depth::Configurations).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        },
    };
    let wait = match done {
        Ok(()) => None,
        Err(RefreshError::Store(error)) => return Err(error),
        Err(RefreshError::Forge(error)) => {
            let wait = match error.kind {
                ForgeErrorKind::Retry | ForgeErrorKind::Garbled => Some(Duration::from_secs(2)),
                ForgeErrorKind::SlowDown(wait) => Some(wait),
                ForgeErrorKind::NotFound | ForgeErrorKind::Denied | ForgeErrorKind::Rejected => None,
            };
            tracing::warn!(
                target = ?target,
                error = %error,
                retry = wait.is_some(),
                "GitHub could not be read after a delivery; nothing was changed"
            );
            wait
        }
    };
    if wait.is_none() {
        world.store.inbox().mark_processed(&seqs, world.clock.now()).await?;
    }
    Ok(wait)
}

/// The repository, as the store knows it, or else as the delivery names it: an address to look at, whose
/// answer must carry the same id.
async fn repo_at(world: &World, id: RepoId, place: Option<Place>) -> Result<Option<RepoRef>, RefreshError> {
    if let Some(repo) = world.store.repo(id).await? {
        let renamed = place.as_ref().is_some_and(|place| place.name != repo.name);
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
