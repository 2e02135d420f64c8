//! Keeps the number of environments within what the provider's limits leave room for.
//!
//! Guarantees: what the operator allows is never exceeded; what could not be read changes nothing.
//! Must not know: what the limits are.

use std::sync::Arc;
use std::time::Duration;

use super::ports::World;
use crate::cloud::Room;
use crate::domain::policy::{Limits, Policy};

/// Between two looks: quotas are raised by people, and what others use changes slowly.
const EVERY: Duration = Duration::from_mins(10);

/// Looks from now on.
pub(super) async fn keep(world: Arc<World>) {
    let allowed = world.policy.load().limits;
    loop {
        heed(&world, allowed).await;
        tokio::time::sleep(EVERY).await;
    }
}

async fn heed(world: &World, allowed: Limits) {
    match world.machines.room().await {
        Ok(None) => {}
        Ok(Some(room)) => {
            let policy = world.policy.load_full();
            let limits = within(allowed, &room);
            if limits != policy.limits {
                tracing::warn!(
                    room = room.environments,
                    limit = room.limit,
                    "the provider's limits leave room for {} environments at once, and {} are allowed",
                    room.environments,
                    allowed.environments
                );
                world.policy.store(Arc::new(Policy { limits, ..Policy::clone(&policy) }));
            }
        }
        Err(error) => tracing::warn!(%error, "the provider's limits could not be read; those known before hold on"),
    }
}

fn within(allowed: Limits, room: &Room) -> Limits {
    Limits {
        environments: allowed.environments.min(room.environments),
        per_repository: allowed.per_repository.min(room.environments),
        ..allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_operator_allows_and_no_more_than_there_is_room_for() {
        let allowed = Limits { environments: 20, per_repository: 10, builds: 4, attempts: 3 };
        for (room, environments, per_repository) in [(100, 20, 10), (20, 20, 10), (15, 15, 10), (3, 3, 3), (0, 0, 0)] {
            let found = within(allowed, &Room { environments: room, limit: "vCPUs".to_owned() });
            assert_eq!((found.environments, found.per_repository), (environments, per_repository));
            assert_eq!((found.builds, found.attempts), (4, 3));
        }
    }
}
