//! `kagero doctor` on a machine that is as it should be, and on one that lacks the sandbox.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::rig::{Rig, Setup};

/// What it found, by name, and its exit code.
async fn doctor(rig: &Rig, path: Option<&Path>) -> (Vec<(String, Value)>, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kagero"));
    command.args(["-c", "kagero.toml", "doctor", "--json"]).current_dir(rig.dir()).env_remove("KAGERO_LOG");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let named = findings.into_iter().map(|finding| (finding["name"].as_str().unwrap().to_owned(), finding));
    (named.collect(), output.status.code().unwrap())
}

fn finding<'a>(findings: &'a [(String, Value)], name: &str) -> &'a Value {
    findings.iter().find(|(found, _)| found == name).map(|(_, finding)| finding).unwrap()
}

#[tokio::test]
async fn every_part_is_looked_at_and_a_missing_sandbox_is_named_with_its_remedy() {
    let rig = Rig::prepare(Setup::postgres()).await;
    let (findings, code) = doctor(&rig, None).await;
    assert!(findings.iter().all(|(_, finding)| finding["ok"] == true), "{findings:?}");
    let names: Vec<&str> = findings.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["configuration", "git", "sandbox", "state directory", "seed", "postgresql", "github"]);
    assert!(finding(&findings, "postgresql")["detail"].as_str().unwrap().contains("PostgreSQL"), "{findings:?}");
    assert_eq!((code, rig.left().await), (0, Vec::new()));

    // Only git is installed.
    let programs = rig.dir().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let git =
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).map(|dir| dir.join("git")).find(|it| it.exists());
    std::os::unix::fs::symlink(git.unwrap(), programs.join("git")).unwrap();
    let (findings, code) = doctor(&rig, Some(&programs)).await;
    let bad: Vec<&str> =
        findings.iter().filter(|(_, finding)| finding["ok"] == false).map(|(name, _)| name.as_str()).collect();
    assert_eq!((bad, code), (vec!["sandbox"], 1), "{findings:?}");
    let hint = finding(&findings, "sandbox")["hint"].as_str().unwrap();
    assert!(hint.contains("the program is not installed; install bubblewrap"), "{hint}");

    rig.reconfigure("sandbox = \"require\"", "sandbox = \"best_effort\"");
    let (findings, code) = doctor(&rig, Some(&programs)).await;
    assert_eq!((&finding(&findings, "sandbox")["ok"], code), (&Value::Bool(true), 0), "{findings:?}");
    assert_ne!(finding(&findings, "sandbox")["detail"], "bubblewrap", "{findings:?}");

    std::fs::remove_file(rig.dir().join("golden.sql")).unwrap();
    let (findings, code) = doctor(&rig, None).await;
    let seed = finding(&findings, "seed").to_string();
    assert!(code == 1 && seed.contains("golden.sql") && seed.contains("put the dump there"), "{seed}");
}
