//! Pull requests that get no environment, and how that changes.

use kagero::sim::github::OpenPull;

use super::rig::{ACTOR, PATIENCE, Rig, Setup};
use crate::wait::eventually;

#[tokio::test]
async fn a_fork_gets_nothing_but_the_name_of_the_commit_to_approve() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let open = OpenPull {
        author: "stranger".to_owned(),
        fork_of: Some("stranger".to_owned()),
        ..OpenPull::new("Fork", vec![])
    };
    let number = rig.open_pull(open).await;
    let head = rig.head(number).await;
    rig.until_says(number, &head).await;
    assert_eq!(rig.left().await, Vec::<String>::new());
    assert!(rig.github.repo().deployments(number).await.unwrap().is_empty());
    rig.finish().await;
}

#[tokio::test]
async fn a_draft_gets_nothing_until_it_is_ready_for_review_and_a_label_opts_out() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open_pull(OpenPull { draft: true, ..OpenPull::new("Draft", vec![]) }).await;
    eventually("the draft is known", PATIENCE, async || rig.detail(number).await.unwrap()).await;
    assert_eq!(rig.left().await, Vec::<String>::new());
    assert!(rig.comments(number).await.is_empty());

    rig.github.repo().set_draft(number, ACTOR, false).await.unwrap();
    rig.until_ready(number).await;
    rig.github.repo().label(number, ACTOR, "preview:off").await.unwrap();
    rig.until_gone(number).await;
    assert_eq!(rig.left().await, Vec::<String>::new());
    rig.github.repo().unlabel(number, ACTOR, "preview:off").await.unwrap();
    rig.until_ready(number).await;
    rig.finish().await;
}
