//! The one comment, whatever people do around it.

use http::Method;
use kagero::domain::id::PrNumber;
use kagero::forge::Forge as _;
use kagero::sim::github::{AnswerFault, RoutePattern};

use super::rig::{ACTOR, PATIENCE, Rig, Setup};
use crate::wait::eventually;

#[tokio::test]
async fn a_deleted_comment_is_written_anew_with_the_next_news() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Talked about", vec![]).await;
    rig.until_ready(number).await;
    let old = rig.comments(number).await.remove(0).id;
    rig.github.repo().delete_comment(old, ACTOR).await.unwrap();
    rig.push(number, "News", vec![]).await;
    rig.until_ready(number).await;
    eventually("another comment is there", PATIENCE, async || {
        rig.comments(number).await.iter().any(|comment| comment.id != old)
    })
    .await;
    rig.finish().await;
}

#[tokio::test]
async fn one_comment_is_found_again_behind_a_hundred_others_even_without_our_notes() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    rig.kill9_controller();
    let number = rig.open("Debated", vec![]).await;
    for at in 0..110 {
        rig.github.repo().comment(number, ACTOR, &format!("Remark {at}")).await.unwrap();
    }
    rig.launch().await;
    rig.until_ready(number).await;
    let ours = rig.comments(number).await.remove(0).id;
    rig.close(number).await;
    rig.until_gone(number).await;

    // The store is lost; the comment tells that it is ours.
    rig.kill9_controller();
    for file in ["kagero.db", "kagero.db-wal", "kagero.db-shm"] {
        let _ = std::fs::remove_file(rig.state_dir().join(file));
    }
    // Meanwhile another writer has raced us.
    twin(&rig, number).await;
    rig.github.repo().reopen(number, ACTOR).await.unwrap();
    rig.launch().await;
    rig.until_ready(number).await;
    assert_eq!(rig.comments(number).await.remove(0).id, ours);
    rig.finish().await;
}

#[tokio::test]
async fn of_two_comments_with_our_marker_one_is_left_with_the_next_news() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Said twice", vec![]).await;
    rig.until_ready(number).await;
    let ours = rig.comments(number).await.remove(0).id;
    twin(&rig, number).await;
    // A person who quotes us is no twin.
    let quote = rig.comments(number).await.remove(0).body;
    rig.github.repo().comment(number, ACTOR, &quote).await.unwrap();
    let people = rig.github.repo().comments(number).await.unwrap().len() - 2;
    rig.push(number, "News", vec![]).await;
    rig.until_ready(number).await;
    assert_eq!(rig.comments(number).await.remove(0).id, ours);
    assert_eq!(rig.github.repo().comments(number).await.unwrap().len(), people + 1);
    rig.finish().await;
}

/// Another Kagero of this installation posts the sticky comment too.
async fn twin(rig: &Rig, number: u64) {
    let app = rig.app();
    let repo = app.repositories().await.unwrap().items.remove(0);
    let body = rig.comments(number).await.remove(0).body;
    app.create_comment(&repo, PrNumber(number), &body).await.unwrap();
    assert_eq!(rig.comments(number).await.len(), 2);
}

#[tokio::test]
async fn a_write_that_is_refused_does_not_keep_others_from_being_made() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let deployments = RoutePattern::new(Some(Method::POST), "/repos/*/*/deployments");
    rig.github.faults().answer(deployments, AnswerFault::status(403), u32::MAX);
    let number = rig.open("Without the right to deploy", vec![]).await;
    rig.until_says(number, "Preview ready").await;
    rig.close(number).await;
    rig.until_says(number, "A complete listing at").await;
    rig.finish().await;
}
