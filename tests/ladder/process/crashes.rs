//! Kagero and its agents killed without warning.

use std::time::Duration;

use kagero::sim::github::FileChange;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::rig::{PATIENCE, Rig, Setup, is_alive, kill9};
use crate::wait::eventually;

/// A phase that is at rest says nothing more.
const REST: Duration = Duration::from_millis(1500);

/// Kills and restarts the controller that many times, each after a random number of its log's lines.
async fn kill_at_random(rig: &mut Rig, random: &mut SmallRng, times: u32) {
    for _ in 0..times {
        let lines = rig.log().lines().count() + random.random_range(0..9);
        let said = eventually("the controller says more", PATIENCE, async || rig.log().lines().count() >= lines);
        // Either is a moment to be killed at.
        let _ = tokio::time::timeout(REST, said).await;
        rig.kill9_controller();
        let machines = rig.machines();
        assert!(machines.len() <= 1, "doubled: {machines:?}");
        rig.spawn();
    }
}

#[tokio::test]
async fn a_controller_killed_at_any_moment_makes_nothing_twice_and_leaves_nothing() {
    survive(Setup::sqlite()).await;
}

#[tokio::test]
async fn a_controller_killed_at_any_moment_makes_nothing_twice_and_leaves_nothing_on_postgresql() {
    survive(Setup::postgres()).await;
}

#[expect(clippy::print_stdout, reason = "shown where the test fails")]
async fn survive(setup: Setup) {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut rig = Rig::start(setup).await;

    let number = rig.open("Survives", vec![FileChange::write("build.sh", "sleep 0.5\n")]).await;
    kill_at_random(&mut rig, &mut random, 5).await;
    rig.until_ready(number).await;
    let agent = rig.agent_pid();

    rig.push(number, "Survives again", vec![]).await;
    kill_at_random(&mut rig, &mut random, 4).await;
    rig.until_ready(number).await;
    assert_eq!(rig.agent_pid(), agent, "the agent that outlived its controllers was not taken on again");
    assert_eq!((rig.machines().len(), rig.databases().await.len()), (1, 1));
    assert_eq!(rig.comments(number).await.len(), 1);

    rig.close(number).await;
    kill_at_random(&mut rig, &mut random, 4).await;
    rig.until_gone(number).await;
    rig.finish().await;
}

#[tokio::test]
async fn an_agent_killed_while_building_and_while_serving_comes_back_alone() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Slow", vec![FileChange::write("build.sh", "sleep 2\n")]).await;
    rig.until_stage(number, "build").await;
    let first = rig.agent_pid();
    kill9(first);
    rig.until_ready(number).await;
    let second = rig.agent_pid();
    assert_ne!(second, first);

    let served_by = rig.processes("python3");
    assert!(!served_by.is_empty());
    kill9(second);
    eventually("services end with their agent", PATIENCE, async || !served_by.iter().any(|pid| is_alive(*pid))).await;
    rig.until_ready(number).await;
    assert_ne!(rig.agent_pid(), second);
    assert_eq!(rig.processes("python3").len(), 1, "{:?}", rig.left().await);
    assert_eq!((rig.machines().len(), rig.databases().await.len()), (1, 1));
    rig.finish().await;
}
