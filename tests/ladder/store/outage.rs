//! A PostgreSQL that goes away, refuses or interrupts: named for what it is, and over without a restart of ours.

use std::time::Duration;

use bytes::Bytes;
use kagero::store::{Accepted, Delivery, JournalCheck, Store, StoreError};
use serde_json::json;

use super::{NOW, Place, TTL, key, lease, ledger};
use crate::database::harness::{Home, admin, admin_options, config, sql, start};
use crate::wait::eventually;

fn delivery(guid: &str) -> Delivery {
    Delivery { guid: guid.to_owned(), event: "push".to_owned(), body: Bytes::from("body"), received_at: NOW }
}

#[tokio::test]
async fn connections_that_are_cut_are_replaced() {
    let place = Place::postgres().await;
    let store = place.open().await;
    let mut superuser = place.superuser().await;
    for round in 0..3_u64 {
        let held = lease(&store, key(round)).await;
        store.inbox().accept(delivery(&format!("before-{round}"))).await.unwrap();
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kagero'";
        sql(&mut superuser, cut).await.unwrap();
        // Not one call fails: a connection is tried before it is used.
        store.enroll(&held, &ledger(round, 1)).await.unwrap();
        assert_eq!(store.inbox().accept(delivery(&format!("after-{round}"))).await.unwrap(), Accepted::New);
    }
    assert_eq!(store.inbox().pending(100).await.unwrap().len(), 6);
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_and_the_store_heals_by_itself() {
    let home = Home::new();
    let lane = start(config(&home, Vec::new()));
    let port = admin_options(&lane).await.get_port();
    let mut superuser = admin(&lane, "postgres").await;
    sql(&mut superuser, "CREATE ROLE keeper LOGIN PASSWORD 'keeper'").await.unwrap();
    sql(&mut superuser, "CREATE DATABASE keeper OWNER keeper").await.unwrap();
    let url = format!("postgres://keeper:keeper@127.0.0.1:{port}/keeper");
    let store = Store::open(&url).await.unwrap();
    let held = lease(&store, key(1)).await;
    drop(superuser);

    lane.stop().await.unwrap();
    let record = ledger(1, 1);
    let calls = tokio::join!(
        store.set_mark("m", 1),
        store.enroll(&held, &record),
        store.inbox().accept(delivery("lost")),
        Store::open(&url),
    );
    let errors = [calls.0.err(), calls.1.err(), calls.2.err(), calls.3.err()];
    for error in errors.map(|error| error.expect("nobody is there")) {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(error.is_transient());
    }

    // The next question to the lane starts it again, at the same address.
    admin(&lane, "postgres").await;
    eventually("the store is written to again", Duration::from_mins(1), async || {
        store.enroll(&held, &ledger(1, 1)).await.map_err(|error| format!("{error:?}"))
    })
    .await;
    assert_eq!(store.inbox().accept(delivery("kept")).await.unwrap(), Accepted::New);

    // As storage that is full leaves a managed server.
    let mut superuser = admin(&lane, "postgres").await;
    sql(&mut superuser, "ALTER DATABASE keeper SET default_transaction_read_only = on").await.unwrap();
    sql(&mut superuser, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'keeper'")
        .await
        .unwrap();
    let refused = store.set_mark("m", 2).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    sql(&mut superuser, "ALTER DATABASE keeper RESET default_transaction_read_only").await.unwrap();
    sql(&mut superuser, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'keeper'")
        .await
        .unwrap();
    store.set_mark("m", 3).await.unwrap();
    store.close().await;
    lane.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_server_refuses_for_good_is_told_apart() {
    let place = Place::postgres().await;
    for (given, wanted) in [(":keeper@", ":geheim@"), ("?sslmode=disable", "_missing?sslmode=disable")] {
        let Err(error) = Store::open(&place.url.replace(given, wanted)).await else { panic!("{wanted} was opened") };
        assert!(matches!(error, StoreError::Denied { .. }), "{wanted}: {error:?}");
        assert!(error.to_string().contains("store.url"), "{error}");
        assert!(!format!("{error} {error:?}").contains("geheim"), "a password in an error");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_write_the_journal_at_the_same_time_all_succeed() {
    let place = Place::postgres().await;
    let mut tasks = Vec::new();
    let mut stores = Vec::new();
    for replica in 0..3_u64 {
        let store = place.open().await;
        for pass in 0..4 {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                let held = lease(&store, key(replica * 100 + pass)).await;
                for call in 0..10 {
                    let begun = store.begin(&held, "assign", json!({ "call": call }), NOW).await.unwrap();
                    store.finish(begun, "ok \0", NOW).await.unwrap();
                }
            }));
        }
        stores.push(store);
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(stores[0].verify_journal().await.unwrap(), JournalCheck::Intact(3 * 4 * 10 * 2));
}

#[tokio::test]
async fn a_deadlock_is_transient() {
    let place = Place::postgres().await;
    let store = place.open().await;
    let held = lease(&store, key(1)).await;
    store.enroll(&held, &ledger(1, 1)).await.unwrap();
    // Somebody who locks in the other order: first the record, then the lease.
    let mut other = place.superuser().await;
    // Whose time is up first is ended: not this one.
    for statement in ["SET deadlock_timeout = '1h'", "BEGIN", "SELECT 1 FROM ledgers FOR UPDATE"] {
        sql(&mut other, statement).await.unwrap();
    }
    let write = tokio::spawn({
        let (store, held) = (store.clone(), held.clone());
        async move { store.release(&held, NOW).await }
    });
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'UPDATE ledgers%'";
    eventually("the write waits for the record", Duration::from_mins(1), async || place.number(waits).await == 1).await;
    sql(&mut other, "SELECT 1 FROM leases FOR UPDATE").await.unwrap();
    sql(&mut other, "ROLLBACK").await.unwrap();
    let ended = write.await.unwrap();
    assert!(matches!(ended, Err(StoreError::Unavailable { .. })), "{ended:?}");
    store.release(&held, NOW).await.unwrap();
    assert!(store.acquire(key(1), "two", TTL, NOW.plus(TTL)).await.unwrap().is_some());
}
