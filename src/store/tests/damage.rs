//! Full disks, unreadable rows, transactions that end half-way.

use bytes::Bytes;

use super::{NOW, key, lease, ledger, open};
use crate::store::transaction::Transaction;
use crate::store::{Accepted, Delivery, Store, StoreError};

async fn sql(store: &Store, statement: &'static str) {
    sqlx::query(statement).execute(&store.db().writer).await.unwrap();
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state & 0xff) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn delivery(number: u64) -> Delivery {
    Delivery { guid: format!("guid-{number}"), event: "push".into(), body: noise(number, 20_000), received_at: NOW }
}

#[tokio::test]
async fn a_full_disk_is_named_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    sql(&store, "PRAGMA max_page_count = 200").await;
    let mut stored = Vec::new();
    let refusal = loop {
        let next = delivery(stored.len() as u64);
        match store.inbox().accept(next.clone()).await {
            Ok(_) => stored.push(next),
            Err(error) => break error,
        }
        assert!(stored.len() < 200, "the limit had no effect");
    };
    assert!(matches!(refusal, StoreError::Full { .. }), "{refusal:?}");
    assert!(refusal.to_string().contains("disk is full"), "{refusal}");
    assert!(refusal.is_transient());

    let kept = store.inbox().pending(1_000).await.unwrap();
    assert_eq!(kept.len(), stored.len());
    assert!(kept.iter().zip(&stored).all(|(kept, stored)| kept.guid == stored.guid && kept.body == stored.body));

    sql(&store, "PRAGMA max_page_count = 100000").await;
    let again = delivery(stored.len() as u64);
    assert_eq!(store.inbox().accept(again).await.unwrap(), Accepted::New, "needs no restart once there is space");
}

#[tokio::test]
async fn a_full_disk_in_a_transaction_leaves_a_usable_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let lease = lease(&store, 1).await;
    sql(&store, "PRAGMA max_page_count = 1").await;
    let mut refused = None;
    for generation in 1..2_000 {
        let mut row = ledger(1, generation);
        row.said.comment =
            Some(crate::domain::ledger::CommentSaid { id: 1, digest: "d".repeat(50 * generation as usize) });
        if let Err(error) = store.enroll(&lease, &row).await {
            refused = Some((generation, error));
            break;
        }
        if let Err(error) = store.release(&lease, NOW).await {
            refused = Some((generation, error));
            break;
        }
    }
    let (generation, error) = refused.expect("the limit had no effect");
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    // The connection was replaced, and the limit went with it.
    store.enroll(&lease, &ledger(1, generation)).await.unwrap();
    assert!(store.ledger(key(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn unreadable_rows_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let lease = lease(&store, 7).await;
    store.enroll(&lease, &ledger(7, 1)).await.unwrap();
    store.inbox().accept(delivery(1)).await.unwrap();
    store.put_pins(key(7), &crate::domain::pull::Pins::default()).await.unwrap();

    for (damage, table, row) in [
        ("UPDATE hosts SET label = 'Not A Label'", "hosts", "42#7"),
        ("UPDATE ledgers SET said = '{\"comment\": 7'", "ledgers", "42#7"),
        ("UPDATE ledgers SET said = '{}', standing = 'sideways'", "ledgers", "42#7"),
        ("UPDATE pins SET pins = '[]'", "pins", "42#7"),
        ("UPDATE inbox SET body = x'00010203'", "inbox", "1"),
    ] {
        sql(&store, damage).await;
        let error = match table {
            "ledgers" | "hosts" => store.ledgers().await.unwrap_err(),
            "pins" => store.pins(key(7)).await.unwrap_err(),
            _ => store.inbox().pending(1).await.unwrap_err(),
        };
        let StoreError::Corrupt { table: named, row: key, .. } = &error else { panic!("{damage}: {error:?}") };
        assert_eq!((*named, key.as_str()), (table, row), "{damage}");
    }
}

#[tokio::test]
async fn a_transaction_that_is_dropped_half_way_leaves_no_trace() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    for _ in 0..3 {
        let mut transaction = Transaction::write(store.db(), "a test").await.unwrap();
        sqlx::query("INSERT INTO marks (name, value) VALUES ('half', 1)")
            .execute(transaction.connection())
            .await
            .unwrap();
        drop(transaction);
        assert_eq!(store.mark("half").await.unwrap(), None);
        store.set_mark("whole", 1).await.unwrap();
    }
    assert_eq!(store.mark("half").await.unwrap(), None);
}
