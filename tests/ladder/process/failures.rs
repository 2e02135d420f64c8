//! Commits that cannot be run: each says why, and a push repairs it.

use kagero::report::view::Phase;
use kagero::sim::github::FileChange;

use super::rig::{Lane, PATIENCE, Rig, Setup, kagero_yml};
use crate::wait::eventually;

fn yml(text: impl Into<String>) -> Vec<FileChange> {
    vec![FileChange::write(".kagero.yml", text)]
}

#[tokio::test]
async fn a_broken_configuration_is_shown_with_its_place_and_repaired_by_a_push() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Broken", yml("version: 1\nservices:\n  web: {rum: \"x\", public: true}\n")).await;
    let body = rig.until_says(number, "rum").await;
    assert!(body.contains(":3:"), "no line and column in: {body}");
    let head = rig.head(number).await;
    eventually("the deployment has failed", PATIENCE, async || rig.deployed(number, &head, "failure").await).await;
    assert_eq!(rig.left().await, Vec::<String>::new());
    rig.push(number, "Repaired", yml(kagero_yml(Lane::Sqlite, "sh build.sh"))).await;
    rig.until_ready(number).await;

    // Broken again, the last good commit goes on.
    let good = rig.head(number).await;
    rig.push(number, "Broken again", yml("version: 1\n")).await;
    rig.until_phase(number, "at its last good commit", |phase| *phase == Phase::UpdateFailed).await;
    assert_eq!(rig.serving(number).await.unwrap(), good);
    rig.finish().await;
}

#[tokio::test]
async fn an_unknown_seed_is_said() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    // Data is granted by the base branch alone.
    let without = yml(kagero_yml(Lane::Sqlite, "sh build.sh").replace("seed: golden", "seed: silver"));
    let base = rig.open("Another seed", without).await;
    rig.until_ready(base).await;
    rig.github.repo().merge(base, super::rig::ACTOR).await.unwrap();
    rig.until_gone(base).await;
    let number = rig.open("After it", vec![]).await;
    let body = rig.until_says(number, "silver").await;
    assert!(body.contains("golden") && body.contains("operator"), "{body}");
    assert_eq!(rig.left().await, Vec::<String>::new());
    rig.finish().await;
}

#[tokio::test]
async fn a_commit_that_fails_shows_the_end_of_its_log_and_the_next_push_repairs_it() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    let number = rig.open("Build", vec![FileChange::write("build.sh", "echo the paint is dry; exit 3\n")]).await;
    until_failed(&rig, number, "the paint is dry").await;

    let fixed = FileChange::write("build.sh", "true\n");
    let migrate = FileChange::write("migrate.sh", "echo no such column; exit 1\n");
    rig.push(number, "Migration", vec![fixed, migrate]).await;
    until_failed(&rig, number, "no such column").await;

    let mut hanging =
        yml(kagero_yml(Lane::Sqlite, "echo takes ages; exec sleep 100").replace("timeout: 60s}\n", "timeout: 1s}\n"));
    hanging.push(FileChange::write("migrate.sh", "true\n"));
    rig.push(number, "Hanging", hanging).await;
    until_failed(&rig, number, "takes ages").await;

    let deaf = kagero_yml(Lane::Sqlite, "true")
        .replace("exec python3 app.py", "echo deaf as a post; exec sleep 100")
        .replace("start_timeout: 60s", "start_timeout: 1s");
    rig.push(number, "Deaf", yml(deaf)).await;
    until_failed(&rig, number, "deaf as a post").await;

    rig.push(number, "Good", yml(kagero_yml(Lane::Sqlite, "true"))).await;
    rig.until_ready(number).await;
    assert_eq!((rig.machines().len(), rig.databases().await.len()), (1, 1));
    rig.finish().await;
}

/// Waits until page, comment and deployment say that the head has failed, with these words of its log.
async fn until_failed(rig: &Rig, number: u64, words: &str) {
    let head = rig.head(number).await;
    rig.until_phase(number, "failed", |phase| *phase == Phase::Failed).await;
    rig.until_says(number, words).await;
    eventually("the deployment has failed", PATIENCE, async || rig.deployed(number, &head, "failure").await).await;
    eventually(format!("the page shows {words:?}"), PATIENCE, async || {
        let (kind, status, text) = rig.page(number).await?;
        if (kind.as_str(), status) == ("failed", 503) && text.contains(words) { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test]
async fn a_missing_sandbox_is_explained_at_the_start_and_on_the_pull_request() {
    let mut rig = Rig::start(Setup::sqlite()).await;
    rig.kill9_controller();
    rig.launch_by(|command| {
        command.env("PATH", "/nonexistent");
    })
    .await;
    let missing = "apt-get install bubblewrap";
    eventually("the log says what is missing", PATIENCE, async || {
        let log = rig.log();
        let said = log.lines().any(|line| line.contains("no pull request can be previewed") && line.contains(missing));
        if said { Ok(()) } else { Err(log) }
    })
    .await;
    let number = rig.open("Nowhere to run", vec![]).await;
    rig.until_detail(number, missing).await;
    rig.until_detail(number, "this computer cannot run pull requests safely").await;
    rig.until_says(number, missing).await;
    let (kind, _, text) = rig.page(number).await.unwrap();
    assert!(kind == "failed" && text.contains(missing), "{kind}: {text}");
    assert_eq!(rig.machines(), Vec::<String>::new(), "no machine that could not work is made");
    rig.finish().await;
}
