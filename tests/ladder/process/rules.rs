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
async fn a_draft_gets_nothing_sleeps_when_it_becomes_one_again_and_a_label_opts_out() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open_pull(OpenPull { draft: true, ..OpenPull::new("Draft", vec![]) }).await;
    rig.until_left_in_peace(number).await;

    rig.github.repo().set_draft(number, ACTOR, false).await.unwrap();
    rig.until_ready(number).await;
    let (databases, machines) = (rig.databases().await, rig.machines());
    rig.github.repo().set_draft(number, ACTOR, true).await.unwrap();
    rig.until_says(number, "Preview asleep").await;
    eventually("nothing runs", PATIENCE, async || rig.processes("").is_empty()).await;
    assert_eq!((rig.databases().await, rig.machines()), (databases.clone(), machines.clone()));
    rig.github.repo().set_draft(number, ACTOR, false).await.unwrap();
    rig.until_ready(number).await;
    assert_eq!((rig.databases().await, rig.machines()), (databases, machines), "the same ones again");

    rig.github.repo().label(number, ACTOR, "preview:off").await.unwrap();
    rig.until_gone(number).await;
    assert_eq!(rig.left().await, Vec::<String>::new());
    rig.github.repo().unlabel(number, ACTOR, "preview:off").await.unwrap();
    rig.until_ready(number).await;
    rig.finish().await;
}

#[tokio::test]
async fn only_pull_requests_into_the_named_branches_get_a_preview_and_bots_need_a_label() {
    let trigger = "trigger: {base_branches: [main, \"release/*\"]}\n";
    let mut rig = Rig::start(Setup::sqlite().with_yml(trigger)).await;
    let (human, bot) = (rig.open("By a person", vec![]).await, by_a_bot(&mut rig).await);
    rig.until_ready(human).await;
    rig.until_left_in_peace(bot).await;

    rig.github.repo().retarget(human, ACTOR, "develop").await.unwrap();
    rig.until_gone(human).await;
    rig.until_says(human, "The base branch is not one that gets previews").await;
    rig.github.repo().label(bot, ACTOR, "preview").await.unwrap();
    rig.github.repo().retarget(human, ACTOR, "release/1.0").await.unwrap();
    rig.until_ready(human).await;
    rig.until_ready(bot).await;
    rig.finish().await;
}

#[tokio::test]
async fn where_a_label_opts_in_nothing_is_made_without_it_and_opting_out_wins() {
    let mut rig = Rig::start(Setup::sqlite().with_yml("trigger: {mode: on_label, bots: never}\n")).await;
    let (number, bot) = (rig.open("Opts in", vec![]).await, by_a_bot(&mut rig).await);
    rig.until_left_in_peace(number).await;
    rig.github.repo().label(number, ACTOR, "something else").await.unwrap();
    rig.github.repo().label(bot, ACTOR, "preview").await.unwrap();
    rig.github.deliveries_settled().await;
    rig.until_left_in_peace(number).await;
    rig.github.repo().label(number, ACTOR, "preview").await.unwrap();
    rig.until_ready(number).await;
    rig.github.repo().label(number, ACTOR, "preview:off").await.unwrap();
    rig.until_gone(number).await;
    rig.github.repo().unlabel(number, ACTOR, "preview:off").await.unwrap();
    rig.until_ready(number).await;
    rig.github.repo().unlabel(number, ACTOR, "preview").await.unwrap();
    rig.until_gone(number).await;
    rig.until_left_in_peace(bot).await;
    rig.finish().await;
}

async fn by_a_bot(rig: &mut Rig) -> u64 {
    let open = OpenPull { author: "updater[bot]".to_owned(), ..OpenPull::new("By a bot", vec![]) };
    rig.open_pull(open).await
}
