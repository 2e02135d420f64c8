//! The journal as an auditor reads it: beside a working controller, after its end, and after somebody has been at it.

use std::process::Output;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use super::rig::{Rig, Setup};
use crate::store::Place;

#[tokio::test]
async fn the_journal_tells_why_and_shows_that_it_was_changed() {
    audited(Setup::sqlite(), None).await;
}

#[tokio::test]
async fn the_journal_tells_why_and_shows_that_it_was_changed_on_postgresql() {
    let place = Place::postgres().await;
    audited(Setup::sqlite().with_store(&place.url), Some(&place)).await;
}

async fn audited(setup: Setup, place: Option<&Place>) {
    let mut rig = Rig::start(setup).await;
    let number = rig.open("Audited", vec![]).await;
    rig.until_ready(number).await;
    let head = rig.head(number).await;

    let intact = ends(&rig, 0, &["audit", "verify", "--json"]).await;
    let intact: Value = serde_json::from_slice(&intact.stdout).unwrap();
    assert!(intact["intact"] == true && intact["rows"].as_u64().unwrap() > 6, "{intact}");
    rig.close(number).await;
    rig.until_gone(number).await;
    assert_eq!(rig.left().await, Vec::<String>::new());

    let rows = shown(&rig, &["audit", "show", &format!("kumo/shop#{number}"), "--json"]).await;
    let of = |step: &str| rows.iter().find(|row| row["step"] == step).unwrap_or_else(|| panic!("{step}: {rows:?}"));
    for (step, reason) in [("launch-machine", "running"), ("assign", "running"), ("terminate", "closed")] {
        let row = of(step);
        let detail = &row["detail"];
        assert!(detail["reason"].as_str().unwrap().contains(reason), "{row}");
        assert_eq!(detail["commit"], head, "{row}");
        assert_eq!(row["outcome"], "ok", "{row}");
    }
    let led = |step: &str| of(step)["detail"]["delivery"].as_str().unwrap().to_owned();
    assert_ne!(led("launch-machine"), led("terminate"), "opening and closing were told by the same delivery");
    for step in ["launch-machine", "terminate"] {
        let arrived = format!("SELECT COUNT(*) FROM inbox WHERE guid = '{}'", led(step));
        assert_eq!(count(&rig, place, arrived).await, 1, "{step} names a delivery that never came");
    }
    for step in ["terminate", "drop-database"] {
        let evidence = &of(step)["detail"]["evidence"];
        assert_eq!(evidence["tags"]["key"]["pr"], number, "{evidence}");
        assert!(evidence["read_at"].as_i64().unwrap() > 0, "{evidence}");
    }
    let table = String::from_utf8(ends(&rig, 0, &["audit", "show", "--since", "1h"]).await.stdout).unwrap();
    assert!(table.contains("launch-machine") && table.contains(&head[..7]), "{table}");
    assert!(shown(&rig, &["audit", "show", "--json", "--since", "2099-01-01T00:00:00Z"]).await.is_empty());
    ends(&rig, 7, &["audit", "show", "99"]).await;
    ends(&rig, 2, &["audit", "show", "--since", "yesterday"]).await;

    // With nobody there to ask, and then after a hand in it.
    rig.kill9_controller();
    ends(&rig, 0, &["audit", "verify"]).await;
    tamper(&rig, place, "UPDATE journal SET content = '{}' WHERE seq = 3").await;
    let broken = ends(&rig, 11, &["audit", "verify", "--json"]).await;
    assert!(String::from_utf8_lossy(&broken.stderr).contains("breaks at row 3"), "{broken:?}");
    let broken: Value = serde_json::from_slice(&broken.stdout).unwrap();
    assert_eq!((&broken["intact"], &broken["broken_at"]), (&false.into(), &3.into()));
}

async fn ends(rig: &Rig, code: i32, arguments: &[&str]) -> Output {
    let output = rig.kagero(arguments).await;
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    output
}

async fn shown(rig: &Rig, arguments: &[&str]) -> Vec<Value> {
    let text = String::from_utf8(ends(rig, 0, arguments).await.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The file behind the store's back.
async fn file(rig: &Rig) -> SqliteConnection {
    let url = format!("sqlite:{}", rig.state_dir().join("kagero.db").display());
    SqliteConnection::connect(&url).await.unwrap()
}

async fn tamper(rig: &Rig, place: Option<&Place>, statement: &'static str) {
    match place {
        Some(place) => place.sql(statement).await,
        None => drop(sqlx::raw_sql(statement).execute(&mut file(rig).await).await.unwrap()),
    }
}

async fn count(rig: &Rig, place: Option<&Place>, question: String) -> i64 {
    match place {
        Some(place) => place.number(&question).await,
        None => sqlx::query_scalar(AssertSqlSafe(question)).fetch_one(&mut file(rig).await).await.unwrap(),
    }
}
