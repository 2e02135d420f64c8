//! The webhook's secret while it is being replaced.

use super::rig::{Rig, Setup};

const OLD: &str = "kagero_webhook_old_secret_total";
const REFUSED: &str = "kagero_webhook_deliveries_total{outcome=\"bad_signature\"}";

#[tokio::test]
async fn the_old_secret_counts_until_it_is_taken_off_the_list() {
    let mut rig = Rig::prepare(Setup::sqlite()).await;
    std::fs::copy(rig.dir().join("app.pem"), rig.dir().join("new-secret")).unwrap();
    let (both, new) = ("[\"file:new-secret\", \"file:webhook-secret\"]", "[\"file:new-secret\"]");
    rig.reconfigure("[\"file:webhook-secret\"]", both);
    rig.launch().await;
    rig.until_in_sync().await;
    let number = rig.open("Signed with the old one", vec![]).await;
    rig.until_ready(number).await;
    let before = rig.head(number).await;
    rig.github.deliveries_settled().await;
    assert!(rig.counted(OLD).await >= 1, "{}", rig.metrics().await);
    rig.until_logged("a delivery is signed with an old secret: finish the rotation", 1).await;

    rig.kill9_controller();
    rig.reconfigure(both, new);
    rig.launch().await;
    rig.until_ready(number).await;
    rig.push(number, "Signed with the old one still", vec![]).await;
    rig.github.deliveries_settled().await;
    assert_eq!((rig.counted(REFUSED).await, rig.counted(OLD).await), (1, 0));
    rig.until_logged("a delivery was refused: its signature fits none of the webhook secrets", 1).await;
    assert_eq!(rig.serving(number).await.unwrap(), before, "a refused delivery had an effect");

    // The mistake is mended; what was refused meanwhile is found by the look that a start begins with.
    rig.kill9_controller();
    rig.reconfigure(new, "[\"file:webhook-secret\"]");
    rig.launch().await;
    rig.until_ready(number).await;
    rig.finish().await;
}
