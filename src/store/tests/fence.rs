//! Every fenced write, tried by a holder that was paused past its time (I10).

use std::pin::Pin;

use serde_json::json;

use super::{NOW, TTL, key, lease, ledger, open};
use crate::domain::assignment::TaskDigest;
use crate::domain::desired::GoneReason;
use crate::domain::id::Generation;
use crate::domain::ledger::{Answer, CommentSaid, Held, Intent, Left, Proof, Role, Said, Token};
use crate::domain::time::Timestamp;
use crate::store::{Lease, Store, StoreError};

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + 'a>>;
type Write = for<'a> fn(&'a Store, &'a Lease) -> Outcome<'a>;

fn intent() -> Intent {
    let row = ledger(1, 1);
    let token = Token::derive(&row.uid, Generation::FIRST, &Role::Machine, 1);
    Intent { role: Role::Machine, attempt: 1, token, asked_at: NOW, answer: None }
}

fn left() -> Left {
    Left { why: GoneReason::Closed, head_sha: None, at: Timestamp(7), held: Held::default() }
}

/// Every method that takes a lease and writes. A new one belongs here.
const WRITES: [(&str, Write); 8] = [
    ("enroll", |store, lease| Box::pin(async { store.enroll(lease, &ledger(1, 2)).await })),
    ("record_intent", |store, lease| Box::pin(async { store.record_intent(lease, &intent()).await })),
    ("answer", |store, lease| {
        Box::pin(async { store.answer(lease, &intent().token, &Answer::Accepted("m-1".into())).await })
    }),
    ("leave", |store, lease| Box::pin(async { store.leave(lease, &left()).await })),
    ("release", |store, lease| Box::pin(store.release(lease, Timestamp(8)))),
    ("prove", |store, lease| {
        Box::pin(async { store.prove(lease, &Proof { task: TaskDigest("t".into()), at: NOW }).await })
    }),
    ("put_said", |store, lease| {
        let said = Said { comment: Some(CommentSaid { id: 1, digest: "d".into() }), ..Said::default() };
        Box::pin(async move { store.put_said(lease, &said).await })
    }),
    ("begin", |store, lease| Box::pin(async { store.begin(lease, "terminate", json!({}), NOW).await.map(|_| ()) })),
];

#[test]
fn the_table_names_every_method_that_takes_a_lease() {
    let sources = concat!(include_str!("../ledger.rs"), include_str!("../journal.rs"));
    let methods = sources.split("pub async fn ").skip(1).filter_map(|rest| {
        let signature = &rest[..rest.find('{')?];
        signature.contains("lease: &Lease").then(|| &rest[..rest.find('(').unwrap_or_default()])
    });
    let mut found: Vec<_> = methods.collect();
    let mut listed: Vec<_> = WRITES.iter().map(|(name, _)| *name).collect();
    found.sort_unstable();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[tokio::test]
async fn a_stale_holder_writes_nothing() {
    for (name, write) in WRITES {
        let directory = tempfile::tempdir().unwrap();
        let store = open(&directory).await;
        let stale = lease(&store, 1).await;
        store.enroll(&stale, &ledger(1, 1)).await.unwrap();
        if name != "record_intent" {
            store.record_intent(&stale, &intent()).await.unwrap();
        }
        if name == "enroll" {
            store.release(&stale, NOW).await.unwrap();
        }
        let later = NOW.plus(TTL);
        let fresh = store.acquire(key(1), "two", TTL, later).await.unwrap().unwrap();
        assert!(fresh.fence > stale.fence);

        let before = (store.ledger(key(1)).await.unwrap(), store.journal(key(1), 10).await.unwrap());
        let refused = write(&store, &stale).await;
        assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{name}: {refused:?}");
        let after = (store.ledger(key(1)).await.unwrap(), store.journal(key(1), 10).await.unwrap());
        assert_eq!(before, after, "{name} wrote under a stale fence");

        write(&store, &fresh).await.unwrap_or_else(|error| panic!("{name} by the holder: {error}"));
        let changed = (store.ledger(key(1)).await.unwrap(), store.journal(key(1), 10).await.unwrap());
        assert_ne!(before, changed, "{name} by the holder changed nothing: the test proves nothing");

        store.release_lease(&fresh).await.unwrap();
        let refused = write(&store, &fresh).await;
        assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{name} after giving back: {refused:?}");
    }
}

#[tokio::test]
async fn a_fence_is_never_used_twice() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let first = lease(&store, 1).await;
    assert!(store.acquire(key(1), "one", TTL, NOW).await.unwrap().is_none(), "taken twice");
    store.release_lease(&first).await.unwrap();
    let second = lease(&store, 1).await;
    assert!(matches!(store.renew(&first, TTL, NOW).await, Err(StoreError::Fenced { .. })));
    let renewed = store.renew(&second, TTL, NOW.plus(TTL)).await.unwrap();
    assert!(store.acquire(key(1), "two", TTL, NOW.plus(TTL)).await.unwrap().is_none(), "renewing prolonged nothing");
    store.close().await;

    let store = open(&directory).await;
    let third = lease(&store, 1).await;
    assert!(first.fence < second.fence && renewed.fence < third.fence);
    assert!(matches!(store.leave(&renewed, &left()).await, Err(StoreError::Fenced { .. })), "survived a restart");
}

#[tokio::test]
async fn an_older_generation_is_fenced_and_an_unreleased_one_is_not_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory).await;
    let lease = lease(&store, 1).await;
    store.enroll(&lease, &ledger(1, 2)).await.unwrap();
    assert!(matches!(store.enroll(&lease, &ledger(1, 1)).await, Err(StoreError::Fenced { .. })));
    assert!(matches!(store.enroll(&lease, &ledger(1, 3)).await, Err(StoreError::Bug { .. })));
    store.record_intent(&lease, &intent()).await.unwrap();
    store.enroll(&lease, &ledger(1, 2)).await.unwrap();
    assert_eq!(store.ledger(key(1)).await.unwrap().unwrap().intents.len(), 1, "enrolling again forgot an intent");
    store.release(&lease, NOW).await.unwrap();
    store.enroll(&lease, &ledger(1, 3)).await.unwrap();
    assert_eq!(store.ledger(key(1)).await.unwrap().unwrap(), ledger(1, 3));
}
