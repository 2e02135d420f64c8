//! What the code of one pull request can reach of another and of Kagero.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kagero::sim::github::FileChange;

use super::rig::{Rig, Setup};

const TREASURE: &str = "the crown jewels";

const OWN_ROWS: &str = "SELECT name FROM things";

#[tokio::test]
async fn a_pull_request_reads_neither_anothers_files_nor_anothers_tables_nor_our_secrets() {
    let mut rig = Rig::start(Setup::postgres()).await;
    let victim = with_a_victim(&mut rig).await;
    let database = rig.databases().await.remove(0);
    let mut script = format!(
        "psql=$(ls /usr/lib/postgresql/*/bin/psql | tail -n1)\n\
         echo \"own data: $($psql \"$DATABASE_URL\" -tAc '{OWN_ROWS}')\"\n"
    );
    for (name, sql) in [(database.as_str(), OWN_ROWS), ("postgres", "SELECT 1")] {
        writeln!(script, "$psql \"${{DATABASE_URL%/*}}/{name}\" -tAc '{sql}' && echo REACHED {name}").unwrap();
    }
    let report = spy(&mut rig, &victim, script).await;
    assert!(report.contains("permission denied for database"), "{report}");
    rig.finish().await;
}

#[tokio::test]
async fn a_pull_request_reads_neither_anothers_files_nor_anothers_database_file() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let mut victim = with_a_victim(&mut rig).await;
    let database = PathBuf::from(rig.databases().await.remove(0));
    victim.push(find(&database, "db.sqlite").expect("it has a database file"));
    assert!(victim.iter().all(|path| path.is_file()), "{victim:?}");
    let read = "import os, sqlite3\nfile = sqlite3.connect(os.environ['DATABASE_URL'][9:])";
    let script =
        format!("echo \"own data: $(python3 -c \"{read}\nprint(file.execute('{OWN_ROWS}').fetchone()[0])\")\"\n");
    spy(&mut rig, &victim, script).await;
    rig.finish().await;
}

/// An environment with something worth stealing; the files that nobody else may read.
async fn with_a_victim(rig: &mut Rig) -> Vec<PathBuf> {
    let number = rig.open("Victim", vec![FileChange::write("treasure.txt", TREASURE)]).await;
    rig.until_ready(number).await;
    let treasure = find(&rig.state_dir().join("environments"), "treasure.txt").expect("it was checked out");
    let mut forbidden = vec![treasure];
    for dir in [rig.dir().to_owned(), rig.state_dir()] {
        let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        forbidden.extend(paths.filter(|path| path.is_file()));
    }
    for name in ["app.pem", "webhook-secret", "api-token", "kagero.db"] {
        assert!(forbidden.iter().any(|path| path.ends_with(name)), "{name} is not in {forbidden:?}");
    }
    forbidden
}

/// Has another pull request look for all that, and by that script; what it found.
async fn spy(rig: &mut Rig, forbidden: &[PathBuf], mut script: String) -> String {
    script.push_str("echo \"own file: $(cat TITLE)\"\n");
    for path in forbidden.iter().map(|path| path.display()) {
        writeln!(script, "cat '{path}' >/dev/null && echo REACHED '{path}'").unwrap();
    }
    for path in [".", "..", "../..", "../../.."] {
        writeln!(script, "find {path} -name treasure.txt 2>/dev/null | grep . && echo REACHED through {path}").unwrap();
    }
    let controller = rig.controller_pid();
    for of in [controller.to_string(), "[0-9]*".to_owned()] {
        writeln!(script, "cat /proc/{of}/cmdline | tr '\\0' ' ' | grep '[k]agero.toml' && echo REACHED processes")
            .unwrap();
    }
    let number = rig.open("Spy", vec![FileChange::write("spy.sh", script)]).await;
    rig.until_ready(number).await;
    let report = rig.visit(number, "/spy").await.unwrap().text().await.unwrap();
    assert!(report.contains("own data: seeded") && report.contains("own file: Spy"), "it could not look: {report}");
    assert!(!report.contains("REACHED") && !report.contains(TREASURE), "{report}");
    report
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => find(&entry.path(), name),
        Ok(_) if entry.file_name() == name => Some(entry.path()),
        _ => None,
    })
}
