//! Records on a PostgreSQL server: the same stories, and what a start refuses.

use std::process::Output;

use kagero::sim::github::FileChange;

use super::rig::{PATIENCE, Rig, Setup, kagero};
use crate::store::Place;
use crate::wait::eventually;

/// What another start says; it must not go on.
async fn refused(rig: &Rig, config: &std::path::Path, code: i32) -> String {
    let Output { status, stderr, .. } =
        tokio::time::timeout(PATIENCE, tokio::process::Command::from(kagero(config)).kill_on_drop(true).output())
            .await
            .expect("it was not refused")
            .unwrap();
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(code), "{said}\n{}", rig.log());
    said
}

#[tokio::test]
async fn an_environment_lives_and_goes_with_its_records_on_postgresql() {
    let place = Place::postgres().await;
    let mut rig = Rig::start(Setup::sqlite().with_store(&place.url)).await;
    let number = rig.open("One", vec![]).await;
    rig.until_ready(number).await;

    // A kill in the middle of a build: whoever starts next takes over, though the lease of the dead one still runs.
    rig.push(number, "Two", vec![FileChange::write("build.sh", "sleep 0.5; echo built\n")]).await;
    rig.kill9_controller();
    rig.launch().await;
    let head = rig.head(number).await;
    eventually("the push is served", PATIENCE / 2, async || {
        let serving = rig.serving(number).await?;
        if serving == head { Ok(()) } else { Err(serving) }
    })
    .await;
    rig.finish().await;
    assert_eq!(place.number("SELECT COUNT(*) FROM builds").await, 0, "a turn was never given back");
}

#[tokio::test]
async fn a_start_that_would_do_harm_is_refused() {
    let place = Place::postgres().await;
    let mut rig = Rig::start(Setup::sqlite().with_store(&place.url)).await;

    let said = refused(&rig, &rig.dir().join("kagero.toml"), 9).await;
    assert!(said.contains(&format!("in use by process {}", rig.controller_pid())), "{said}");

    // Another state directory: its agents would not be this store's.
    let text = std::fs::read_to_string(rig.dir().join("kagero.toml")).unwrap();
    let elsewhere = rig.dir().join("elsewhere.toml");
    std::fs::write(&elsewhere, text.replace("state_dir = \"state\"", "state_dir = \"elsewhere\"")).unwrap();
    let said = refused(&rig, &elsewhere, 1).await;
    assert!(said.contains("another state_dir"), "{said}");

    // A schema of a later release.
    rig.kill9_controller();
    place
        .sql(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (900, 'later', TRUE, '\\x00', 0)",
        )
        .await;
    let rows = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_user_tables";
    let before = place.number(rows).await;
    let said = refused(&rig, &rig.dir().join("kagero.toml"), 1).await;
    assert!(said.contains("schema version 900"), "{said}");
    assert_eq!(place.number(rows).await, before, "something was written");
    place.sql("DELETE FROM _sqlx_migrations WHERE version = 900").await;
    rig.launch().await;
    rig.finish().await;
}
