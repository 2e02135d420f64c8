//! More pull requests than seats.

use kagero::report::view::Phase;

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
