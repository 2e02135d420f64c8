//! Steps that only write in the store are in no matrix of calls: here the controller dies at each row that it writes, and
//! every kind of step is shown to be taken.

use std::time::Duration;

use kagero::domain::step::Step;
use kagero::sim::fate::{Call, Fate};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::fuse::{FULL, Fuse};
use super::log::Log;
use super::matrix::life;
use super::story::Event;
use super::truth::Violation;
use super::world::{Beginning, Installation};

/// A life of two pull requests of which one may have an environment: one waits, the other one's machine is lost while it
/// is put to sleep, and the creation of a deployment is not heard of before the next commit comes.
fn troubled() -> Vec<(Duration, Event)> {
    let minutes = Duration::from_mins;
    vec![
        (Duration::ZERO, Event::Push { pr: 1, broken: false }),
        (Duration::from_secs(5), Event::Push { pr: 1, broken: false }),
        (Duration::from_secs(5), Event::Push { pr: 2, broken: false }),
        (minutes(12), Event::Draft { pr: 1, draft: true }),
        (Duration::ZERO, Event::MachineLost),
        (minutes(12), Event::Close { pr: 1, merged: false }),
        (minutes(12), Event::Close { pr: 2, merged: true }),
    ]
}

const PATIENCE: Duration = Duration::from_mins(30);

async fn begin(is_troubled: bool) -> (Installation, Vec<(Duration, Event)>) {
    let environments = if is_troubled { 1 } else { 100 };
    let installation = Installation::begin(Beginning { environments, ..Beginning::fair(1) }).await;
    if is_troubled {
        installation.outside.dealer.script(Call::CreateDeployment, 0, Fate::LostAfter);
    }
    (installation, if is_troubled { troubled() } else { life() })
}

/// How often a kind of step was taken, and did not fail.
fn taken(metrics: &PrometheusHandle, kind: &str) -> bool {
    let beginning = format!("kagero_steps_total{{step=\"{kind}\",outcome=\"done\"}} ");
    metrics.render().lines().any(|line| line.strip_prefix(&beginning).is_some_and(|count| count != "0"))
}

#[tokio::test]
async fn every_kind_of_step_is_taken() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counting = metrics::set_default_local_recorder(&recorder);
    for is_troubled in [false, true] {
        let (mut installation, story) = begin(is_troubled).await;
        installation.tell(&story).await.unwrap();
        installation.pass_time(PATIENCE).await.unwrap();
        installation.truth.at_rest().await.unwrap();
        installation.end().await;
    }
    drop(counting);
    let metrics = recorder.handle();
    let missing: Vec<_> = Step::KINDS.iter().filter(|kind| !taken(&metrics, kind)).collect();
    assert!(missing.is_empty(), "nothing is proven of {missing:?}: {}", metrics.render());
}

/// One life in which the write of that row is the last thing that the controller does. Whether there was such a row.
async fn with_death(is_troubled: bool, rows: i64) -> bool {
    let (mut installation, story) = begin(is_troubled).await;
    let mut fuse = Fuse::put(&installation.file()).await;
    fuse.leave(rows).await;
    let log = Log::default();
    let logging = log.begin();
    let lived = async {
        let mut has_died = false;
        let gaps = story.iter().skip(1).map(|(gap, _)| *gap).chain([PATIENCE]);
        for (number, ((_, event), gap)) in (1..).zip(story.iter().zip(gaps)) {
            installation.happen(number, *event).await;
            let until = installation.outside.time.elapsed() + gap;
            while installation.go_on(until).await? {
                let is_refused = !has_died && log.take().iter().any(|line| line.to_string().contains(FULL));
                if is_refused {
                    has_died = true;
                    fuse.make_room().await;
                    installation.happen(0, Event::Kill { member: 0 }).await;
                }
            }
        }
        // A refusal that nobody told of, which is a webhook's: GitHub sends it again.
        has_died |= fuse.is_full().await;
        fuse.make_room().await;
        installation.pass_time(PATIENCE).await?;
        installation.truth.at_rest().await?;
        Ok::<bool, Violation>(has_died)
    }
    .await;
    drop(logging);
    installation.end().await;
    lived.unwrap_or_else(|Violation(what)| panic!("its last write was row {rows}: {what}"))
}

/// In how many tests the rows are tried, so that every core has one.
const PARTS: i64 = 2;

async fn every_write(is_troubled: bool, part: i64) {
    let mut rows = part;
    while with_death(is_troubled, rows).await {
        rows += PARTS;
    }
    assert!(rows > 90, "a life writes only {rows} rows");
}

#[tokio::test]
async fn every_write_may_be_the_last_1() {
    every_write(false, 0).await;
}

#[tokio::test]
async fn every_write_may_be_the_last_2() {
    every_write(false, 1).await;
}

#[tokio::test]
async fn every_write_of_a_troubled_life_may_be_the_last_1() {
    every_write(true, 0).await;
}

#[tokio::test]
async fn every_write_of_a_troubled_life_may_be_the_last_2() {
    every_write(true, 1).await;
}
