//! A replica that was paused past its lease can write nothing (I10), and while it is paused it holds up nobody.

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Duration;

use kagero::domain::ledger::Standing;
use kagero::store::{JournalCheck, Store, StoreError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::process::{child_directory, next_ack, say, spawn};
use super::{NOW, Place, TTL, key, lease, ledger};
use crate::database::harness::sql;
use crate::wait::eventually;

/// The replica: takes the lease, reads, and is paused before or within what it writes then.
async fn replica(url: &Path) {
    let store = Store::open(url.to_str().unwrap()).await.unwrap();
    let held = lease(&store, key(1)).await;
    store.enroll(&held, &ledger(1, 1)).await.unwrap();
    assert!(store.ledger(key(1)).await.unwrap().is_some());
    say("read");
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    let announced = store.begin(&held, "terminate", json!({}), NOW).await;
    say(&announced.map_or_else(|error| name(&error), |_| "written".to_owned()));
    let released = store.release(&held, NOW).await;
    say(&released.map_or_else(|error| name(&error), |()| "written".to_owned()));
    std::future::pending::<()>().await;
}

fn name(error: &StoreError) -> String {
    match error {
        StoreError::Fenced { .. } => "fenced".to_owned(),
        StoreError::Unavailable { .. } => "unavailable".to_owned(),
        other => format!("{other:?}"),
    }
}

fn signal(child: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child).unwrap()), signal).unwrap();
}

/// What the other replica does in the meantime.
async fn take_over(store: &Store) {
    let fresh = store.acquire(key(1), "two", TTL, NOW.plus(TTL)).await.unwrap().expect("the lease has expired");
    let begun = store.begin(&fresh, "assign", json!({}), NOW).await.unwrap();
    store.finish(begun, "ok", NOW).await.unwrap();
}

async fn nothing_else_was_written(store: &Store) {
    assert_eq!(store.ledger(key(1)).await.unwrap().unwrap().standing, Standing::Live);
    assert_eq!(store.journal(key(1), 10).await.unwrap().len(), 1);
    assert_eq!(store.verify_journal().await.unwrap(), JournalCheck::Intact(2));
}

#[tokio::test]
async fn paused_between_reading_and_writing() {
    if let Some(url) = child_directory() {
        return replica(&url).await;
    }
    let place = Place::postgres().await;
    let store = place.open().await;
    let (mut child, mut output) = spawn("store::paused::paused_between_reading_and_writing", Path::new(&place.url));
    assert_eq!(next_ack(&mut output).as_deref(), Some("read"));
    signal(child.0.id(), Signal::SIGSTOP);
    take_over(&store).await;
    signal(child.0.id(), Signal::SIGCONT);
    child.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    assert_eq!(next_ack(&mut output).as_deref(), Some("fenced"));
    assert_eq!(next_ack(&mut output).as_deref(), Some("fenced"));
    nothing_else_was_written(&store).await;
}

#[tokio::test]
async fn paused_in_the_middle_of_a_transaction() {
    if let Some(url) = child_directory() {
        return replica(&url).await;
    }
    let place = Place::postgres().await;
    let store = place.open().await;
    let (mut child, mut output) = spawn("store::paused::paused_in_the_middle_of_a_transaction", Path::new(&place.url));
    assert_eq!(next_ack(&mut output).as_deref(), Some("read"));
    // Its fence is checked and the lease's row locked; the row that it appends has to wait for us.
    let mut superuser = place.superuser().await;
    sql(&mut superuser, "BEGIN; LOCK TABLE journal IN EXCLUSIVE MODE").await.unwrap();
    child.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let waits =
        "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'INSERT INTO jou%'";
    eventually("it waits in the transaction", Duration::from_secs(20), async || place.number(waits).await == 1).await;
    signal(child.0.id(), Signal::SIGSTOP);
    sql(&mut superuser, "ROLLBACK").await.unwrap();

    take_over(&store).await;
    signal(child.0.id(), Signal::SIGCONT);
    assert_eq!(next_ack(&mut output).as_deref(), Some("unavailable"), "its transaction was ended by the server");
    assert_eq!(next_ack(&mut output).as_deref(), Some("fenced"));
    nothing_else_was_written(&store).await;
}
