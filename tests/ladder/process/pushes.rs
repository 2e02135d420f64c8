//! Pushes and closes that come while something is being made.

use kagero::sim::github::FileChange;

use super::rig::{ACTOR, PATIENCE, Rig, Setup};
use crate::wait::eventually;

fn slow() -> Vec<FileChange> {
    vec![FileChange::write("build.sh", "exec sleep 50\n")]
}

#[tokio::test]
async fn of_two_commits_the_newest_wins_and_the_older_one_never_becomes_ready() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Older", slow()).await;
    rig.until_stage(number, "build").await;
    let older = rig.head(number).await;
    let newer = rig.force_push(number, "Newer", vec![FileChange::write("build.sh", "true\n")]).await;
    rig.until_ready(number).await;
    assert_eq!(rig.serving(number).await.unwrap(), newer);
    let deployments = rig.github.repo().deployments(number).await.unwrap();
    let of_older = deployments.iter().filter(|made| made.sha == older).flat_map(|made| &made.statuses);
    assert!(of_older.clone().all(|status| status.state != "success"), "{deployments:?}");
    rig.finish().await;
}

#[tokio::test]
async fn closing_in_the_middle_of_a_build_takes_everything_away_and_reopening_begins_anew() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Slow", slow()).await;
    rig.until_stage(number, "build").await;
    rig.close(number).await;
    rig.until_gone(number).await;
    assert_eq!(rig.left().await, Vec::<String>::new());
    let before = rig.detail(number).await.unwrap().unwrap();

    rig.push(number, "Quick", vec![FileChange::write("build.sh", "true\n")]).await;
    rig.github.repo().reopen(number, ACTOR).await.unwrap();
    rig.force_push(number, "Quick at last", vec![FileChange::write("build.sh", "true\n")]).await;
    rig.until_ready(number).await;
    // Reopened while the last generation is still on its way out.
    rig.close(number).await;
    rig.github.repo().reopen(number, ACTOR).await.unwrap();
    rig.until_ready(number).await;

    let after = rig.detail(number).await.unwrap().unwrap();
    assert!(after.view.generation > before.view.generation);
    assert_eq!(after.ledger.unwrap().hosts, before.ledger.unwrap().hosts);
    assert_eq!(rig.comments(number).await.len(), 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_push_does_not_interrupt_visitors() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Before", vec![]).await;
    rig.until_ready(number).await;
    let sha = rig.push(number, "After", vec![]).await;
    eventually("the pushed commit answers", PATIENCE, async || {
        // Whatever answers, it is the application: an error here is a visitor's error.
        let serving = rig.serving(number).await.expect("a visitor was turned away");
        if serving == sha { Ok(()) } else { Err(serving) }
    })
    .await;
    rig.until_ready(number).await;
    rig.finish().await;
}
