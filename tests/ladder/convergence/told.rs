//! What a sweep tells whoever watches: its log and its metric.

use std::time::Duration;

use kagero::controller::sweep::Scope;
use kagero::sim::cloud::Decoy;
use kagero::sim::hub::key;
use metrics_exporter_prometheus::PrometheusBuilder;

use super::log::Log;
use super::sweep::{all, leaked, strays, sweep};
use super::world::REPO;

#[tokio::test]
async fn what_is_not_kept_is_told_one_by_one_and_counted() {
    // Left behind, strays, and one of somebody else; two environments beside them.
    let mut installation = leaked().await;
    all(&mut installation, 2..=3, true).await;
    strays(&installation, 4..=8);
    installation.outside.cloud.add_decoy(Decoy::Untagged, &installation.outside.policy.install, key(REPO, 9));
    installation.pass_time(Duration::from_mins(1)).await.unwrap();

    let (log, recorder) = (Log::default(), PrometheusBuilder::new().build_recorder());
    let (logging, counting) = (log.begin(), metrics::set_default_local_recorder(&recorder));
    let report = sweep(&installation, Scope::DryRun).await;
    drop((logging, counting));

    let judged = |word: &str| report.verdicts.iter().filter(|v| format!("{:?}", v.ruling) == word).count();
    let (kept, waiting, foreign) = (judged("Keep"), judged("Wait"), judged("Foreign"));
    assert!(foreign > 0 && kept > foreign && waiting > kept, "{report:?}");
    let lines = log.take();
    let field = |line: &serde_json::Value, name: &str| line["fields"][name].as_str().map(str::to_owned);
    let mut warned: Vec<_> = lines
        .iter()
        .filter(|line| line["level"] == "WARN")
        .map(|line| (field(line, "id"), field(line, "ruling")))
        .collect();
    let others = report.verdicts.iter().filter(|verdict| format!("{:?}", verdict.ruling) != "Keep");
    let mut expected: Vec<_> =
        others.map(|v| (Some(v.subject.id().to_owned()), Some(format!("{:?}", v.ruling)))).collect();
    warned.sort();
    expected.sort();
    assert_eq!(warned, expected);
    let summary = lines.iter().find(|line| field(line, "message").as_deref() == Some("sweep")).unwrap();
    let count = |name: &str| usize::try_from(summary["fields"][name].as_u64().unwrap()).unwrap();
    assert_eq!((count("kept"), count("waiting"), count("foreign")), (kept, waiting, foreign), "{summary}");
    assert_eq!((count("spared"), count("removed"), count("failed")), (judged("Spare"), 0, 0), "{summary}");
    let metrics = recorder.handle().render();
    let orphans = format!("kagero_orphans {}", report.verdicts.len() - kept);
    assert!(metrics.lines().any(|line| line == orphans), "{orphans} is not in {metrics}");
    installation.end().await;
}
