//! What a rig's program, gateway and GitHub show, and the waits for it.
//!
//! Guarantees: a wait that fails tells the whole situation.

use std::time::Duration;

use kagero::domain::ledger::Standing;
use kagero::http::api::Detail;
use kagero::report::view::{Phase, StageState};
use kagero::sim::github::CommentSnapshot;
use reqwest::header::{ACCEPT, HOST};

use super::{PATIENCE, Rig};
use crate::wait::eventually;

impl Rig {
    /// A visit to a pull request's preview, as a browser makes it.
    pub async fn visit(&self, number: u64, path: &str) -> Result<reqwest::Response, reqwest::Error> {
        self.visit_host(&format!("pr-{number}-shop"), path).await
    }

    /// A visit to that label below the gateway's domain.
    pub async fn visit_host(&self, label: &str, path: &str) -> Result<reqwest::Response, reqwest::Error> {
        let host = format!("{label}.preview.localhost");
        let url = format!("http://127.0.0.1:{}{path}", self.gateway);
        self.client.get(url).header(HOST, host).header(ACCEPT, "text/html").send().await
    }

    /// The gateway's own page: its kind, status and text.
    pub async fn page(&self, number: u64) -> Result<(String, u16, String), String> {
        let answer = self.visit(number, "/").await.map_err(|error| error.to_string())?;
        let kind = answer.headers().get("x-kagero-page").ok_or("the application answered")?;
        let kind = kind.to_str().unwrap().to_owned();
        let status = answer.status().as_u16();
        Ok((kind, status, answer.text().await.map_err(|error| error.to_string())?))
    }

    /// The commit that answers at the preview.
    pub async fn serving(&self, number: u64) -> Result<String, String> {
        let answer = self.visit(number, "/version").await.map_err(|error| error.to_string())?;
        if let Some(page) = answer.headers().get("x-kagero-page") {
            return Err(format!("page {page:?}"));
        }
        if !answer.status().is_success() {
            return Err(format!("status {}", answer.status()));
        }
        let version: serde_json::Value = answer.json().await.map_err(|error| error.to_string())?;
        Ok(version["commit"].as_str().unwrap_or_default().to_owned())
    }

    /// What the API says of a pull request; `None` if it knows of none.
    pub async fn detail(&self, number: u64) -> Result<Option<Detail>, String> {
        let repo = self.github.repo().repo_id().await.unwrap();
        let token = std::fs::read_to_string(self.state_dir().join("api-token")).map_err(|error| error.to_string())?;
        let url = format!("http://127.0.0.1:{}/api/environments/{repo}/{number}", self.http);
        let answer = self.client.get(url).bearer_auth(token).send().await.map_err(|error| error.to_string())?;
        if answer.status().as_u16() == 404 {
            return Ok(None);
        }
        let text = answer.text().await.map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map(Some).map_err(|error| format!("{error}: {text}"))
    }

    /// Waits until the first full look at GitHub has ended: the list of deliveries is the last that it asks for. The
    /// next one is minutes away.
    pub async fn until_in_sync(&self) {
        eventually("everything was listed once", PATIENCE, async || {
            self.github.requests().iter().any(|(_, path, _)| path.contains("/app/hook/deliveries"))
        })
        .await;
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.http);
        self.client.get(url).send().await.unwrap().text().await.unwrap()
    }

    /// A counter of the metrics page, by its name and labels; 0 if it has not been counted up yet.
    pub async fn counted(&self, counter: &str) -> u64 {
        let page = self.metrics().await;
        let line = page.lines().find_map(|line| line.strip_prefix(counter)?.strip_prefix(' '));
        line.map_or(0, |count| count.parse().unwrap())
    }

    /// Waits until the controller has written these words; so many times, if it has written them before.
    pub async fn until_logged(&self, words: &str, times: usize) {
        eventually(format!("the log says {words:?} {times} times"), PATIENCE, async || {
            let log = self.log();
            if log.matches(words).count() >= times { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Waits until it is known and nothing is made for it; proves that nothing is and that nobody is disturbed.
    pub async fn until_left_in_peace(&self, number: u64) {
        let head = self.head(number).await;
        eventually(format!("pull request {number} is left in peace"), PATIENCE, async || {
            let Some(detail) = self.detail(number).await? else { return Err("not known yet".to_owned()) };
            let of_head = detail.view.commit.as_ref().is_none_or(|commit| commit.as_str() == head);
            let peace = matches!(detail.view.phase, Phase::NotWanted(_)) && detail.explanation.steps.is_empty();
            if of_head && peace { Ok(()) } else { Err(self.situation(number, &detail)) }
        })
        .await;
        assert_eq!(self.left_of(number).await, Vec::<String>::new());
        assert!(self.comments(number).await.is_empty(), "{:?}", self.comments(number).await);
        assert!(self.github.repo().deployments(number).await.unwrap().is_empty());
    }

    /// Machines and databases of one pull request.
    async fn left_of(&self, number: u64) -> Vec<String> {
        let detail = self.detail(number).await.unwrap().unwrap();
        let uid = detail.view.uid.to_string();
        let mut all = self.machines();
        all.extend(self.databases().await);
        all.into_iter().filter(|name| name.contains(&uid)).collect()
    }

    /// Waits until the one sentence on a pull request's state contains these words.
    pub async fn until_detail(&self, number: u64, words: &str) {
        eventually(format!("pull request {number} shows {words:?}"), PATIENCE, async || {
            let Some(detail) = self.detail(number).await? else { return Err("not known yet".to_owned()) };
            let says = detail.view.detail.as_ref().is_some_and(|sentence| sentence.contains(words));
            if says { Ok(()) } else { Err(self.situation(number, &detail)) }
        })
        .await;
    }

    /// Waits until a stage of the newest commit runs.
    pub async fn until_stage(&self, number: u64, stage: &str) {
        let head = self.head(number).await;
        eventually(format!("stage {stage} of {number} runs"), PATIENCE, async || {
            let Some(detail) = self.detail(number).await? else { return Err("not known yet".to_owned()) };
            let of_head = detail.view.commit.as_ref().is_some_and(|commit| commit.as_str() == head);
            let runs = detail.view.stages.iter().any(|view| view.name == stage && view.state == StageState::Running);
            if of_head && runs { Ok(()) } else { Err(self.situation(number, &detail)) }
        })
        .await;
    }

    /// Waits until the head answers at the link and both the program and the pull request say so.
    pub async fn until_ready(&self, number: u64) {
        self.until_ready_within(number, PATIENCE).await;
    }

    /// The same where it may take that long.
    pub async fn until_ready_within(&self, number: u64, patience: Duration) {
        let head = self.head(number).await;
        eventually(format!("pull request {number} is ready at {head}"), patience, async || {
            let Some(detail) = self.detail(number).await? else { return Err("not known yet".to_owned()) };
            let told = self.situation(number, &detail);
            if detail.view.phase != Phase::Ready || detail.view.commit.as_ref().is_none_or(|sha| sha.as_str() != head) {
                return Err(told);
            }
            let serving = self.serving(number).await.map_err(|why| format!("{why}; {told}"))?;
            if serving != head {
                return Err(format!("{serving} answers; {told}"));
            }
            self.says(number, "Preview ready").await?;
            self.deployed(number, &head, "success").await
        })
        .await;
    }

    pub(super) fn situation(&self, number: u64, detail: &Detail) -> String {
        let view = &detail.view;
        let log: Vec<String> = self.log().lines().rev().take(15).map(str::to_owned).collect();
        format!(
            "{number}: {:?}, {:?}, tail {:?}, stages {:?}, steps {:?}, waiting {:?}, next {}; log (newest first):\n{}",
            view.phase,
            view.detail,
            view.log_tail,
            view.stages.iter().map(|stage| format!("{} {:?}", stage.name, stage.state)).collect::<Vec<_>>(),
            detail.explanation.steps,
            detail.explanation.waiting,
            detail.explanation.next,
            log.join("\n"),
        )
    }

    /// Waits until nothing is left of a pull request and everyone is told so.
    pub async fn until_gone(&self, number: u64) {
        self.until_gone_within(number, PATIENCE).await;
    }

    /// The same where it takes that long.
    pub async fn until_gone_within(&self, number: u64, patience: Duration) {
        eventually(format!("nothing is left of pull request {number}"), patience, async || {
            let Some(detail) = self.detail(number).await? else { return Err("not known yet".to_owned()) };
            let released = matches!(detail.ledger.as_ref().map(|ledger| ledger.standing), Some(Standing::Released(_)));
            if !released || !matches!(detail.view.phase, Phase::Destroyed(_)) {
                return Err(self.situation(number, &detail));
            }
            let (kind, status, _) = self.page(number).await?;
            if status != 410 {
                return Err(format!("the gateway shows {kind} with {status}"));
            }
            self.says(number, "Preview destroyed").await
        })
        .await;
    }

    /// Waits until nothing is held for a pull request, whatever became of it.
    pub async fn until_nothing_is_held(&self, number: u64) {
        eventually(format!("nothing is held for pull request {number}"), PATIENCE, async || {
            let Some(detail) = self.detail(number).await? else { return Ok(()) };
            let held = detail.ledger.as_ref().is_some_and(|ledger| !ledger.is_released());
            if held { Err(self.situation(number, &detail)) } else { Ok(()) }
        })
        .await;
    }

    /// Waits until the phase is as wanted.
    pub async fn until_phase(&self, number: u64, what: &str, wanted: impl Fn(&Phase) -> bool) {
        eventually(format!("pull request {number} is {what}"), PATIENCE, async || {
            let Some(detail) = self.detail(number).await? else { return Err("not known yet".to_owned()) };
            if wanted(&detail.view.phase) { Ok(()) } else { Err(self.situation(number, &detail)) }
        })
        .await;
    }

    /// Waits until our comment contains these words; the whole text.
    pub async fn until_says(&self, number: u64, words: &str) -> String {
        eventually(format!("the comment on {number} says {words:?}"), PATIENCE, async || {
            self.says(number, words).await
        })
        .await;
        self.comments(number).await.remove(0).body
    }

    /// Our comments on a pull request.
    pub async fn comments(&self, number: u64) -> Vec<CommentSnapshot> {
        let mut all = self.github.repo().comments(number).await.unwrap();
        all.retain(|comment| comment.via_app);
        all
    }

    async fn says(&self, number: u64, words: &str) -> Result<(), String> {
        match self.comments(number).await.as_slice() {
            [one] if one.body.contains(words) => Ok(()),
            [one] => Err(format!("the comment says: {}", one.body)),
            other => Err(format!("{} comments of ours", other.len())),
        }
    }

    /// Whether the newest deployment is that commit's, in that state.
    pub async fn deployed(&self, number: u64, sha: &str, state: &str) -> Result<(), String> {
        let deployments = self.github.repo().deployments(number).await.unwrap();
        let of_commit: Vec<_> = deployments.iter().filter(|made| made.sha == sha).collect();
        match of_commit.as_slice() {
            [one] if one.statuses.last().is_some_and(|last| last.state == state) => Ok(()),
            other => Err(format!("deployments of {sha}: {other:?}")),
        }
    }
}
