//! One controller for one state directory.

use std::process::Stdio;

use super::rig::{Rig, Setup};

#[tokio::test]
async fn a_second_controller_is_refused_and_told_who_is_there() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Undisturbed", vec![]).await;
    rig.until_ready(number).await;
    let second = rig.serve().stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("process {}", rig.controller_pid())), "{said}");
    rig.until_ready(number).await;
    rig.finish().await;
}
