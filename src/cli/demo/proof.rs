//! What the demo proves, asked from outside: over HTTP, from the process table, from the providers.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use reqwest::header::HOST;
use serde_json::Value;

use super::super::residue;
use super::stage::Stage;

/// How long anything may take before the demo gives up.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// A preview, as a visitor sees it.
pub struct Visitor<'a> {
    stage: &'a Stage,
    client: reqwest::Client,
    host: String,
}

impl<'a> Visitor<'a> {
    /// A visitor of one pull request's preview.
    pub fn of(stage: &'a Stage, number: u64) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()?;
        Ok(Self { stage, client, host: format!("pr-{number}-shop.preview.localhost") })
    }

    /// One request.
    pub async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        let url = format!("http://{}{path}", self.stage.running.gateway);
        Ok(self.client.get(url).header(HOST, &self.host).send().await?)
    }

    /// The status of one request.
    pub async fn status(&self, path: &str) -> anyhow::Result<u16> {
        Ok(self.get(path).await?.status().as_u16())
    }

    /// The commit that answers, if the application answers.
    pub async fn commit(&self) -> anyhow::Result<Option<String>> {
        let response = self.get("/version").await?;
        if response.headers().contains_key("x-kagero-page") || !response.status().is_success() {
            return Ok(None);
        }
        let version: Value = response.json().await?;
        Ok(version.get("commit").and_then(Value::as_str).map(ToOwned::to_owned))
    }

    /// The number of the newest order in the preview's database.
    pub async fn newest_order(&self) -> anyhow::Result<i64> {
        let orders: Value = self.get("/api/orders").await?.error_for_status()?.json().await?;
        let newest = orders.as_array().and_then(|orders| orders.first()).and_then(|order| order["id"].as_i64());
        newest.with_context(|| format!("{} shows no orders", self.host))
    }

    /// Places an order through the application's form.
    pub async fn place_order(&self, form: &[(&str, &str)]) -> anyhow::Result<()> {
        let url = format!("http://{}/orders", self.stage.running.gateway);
        let origin = format!("http://{}", self.host);
        let request = self.client.post(url).header(HOST, &self.host).header("origin", origin).form(form);
        let response = request.send().await?;
        let status = response.status();
        ensure!(status.is_success() || status.is_redirection(), "{}: placing an order: {status}", self.host);
        Ok(())
    }
}

/// Waits until something holds; how long that took.
pub async fn until<F>(what: &str, mut holds: impl FnMut() -> F) -> anyhow::Result<Duration>
where
    F: Future<Output = anyhow::Result<bool>>,
{
    let began = Instant::now();
    loop {
        let last = match holds().await {
            Ok(true) => return Ok(began.elapsed()),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        if began.elapsed() > PATIENCE {
            let cause = last.map(|error| format!("; last: {error:#}")).unwrap_or_default();
            bail!("{what}: not within {} s{cause}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Proves that no process, database, machine, checkout or row is left. Names everything that is.
pub async fn nothing_left(stage: &Stage) -> anyhow::Result<()> {
    let world = stage.running.desk.world();
    let machines = world.machines.list().await?;
    let databases = world.databases.list().await?;
    ensure!(machines.complete && databases.complete, "a listing was incomplete");
    let mut left: Vec<String> = machines.items.into_iter().map(|machine| format!("machine {}", machine.name)).collect();
    left.extend(databases.items.into_iter().map(|database| format!("database {}", database.name)));
    let unreleased = world.store.unreleased().await?;
    left.extend(unreleased.into_iter().map(|ledger| format!("row {}", ledger.key)));
    let state_dir = stage.dir().join("state");
    left.extend(residue::processes(&state_dir)?.into_iter().map(|(pid, words)| format!("process {pid} ({words})")));
    left.extend(residue::machines(&state_dir)?);
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}
