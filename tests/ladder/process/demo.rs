//! The demo's tour, as `make demo ONCE=1` plays it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

#[test]
fn the_tour_proves_every_part_of_itself_and_leaves_nothing() {
    let home = tempfile::Builder::new().prefix("kgd").tempdir().unwrap();
    // The account that PostgreSQL runs as passes through.
    std::fs::set_permissions(home.path(), Permissions::from_mode(0o711)).unwrap();
    let dir = home.path().join("demo");
    let mut tour = Command::new(env!("CARGO_BIN_EXE_kagero"));
    tour.args(["demo", "--once", "--dir"]).arg(&dir).env_remove("KAGERO_LOG").env("NO_COLOR", "1");
    let played = tour.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&played.stdout), String::from_utf8_lossy(&played.stderr));
    assert_eq!(played.status.code(), Some(0), "{out}{err}");
    assert!(out.contains("pull request 2 opened → application") && out.contains("merged → nothing left"), "{out}");
    assert!(err.contains("everything held"), "{err}");
    assert!(!dir.exists(), "{} is left", dir.display());
}
