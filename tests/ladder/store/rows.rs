//! What is written is read back; older news do not overwrite newer; ten thousand ledgers are no work.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kagero::clock::{Clock as _, SystemClock};
use kagero::domain::brake::{Brake, BrakeKind, SetBy};
use kagero::domain::desired::GoneReason;
use kagero::domain::id::{
    EnvKey, EnvUid, Generation, HostLabel, InstallId, InstallationId, PrNumber, RepoId, RepoName,
};
use kagero::domain::ledger::{Answer, Held, Host, Ledger, Left, Said, Standing, Token};
use kagero::domain::pull::{ConfigFacts, Pins, PullFacts, PullState, RepoRef};
use kagero::domain::time::Timestamp;
use kagero::store::{JournalCheck, Readings, Store, StoreError};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use super::place::on_both;
use super::{NOW, Place, arbitrary, key, lease};

/// Runs a property against one store; the values' keys keep the cases apart.
fn check<S: Strategy>(strategy: &S, property: &impl AsyncFn(&Store, S::Value)) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for place in runtime.block_on(Place::both()) {
        let store = runtime.block_on(place.open());
        let mut runner =
            TestRunner::new(Config { cases: 48, max_shrink_iters: 0, failure_persistence: None, ..Config::default() });
        runner
            .run(strategy, |value| {
                runtime.block_on(property(&store, value));
                Ok(())
            })
            .unwrap();
        runtime.block_on(store.close());
    }
}

#[test]
fn ledgers_come_back_as_written() {
    check(&(arbitrary::ledger(), arbitrary::said()), &async |store: &Store, (ledger, said): (Ledger, Said)| {
        let lease = lease(store, ledger.key).await;
        store.enroll(&lease, &ledger).await.unwrap();
        assert_eq!(store.ledger(ledger.key).await.unwrap().as_ref(), Some(&ledger));
        assert!(store.ledgers().await.unwrap().contains(&ledger));
        assert_eq!(store.unreleased().await.unwrap().contains(&ledger), !ledger.is_released());
        let labels: Vec<_> = ledger.hosts.iter().map(|host| host.label.clone()).collect();
        let taken = store.hosts_taken(&labels).await.unwrap();
        assert!(taken.len() == labels.len() && taken.iter().all(|(_, by)| *by == ledger.key));

        let mut expected = Ledger { said: said.clone(), ..ledger };
        store.put_said(&lease, &said).await.unwrap();
        for place in 0..expected.intents.len() {
            expected.intents[place].answer = Some(Answer::Accepted("m\0'1".into()));
            let intent = &expected.intents[place];
            store.record_intent(&lease, intent).await.unwrap();
            store.answer(&lease, &intent.token, intent.answer.as_ref().unwrap()).await.unwrap();
        }
        assert_eq!(store.ledger(expected.key).await.unwrap(), Some(expected));
    });
}

#[test]
fn facts_come_back_as_written() {
    let facts = (arbitrary::pull(), arbitrary::config(), arbitrary::pins());
    check(&facts, &async |store: &Store, (pull, config, pins): (PullFacts, ConfigFacts, Pins)| {
        assert!(store.put_pull(&pull).await.unwrap());
        assert_eq!(store.pull(pull.key).await.unwrap().as_ref(), Some(&pull));
        let open = pull.state == PullState::Open;
        assert_eq!(store.open_pulls(pull.key.repo).await.unwrap().contains(&pull.key), open);
        assert_eq!(store.all_pulls().await.unwrap().contains(&pull), open);
        store.put_config(pull.key, &config).await.unwrap();
        assert_eq!(store.config(pull.key).await.unwrap(), Some(config));
        store.put_pins(pull.key, &pins).await.unwrap();
        assert_eq!(store.pins(pull.key).await.unwrap(), pins);
        let read = store.readings(pull.key, NOW).await.unwrap();
        assert_eq!((read.pull.as_ref(), &read.pins, read.ledger), (Some(&pull), &pins, None));
        assert_eq!(read.config, store.config(pull.key).await.unwrap());
    });
}

#[tokio::test]
async fn what_a_pass_begins_with_is_read_at_once_and_is_of_nobody_else() {
    on_both(async |place| {
        let store = place.open().await;
        assert_eq!(store.readings(key(1), NOW).await.unwrap(), Readings::default());
        let name = RepoName::parse("acme/shop").unwrap();
        let repo = RepoRef { id: key(1).repo, name, installation: InstallationId(9) };
        store.put_repo(&repo, NOW).await.unwrap();
        let mut ledgers = Vec::new();
        for pr in 1..=3 {
            let mut ledger = sample(&arbitrary::ledger());
            (ledger.key, ledger.generation, ledger.slot) = (key(pr), Generation::FIRST, None);
            ledger.uid = EnvUid::derive(&InstallId::parse("test").unwrap(), key(pr));
            let label = |service: &str| HostLabel::parse(format!("pr-{pr}{service}")).unwrap();
            ledger.hosts = ["", "-web", "-api"].map(|service| Host { label: label(service), service: None }).to_vec();
            ledger.intents.truncate(2);
            for (place, intent) in ledger.intents.iter_mut().enumerate() {
                intent.token = Token(format!("{pr}-{place}"));
            }
            store.enroll(&lease(&store, ledger.key).await, &ledger).await.unwrap();
            ledgers.push(ledger);
        }
        let brake = |kind, of: Option<EnvKey>, minutes| Brake {
            kind,
            key: of,
            reason: format!("{kind:?} of {of:?}"),
            by: SetBy::Operator,
            at: NOW,
            until: NOW.plus(Duration::from_mins(minutes)),
        };
        let (hold, pause) = (brake(BrakeKind::Hold, Some(key(2)), 9), brake(BrakeKind::Pause, None, 9));
        let others = [brake(BrakeKind::Hold, Some(key(3)), 9), brake(BrakeKind::Pause, Some(key(2)), 1)];
        for brake in [&pause, &hold].into_iter().chain(&others) {
            store.set_brake(brake).await.unwrap();
        }
        let read = store.readings(key(2), NOW.plus(Duration::from_mins(1))).await.unwrap();
        assert_eq!(read.ledger.as_ref(), Some(&ledgers[1]));
        assert_eq!((read.repo, read.brakes), (Some(repo), vec![hold, pause]), "not those of others, nor what is over");
        assert_eq!(store.ledgers().await.unwrap(), ledgers);
    })
    .await;
}

/// One value of a strategy, the same in every run.
fn sample<S: Strategy>(strategy: &S) -> S::Value {
    strategy.new_tree(&mut TestRunner::deterministic()).unwrap().current()
}

#[tokio::test]
async fn an_older_state_is_not_kept_unless_it_stays() {
    on_both(async |place| {
        let store = place.open().await;
        let minutes = |minutes: i64| Timestamp(minutes * 60_000);
        let at = |read, updated, state| PullFacts {
            state,
            updated_at: minutes(updated),
            read_at: minutes(read),
            ..sample(&arbitrary::pull())
        };
        let reopened = at(20, 19, PullState::Open);
        let lagging = PullFacts { key: reopened.key, ..at(21, 10, PullState::Closed) };
        let restored = PullFacts { read_at: minutes(35), ..lagging.clone() };
        assert!(store.put_pull(&reopened).await.unwrap());
        assert!(!store.put_pull(&lagging).await.unwrap());
        assert_eq!(store.pull(reopened.key).await.unwrap().unwrap().state, PullState::Open);
        assert!(store.put_pull(&restored).await.unwrap(), "no replica lags that far behind");
    })
    .await;
}

#[tokio::test]
async fn a_reading_from_a_clock_that_was_beyond_belief_does_not_stay_for_ever() {
    on_both(async |place| {
        let store = place.open().await;
        let hours = |hours: i64| Timestamp(hours * 3_600_000);
        let ahead = PullFacts { state: PullState::Open, read_at: hours(30), ..sample(&arbitrary::pull()) };
        let ahead = PullFacts { updated_at: hours(1), ..ahead };
        let now =
            |at| PullFacts { state: PullState::Closed, read_at: hours(at), updated_at: hours(5), ..ahead.clone() };
        assert!(store.put_pull(&ahead).await.unwrap());
        assert!(!store.put_pull(&now(6)).await.unwrap(), "a day ahead may still be true");
        assert!(store.put_pull(&now(5)).await.unwrap());
        assert_eq!(store.pull(ahead.key).await.unwrap(), Some(now(5)));

        let mut config = sample(&arbitrary::config());
        config.read_at = hours(30);
        store.put_config(key(1), &config).await.unwrap();
        let now = ConfigFacts { base_ref: "now".into(), read_at: hours(5), ..config.clone() };
        store.put_config(key(1), &ConfigFacts { read_at: hours(6), ..now.clone() }).await.unwrap();
        assert_eq!(store.config(key(1)).await.unwrap(), Some(config));
        store.put_config(key(1), &now).await.unwrap();
        assert_eq!(store.config(key(1)).await.unwrap(), Some(now));
    })
    .await;
}

#[tokio::test]
async fn the_time_is_the_servers_and_what_was_noted_last_is_known() {
    on_both(async |place| {
        let store = place.open().await;
        let (before, server, after) = (SystemClock.now(), store.server_time().await.unwrap(), SystemClock.now());
        // The server runs on this machine.
        assert_eq!(server.is_some(), place.is_postgres());
        assert!(server.is_none_or(|server| (before.0 - 1..=after.0 + 1).contains(&server.0)), "{before} {server:?}");
        assert_eq!(store.written_at().await.unwrap(), None);
        let read = PullFacts { read_at: Timestamp(7), ..sample(&arbitrary::pull()) };
        store.put_pull(&read).await.unwrap();
        assert_eq!(store.written_at().await.unwrap(), Some(Timestamp(7)));
        let lease = lease(&store, key(1)).await;
        store.begin(&lease, "launch-machine", json!({}), Timestamp(9)).await.unwrap();
        assert_eq!(store.written_at().await.unwrap(), Some(Timestamp(9)));
    })
    .await;
}

#[tokio::test]
async fn an_older_reading_never_overwrites_a_newer_one() {
    on_both(async |place| {
        let store = place.open().await;
        let newer = PullFacts { state: PullState::Closed, read_at: Timestamp(20), ..sample(&arbitrary::pull()) };
        let older = PullFacts { state: PullState::Open, read_at: Timestamp(10), ..newer.clone() };
        assert!(store.put_pull(&newer).await.unwrap());
        assert!(!store.put_pull(&older).await.unwrap(), "an older reading is no change");
        assert_eq!(store.pull(newer.key).await.unwrap().as_ref(), Some(&newer));
        let same = PullFacts { read_at: Timestamp(30), ..newer.clone() };
        assert!(!store.put_pull(&same).await.unwrap(), "only the time of reading changed");
        assert_eq!(store.pull(newer.key).await.unwrap(), Some(same));

        let other = PullFacts { key: key(77), read_at: Timestamp(40), ..newer.clone() };
        let retitled = PullFacts { title: "other".into(), read_at: Timestamp(40), ..newer.clone() };
        let changed = store.put_pulls(&[older, other.clone(), retitled.clone()]).await.unwrap();
        assert_eq!(BTreeSet::from_iter(changed), BTreeSet::from([other.key, retitled.key]));

        let mut config = sample(&arbitrary::config());
        config.read_at = Timestamp(20);
        store.put_config(key(1), &config).await.unwrap();
        let stale = ConfigFacts { base_ref: "stale".into(), read_at: Timestamp(10), ..config.clone() };
        store.put_config(key(1), &stale).await.unwrap();
        assert_eq!(store.config(key(1)).await.unwrap(), Some(config));
    })
    .await;
}

#[tokio::test]
async fn a_rename_changes_a_repository_and_makes_none() {
    on_both(async |place| {
        let store = place.open().await;
        let repo = |name: &str| RepoRef {
            id: RepoId(u64::MAX),
            name: RepoName::parse(name).unwrap(),
            installation: InstallationId(9),
        };
        store.put_repo(&repo("acme/shop"), Timestamp(10)).await.unwrap();
        store.put_repo(&repo("acme/store"), Timestamp(20)).await.unwrap();
        store.put_repo(&repo("acme/late"), Timestamp(15)).await.unwrap();
        assert_eq!(store.repos().await.unwrap(), [repo("acme/store")]);
        assert_eq!(store.repo(RepoId(u64::MAX)).await.unwrap(), Some(repo("acme/store")));
        assert_eq!(store.repo(RepoId(1)).await.unwrap(), None);
        store.set_mark("resync", 7).await.unwrap();
        store.set_mark("resync", 8).await.unwrap();
        assert_eq!((store.mark("resync").await.unwrap(), store.mark("other").await.unwrap()), (Some(8), None));
    })
    .await;
}

#[tokio::test]
async fn a_host_label_belongs_to_one_environment() {
    on_both(async |place| {
        let store = place.open().await;
        let first = sample(&arbitrary::ledger());
        let mut second = Ledger {
            key: key(2),
            uid: EnvUid::parse("0123456789abcdef0123").unwrap(),
            intents: Vec::new(),
            slot: None,
            ..first.clone()
        };
        store.enroll(&lease(&store, first.key).await, &first).await.unwrap();
        let held = lease(&store, key(2)).await;
        let refused = store.enroll(&held, &second).await;
        assert!(matches!(refused, Err(StoreError::HostTaken { by, .. }) if by == first.key), "{refused:?}");
        assert_eq!(store.ledger(key(2)).await.unwrap(), None, "a refused enrolment left a row");
        second.hosts.clear();
        store.enroll(&held, &second).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn standing_only_goes_forward() {
    on_both(async |place| {
        let store = place.open().await;
        let live = Ledger { key: key(1), standing: Standing::Live, ..sample(&arbitrary::ledger()) };
        let lease = lease(&store, key(1)).await;
        let left = |at| Left {
            why: GoneReason::Merged,
            head_sha: None,
            at: Timestamp(at),
            held: Held { machines: 1, databases: 2 },
        };
        let missing = store.leave(&lease, &left(1)).await;
        assert!(matches!(missing, Err(StoreError::Bug { .. })), "{missing:?}");
        store.enroll(&lease, &live).await.unwrap();
        let standing = async || store.ledger(key(1)).await.unwrap().unwrap().standing;
        store.leave(&lease, &left(5)).await.unwrap();
        store.leave(&lease, &left(6)).await.unwrap();
        assert_eq!(standing().await, Standing::Leaving(Timestamp(5)));
        store.release(&lease, Timestamp(7)).await.unwrap();
        store.release(&lease, Timestamp(8)).await.unwrap();
        store.leave(&lease, &left(9)).await.unwrap();
        assert_eq!(standing().await, Standing::Released(Timestamp(7)));
        assert_eq!(store.ledger(key(1)).await.unwrap().unwrap().left, Some(left(5)));
    })
    .await;
}

#[tokio::test]
async fn enrolling_the_present_generation_changes_its_hosts_and_nothing_else() {
    on_both(async |place| {
        let store = place.open().await;
        let live = Ledger { key: key(1), standing: Standing::Live, ..sample(&arbitrary::ledger()) };
        let lease = lease(&store, key(1)).await;
        store.enroll(&lease, &live).await.unwrap();
        let moved = Ledger { hosts: Vec::new(), enrolled_at: Timestamp(1), intents: Vec::new(), ..live.clone() };
        store.enroll(&lease, &moved).await.unwrap();
        assert_eq!(store.ledger(key(1)).await.unwrap(), Some(Ledger { hosts: Vec::new(), ..live }));
    })
    .await;
}

#[tokio::test]
async fn the_journal_tells_what_began_and_how_it_ended_and_cannot_be_edited_unnoticed() {
    on_both(async |place| {
        let store = place.open().await;
        let one = lease(&store, key(1)).await;
        let two = lease(&store, key(2)).await;
        let first = store.begin(&one, "launch-machine", json!({"token": "a\0b"}), Timestamp(1)).await.unwrap();
        let other = store.begin(&two, "terminate", json!(null), Timestamp(2)).await.unwrap();
        let second = store.begin(&one, "assign", json!([1]), Timestamp(3)).await.unwrap();
        store.finish(first, "done", Timestamp(4)).await.unwrap();
        store.release_lease(&two).await.unwrap();
        store.finish(other, "the lease was lost", Timestamp(5)).await.unwrap();
        assert!(matches!(
            store.finish(kagero::store::JournalId(99), "done", Timestamp(5)).await,
            Err(StoreError::Bug { .. })
        ));

        let rows = store.journal(key(1), 10).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), [second, first]);
        assert_eq!(rows[0].ended, None);
        assert_eq!(rows[1].ended, Some(("done".to_owned(), Timestamp(4))));
        assert_eq!((rows[1].detail.clone(), rows[1].fence), (json!({"token": "a\0b"}), one.fence));
        assert_eq!(store.journal(key(1), 1).await.unwrap().len(), 1);
        assert_eq!(store.verify_journal().await.unwrap(), JournalCheck::Intact(5));
        store.close().await;

        for (edit, broken) in [
            ("UPDATE journal SET content = 'failed' WHERE seq = 4", 4),
            ("UPDATE journal SET pr = 3 WHERE seq = 3", 3),
            ("DELETE FROM journal WHERE seq = 2", 3),
        ] {
            place.sql(edit).await;
            let store = place.open().await;
            assert_eq!(store.verify_journal().await.unwrap(), JournalCheck::Broken(kagero::store::JournalId(broken)));
            store.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_ledgers_are_read_at_once() {
    on_both(async |place| {
        place.open().await.close().await;
        let hex = if place.is_postgres() { "lpad(to_hex(i), 20, '0')" } else { "printf('%020x', i)" };
        place
            .sql(&format!(
                r#"INSERT INTO ledgers (repo, pr, uid, generation, enrolled_at, standing, said)
               WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
               SELECT 42, i, {hex}, 1, 0, 'live', '{{"comment":null,"deployments":[],"written_at":null}}' FROM n;
               INSERT INTO hosts (label, repo, pr, position) SELECT 'pr-' || pr || '-shop', repo, pr, 0 FROM ledgers;
               INSERT INTO intents (token, repo, pr, generation, role, attempt, asked_at)
               SELECT pr || '-' || k, repo, pr, 1, '"machine"', k, 0
               FROM ledgers, (SELECT 1 AS k UNION ALL SELECT 2 UNION ALL SELECT 3) AS three"#
            ))
            .await;
        let store = place.open().await;
        let began = Instant::now();
        let ledgers = store.unreleased().await.unwrap();
        let took = began.elapsed();
        assert_eq!(ledgers.len(), 10_000);
        assert!(ledgers.iter().all(|row| row.intents.len() == 3 && row.hosts.len() == 1));
        assert_eq!(ledgers[9_999].generation, Generation::FIRST);
        assert_eq!(ledgers[9_999].key, EnvKey { repo: RepoId(42), pr: PrNumber(10_000) });
        // An unoptimised build takes about a second; a query per row would take far longer.
        assert!(took < Duration::from_secs(20), "{took:?}");
        eprintln!("10,000 ledgers with 30,000 intents read in {took:?}");
    })
    .await;
}
