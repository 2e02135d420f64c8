//! The private PostgreSQL under living environments.

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

    // Once more, now while one of them is to be dropped.
    kill(Pid::from_raw(rig.postmaster().unwrap()), Signal::SIGQUIT).unwrap();
    rig.close(another).await;
    rig.until_gone(another).await;
    assert_eq!(rig.databases().await, databases);
    rig.finish().await;
}
