//! What other replicas do: news of it, and the limits that hold over all of them.
//!
//! Each replica looks at every environment by itself, because its gateway shows them; the lease decides who acts. What
//! is counted over all is counted by the store when it is taken; the memory here only knows whom not to ask for.
//! Guarantees: a replica that was not told of something finds it by looking.
//! Must not know: how replicas hear of each other.

use std::collections::BTreeSet;

use super::execute::StepError;
use super::ports::World;
use super::state::Memory;
use crate::domain::id::EnvKey;
use crate::store::{News, StoreError};

/// Looks at whatever other replicas have changed, for ever.
pub async fn heed(world: &World, memory: &Memory) {
    let mut listener = world.store.listen();
    loop {
        match listener.next().await {
            News::Of(key) => memory.queue.wake(key),
            News::Missed => {
                if let Err(error) = look_at_everything(world, memory).await {
                    tracing::warn!(
                        error = %crate::telemetry::chain(&error),
                        "what other replicas have changed could not be read; trying again"
                    );
                }
            }
        }
    }
}

/// Wakes every pull request that something may have happened to.
async fn look_at_everything(world: &World, memory: &Memory) -> Result<(), StoreError> {
    let ledgers = world.store.ledgers().await?;
    let pulls = world.store.all_pulls().await?;
    let builds = world.store.builds().await?;
    let keys: BTreeSet<EnvKey> = ledgers
        .iter()
        .map(|ledger| ledger.key)
        .chain(pulls.iter().map(|pull| pull.key))
        .chain(builds.iter().copied())
        .collect();
    for key in builds {
        memory.builds.goes_on(key);
    }
    for key in keys {
        memory.queue.wake(key);
    }
    Ok(())
}

/// If a step failed only because another replica has taken the last seat or turn: remembers who has them, and says so.
/// The next decision then waits.
pub(super) async fn was_overtaken(
    world: &World,
    memory: &Memory,
    key: EnvKey,
    error: &StepError,
) -> Result<bool, StoreError> {
    match error {
        StepError::Store(StoreError::NoSeat { .. }) => {
            let holders = world.store.unreleased().await?;
            // Whoever of them has left meanwhile, and was seen to before it was known to hold a seat, is seen again.
            for holder in memory.seats.correct(holders.into_iter().map(|ledger| ledger.key)) {
                memory.queue.wake(holder);
            }
        }
        StepError::NoTurn => {
            let builders = world.store.builds().await?;
            memory.builds.correct(key, builders.iter().copied());
            // Whoever of them has ended and was not seen to, is seen now.
            for builder in builders {
                memory.queue.wake(builder);
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Gives the store's turn at building back, if the memory has seen the end of a build.
pub(super) async fn end_build(
    world: &World,
    memory: &Memory,
    key: EnvKey,
    looked_at: crate::domain::time::Timestamp,
) -> Result<(), StoreError> {
    if !memory.builds.is_over(key) {
        return Ok(());
    }
    world.store.end_build(key, looked_at).await?;
    memory.builds.noted(key);
    Ok(())
}
