//! A disk that is full under a running program.

use std::collections::BTreeSet;
use std::io::Write as _;

use kagero::domain::time::Timestamp;
use kagero::forge::Forge as _;
use kagero::sim::github::FileChange;

use super::rig::{PATIENCE, Rig, Setup};
use crate::wait::eventually;

const DISK: u64 = 64 << 20;

#[tokio::test]
async fn what_cannot_be_stored_is_not_acknowledged_and_arrives_when_there_is_room_again() {
    let mut rig = Rig::start(Setup::sqlite().with_disk(DISK)).await;
    rig.until_in_sync().await;
    let first = rig.open("There before", vec![]).await;
    rig.until_ready(first).await;

    let filler = rig.state_dir().join("filler");
    fill(&filler);
    let second = rig.open("Comes to a full disk", vec![]).await;
    rig.push(first, "Also comes to a full disk", vec![]).await;
    rig.github.deliveries_settled().await;
    // A resync may have asked for one of them again, as much in vain.
    let failed = rig.counted("kagero_webhook_deliveries_total{outcome=\"store_failed\"}").await;
    assert!(failed >= 2, "{}", rig.log());
    rig.until_logged("the database's disk is full, nothing was written; free or add space", 1).await;
    assert!(rig.detail(second).await.unwrap().is_none());
    rig.serving(first).await.expect("a full disk does not concern visitors");

    std::fs::remove_file(filler).unwrap();
    let app = rig.app();
    let refused = app.failed_deliveries(Timestamp(0)).await.unwrap().items;
    let deliveries: BTreeSet<_> = refused.iter().map(|delivery| delivery.guid.as_str()).collect();
    assert_eq!(deliveries.len(), 2, "{refused:?}");
    for delivery in refused {
        app.redeliver(delivery.id).await.unwrap();
    }
    rig.until_ready(second).await;
    rig.until_ready(first).await;
    eventually("GitHub has every delivery acknowledged", PATIENCE, async || {
        app.failed_deliveries(Timestamp(0)).await.unwrap().items.is_empty()
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn a_build_that_fills_the_disk_is_told_why_it_failed_and_a_smaller_one_repairs_it() {
    let mut rig = Rig::start(Setup::sqlite().with_disk(DISK)).await;
    let good = rig.open("Stays", vec![]).await;
    rig.until_ready(good).await;
    let big = vec![FileChange::write("build.sh", "head -c 200000000 /dev/zero >big\n")];
    let number = rig.open("Too big", big).await;
    rig.until_says(number, "No space left on device").await;
    rig.serving(good).await.unwrap();
    rig.push(number, "Small enough", vec![FileChange::write("build.sh", "rm -f big\n")]).await;
    rig.until_ready(number).await;
    rig.finish().await;
}

fn fill(path: &std::path::Path) {
    let mut file = std::fs::File::create(path).unwrap();
    for piece in [vec![1; 1 << 20], vec![1; 4096], vec![1; 1]] {
        while file.write_all(&piece).is_ok() {}
    }
}
