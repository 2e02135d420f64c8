//! The private PostgreSQL under living environments.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use kagero::domain::ledger::Standing;
use kagero::report::view::Phase;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::rig::{PATIENCE, Rig, Setup, is_alive};
use crate::wait::eventually;

#[tokio::test]
async fn a_database_server_that_dies_loses_no_environment_and_comes_back() {
    let mut rig = Rig::start(Setup::postgres()).await;
    let number = rig.open("Lives on", vec![]).await;
    rig.until_ready(number).await;
    let (machines, databases) = (rig.machines(), rig.databases().await);
    assert_eq!((machines.len(), databases.len()), (1, 1));
    let dead = rig.postmaster().expect("PostgreSQL runs");
    kill(Pid::from_raw(dead), Signal::SIGQUIT).unwrap();
    eventually("the server is dead", PATIENCE, async || !is_alive(dead)).await;

    let another = rig.open("Comes later", vec![]).await;
    rig.until_ready(another).await;
    rig.until_ready(number).await;
    assert_ne!(rig.postmaster(), Some(dead));
    assert!(rig.machines().contains(&machines[0]) && rig.machines().len() == 2, "{:?}", rig.machines());
    let now = rig.databases().await;
    assert!(now.contains(&databases[0]) && now.len() == 2, "{now:?}");

    // Once more, and this time it cannot be started: what cannot be seen is neither gone nor given up.
    let data = rig.state_dir().join("postgres/data");
    let dead = rig.postmaster().unwrap();
    std::fs::set_permissions(&data, Permissions::from_mode(0o000)).unwrap();
    kill(Pid::from_raw(dead), Signal::SIGQUIT).unwrap();
    eventually("the server is dead", PATIENCE, async || !is_alive(dead)).await;
    rig.close(another).await;
    eventually("the machine of the closed one is gone", PATIENCE, async || rig.machines() == machines).await;
    rig.kill9_controller();
    rig.launch().await;
    eventually("the other one answers", PATIENCE, async || rig.serving(number).await).await;
    rig.until_phase(another, "being taken away", |phase| matches!(phase, Phase::Destroying(_))).await;
    let standing = rig.detail(another).await.unwrap().unwrap().ledger.unwrap().standing;
    assert!(matches!(standing, Standing::Leaving(_)), "{standing:?}");
    std::fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    rig.until_gone(another).await;
    rig.until_ready(number).await;
    assert_eq!(rig.databases().await, databases);
    rig.finish().await;
}
