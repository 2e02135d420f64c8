//! Several controllers on one PostgreSQL: they share the work, keep the limits together and take over from each other.

mod restore;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use kagero::store::JournalCheck;

use crate::store::Place;
use crate::wait::eventually;
use world::{Replica, Shared, limits};

const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_the_work_and_both_show_all_of_it() {
    let place = Place::postgres().await;
    let shared = Shared::new([]);
    let one = Replica::start("one", &place.url, &shared, limits(100, 100)).await;
    let two = Replica::start("two", &place.url, &shared, limits(100, 100)).await;
    shared.open.lock().unwrap().extend(1..=20);
    for (number, told) in (1..=20).zip([&one, &two].into_iter().cycle()) {
        told.deliver(number, "opened").await;
    }
    for replica in [&one, &two] {
        eventually("every environment is served by every gateway", PATIENCE, async || {
            let (ready, served) = (replica.ready().await, replica.served(1..=20));
            if (ready, served) == (20, 20) { Ok(()) } else { Err(format!("{ready} are ready, {served} are served")) }
        })
        .await;
    }
    let launched = shared.launched.lock().unwrap().clone();
    let machines: BTreeSet<_> = launched.iter().map(|(_, name)| name.clone()).collect();
    assert_eq!(machines.len(), 20, "something was made twice: {launched:?}");
    for name in ["one", "two"] {
        assert!(launched.iter().any(|(by, _)| *by == name), "{name} has done nothing: {launched:?}");
    }
    let comments = shared.comments.lock().unwrap().clone();
    assert_eq!(comments.iter().collect::<BTreeSet<_>>().len(), comments.len(), "two comments: {comments:?}");

    // A webhook that one replica is told changes what the other shows.
    shared.open.lock().unwrap().remove(&7);
    one.deliver(7, "closed").await;
    for replica in [&one, &two] {
        eventually("the closed one is served by nobody", PATIENCE, async || replica.served([7]) == 0).await;
        eventually("nothing of it is held", PATIENCE, async || replica.store.unreleased().await.unwrap().len() == 19)
            .await;
    }
    assert_eq!(shared.machines.lock().unwrap().len(), 19);
    assert!(matches!(one.store.verify_journal().await.unwrap(), JournalCheck::Intact(_)));
    one.die().await;
    two.die().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_over_all_replicas() {
    let place = Place::postgres().await;
    let shared = Shared::new(1..=9);
    let one = Replica::start("one", &place.url, &shared, limits(4, 1)).await;
    let two = Replica::start("two", &place.url, &shared, limits(4, 1)).await;
    // As seats become free the others get them, until all have had one.
    for _ in 0..3 {
        let ready = eventually("all seats are taken", PATIENCE, async || {
            let open = shared.open.lock().unwrap().clone();
            let ledgers = two.store.unreleased().await.unwrap();
            let proven = ledgers.iter().filter(|ledger| ledger.proven.is_some()).map(|ledger| ledger.key.pr.0);
            let ready: BTreeSet<u64> = proven.filter(|number| open.contains(number)).collect();
            if ready.len() == open.len().min(4) { Ok(ready) } else { Err(format!("{ready:?} of {open:?} are ready")) }
        })
        .await;
        for number in ready {
            shared.open.lock().unwrap().remove(&number);
            let told = if number % 2 == 0 { &one } else { &two };
            told.deliver(number, "closed").await;
        }
    }
    assert!(shared.open.lock().unwrap().is_empty());
    eventually("nothing is held", PATIENCE, async || one.store.unreleased().await.unwrap().is_empty()).await;
    eventually("no turn is kept", PATIENCE, async || one.store.builds().await.unwrap().is_empty()).await;
    assert_eq!((*shared.most_machines.lock().unwrap(), *shared.most_builds.lock().unwrap()), (4, 1));
    one.die().await;
    two.die().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_dead_replica_is_taken_over_when_its_leases_end() {
    let place = Place::postgres().await;
    let shared = Shared::new(1..=3);
    let one = Replica::start_to_die("one", &place.url, &shared, limits(100, 100)).await;
    eventually("it works on all", PATIENCE, async || shared.launched.lock().unwrap().len() == 3).await;
    one.die().await;
    let two = Replica::start("two", &place.url, &shared, limits(100, 100)).await;
    eventually("the other one sees what there is", PATIENCE, async || two.shown(1..=3) == 3).await;
    assert_eq!(shared.machines.lock().unwrap().len(), 0, "somebody acted under a lease that is another's");
    shared.pass(Duration::from_secs(61));
    eventually("the other one has taken over", PATIENCE, async || two.ready().await == 3).await;
    let launched = shared.launched.lock().unwrap().clone();
    let machines: BTreeSet<_> = launched.iter().map(|(_, name)| name.clone()).collect();
    assert_eq!(machines.len(), 3, "asked for under the same names: {launched:?}");
    two.die().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_seen_before_another_replica_acted_is_not_acted_on() {
    let place = Place::postgres().await;
    let shared = Shared::new(1..=1);
    // It has seen that there is no machine, and is slow to say so.
    *shared.held.lock().unwrap() = Some("one");
    let one = Replica::start("one", &place.url, &shared, limits(100, 100)).await;
    eventually("it looks", PATIENCE, async || *shared.waiting.lock().unwrap() > 0).await;
    let two = Replica::start("two", &place.url, &shared, limits(100, 100)).await;
    eventually("the other one is done", PATIENCE, async || two.served([1]) == 1).await;
    *shared.held.lock().unwrap() = None;
    eventually("both are done", PATIENCE, async || one.served([1]) == 1).await;
    let launched = shared.launched.lock().unwrap().clone();
    assert_eq!(launched.len(), 1, "a second machine: {launched:?}");
    one.die().await;
    two.die().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_a_dead_replica_had_taken_is_looked_at_by_another() {
    let place = Place::postgres().await;
    let shared = Shared::new(1..=1);
    let one = Replica::start("one", &place.url, &shared, limits(100, 100)).await;
    eventually("it is ready", PATIENCE, async || one.ready().await == 1).await;
    shared.open.lock().unwrap().clear();
    // A replica that took it and died: nobody told the others.
    let dead = kagero::store::Store::open(&place.url).await.unwrap();
    let now = kagero::clock::Clock::now(&kagero::clock::SystemClock);
    let body = r#"{"action": "closed", "pull_request": {"number": 1}, "installation": {"id": 1},
                   "repository": {"id": 1, "full_name": "acme/shop"}}"#;
    let event = "pull_request".to_owned();
    let delivery = kagero::store::Delivery { guid: "g".into(), event, body: body.into(), received_at: now };
    dead.inbox().accept(delivery).await.unwrap();
    assert_eq!(dead.inbox().claim(0, "dead", 10, now).await.unwrap().len(), 1);
    dead.close().await;
    shared.pass(Duration::from_secs(61));
    eventually("it was looked at", PATIENCE, async || one.store.unreleased().await.unwrap().is_empty()).await;
    assert!(shared.machines.lock().unwrap().is_empty());
    one.die().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_look_at_github_is_made_by_one_replica_at_a_time() {
    let place = Place::postgres().await;
    let shared = Shared::new(1..=1);
    let every = Duration::from_secs(3);
    let one = Replica::start_looking("one", &place.url, &shared, every).await;
    let two = Replica::start_looking("two", &place.url, &shared, every).await;
    eventually("both have looked at their start", PATIENCE, async || *shared.listings.lock().unwrap() >= 2).await;
    let (before, began) = (*shared.listings.lock().unwrap(), std::time::Instant::now());
    eventually("four more", PATIENCE, async || *shared.listings.lock().unwrap() >= before + 4).await;
    // Alone, each of them needs three pauses for that; together without agreement, two.
    assert!(began.elapsed() >= every * 3, "two look where one would do: four times in {:?}", began.elapsed());
    one.die().await;
    let before = *shared.listings.lock().unwrap();
    eventually("the other one looks alone", PATIENCE, async || *shared.listings.lock().unwrap() >= before + 2).await;
    two.die().await;
}
