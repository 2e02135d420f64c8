//! Every fenced write, tried by a holder that was paused past its time (I10).

use std::pin::Pin;

use serde_json::json;

use super::place::on_both;
use super::{NOW, Place, TTL, key, lease, ledger};
use kagero::domain::assignment::TaskDigest;
use kagero::domain::desired::GoneReason;
use kagero::domain::id::Generation;
use kagero::domain::ledger::{Answer, CommentSaid, Held, Intent, Ledger, Left, Proof, Role, Said, Token};
use kagero::domain::policy::Limits;
use kagero::domain::time::Timestamp;
use kagero::store::{JournalRow, Lease, Store, StoreError};

type Outcome<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + 'a>>;
type Write = for<'a> fn(&'a Store, &'a Lease) -> Outcome<'a>;

fn intent(lease: &Lease) -> Intent {
    let row = ledger(lease.key.pr.0, 1);
    let token = Token::derive(&row.uid, Generation::FIRST, &Role::Machine, 1, None);
    Intent { role: Role::Machine, attempt: 1, placement: None, token, asked_at: NOW, answer: None }
}

fn left() -> Left {
    Left { why: GoneReason::Closed, head_sha: None, at: Timestamp(7), held: Held::default() }
}

/// Every method that takes a lease and writes. A new one belongs here.
const WRITES: [(&str, Write); 11] = [
    ("enroll", |store, lease| Box::pin(async { store.enroll(lease, &ledger(lease.key.pr.0, 2)).await })),
    ("admit", |store, lease| {
        let limits = Limits { environments: 1_000, per_repository: 1_000, builds: 1, attempts: 1 };
        Box::pin(async move { store.admit(lease, &ledger(lease.key.pr.0, 2), &limits, &[]).await })
    }),
    ("take_build", |store, lease| {
        Box::pin(async { store.take_build(lease, 1_000, NOW).await.map(|taken| assert!(taken)) })
    }),
    ("record_intent", |store, lease| Box::pin(async { store.record_intent(lease, &intent(lease)).await })),
    ("answer", |store, lease| {
        Box::pin(async { store.answer(lease, &intent(lease).token, &Answer::Accepted("m-1".into())).await })
    }),
    ("leave", |store, lease| Box::pin(async { store.leave(lease, &left()).await })),
    ("leave_counted", |store, lease| {
        Box::pin(async { store.leave_counted(lease, &left(), NOW, |_, _| Ok::<(), ()>(())).await.map(|_| ()) })
    }),
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
    let store = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store");
    let files = std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path());
    // The methods of leases.rs are the lease itself; what they refuse is tried in `leases`.
    let fenced = files.filter(|path| path.is_file() && !path.ends_with("leases.rs"));
    let sources: String = fenced.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let methods = sources.split("pub async fn ").skip(1).filter_map(|rest| {
        let signature = &rest[..rest.find('{')?];
        signature.contains("lease: &Lease").then(|| rest.split(['(', '<']).next().unwrap_or_default())
    });
    let mut found: Vec<_> = methods.collect();
    let mut listed: Vec<_> = WRITES.iter().map(|(name, _)| *name).collect();
    found.sort_unstable();
    listed.sort_unstable();
    assert_eq!(found, listed);
}

#[tokio::test]
async fn a_stale_holder_writes_nothing() {
    for place in Place::both().await {
        let store = place.open().await;
        for (number, (name, write)) in (1..).zip(WRITES) {
            stale(&store, number, name, write).await;
        }
    }
}

async fn stale(store: &Store, pr: u64, name: &str, write: Write) {
    let stale = lease(store, key(pr)).await;
    store.enroll(&stale, &ledger(pr, 1)).await.unwrap();
    if name != "record_intent" {
        store.record_intent(&stale, &intent(&stale)).await.unwrap();
    }
    if name == "enroll" || name == "admit" {
        store.release(&stale, NOW).await.unwrap();
    }
    let later = NOW.plus(TTL);
    let fresh = store.acquire(key(pr), "two", TTL, later).await.unwrap().unwrap();
    assert!(fresh.fence > stale.fence);

    let before = state(store, pr).await;
    let refused = write(store, &stale).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{name}: {refused:?}");
    let after = state(store, pr).await;
    assert_eq!(before, after, "{name} wrote under a stale fence");

    write(store, &fresh).await.unwrap_or_else(|error| panic!("{name} by the holder: {error}"));
    let changed = state(store, pr).await;
    assert_ne!(before, changed, "{name} by the holder changed nothing: the test proves nothing");

    store.release_lease(&fresh).await.unwrap();
    let refused = write(store, &fresh).await;
    assert!(matches!(refused, Err(StoreError::Fenced { .. })), "{name} after giving back: {refused:?}");
}

async fn state(store: &Store, pr: u64) -> (Option<Ledger>, Vec<JournalRow>, bool) {
    let builds = store.builds().await.unwrap().contains(&key(pr));
    (store.ledger(key(pr)).await.unwrap(), store.journal(key(pr), 10).await.unwrap(), builds)
}

#[tokio::test]
async fn a_fence_is_never_used_twice() {
    on_both(async |place| {
        let store = place.open().await;
        let first = lease(&store, key(1)).await;
        assert!(store.acquire(key(1), "one", TTL, NOW).await.unwrap().is_none(), "taken twice");
        store.release_lease(&first).await.unwrap();
        let second = lease(&store, key(1)).await;
        assert!(matches!(store.renew(&first, TTL, NOW).await, Err(StoreError::Fenced { .. })));
        let renewed = store.renew(&second, TTL, NOW.plus(TTL)).await.unwrap();
        assert!(
            store.acquire(key(1), "two", TTL, NOW.plus(TTL)).await.unwrap().is_none(),
            "renewing prolonged nothing"
        );
        store.close().await;

        let store = place.open().await;
        // In a file nobody else can hold it any more; among replicas it has to expire.
        let third = store.acquire(key(1), "one", TTL, NOW.plus(2 * TTL)).await.unwrap().unwrap();
        assert!(first.fence < second.fence && renewed.fence < third.fence);
        assert!(matches!(store.leave(&renewed, &left()).await, Err(StoreError::Fenced { .. })), "survived a restart");
    })
    .await;
}

#[tokio::test]
async fn an_older_generation_is_fenced_and_an_unreleased_one_is_not_forgotten() {
    on_both(async |place| {
        let store = place.open().await;
        let lease = lease(&store, key(1)).await;
        store.enroll(&lease, &ledger(1, 2)).await.unwrap();
        assert!(matches!(store.enroll(&lease, &ledger(1, 1)).await, Err(StoreError::Fenced { .. })));
        assert!(matches!(store.enroll(&lease, &ledger(1, 3)).await, Err(StoreError::Bug { .. })));
        store.record_intent(&lease, &intent(&lease)).await.unwrap();
        store.enroll(&lease, &ledger(1, 2)).await.unwrap();
        assert_eq!(store.ledger(key(1)).await.unwrap().unwrap().intents.len(), 1, "enrolling again forgot an intent");
        store.release(&lease, NOW).await.unwrap();
        store.enroll(&lease, &ledger(1, 3)).await.unwrap();
        assert_eq!(store.ledger(key(1)).await.unwrap().unwrap(), ledger(1, 3));
    })
    .await;
}
