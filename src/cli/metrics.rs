//! The process's metrics recorder.
//!
//! Guarantees: one recorder per process; its memory stays bounded whether anybody reads it or not.
//! Must not know: what is measured.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Upper bounds of every histogram, in seconds: from a webhook's acknowledgement to an application's slow answer.
/// Fixed, so that replicas can be added up.
const SECONDS: [f64; 13] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// Samples wait in memory until they are counted into their buckets, by a reader or by this beat.
const BEAT: Duration = Duration::from_secs(5);

/// The recorder; a second start in the same process shares it. `None` where another one is installed already.
pub fn recorder() -> Option<PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || PrometheusBuilder::new().set_buckets(&SECONDS).ok()?.install_recorder().ok();
    RECORDER.get_or_init(install).clone()
}

/// Counts waiting samples, for ever.
pub async fn upkeep(recorder: PrometheusHandle) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        recorder.run_upkeep();
    }
}
