//! More pull requests than seats.

use kagero::report::view::{Phase, StageState};
use kagero::sim::github::FileChange;

use super::rig::{PATIENCE, Rig, Setup};
use crate::wait::eventually;

#[tokio::test]
async fn a_pull_request_without_a_seat_waits_visibly_and_gets_the_next_one() {
    let mut rig = Rig::start(Setup::sqlite().with_environments(1)).await;
    let first = rig.open("First", vec![]).await;
    rig.until_ready(first).await;
    let second = rig.open("Second", vec![]).await;
    rig.until_phase(second, "queued", |phase| matches!(phase, Phase::Queued(_))).await;
    let body = rig.until_says(second, "Preview queued").await;
    assert!(body.contains("position 1"), "{body}");
    eventually("the page says that it is queued", PATIENCE, async || {
        let (kind, status, text) = rig.page(second).await?;
        if (kind.as_str(), status) == ("queued", 503) { Ok(()) } else { Err(format!("{kind} {status} {text}")) }
    })
    .await;
    assert_eq!(rig.machines().len(), 1);

    // The queue outlives the controller.
    rig.kill9_controller();
    rig.launch().await;
    rig.until_ready(first).await;
    assert_eq!(rig.machines().len(), 1);
    rig.close(first).await;
    rig.until_ready(second).await;
    assert_eq!(rig.machines().len(), 1);
    rig.finish().await;
}

#[tokio::test]
async fn commits_are_built_one_after_the_other_where_one_at_a_time_is_allowed() {
    let mut rig = Rig::start(Setup::sqlite().with_builds(1)).await;
    let slow = || vec![FileChange::write("build.sh", "i=0; while [ $i -lt 10 ]; do sleep 0.1; i=$((i+1)); done\n")];
    let first = rig.open("First", slow()).await;
    rig.until_stage(first, "build").await;
    let second = rig.open("Second", slow()).await;
    rig.until_detail(second, "being built at this time").await;
    let third = rig.open("Third", slow()).await;
    eventually("all three are ready, built one at a time", PATIENCE, async || {
        let mut building = Vec::new();
        let mut waiting = Vec::new();
        for number in [first, second, third] {
            let Some(detail) = rig.detail(number).await? else { return Err("not known yet".to_owned()) };
            if detail.view.stages.iter().any(|stage| stage.name == "build" && stage.state == StageState::Running) {
                building.push(number);
            }
            if detail.view.phase != Phase::Ready {
                waiting.push(number);
            }
        }
        // The three are asked one after the other: a turn may pass on in between, but not twice.
        assert!(building.len() < 3, "{building:?}");
        if waiting.is_empty() { Ok(()) } else { Err(format!("{waiting:?} are not ready")) }
    })
    .await;
    rig.finish().await;
}
