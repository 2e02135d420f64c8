//! Webhooks that are lost, forged, doubled or swapped, and a GitHub that answers wrongly.

use std::time::Duration;

use http::Method;
use kagero::sim::github::{AnswerFault, DeliveryFault, RoutePattern};

use super::rig::{ACTOR, PATIENCE, Rig, Setup};
use crate::wait::eventually;

const UNCHANGED: &str = "failed; nothing was changed because of it";

#[tokio::test]
async fn what_no_webhook_told_is_found_at_the_next_start() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    // The listing that every start begins with would find them.
    rig.until_in_sync().await;
    rig.github.faults().deliveries(DeliveryFault::Vanished, 1);
    let number = rig.open("Untold", vec![]).await;
    rig.github.faults().deliveries(DeliveryFault::Forged, 1);
    let forged = rig.open("Forged", vec![]).await;
    rig.github.deliveries_settled().await;
    assert!(rig.detail(number).await.unwrap().is_none());
    assert!(rig.detail(forged).await.unwrap().is_none(), "a forged delivery was believed");

    rig.kill9_controller();
    rig.launch().await;
    rig.until_ready(number).await;
    rig.until_ready(forged).await;

    rig.github.faults().deliveries(DeliveryFault::Vanished, 1);
    rig.close(number).await;
    rig.kill9_controller();
    rig.launch().await;
    rig.until_gone(number).await;
    rig.until_ready(forged).await;
    rig.finish().await;
}

#[tokio::test]
async fn doubled_and_swapped_deliveries_make_one_environment() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    rig.github.faults().deliveries(DeliveryFault::Doubled, 1);
    let number = rig.open("Twice", vec![]).await;
    rig.github.faults().deliveries(DeliveryFault::Swapped, 1);
    rig.push(number, "Told late", vec![]).await;
    rig.github.faults().deliveries(DeliveryFault::DoubledUnderNewId, 1);
    rig.push(number, "Told early", vec![]).await;
    rig.until_ready(number).await;
    assert_eq!((rig.machines().len(), rig.databases().await.len()), (1, 1));

    // "closed" arrives after "reopened": what counts is what the pull request says.
    rig.github.faults().deliveries(DeliveryFault::Swapped, 1);
    rig.close(number).await;
    rig.github.repo().reopen(number, ACTOR).await.unwrap();
    rig.github.deliveries_settled().await;
    rig.until_ready(number).await;
    assert_eq!(rig.comments(number).await.len(), 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_github_that_answers_wrongly_tears_nothing_down() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Lives", vec![]).await;
    rig.until_ready(number).await;
    let (agent, machines) = (rig.agent_pid(), rig.machines());

    let list = || RoutePattern::new(Some(Method::GET), "/repos/*/*/pulls");
    let all = || RoutePattern::new(Some(Method::GET), "/repos/**");
    let one = || RoutePattern::new(Some(Method::GET), "/repos/*/*/pulls/*");
    let faults: [(&str, RoutePattern, AnswerFault); 8] = [
        ("an empty list", list(), AnswerFault::EmptyList),
        ("half a list", list(), AnswerFault::Truncated),
        ("500", all(), AnswerFault::status(500)),
        ("401", all(), AnswerFault::status(401)),
        ("403", all(), AnswerFault::status(403)),
        ("the rate limit", all(), AnswerFault::secondary_limit(Duration::from_secs(1))),
        ("404 for everything", all(), AnswerFault::status(404)),
        ("404 for the pull request", one(), AnswerFault::status(404)),
    ];
    for (what, on, fault) in faults {
        let before = rig.github.requests().len();
        let said = rig.log().matches(UNCHANGED).count();
        rig.kill9_controller();
        rig.github.faults().answer(on.clone(), fault.clone(), 1000);
        if what.starts_with("404 for the") {
            rig.github.faults().answer(list(), AnswerFault::EmptyList, 1000);
        }
        rig.launch().await;
        eventually(format!("{what}: GitHub is asked"), PATIENCE, async || {
            let fired: u64 = rig.github.faults().fired().values().sum();
            fired > 0 && rig.github.requests().len() > before + 2
        })
        .await;
        if what != "an empty list" {
            rig.until_logged(UNCHANGED, said + 1).await;
        }
        eventually(format!("{what}: the preview answers"), PATIENCE, async || rig.serving(number).await).await;
        assert_eq!((rig.agent_pid(), rig.machines()), (agent, machines.clone()), "{what}");
        rig.github.faults().clear();
    }
    rig.kill9_controller();
    rig.launch().await;
    rig.until_ready(number).await;
    assert_eq!(rig.agent_pid(), agent);

    // Closed, untold, and gone from the list: found by reading it alone.
    rig.github.faults().deliveries(DeliveryFault::Vanished, 1);
    rig.close(number).await;
    rig.kill9_controller();
    rig.launch().await;
    rig.until_gone(number).await;
    rig.finish().await;
}

#[tokio::test]
async fn what_went_through_is_counted_where_operators_look() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Counted", vec![]).await;
    rig.until_ready(number).await;
    let page = rig.metrics().await;
    for counted in [
        "kagero_gateway_requests_total{outcome=\"proxied\"}",
        "kagero_gateway_upstream_seconds_bucket{le=\"60\"}",
        "kagero_webhook_acknowledged_seconds_bucket{le=\"60\"}",
    ] {
        let line = page.lines().find(|line| line.starts_with(counted)).unwrap_or_else(|| panic!("{counted}: {page}"));
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(count > 0, "{line}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_preview_that_is_not_looked_at_yet_after_a_start_is_not_unknown() {
    let mut rig = Rig::start(Setup::postgres()).await;
    let number = rig.open("Still there", vec![]).await;
    rig.until_ready(number).await;
    let gone = rig.open("Gone", vec![]).await;
    rig.until_ready(gone).await;
    rig.close(gone).await;
    rig.until_gone(gone).await;
    rig.kill9_controller();
    rig.spawn();
    eventually("the application is back", PATIENCE, async || {
        let answer = rig.visit(number, "/").await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        assert_ne!(status, 404, "{:?}", answer.headers());
        if status == 200 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    rig.finish().await;
}
