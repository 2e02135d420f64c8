//! A GitHub that refuses, is out of order or slows us down while the program runs.

use std::time::Duration;

use http::Method;
use kagero::domain::time::Timestamp;
use kagero::forge::Forge as _;
use kagero::sim::github::{AnswerFault, OpenPull, RoutePattern};

use super::rig::{ACTOR, PATIENCE, Rig, Setup, app};
use crate::standin::whole::Whole;
use crate::wait::eventually;

const UNREAD: &str = "GitHub could not be read after a delivery; nothing was changed";

fn too_many_requests() -> AnswerFault {
    AnswerFault::Answer {
        status: 429,
        headers: vec![("retry-after".to_owned(), "3".to_owned())],
        body: r#"{"message":"Too many requests"}"#.to_owned(),
    }
}

#[tokio::test]
async fn a_pull_request_that_cannot_be_read_keeps_its_preview_and_is_read_when_that_works_again() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    rig.until_in_sync().await;
    let number = rig.open("Lives", vec![]).await;
    rig.until_ready(number).await;
    let (agent, before) = (rig.agent_pid(), rig.head(number).await);
    let one = || RoutePattern::new(Some(Method::GET), "/repos/*/*/pulls/*");

    // A person has to act: it is not asked again and again, but at the next delivery. A refused token is renewed once.
    rig.github.faults().answer(one(), AnswerFault::status(401), 2);
    rig.github.faults().answer(one(), AnswerFault::status(403), 1);
    rig.push(number, "Pushed while we were locked out", vec![]).await;
    rig.until_logged(UNREAD, 1).await;
    rig.github.repo().label(number, ACTOR, "blue").await.unwrap();
    rig.until_logged(UNREAD, 2).await;
    let log = rig.log();
    assert!(log.contains("scripted 401") && log.contains("scripted 403"), "{log}");
    assert_eq!(rig.serving(number).await.unwrap(), before);
    rig.github.repo().unlabel(number, ACTOR, "blue").await.unwrap();
    rig.until_ready(number).await;

    // What passes by itself is asked again by itself, but not sooner than GitHub says.
    let before = rig.head(number).await;
    rig.github.faults().answer(one(), too_many_requests(), 1);
    rig.github.faults().answer(one(), AnswerFault::status(502), 1);
    let asked = std::time::Instant::now();
    rig.push(number, "Pushed while GitHub was busy", vec![]).await;
    rig.until_logged(UNREAD, 3).await;
    assert_eq!(rig.serving(number).await.unwrap(), before);
    rig.until_logged(UNREAD, 4).await;
    assert!(asked.elapsed() >= Duration::from_secs(3), "asked again after {:?}", asked.elapsed());
    rig.until_ready(number).await;
    assert_eq!((rig.agent_pid(), rig.comments(number).await.len()), (agent, 1));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_refused_time_and_again_is_asked_for_three_times() {
    let whole = Whole::start_with(Duration::from_millis(200), Some("not the one that GitHub signs with")).await;
    let number = whole.github.repo().open_pull(OpenPull::new("Refused", vec![])).await.unwrap();
    let asked = |method: Method, end: &str| {
        let requests = whole.github.requests();
        let of = |path: &str| path.split('?').next().unwrap().ends_with(end);
        requests.iter().filter(|(with, path, _)| *with == method && of(path)).count()
    };
    // What we write on the pull request comes back as a delivery too.
    let app = app(&whole.github);
    let refused = async || app.failed_deliveries(Timestamp(0)).await.unwrap().items.len();
    eventually("each was asked for three times", PATIENCE, async || {
        let (attempts, deliveries) = (asked(Method::POST, "/attempts"), refused().await);
        if deliveries > 1 && attempts == 3 * deliveries { Ok(()) } else { Err(format!("{attempts} of {deliveries}")) }
    })
    .await;
    let listed = asked(Method::GET, "/app/hook/deliveries");
    eventually("the deliveries were listed again", PATIENCE, async || {
        asked(Method::GET, "/app/hook/deliveries") >= listed + 4
    })
    .await;
    assert_eq!(asked(Method::POST, "/attempts"), 3 * refused().await);
    // What it was about has been found all the same.
    let store = &whole.running.desk.world().store;
    let known = store.all_pulls().await.unwrap();
    assert!(known.iter().any(|pull| pull.key.pr.0 == number), "{known:?}");
    assert_eq!(store.inbox().counts().await.unwrap().processed, 0);
    whole.open_gate();
    whole.github.repo().close(number, ACTOR).await.unwrap();
    whole.end().await;
}
