//! What the code of one pull request can reach of another and of Kagero.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use kagero::sim::github::FileChange;

use super::rig::{Rig, Setup};

const TREASURE: &str = "the crown jewels";

#[tokio::test]
async fn a_pull_request_reads_neither_anothers_files_nor_anothers_data_nor_our_secrets() {
    let mut rig = Rig::start(Setup::postgres()).await;
    let victim = rig.open("Victim", vec![FileChange::write("treasure.txt", TREASURE)]).await;
    rig.until_ready(victim).await;
    let databases = rig.databases().await;
    let treasure = find(&rig.state_dir().join("environments"), "treasure.txt").expect("it was checked out");

    let mut forbidden = vec![treasure, rig.dir().join("app.pem"), rig.dir().join("webhook-secret"), rig.dir().join("kagero.toml")];
    let state = std::fs::read_dir(rig.state_dir()).unwrap().map(|entry| entry.unwrap().path());
    forbidden.extend(state.filter(|path| path.is_file()));
    assert!(forbidden.len() > 5, "{forbidden:?}");
    let mut script = String::from(
        "psql=$(ls /usr/lib/postgresql/*/bin/psql | tail -n1)\necho \"own data: $($psql \"$DATABASE_URL\" -tAc 'SELECT name FROM things')\"\necho \"own file: $(cat TITLE)\"\n",
    );
    for path in &forbidden {
        writeln!(script, "cat {path:?} && echo REACHED {path:?}").unwrap();
    }
    writeln!(script, "$psql \"${{DATABASE_URL%/*}}/{}\" -tAc 'SELECT name FROM things' && echo REACHED data", databases[0]).unwrap();
    writeln!(script, "$psql \"${{DATABASE_URL%/*}}/postgres\" -tAc 'SELECT 1' && echo REACHED postgres").unwrap();
    for path in ["..", "../..", "../../..", "/proc/*/environ"] {
        writeln!(script, "grep -rsl --include=treasure.txt '' {path} && echo REACHED through {path}").unwrap();
    }
    for pid in [rig.controller_pid(), rig.agent_pid().try_into().unwrap()] {
        writeln!(script, "tr '\\0' ' ' < /proc/{pid}/cmdline | grep kagero && echo REACHED process").unwrap();
    }
    let spy = rig.open("Spy", vec![FileChange::write("spy.sh", script)]).await;
    rig.until_ready(spy).await;

    let report = rig.visit(spy, "/spy").await.unwrap().text().await.unwrap();
    assert!(report.contains("own data: seeded") && report.contains("own file: Spy"), "the spy could not look: {report}");
    assert!(!report.contains("REACHED") && !report.contains(TREASURE), "{report}");
    assert!(report.contains("permission denied for database"), "{report}");
    rig.finish().await;
}

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => find(&entry.path(), name),
        Ok(_) if entry.file_name() == name => Some(entry.path()),
        _ => None,
    })
}
