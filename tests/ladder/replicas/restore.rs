//! Records restored from a backup, also from an old one: what lives goes on, and nothing is destroyed because the store
//! has forgotten it. The commands are those of `docs/backup.md`.

use std::collections::BTreeSet;
use std::process::Command;

use kagero::store::{JournalCheck, Store};

use super::PATIENCE;
use super::world::{Replica, Shared, limits};
use crate::store::Place;
use crate::wait::eventually;

fn run(program: &str, arguments: &[&str]) {
    let done = Command::new(program).args(arguments).output();
    let done = done.unwrap_or_else(|error| panic!("{program} does not start: {error}. Install it with: make setup"));
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Copies the records of a running controller into an empty place, as an operator does.
async fn backup_and_restore(from: &Place, home: &std::path::Path) -> Place {
    if from.is_postgres() {
        let to = Place::postgres().await;
        let file = home.join("kagero.dump").display().to_string();
        run("pg_dump", &["--format=custom", "--file", &file, &from.url]);
        run("pg_restore", &["--no-owner", "--exit-on-error", "--dbname", &to.url, &file]);
        return to;
    }
    let to = Place::sqlite();
    let file = to.url.strip_prefix("sqlite:").unwrap();
    from.sql(&format!("VACUUM INTO '{file}'")).await;
    to
}

async fn until_ready(replica: &Replica, numbers: &[u64]) {
    eventually("they are ready and served", PATIENCE, async || {
        let ledgers = replica.store.unreleased().await.unwrap();
        let ready: BTreeSet<u64> = ledgers
            .iter()
            .filter(|l| l.proven.is_some())
            .map(|l| l.key.pr.0)
            .filter(|pr| numbers.contains(pr))
            .collect();
        let served = replica.served(numbers.iter().copied());
        if ready.len() == numbers.len() && served == numbers.len() {
            Ok(())
        } else {
            Err(format!("{ready:?} are ready, {served} are served"))
        }
    })
    .await;
}

async fn an_old_backup(place: Place) {
    let home = tempfile::tempdir().unwrap();
    let shared = Shared::new(1..=3);
    let one = Replica::start("one", &place.url, &shared, limits(100, 100)).await;
    until_ready(&one, &[1, 2, 3]).await;
    // While it works.
    let restored = backup_and_restore(&place, home.path()).await;

    // What the backup does not know: another one, one that is closed, and one that was closed and opened again.
    shared.open.lock().unwrap().insert(4);
    one.deliver(4, "opened").await;
    for number in [2, 3] {
        shared.open.lock().unwrap().remove(&number);
        one.deliver(number, "closed").await;
    }
    eventually("they are gone", PATIENCE, async || {
        let held: BTreeSet<u64> = one.store.unreleased().await.unwrap().iter().map(|l| l.key.pr.0).collect();
        if held == BTreeSet::from([1, 4]) { Ok(()) } else { Err(format!("{held:?}")) }
    })
    .await;
    shared.open.lock().unwrap().insert(2);
    one.deliver(2, "reopened").await;
    until_ready(&one, &[1, 2, 4]).await;
    one.die().await;

    let living: BTreeSet<String> = shared.machines.lock().unwrap().keys().cloned().collect();
    assert_eq!(living.len(), 3);
    shared.terminated.lock().unwrap().clear();
    let two = Replica::start("two", &restored.url, &shared, limits(100, 100)).await;
    until_ready(&two, &[1, 2, 4]).await;
    eventually("the closed one is released", PATIENCE, async || {
        two.store.unreleased().await.unwrap().iter().all(|ledger| ledger.key.pr.0 != 3)
    })
    .await;
    let terminated = shared.terminated.lock().unwrap().clone();
    let destroyed: Vec<_> = terminated.iter().filter(|name| living.contains(*name)).collect();
    assert!(destroyed.is_empty(), "destroyed, because the store had forgotten them: {destroyed:?}");
    let now: BTreeSet<String> = shared.machines.lock().unwrap().keys().cloned().collect();
    assert!(now.is_superset(&living), "{now:?} instead of {living:?}");
    assert!(matches!(two.store.verify_journal().await.unwrap(), JournalCheck::Intact(_)));
    two.die().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_backup_of_a_postgresql_store_destroys_nothing() {
    an_old_backup(Place::postgres().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_backup_of_a_sqlite_store_destroys_nothing() {
    an_old_backup(Place::sqlite()).await;
}

#[tokio::test]
async fn an_empty_store_beside_living_environments_destroys_nothing() {
    let place = Place::sqlite();
    let shared = Shared::new(1..=3);
    let one = Replica::start("one", &place.url, &shared, limits(100, 100)).await;
    until_ready(&one, &[1, 2, 3]).await;
    one.die().await;
    let living: BTreeSet<String> = shared.machines.lock().unwrap().keys().cloned().collect();

    let empty = Place::sqlite();
    Store::open(&empty.url).await.unwrap().close().await;
    let two = Replica::start("two", &empty.url, &shared, limits(100, 100)).await;
    until_ready(&two, &[1, 2, 3]).await;
    assert_eq!(shared.machines.lock().unwrap().keys().cloned().collect::<BTreeSet<_>>(), living);
    assert!(shared.terminated.lock().unwrap().is_empty());
    two.die().await;
}
