//! The inbox: durable, in groups, once per guid.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kagero::domain::time::Timestamp;
use kagero::store::{Accepted, Delivery, InboxCounts, Store};
use proptest::prelude::*;

use super::place::on_both;
use super::{NOW, Place};

fn delivery(guid: impl Into<String>, body: impl Into<Bytes>) -> Delivery {
    Delivery { guid: guid.into(), event: "pull_request".into(), body: body.into(), received_at: NOW }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_are_all_stored_once() {
    on_both(async |place| {
        let store = place.open().await;
        let mut arrivals = store.inbox().arrivals();
        let start = Arc::new(tokio::sync::Barrier::new(200));
        let tasks: Vec<_> = (0..200)
            .map(|number| {
                let (store, start) = (store.clone(), Arc::clone(&start));
                tokio::spawn(async move {
                    start.wait().await;
                    // Every guid comes twice.
                    store.inbox().accept(delivery(format!("guid-{}", number / 2), format!("body {}", number / 2))).await
                })
            })
            .collect();
        let mut new = 0;
        for task in tasks {
            match task.await.unwrap().unwrap() {
                Accepted::New => new += 1,
                Accepted::Again { processed } => assert!(!processed),
            }
        }
        assert_eq!(new, 100);
        let mut pending = store.inbox().pending(1_000).await.unwrap();
        assert!(pending.iter().all(|row| row.body == row.guid.replace("guid-", "body ") && row.received_at == NOW));
        pending.sort_by(|a, b| a.guid.cmp(&b.guid));
        pending.dedup_by(|a, b| a.guid == b.guid);
        assert_eq!(pending.len(), 100);
        // The writer tells of arrivals after it has answered.
        let all = arrivals.wait_for(|count| *count == 100);
        tokio::time::timeout(Duration::from_secs(30), all).await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_guid_is_kept_once_and_processed_once() {
    on_both(async |place| {
        let store = place.open().await;
        let inbox = store.inbox();
        assert_eq!(inbox.accept(delivery("a", "first")).await.unwrap(), Accepted::New);
        assert_eq!(inbox.accept(delivery("a", "second")).await.unwrap(), Accepted::Again { processed: false });
        let pending = inbox.pending(10).await.unwrap();
        assert_eq!(pending.len(), 1, "a repeated delivery stays pending once");
        assert_eq!(pending[0].body, "first");

        inbox.mark_processed(&[pending[0].seq], Timestamp(5)).await.unwrap();
        inbox.mark_processed(&[pending[0].seq], Timestamp(9)).await.unwrap();
        assert_eq!(inbox.accept(delivery("a", "third")).await.unwrap(), Accepted::Again { processed: true });
        assert_eq!(inbox.accept(delivery("b", "")).await.unwrap(), Accepted::New);
        assert_eq!(inbox.counts().await.unwrap(), InboxCounts { pending: 1, processed: 1, oldest_pending: Some(NOW) });

        assert_eq!(inbox.prune(Timestamp(5), 10).await.unwrap(), 0, "processed at that time is not before it");
        assert_eq!(inbox.prune(Timestamp(6), 0).await.unwrap(), 0);
        assert_eq!(inbox.prune(Timestamp(6), 10).await.unwrap(), 1);
        let rest = inbox.pending(10).await.unwrap();
        assert_eq!(rest.iter().map(|row| row.guid.as_str()).collect::<Vec<_>>(), ["b"], "pruning took a pending one");
        assert!(rest[0].seq > pending[0].seq);
    })
    .await;
}

#[tokio::test]
async fn pending_comes_in_order_and_no_more_than_asked_for() {
    on_both(async |place| {
        let store = place.open().await;
        for number in 0..5 {
            store.inbox().accept(delivery(format!("{number}"), "x")).await.unwrap();
        }
        let some = store.inbox().pending(3).await.unwrap();
        assert_eq!(some.iter().map(|row| row.guid.as_str()).collect::<Vec<_>>(), ["0", "1", "2"]);
    })
    .await;
}

#[tokio::test]
async fn a_closed_store_refuses_and_a_reopened_one_has_everything() {
    on_both(async |place| {
        let store = place.open().await;
        store.inbox().accept(delivery("a", "kept")).await.unwrap();
        store.close().await;
        assert!(store.inbox().accept(delivery("b", "late")).await.is_err());
        let store = place.open().await;
        assert_eq!(store.inbox().pending(10).await.unwrap()[0].body, "kept");
    })
    .await;
}

#[test]
fn bodies_come_back_byte_for_byte() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for place in runtime.block_on(Place::both()) {
        come_back(&runtime, &runtime.block_on(place.open()));
    }
}

fn come_back(runtime: &tokio::runtime::Runtime, store: &Store) {
    let bytes = |most| prop::collection::vec(any::<u8>(), 0..most);
    // Past 256 KB compression moves to another thread.
    let repeated = (bytes(64), 1_usize..20_000).prop_map(|(unit, times)| unit.repeat(times));
    let body = prop_oneof![bytes(2_000), repeated];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&body, |body| {
            runtime.block_on(async {
                let sent = delivery(format!("{:p}", &body), body.clone());
                store.inbox().accept(sent).await.unwrap();
                let mut kept = store.inbox().pending(10).await.unwrap();
                let kept = kept.pop().unwrap();
                store.inbox().mark_processed(&[kept.seq], NOW).await.unwrap();
                store.inbox().prune(Timestamp(i64::MAX), 10).await.unwrap();
                assert!(kept.body == body, "{} bytes came back as {}", body.len(), kept.body.len());
            });
            Ok(())
        })
        .unwrap();
}
