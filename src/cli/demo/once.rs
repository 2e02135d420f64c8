//! The whole story without a person: two pull requests, a write, a push, a close in mid-build, merges, and
//! proof at each turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::super::{note, print, table};
use super::proof::{PATIENCE, Visitor, nothing_left, until};
use super::stage::Stage;
use crate::report::comment::duration;
use crate::sim::github::{FileChange, OpenPull};

const ACTOR: &str = "mika";

/// Plays it and prints the times.
pub async fn play(stage: &Stage) -> anyhow::Result<()> {
    let mut times = Times::default();
    let repo = stage.github.repo();

    note("opening two pull requests");
    let one =
        repo.open_pull(OpenPull::new("A warmer heading", vec![theme("Orders, freshly brewed", "#b45309")])).await?;
    let opened_one = Instant::now();
    let two = repo.open_pull(OpenPull::new("A cooler heading", vec![theme("Orders on ice", "#0e7490")])).await?;
    let opened_two = Instant::now();
    let (first, second) = (Visitor::of(stage, one)?, Visitor::of(stage, two)?);
    until("the link answers with the boot page", || async {
        Ok(first.get("/").await?.headers().get("x-kagero-environment").is_some())
    })
    .await?;
    times.add("pull request 1 opened → boot page", opened_one.elapsed());
    let (ready_one, ready_two) =
        tokio::try_join!(ready(stage, &first, one, opened_one), ready(stage, &second, two, opened_two),)?;
    times.add("pull request 1 opened → application", ready_one);
    times.add("pull request 2 opened → application", ready_two);

    note("each shows its own commit and its own data");
    let (newest_one, newest_two) = (first.newest_order().await?, second.newest_order().await?);
    ensure!(newest_one == newest_two, "the seeds differ: newest orders {newest_one} and {newest_two}");
    ensure!(first.get("/").await?.text().await?.contains("freshly brewed"), "the first preview lacks its change");
    ensure!(second.get("/").await?.text().await?.contains("on ice"), "the second preview lacks its change");
    first.place_order(&[("customer", "1"), ("product", "1"), ("quantity", "2")]).await?;
    ensure!(first.newest_order().await? == newest_one + 1, "the order was not written");
    ensure!(second.newest_order().await? == newest_two, "a write in one preview shows in the other");

    let said = Instant::now();
    until("the pull requests say that the previews are ready", || async {
        Ok(says(stage, one, "Preview ready").await?
            && says(stage, two, "Preview ready").await?
            && deployed(stage, one).await?)
    })
    .await?;
    times.add("application → comment and deployment say so", said.elapsed());

    note("pushing to the first while a visitor keeps clicking");
    let pushed = Instant::now();
    let visits = Visits::begin(stage, one)?;
    let sha = repo.push(one, "Another heading", vec![theme("Orders, roasted", "#7c2d12")]).await?;
    until("the pushed commit answers", || async { Ok(first.commit().await?.as_deref() == Some(sha.as_str())) }).await?;
    times.add("push → new commit answers", pushed.elapsed());
    let (visited, failed) = visits.end().await?;
    ensure!(failed == 0, "{failed} of {visited} visits failed during the push");
    ensure!(first.newest_order().await? == newest_one + 1, "the push lost the written order");
    ensure!(second.get("/").await?.text().await?.contains("on ice"), "the push changed the other preview");

    note("closing one in the middle of its build");
    let slow = FileChange::write("app/build.sh", "#!/bin/sh\nexec sleep 600\n");
    let three = repo.open_pull(OpenPull::new("A build that takes its time", vec![slow])).await?;
    until("the slow build has begun", || async { building(stage, three).await }).await?;
    let closed = Instant::now();
    repo.close(three, ACTOR).await?;
    gone(stage, three).await?;
    times.add("closed in mid-build → nothing left", closed.elapsed());

    note("merging the rest");
    let merged = Instant::now();
    for number in [one, two] {
        // The second conflicts with the first once that is merged: a close ends it just as well.
        if repo.merge(number, ACTOR).await.is_err() {
            repo.close(number, ACTOR).await?;
        }
    }
    gone(stage, one).await?;
    gone(stage, two).await?;
    times.add("merged → nothing left", merged.elapsed());

    note("looking for residue");
    nothing_left(stage).await?;
    until("the pull requests say what was removed", || async {
        let mut all = true;
        for number in [one, two, three] {
            all &= says(stage, number, "Preview destroyed").await? && inactive(stage, number).await?;
        }
        Ok(all)
    })
    .await?;
    for number in [one, two, three] {
        let comments = repo.comments(number).await?;
        let ours = comments.iter().filter(|comment| comment.via_app).count();
        ensure!(ours == 1, "pull request {number} has {ours} comments of ours");
    }
    print(&times.table())?;
    note("everything held: no process, database, machine, route or row is left");
    Ok(())
}

fn theme(heading: &str, accent: &str) -> FileChange {
    let text = include_str!("../../../examples/shop-repo/app/theme.toml");
    let lines = text.lines().map(|line| {
        if line.starts_with("heading =") {
            format!("heading = \"{heading}\"")
        } else if line.starts_with("accent =") {
            format!("accent = \"{accent}\"")
        } else {
            line.to_owned()
        }
    });
    FileChange::write("app/theme.toml", lines.collect::<Vec<_>>().join("\n") + "\n")
}

/// Waits until the application answers with the pull request's own commit; the time since it was opened.
async fn ready(stage: &Stage, visitor: &Visitor<'_>, number: u64, opened: Instant) -> anyhow::Result<Duration> {
    let head = stage.github.repo().pull(number).await?.head_sha;
    let waited = until(&format!("pull request {number} answers with its commit"), || async {
        Ok(visitor.commit().await?.as_deref() == Some(head.as_str()))
    })
    .await;
    match waited {
        Ok(_) => Ok(opened.elapsed()),
        Err(error) => {
            let body = comment(stage, number).await.unwrap_or_default();
            Err(error.context(format!("its comment says:\n{body}")))
        }
    }
}

async fn comment(stage: &Stage, number: u64) -> anyhow::Result<String> {
    let comments = stage.github.repo().comments(number).await?;
    Ok(comments.into_iter().find(|comment| comment.via_app).map(|comment| comment.body).unwrap_or_default())
}

async fn says(stage: &Stage, number: u64, words: &str) -> anyhow::Result<bool> {
    Ok(comment(stage, number).await?.contains(words))
}

async fn deployed(stage: &Stage, number: u64) -> anyhow::Result<bool> {
    let deployments = stage.github.repo().deployments(number).await?;
    let newest = deployments.last().and_then(|deployment| deployment.statuses.last().cloned());
    Ok(newest.is_some_and(|status| status.state == "success" && !status.environment_url.is_empty()))
}

async fn inactive(stage: &Stage, number: u64) -> anyhow::Result<bool> {
    let deployments = stage.github.repo().deployments(number).await?;
    Ok(deployments.iter().all(|made| made.statuses.last().is_some_and(|status| status.state == "inactive")))
}

async fn building(stage: &Stage, number: u64) -> anyhow::Result<bool> {
    let host = Visitor::of(stage, number)?;
    let text = host.get("/.kagero/status").await?.text().await?;
    let status: serde_json::Value = serde_json::from_str(&text).context("the status is not JSON")?;
    let stages = status.get("stages").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    Ok(stages.iter().any(|stage| stage["name"] == "build" && stage["state"] == "running"))
}

/// Waits until an environment has gone: its link says 410.
async fn gone(stage: &Stage, number: u64) -> anyhow::Result<()> {
    let visitor = Visitor::of(stage, number)?;
    until(&format!("the preview of pull request {number} is closed"), || async {
        let unreleased = stage.running.desk.world().store.unreleased().await?;
        let holds = unreleased.iter().any(|ledger| ledger.key.pr.0 == number);
        Ok(!holds && visitor.status("/").await? == 410)
    })
    .await
    .map(|_| ())
}

/// A visitor who keeps clicking and counts what fails.
struct Visits {
    stop: Arc<AtomicBool>,
    total: Arc<AtomicU32>,
    failed: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Visits {
    fn begin(stage: &Stage, number: u64) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let url = format!("http://{}/version", stage.running.gateway);
        let host = format!("pr-{number}-shop.preview.localhost");
        let (stop, total, failed) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let (stopped, all, bad) = (Arc::clone(&stop), Arc::clone(&total), Arc::clone(&failed));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let answer = client.get(&url).header(reqwest::header::HOST, &host).send().await;
                all.fetch_add(1, Ordering::Relaxed);
                if !answer.is_ok_and(|answer| answer.status().is_success()) {
                    bad.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Ok(Self { stop, total, failed, task })
    }

    /// How many visits there were, and how many failed.
    async fn end(self) -> anyhow::Result<(u32, u32)> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?;
        Ok((self.total.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed)))
    }
}

/// What took how long.
#[derive(Default)]
struct Times(Vec<Vec<String>>);

impl Times {
    fn add(&mut self, what: &str, took: Duration) {
        self.0.push(vec![what.to_owned(), duration(u64::try_from(took.as_millis()).unwrap_or(u64::MAX))]);
    }

    fn table(&self) -> String {
        table(&["WHAT", "TOOK"], &self.0)
    }
}
