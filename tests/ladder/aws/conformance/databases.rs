//! Databases.

use std::time::Duration;

use kagero::cloud::ErrorClass;
use kagero::domain::id::{DatabaseId, EnvKey, EnvUid, Generation, PrNumber};
use kagero::domain::observed::{Database, DatabaseState};
use kagero::domain::owned::{Claim, Owned, prove_database};

use super::{Call, Fate, Wish, World, in_turn, until};

async fn listed(world: &dyn World) -> Vec<Database> {
    let listing = world.databases().list().await.unwrap();
    assert!(listing.complete);
    listing.items
}

async fn prepare(world: &dyn World, wish: &Wish) -> DatabaseId {
    in_turn(world, async || world.databases().prepare(wish.database()).await).await.unwrap()
}

async fn in_state(world: &dyn World, id: &DatabaseId, state: DatabaseState) -> Database {
    until(world, "it has that state", async || {
        listed(world).await.into_iter().find(|database| database.id == *id && database.state == state)
    })
    .await
}

fn prove(world: &dyn World, database: &Database) -> Owned<DatabaseId> {
    let (install, tags) = (world.install(), database.tags.clone().unwrap());
    let claim = Claim { install: &install, uid: &tags.uid, generation: Generation::FIRST };
    prove_database(database, claim, &world.allowed()).unwrap()
}

/// As soon as nothing else is done with it.
async fn deleted(world: &dyn World, id: &DatabaseId) {
    until(world, "it may be deleted", async || {
        let found = listed(world).await.into_iter().find(|database| database.id == *id)?;
        in_turn(world, async || world.databases().delete(&prove(world, &found)).await).await.ok()
    })
    .await;
}

pub(super) async fn asked_for_twice_there_is_one(world: &dyn World) {
    let wish = Wish::of(world, 1);
    let id = prepare(world, &wish).await;
    assert_eq!(prepare(world, &wish).await, id);
    let database = in_state(world, &id, DatabaseState::Ready).await;
    assert_eq!(listed(world).await.len(), 1);
    assert_eq!((database.name.as_str(), database.tags.as_ref()), (wish.spec.name.as_str(), Some(&wish.tags)));
    assert_eq!((database.slot.as_ref(), database.can_stop), (Some(&wish.slot), true));
    assert_eq!(prepare(world, &wish).await, id, "what is ready stays as it is");
    assert!(world.databases().access(&wish.spec).await.is_ok());
}

pub(super) async fn an_answer_that_was_lost_does_not_make_another(world: &dyn World) {
    let wish = Wish::of(world, 1);
    for (fate, made) in [(Fate::LostBefore, 0), (Fate::LostAfter, 1)] {
        world.meet(Call::Prepare, fate);
        let lost = in_turn(world, async || world.databases().prepare(wish.database()).await).await.unwrap_err();
        assert_eq!(lost.class, ErrorClass::Ambiguous, "{fate:?}: {lost}");
        assert_eq!(listed(world).await.len(), made, "{fate:?}");
    }
    let id = prepare(world, &wish).await;
    in_state(world, &id, DatabaseState::Ready).await;
    assert_eq!(listed(world).await.len(), 1);
}

pub(super) async fn a_name_that_is_taken_is_not_taken_over(world: &dyn World) {
    let wish = Wish::of(world, 1);
    let id = prepare(world, &wish).await;
    let mut other = Wish::of(world, 1);
    other.tags.key = EnvKey { pr: PrNumber(2), ..other.tags.key };
    other.tags.uid = EnvUid::derive(&other.tags.install, other.tags.key);
    let refused = in_turn(world, async || world.databases().prepare(other.database()).await).await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Denied, "{refused}");
    let database = in_state(world, &id, DatabaseState::Ready).await;
    assert_eq!(database.tags.as_ref(), Some(&wish.tags));
}

pub(super) async fn what_was_deleted_goes_and_may_be_asked_for_anew(world: &dyn World) {
    let wish = Wish::of(world, 1);
    let id = prepare(world, &wish).await;
    let ready = in_state(world, &id, DatabaseState::Ready).await;
    world.meet(Call::DeleteDatabase, Fate::Throttled);
    let throttled = world.databases().delete(&prove(world, &ready)).await.unwrap_err();
    assert!(matches!(throttled.class, ErrorClass::SlowDown(_)), "{throttled}");
    let still = in_state(world, &id, DatabaseState::Ready).await;
    deleted(world, &id).await;
    until(world, "it is gone", async || listed(world).await.is_empty().then_some(())).await;
    let gone = Database { read_at: world.now(), ..still };
    in_turn(world, async || world.databases().delete(&prove(world, &gone)).await).await.unwrap();
    let again = prepare(world, &wish).await;
    in_state(world, &again, DatabaseState::Ready).await;
}

pub(super) async fn what_was_stopped_is_started_by_asking_again(world: &dyn World) {
    let wish = Wish::of(world, 1);
    let id = prepare(world, &wish).await;
    in_state(world, &id, DatabaseState::Ready).await;
    world.meet(Call::StopDatabase, Fate::LostBefore);
    let lost = until(world, "it is lost", async || {
        let found = listed(world).await.into_iter().find(|database| database.id == id)?;
        in_turn(world, async || world.databases().stop(&prove(world, &found)).await).await.err()
    });
    assert_eq!(lost.await.class, ErrorClass::Ambiguous);
    until(world, "it may be stopped", async || {
        let found = listed(world).await.into_iter().find(|database| database.id == id)?;
        in_turn(world, async || world.databases().stop(&prove(world, &found)).await).await.ok()
    })
    .await;
    let stopped = in_state(world, &id, DatabaseState::Stopped).await;
    in_turn(world, async || world.databases().stop(&prove(world, &stopped)).await).await.unwrap();
    let again = until(world, "it can be started", async || {
        in_turn(world, async || world.databases().prepare(wish.database()).await).await.ok()
    });
    assert_eq!(again.await, id);
    in_state(world, &id, DatabaseState::Ready).await;
}

pub(super) async fn old_evidence_deletes_nothing(world: &dyn World) {
    let wish = Wish::of(world, 1);
    let id = prepare(world, &wish).await;
    let ready = in_state(world, &id, DatabaseState::Ready).await;
    let old = Database { read_at: world.now().minus(Duration::from_secs(61)), ..ready };
    for done in [world.databases().delete(&prove(world, &old)).await, world.databases().stop(&prove(world, &old)).await]
    {
        assert_eq!(done.unwrap_err().class, ErrorClass::Retry);
    }
    in_state(world, &id, DatabaseState::Ready).await;
}
