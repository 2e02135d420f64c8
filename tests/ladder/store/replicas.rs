//! Limits, claims and news over several openings of one store, as replicas have it. Limits hold in a file too.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use kagero::domain::id::{EnvKey, SlotId};
use kagero::domain::policy::Limits;
use kagero::domain::pull::Pins;
use kagero::forge::budget::{WriteBudget, WriteLimits};
use kagero::store::{CLAIMED, Delivery, Listener, News, Store, StoreError};

use super::place::on_both;
use super::{NOW, Place, TTL, key, lease, ledger};
use crate::database::harness::sql;

/// As many openings as there can be.
async fn openings(place: &Place) -> Vec<Store> {
    let mut stores = vec![place.open().await];
    if place.is_postgres() {
        stores.push(place.open().await);
        stores.push(place.open().await);
    } else {
        stores.push(stores[0].clone());
        stores.push(stores[0].clone());
    }
    stores
}

/// Asks from all openings at the same time, for thirty pull requests; how often the answer was yes.
async fn how_many(stores: &[Store], ask: impl AsyncFn(&Store, EnvKey) -> bool) -> usize {
    let asks = (1..=30_u64).zip(stores.iter().cycle()).map(|(pr, store)| {
        let ask = &ask;
        async move { ask(store, key(pr)).await }
    });
    futures::future::join_all(asks).await.into_iter().filter(|yes| *yes).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_environments_are_admitted_than_there_are_seats() {
    on_both(async |place| {
        let stores = openings(&place).await;
        let limits = Limits { environments: 7, per_repository: 7, builds: 1, attempts: 3 };
        let ask = async |store: &Store, limits: &Limits, key: EnvKey| {
            let held = store.acquire(key, "one", Duration::ZERO, NOW).await.unwrap().unwrap();
            match store.admit(&held, &ledger(key.pr.0, 1), limits, &[]).await {
                Ok(()) => true,
                Err(StoreError::NoSeat { key: named }) if named == key => false,
                Err(error) => panic!("{error:?}"),
            }
        };
        assert_eq!(how_many(&stores, async |store, key| ask(store, &limits, key).await).await, 7);
        let seated = stores[0].unreleased().await.unwrap();
        assert_eq!(seated.len(), 7);
        // Who has a seat keeps it, and a seat that is given up can be taken.
        assert!(ask(&stores[1], &limits, seated[0].key).await);
        let held = stores[2].acquire(seated[1].key, "two", Duration::ZERO, NOW).await.unwrap().unwrap();
        stores[2].release(&held, NOW).await.unwrap();
        assert_eq!(
            how_many(&stores, async |store, key| {
                seated.iter().all(|row| row.key != key) && ask(store, &limits, key).await
            })
            .await,
            1
        );
        let tight = Limits { environments: 100, per_repository: 7, ..limits };
        assert!(!ask(&stores[0], &tight, key(99)).await, "the limit of the repository");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_environments_have_one_slot() {
    on_both(async |place| {
        let stores = openings(&place).await;
        let slots: Vec<SlotId> = (1..=5).map(|number| SlotId::parse(format!("sg-{number}")).unwrap()).collect();
        let limits = Limits { environments: 100, per_repository: 100, builds: 1, attempts: 3 };
        let ask = async |store: &Store, key: EnvKey| {
            let held = store.acquire(key, "one", Duration::ZERO, NOW).await.unwrap().unwrap();
            match store.admit(&held, &ledger(key.pr.0, 1), &limits, &slots).await {
                Ok(()) => true,
                Err(StoreError::NoSlot { .. }) => false,
                Err(error) => panic!("{error:?}"),
            }
        };
        assert_eq!(how_many(&stores, ask).await, 5);
        let seated = stores[0].unreleased().await.unwrap();
        let taken: BTreeSet<SlotId> = seated.iter().filter_map(|row| row.slot.clone()).collect();
        assert_eq!(taken.len(), 5, "{seated:?}");
        // A slot is its environment's until nothing is left of it, and then the next one's.
        let held = stores[1].acquire(seated[2].key, "two", Duration::ZERO, NOW).await.unwrap().unwrap();
        stores[1].release(&held, NOW).await.unwrap();
        let next = key(99);
        assert!(ask(&stores[2], next).await);
        assert_eq!(stores[0].ledger(next).await.unwrap().unwrap().slot, seated[2].slot);
        // Whatever a caller believes, the store has each slot once.
        let held = stores[0].acquire(key(98), "one", Duration::ZERO, NOW).await.unwrap().unwrap();
        let double = kagero::domain::ledger::Ledger { slot: seated[0].slot.clone(), ..ledger(98, 1) };
        assert!(stores[0].enroll(&held, &double).await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_commits_are_built_than_there_are_turns() {
    on_both(async |place| {
        let stores = openings(&place).await;
        let take = async |store: &Store, key: EnvKey| {
            let held = store.acquire(key, "one", Duration::ZERO, NOW).await.unwrap().unwrap();
            store.take_build(&held, 3, NOW).await.unwrap()
        };
        assert_eq!(how_many(&stores, take).await, 3);
        let builders = stores[1].builds().await.unwrap();
        assert_eq!(builders.len(), 3);
        assert!(take(&stores[2], builders[0]).await, "a turn that is held is kept");
        stores[0].end_build(builders[0], NOW).await.unwrap();
        assert_eq!(stores[0].builds().await.unwrap(), builders, "ended by one who looked before it was taken");
        stores[0].end_build(builders[0], NOW.plus(Duration::from_millis(1))).await.unwrap();
        assert_eq!(how_many(&stores, async |store, key| !builders.contains(&key) && take(store, key).await).await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_write_budget_is_one_for_all() {
    on_both(async |place| {
        let stores = openings(&place).await;
        let limits = WriteLimits { per_minute: 11, per_hour: 17, pause: Duration::ZERO };
        let take = async |store: &Store, key: EnvKey, now| {
            let judge = |written| WriteBudget::resume(limits, written).take(key, now);
            store.take_write(key, now, WriteBudget::WINDOW, judge).await.unwrap()
        };
        let taken = how_many(&stores, async |store, key| take(store, key, NOW).await.is_ok()).await;
        assert_eq!(taken, 11);
        assert_eq!(take(&stores[0], key(1), NOW).await, Err(Duration::from_mins(1)));
        let later = NOW.plus(Duration::from_mins(2));
        assert_eq!(how_many(&stores, async |store, key| take(store, key, later).await.is_ok()).await, 6);
        let next = NOW.plus(Duration::from_mins(61));
        assert_eq!(take(&stores[1], key(1), next).await, Ok(()));
        assert_eq!(place.number("SELECT COUNT(*) FROM writes").await, 7, "old ones are not forgotten");
    })
    .await;
}

async fn fill(store: &Store, names: std::ops::Range<u32>) {
    for name in names {
        let delivery = Delivery { guid: name.to_string(), event: "push".into(), body: Bytes::new(), received_at: NOW };
        store.inbox().accept(delivery).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_worked_on_by_one_replica_and_outlives_it() {
    let place = Place::postgres().await;
    let stores = openings(&place).await;
    fill(&stores[0], 0..50).await;
    let claim = async |store: usize, now| {
        let claimed = stores[store].inbox().claim(0, &store.to_string(), 20, now).await.unwrap();
        claimed.into_iter().map(|delivery| delivery.seq).collect::<Vec<_>>()
    };
    let (one, two, three) = tokio::join!(claim(0, NOW), claim(1, NOW), claim(2, NOW));
    let all: BTreeSet<i64> = [&one, &two, &three].into_iter().flatten().copied().collect();
    let count = one.len() + two.len() + three.len();
    assert_eq!(all.len(), count, "two replicas were given the same: {one:?} {two:?} {three:?}");
    let rest = claim(0, NOW).await;
    assert_eq!(count + rest.len(), 50);
    assert!([&one, &two, &three].into_iter().all(|claimed| claimed.is_sorted()));

    // One has worked, one goes on working, one is dead.
    stores[0].inbox().mark_processed(&[one.clone(), rest.clone()].concat(), NOW).await.unwrap();
    let half = NOW.plus(CLAIMED / 2);
    stores[1].inbox().keep_claims(&two, "1", half).await.unwrap();
    stores[1].inbox().keep_claims(&three, "1", half).await.unwrap();
    assert_eq!(claim(0, NOW.plus(CLAIMED).minus(Duration::from_millis(1))).await, Vec::<i64>::new());
    assert_eq!(claim(0, NOW.plus(CLAIMED)).await, three, "and nothing else");
}

#[tokio::test]
async fn in_a_file_a_delivery_is_read_once_after_another() {
    let place = Place::sqlite();
    let store = place.open().await;
    fill(&store, 0..5).await;
    let first = store.inbox().claim(0, "one", 3, NOW).await.unwrap();
    let next = store.inbox().claim(first[2].seq, "one", 3, NOW).await.unwrap();
    assert_eq!((first.len(), next.len()), (3, 2));
    store.inbox().keep_claims(&[1], "one", NOW).await.unwrap();
}

async fn next(listener: &mut Listener) -> News {
    tokio::time::timeout(Duration::from_mins(1), listener.next()).await.expect("nothing was heard")
}

#[tokio::test]
async fn what_one_replica_changes_the_others_hear() {
    let place = Place::postgres().await;
    let (one, two) = (place.open().await, place.open().await);
    let mut listener = two.listen();
    assert_eq!(next(&mut listener).await, News::Missed, "what was before");

    let held = lease(&one, key(1)).await;
    one.enroll(&held, &ledger(1, 1)).await.unwrap();
    assert_eq!(next(&mut listener).await, News::Of(key(1)));
    two.put_pins(key(2), &Pins::default()).await.unwrap();
    one.release(&held, NOW).await.unwrap();
    assert_eq!(next(&mut listener).await, News::Of(key(1)), "its own change is no news");
    let refused = one
        .answer(&held, &kagero::domain::ledger::Token("none".into()), &kagero::domain::ledger::Answer::Retired)
        .await;
    assert!(refused.is_err());

    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    sql(&mut place.superuser().await, cut).await.unwrap();
    assert_eq!(next(&mut listener).await, News::Missed, "the line was cut");
    one.put_pins(key(3), &Pins::default()).await.unwrap();
    assert_eq!(next(&mut listener).await, News::Of(key(3)));
}

#[tokio::test]
async fn a_store_goes_with_one_installation() {
    on_both(async |place| {
        let store = place.open().await;
        store.belong_to("one").await.unwrap();
        store.belong_to("one").await.unwrap();
        let refused = store.belong_to("two").await;
        assert!(matches!(refused, Err(StoreError::Foreign)), "{refused:?}");
        store.belong_to("one").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_a_controller_that_has_ended_held_is_free_for_the_next_one() {
    on_both(async |place| {
        let store = place.open().await;
        let held = store.acquire(key(1), "ended", TTL, NOW).await.unwrap().unwrap();
        let others = store.acquire(key(2), "lives", TTL, NOW).await.unwrap().unwrap();
        store.inherit("ended").await.unwrap();
        let next = store.acquire(key(1), "next", TTL, NOW).await.unwrap().unwrap();
        assert!(next.fence > held.fence);
        assert_eq!(store.acquire(key(2), "next", TTL, NOW).await.unwrap(), None, "{others:?} was taken away");
    })
    .await;
}

#[tokio::test]
async fn the_newest_delivery_about_a_pull_request_is_remembered() {
    on_both(async |place| {
        let store = place.open().await;
        assert_eq!(store.touched_by(key(1)).await.unwrap(), None);
        for guid in ["first", "second", "third"] {
            let body = Bytes::from_static(b"{}");
            let delivery = Delivery { guid: guid.into(), event: "pull_request".into(), body, received_at: NOW };
            store.inbox().accept(delivery).await.unwrap();
        }
        let seqs: Vec<i64> = store.inbox().pending(10).await.unwrap().iter().map(|row| row.seq).collect();
        store.touch(key(1), seqs[1]).await.unwrap();
        store.touch(key(1), seqs[0]).await.unwrap();
        assert_eq!(store.touched_by(key(1)).await.unwrap().as_deref(), Some("second"));
        store.touch(key(1), seqs[2]).await.unwrap();
        assert_eq!(store.touched_by(key(1)).await.unwrap().as_deref(), Some("third"));
        assert_eq!(store.touched_by(key(2)).await.unwrap(), None);
    })
    .await;
}
