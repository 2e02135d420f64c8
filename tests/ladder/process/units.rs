//! The systemd units: systemd itself reads them, with the drop-in for local machines and without it.

use std::path::Path;
use std::process::{Command, Output};

const UNITS: [&str; 3] = ["kagero.service", "kagero-sweep.service", "kagero-sweep.timer"];

/// The units in a directory of their own, with a program that is there.
fn installed(change: impl Fn(&str) -> String) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let text = change(&source(unit)).replace("/usr/bin/kagero", env!("CARGO_BIN_EXE_kagero"));
        std::fs::write(directory.path().join(unit), text).unwrap();
    }
    directory
}

fn source(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/systemd").join(file)).unwrap()
}

/// Whatever systemd finds wrong is a warning, and fails this.
fn verify(directory: &Path) -> Output {
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(UNITS)
        // And the system's own.
        .env("SYSTEMD_UNIT_PATH", format!("{}:", directory.display()))
        .output();
    output.unwrap_or_else(|why| panic!("systemd-analyze cannot be run ({why}). Install it with: make setup"))
}

#[test]
fn systemd_knows_every_key_of_the_units() {
    let directory = installed(str::to_owned);
    let output = verify(directory.path());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let drop_ins = directory.path().join("kagero.service.d");
    std::fs::create_dir(&drop_ins).unwrap();
    std::fs::write(drop_ins.join("local.conf"), source("kagero-local.conf")).unwrap();
    let output = verify(directory.path());
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_key_that_systemd_does_not_know_is_found() {
    let directory = installed(|text| text.replace("SuccessExitStatus=", "SuccessExit="));
    let output = verify(directory.path());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Unknown key"), "{output:?}");
}
