//! `kagero sweep`: what no record knows is found, told, waited for and taken away; everything else stays.

use std::time::Duration;

use kagero::clock::{Clock as _, SystemClock};
use kagero::controller::sweep::{Outcome, Report};
use kagero::plan::sweep::{Ruling, Verdict};
use sqlx::{Connection as _, SqliteConnection};

use super::rig::{ACTOR, PATIENCE, Rig, Setup};
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

/// What is there of an environment without a record: all goes but the database, whose machine goes first.
fn after_a_day(ruling: Ruling) -> Vec<(&'static str, Ruling)> {
    vec![("machine", ruling), ("database", Ruling::Wait), ("comment", ruling), ("deployment", ruling)]
}

#[tokio::test]
async fn what_no_record_knows_goes_after_a_day_and_nothing_else_does() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let (lost, living) = (rig.open("Lost", vec![]).await, rig.open("Living", vec![]).await);
    rig.until_ready(lost).await;
    rig.until_ready(living).await;
    let (code, report) = sweep(&rig, &[]).await;
    let kinds: Vec<&str> = report.verdicts.iter().map(|verdict| verdict.subject.kind()).collect();
    assert_eq!(kinds, ["machine", "machine", "database", "database", "golden"], "{report:?}");
    assert_eq!((code, &report.outcome), (0, &Outcome::Clean), "{report:?}");

    // Somebody copies our comment, marker and all.
    let copy = rig.comments(lost).await.remove(0).body;
    rig.github.repo().comment(lost, ACTOR, &copy).await.unwrap();

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
        assert_eq!(code, 13, "{report:?}");
        let all = ["machine", "database", "comment", "deployment"].map(|kind| (kind, Ruling::Wait));
        assert_eq!(rulings(&report), all, "{report:?}");
    }
    assert_eq!((rig.machines().len(), rig.databases().await.len()), (2, 2));

    // A day later, by itself: the machine first.
    rig.kill9_controller();
    behind_its_back(&rig, &[AGED]).await;
    let (code, report) = sweep(&rig, &[]).await;
    assert_eq!((code, rulings(&report)), (13, after_a_day(Ruling::Due)), "{report:?}");
    assert_eq!(rig.machines().len(), 2, "a dry run has taken something away");
    let (code, report) = sweep(&rig, &["--apply"]).await;
    assert_eq!((code, rulings(&report)), (13, after_a_day(Ruling::Removed)), "{report:?}");
    assert_eq!((rig.machines().len(), rig.databases().await.len()), (1, 2), "it waits for what it has begun");
    let left = rig.github.repo().comments(lost).await.unwrap();
    assert!(left.len() == 1 && !left[0].via_app, "ours goes, the copy stays: {left:?}");
    let deployments = rig.github.repo().deployments(lost).await.unwrap();
    let ended = deployments.iter().all(|made| made.statuses.last().is_some_and(|last| last.state == "inactive"));
    assert!(ended && !deployments.is_empty(), "{deployments:?}");
    assert_eq!(rig.comments(living).await.len(), 1);

    // And by the controller.
    rig.launch().await;
    rig.until_ready(living).await;
    let (code, report) = sweep(&rig, &["--apply"]).await;
    assert_eq!((code, rulings(&report)), (13, vec![("database", Ruling::Removed)]), "{report:?}");
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
async fn a_process_that_outlived_its_machine_goes_after_a_day() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let living = rig.open("Living", vec![]).await;
    rig.until_ready(living).await;
    let machine = rig.machines()[0].replace("-a1", "-a7");
    let mut left = tokio::process::Command::new("sleep")
        .arg("300")
        .env("KAGERO_MACHINE", &machine)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (code, report) = sweep(&rig, &["--apply"]).await;
    assert_eq!((code, rulings(&report)), (13, vec![("process", Ruling::Wait)]), "{report:?}");
    rig.kill9_controller();
    behind_its_back(&rig, &[AGED]).await;
    let (code, report) = sweep(&rig, &["--apply"]).await;
    assert_eq!((code, rulings(&report)), (13, vec![("process", Ruling::Removed)]), "{report:?}");
    tokio::time::timeout(PATIENCE, left.wait()).await.unwrap().unwrap();
    let (_, said) = kagero(&rig, &["audit", "show"]).await;
    assert_eq!(said.matches("sweep-process").count(), 1, "{said}");
    rig.launch().await;
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
    assert_eq!(code, 14, "{report:?}");
    assert!(matches!(&report.outcome, Outcome::Frozen(why) if why.contains("an incident")), "{report:?}");

    // A hundred machines a moment ago, one now: something is wrong with what is listed.
    let now = SystemClock.now().minus(Duration::from_mins(1));
    let many = format!("UPDATE sweep_last SET counts = '{{\"machines\":100,\"databases\":1,\"at\":{}}}'", now.0);
    behind_its_back(&rig, &["DELETE FROM brakes", many.leak()]).await;
    let (code, report) = sweep(&rig, &["--apply"]).await;
    assert_eq!(code, 15, "{report:?}");
    assert!(matches!(&report.outcome, Outcome::Refused(why) if why.contains("only 1 machines")), "{report:?}");
    rig.launch().await;
    rig.until_ready(number).await;
    rig.finish().await;
}

/// Runs `kagero`; its exit code and what it wrote.
async fn kagero(rig: &Rig, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_kagero"));
    command.arg("--config").arg(rig.dir().join("kagero.toml")).args(arguments).env("NO_COLOR", "1");
    let output = tokio::time::timeout(PATIENCE, command.kill_on_drop(true).output()).await.unwrap().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), format!("{out}{err}"))
}

#[tokio::test]
async fn brakes_stop_what_they_are_for_and_are_shown() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Held", vec![]).await;
    rig.until_ready(number).await;
    let name = number.to_string();
    let (code, said) = kagero(&rig, &["hold", &name, "--reason", "a demo"]).await;
    assert_eq!(code, Some(2), "a hold without an end: {said}");
    let (code, said) = kagero(&rig, &["freeze", "--for", "90d", "--reason", "for ever"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("within 30 days"), "{said}");

    let (code, said) = kagero(&rig, &["hold", &name, "--for", "2h", "--reason", "a demo"]).await;
    assert_eq!(code, Some(0), "{said}");
    rig.until_says(number, "it is held until").await;
    rig.close(number).await;
    eventually("the close is waited for", PATIENCE, async || {
        let (_, said) = kagero(&rig, &["env", "plan", &name]).await;
        if said.contains("waiting  stopped: it is held until") { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!((rig.machines().len(), rig.databases().await.len()), (1, 1));
    let (_, said) = kagero(&rig, &["env", "show", &name]).await;
    assert!(said.contains("a demo"), "{said}");
    let (_, said) = kagero(&rig, &["env", "list"]).await;
    assert!(said.contains("hold"), "{said}");

    // A freeze stops it too, and each ends by itself or by a person.
    let (code, said) = kagero(&rig, &["freeze", "--for", "1h", "--reason", "an incident"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(kagero(&rig, &["unhold", &name]).await.0, Some(0));
    assert_eq!(kagero(&rig, &["unhold", &name]).await.0, Some(7), "it is off already");
    eventually("the freeze is waited for", PATIENCE, async || {
        let (_, said) = kagero(&rig, &["env", "plan", &name]).await;
        if said.contains("waiting  stopped: removals are frozen until") { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(sweep(&rig, &["--apply"]).await.0, 14);
    assert_eq!(kagero(&rig, &["thaw"]).await.0, Some(0));
    rig.until_gone(number).await;
    let (_, said) = kagero(&rig, &["env", "plan", &name]).await;
    assert!(said.contains("hold") && said.contains("unhold"), "the journal has them: {said}");

    // Paused, nothing is made either.
    assert_eq!(kagero(&rig, &["pause", "--for", "1h", "--reason", "maintenance"]).await.0, Some(0));
    let next = rig.open("Later", vec![]).await;
    eventually("the pause is waited for", PATIENCE, async || {
        let (_, said) = kagero(&rig, &["env", "plan", &next.to_string()]).await;
        if said.contains("stopped: everything is paused until") { Ok(()) } else { Err(said) }
    })
    .await;
    assert_eq!(rig.machines().len(), 0);
    assert_eq!(kagero(&rig, &["resume"]).await.0, Some(0));
    rig.until_ready(next).await;
    rig.finish().await;
}
