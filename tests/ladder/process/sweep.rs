//! `kagero sweep`: what no record knows is found, told, waited for and taken away; everything else stays.

use std::time::Duration;

use kagero::clock::{Clock as _, SystemClock};
use kagero::controller::sweep::{Outcome, Report};
use kagero::plan::sweep::{Ruling, Verdict};
use sqlx::{Connection as _, SqliteConnection};

use super::rig::{PATIENCE, Rig, Setup};
use crate::wait::eventually;

/// Runs the command; its exit code and its report.
async fn sweep(rig: &Rig, arguments: &[&str]) -> (i32, Report) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kagero"));
    command.arg("--config").arg(rig.dir().join("kagero.toml")).args(["sweep", "--json"]).args(arguments);
    let output = tokio::time::timeout(PATIENCE * 2, command.kill_on_drop(true).output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}\n{}", rig.log()));
    (output.status.code().unwrap(), report)
}

fn orphans(report: &Report) -> Vec<&Verdict> {
    report.verdicts.iter().filter(|verdict| verdict.ruling != Ruling::Keep).collect()
}

fn rulings(report: &Report) -> Vec<(&'static str, Ruling)> {
    orphans(report).into_iter().map(|verdict| (verdict.subject.kind(), verdict.ruling)).collect()
}

/// Statements on the store, while nobody has it open.
async fn behind_its_back(rig: &Rig, statements: &[&'static str]) {
    let file = rig.state_dir().join("kagero.db");
    let mut store = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await.unwrap();
    for statement in statements {
        sqlx::raw_sql(*statement).execute(&mut store).await.unwrap();
    }
    store.close().await.unwrap();
}

const AGED: &str =
    "UPDATE sweep_marks SET mark = json_set(mark, '$.first_at', json_extract(mark, '$.first_at') - 90000000,
                    '$.sightings', 2)";

#[tokio::test]
async fn what_no_record_knows_goes_after_a_day_and_nothing_else_does() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let (lost, living) = (rig.open("Lost", vec![]).await, rig.open("Living", vec![]).await);
    rig.until_ready(lost).await;
    rig.until_ready(living).await;
    let (code, report) = sweep(&rig, &[]).await;
    assert_eq!((code, &report.outcome, report.verdicts.len()), (0, &Outcome::Clean, 4), "{report:?}");

    // The store forgets the environment, and its pull request is closed while nobody looks.
    rig.kill9_controller();
    rig.close(lost).await;
    assert_eq!(lost, 1);
    let forget = [
        "DELETE FROM ledgers WHERE pr = 1",
        "DELETE FROM intents WHERE pr = 1",
        "DELETE FROM hosts WHERE pr = 1",
        "DELETE FROM pulls WHERE pr = 1",
    ];
    behind_its_back(&rig, &forget).await;
    rig.launch().await;
    rig.until_ready(living).await;

    // A look changes nothing; the first sweep only marks, however often it is asked.
    for arguments in [&[][..], &["--apply"], &["--apply"], &["--apply"]] {
        let (code, report) = sweep(&rig, arguments).await;
        assert_eq!(code, 11, "{report:?}");
        assert_eq!(rulings(&report), [("machine", Ruling::Wait), ("database", Ruling::Wait)], "{report:?}");
    }
    assert_eq!((rig.machines().len(), rig.databases().await.len()), (2, 2));

    // A day later, by itself: the machine first.
    rig.kill9_controller();
    behind_its_back(&rig, &[AGED]).await;
    let (code, report) = sweep(&rig, &[]).await;
    assert_eq!(
        (code, rulings(&report)),
        (11, vec![("machine", Ruling::Due), ("database", Ruling::Wait)]),
        "{report:?}"
    );
    assert_eq!(rig.machines().len(), 2, "a dry run has taken something away");
    let (code, report) = sweep(&rig, &["--apply"]).await;
    assert_eq!(
        (code, rulings(&report)),
        (11, vec![("machine", Ruling::Removed), ("database", Ruling::Wait)]),
        "{report:?}"
    );
    assert_eq!((rig.machines().len(), rig.databases().await.len()), (1, 2), "it waits for what it has begun");

    // And by the controller.
    rig.launch().await;
    rig.until_ready(living).await;
    let (code, report) = sweep(&rig, &["--apply"]).await;
    assert_eq!((code, rulings(&report)), (11, vec![("database", Ruling::Removed)]), "{report:?}");
    eventually("the database is gone", PATIENCE, async || match rig.databases().await.len() {
        1 => Ok(()),
        more => Err(more.to_string()),
    })
    .await;
    let (code, report) = sweep(&rig, &["--apply"]).await;
    assert_eq!((code, &report.outcome), (0, &Outcome::Clean), "{report:?}");
    rig.until_ready(living).await;
    rig.finish().await;
}

#[tokio::test]
async fn the_guards_of_a_sweep_have_codes_of_their_own() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Guarded", vec![]).await;
    rig.until_ready(number).await;
    rig.kill9_controller();
    let soon = "INSERT INTO brakes VALUES ('freeze', 0, 0, '{\"kind\":\"freeze\",\"key\":null,\"reason\":\"an incident\",\
                \"by\":\"operator\",\"at\":0,\"until\":9000000000000}', 9000000000000)";
    behind_its_back(&rig, &[soon]).await;
    let (code, report) = sweep(&rig, &["--apply"]).await;
    assert_eq!(code, 12, "{report:?}");
    assert!(matches!(&report.outcome, Outcome::Frozen(why) if why.contains("an incident")), "{report:?}");

    // A hundred machines a moment ago, one now: something is wrong with what is listed.
    let now = SystemClock.now().minus(Duration::from_mins(1));
    let many = format!("UPDATE sweep_last SET counts = '{{\"machines\":100,\"databases\":1,\"at\":{}}}'", now.0);
    behind_its_back(&rig, &["DELETE FROM brakes", many.leak()]).await;
    let (code, report) = sweep(&rig, &["--apply"]).await;
    assert_eq!(code, 13, "{report:?}");
    assert!(matches!(&report.outcome, Outcome::Refused(why) if why.contains("only 1 machines")), "{report:?}");
    rig.launch().await;
    rig.until_ready(number).await;
    rig.finish().await;
}
