//! One controller for one state directory.

use std::process::Stdio;

use super::rig::{Rig, Setup};

#[tokio::test]
async fn a_second_controller_is_refused_and_told_who_is_there() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Undisturbed", vec![]).await;
    rig.until_ready(number).await;
    // A store and ports of its own make no difference: the agents are shared.
    let other = rig.dir().join("other.toml");
    let text = std::fs::read_to_string(rig.dir().join("kagero.toml")).unwrap();
    let text = text.replace("[listen]", "[store]\nurl = \"sqlite:other.db\"\n\n[listen]");
    std::fs::write(&other, text).unwrap();
    for config in ["kagero.toml", "other.toml"] {
        let second = rig.serve().env("KAGERO_CONFIG", config).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(9), "{said}");
        assert!(said.contains(&format!("is in use by process {}", rig.controller_pid())), "{said}");
    }
    assert!(!rig.dir().join("other.db").exists(), "nothing was touched");
    rig.until_ready(number).await;

    // What the controller was told about its log holds for the agents that it starts.
    let log = |machine: &str| std::fs::read_to_string(std::path::Path::new(machine).join("agent.log")).unwrap();
    assert!(log(&rig.machines()[0]).contains("a new task begins"), "{}", log(&rig.machines()[0]));
    rig.close(number).await;
    rig.until_gone(number).await;
    rig.kill9_controller();
    rig.launch_by(|command| {
        command.env("KAGERO_LOG", "warn");
    })
    .await;
    let quiet = rig.open("Quiet", vec![]).await;
    rig.until_ready(quiet).await;
    assert!(!log(&rig.machines()[0]).contains("a new task begins"), "{}", log(&rig.machines()[0]));
    rig.finish().await;
}
