//! `kagero env`: list, show, logs, plan, destroy.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use clap::{Args, Subcommand};
use futures::StreamExt as _;
use reqwest::Method;

use super::api::Api;
use super::{Exit, note, print, print_bytes, print_json, table};
use crate::domain::time::Timestamp;
use crate::http::api::Detail;
use crate::report::comment::duration;
use crate::report::view::{EnvView, Phase, StageState};

/// Look at environments and take them away.
#[derive(Debug, Args)]
pub struct EnvArguments {
    #[command(subcommand)]
    command: EnvCommand,
}

#[derive(Debug, Subcommand)]
enum EnvCommand {
    /// Pull requests that have or wait for an environment.
    List {
        /// Those too that hold nothing any more, or never did.
        #[arg(long)]
        all: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One environment.
    Show {
        /// `owner/repo#12`, `repo#12` or `12`.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Wait until it is ready or has failed.
        #[arg(long)]
        wait: bool,
        /// How many seconds to wait at most.
        #[arg(long, default_value_t = 600, requires = "wait")]
        timeout: u64,
    },
    /// What builds and services have said: the newest attempt first. Followed, it goes on over new versions.
    Logs {
        /// `owner/repo#12`, `repo#12` or `12`.
        name: String,
        /// Only this service.
        #[arg(long)]
        service: Option<String>,
        /// Go on as they grow.
        #[arg(long, short)]
        follow: bool,
        /// A JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// What is wanted, what is known and what happens next.
    Plan {
        /// `owner/repo#12`, `repo#12` or `12`.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take everything of an environment away although its pull request is open.
    Destroy {
        /// `owner/repo#12`, `repo#12` or `12`.
        name: String,
        /// Only say what would be taken away.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
        /// Wait until nothing is left.
        #[arg(long)]
        wait: bool,
        /// How many seconds to wait at most.
        #[arg(long, default_value_t = 600, requires = "wait")]
        timeout: u64,
        /// What was done as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of them.
pub async fn run(config: &Path, arguments: EnvArguments) -> anyhow::Result<Exit> {
    let api = Api::of(config)?;
    match arguments.command {
        EnvCommand::List { all, json } => list(&api, all, json).await,
        EnvCommand::Show { name, json, wait, timeout } => {
            let wait = wait.then(|| Duration::from_secs(timeout));
            show(&api, &name, json, wait).await
        }
        EnvCommand::Logs { name, service, follow, json } => logs(&api, &name, service.as_deref(), follow, json).await,
        EnvCommand::Plan { name, json } => plan(&api, &name, json).await,
        EnvCommand::Destroy { name, dry_run, yes, wait, timeout, json } => {
            let wait = wait.then(|| Duration::from_secs(timeout));
            destroy(&api, &name, Consent { dry_run, yes }, wait, json).await
        }
    }
}

async fn list(api: &Api, all: bool, json: bool) -> anyhow::Result<Exit> {
    let mut views: Vec<EnvView> = api.get("/api/environments").await?;
    let known = views.len();
    views.retain(|view| all || !matches!(view.phase, Phase::Destroyed(_) | Phase::NotWanted(_)));
    let hidden = known - views.len();
    if json {
        print_json(&views)?;
        return Ok(Exit::Ok);
    }
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|view| {
            vec![
                format!("{}#{}", view.repo, view.key.pr.0),
                word(&view.phase).to_owned(),
                view.commit.as_ref().map(|sha| sha.short().to_owned()).unwrap_or_default(),
                view.ready_after_ms.map(duration).unwrap_or_default(),
                view.url.clone().unwrap_or_default(),
                view.brakes.iter().map(|brake| brake.kind.word()).collect::<Vec<_>>().join(" "),
            ]
        })
        .collect();
    print(&table(&["PULL REQUEST", "STATE", "COMMIT", "READY AFTER", "PREVIEW", "BRAKES"], &rows))?;
    if hidden > 0 {
        note(&format!("{hidden} more hold nothing; --all lists them too"));
    }
    Ok(Exit::Ok)
}

/// A phase in one word.
pub fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Queued(_) => "queued",
        Phase::Building => "building",
        Phase::Updating => "updating",
        Phase::Ready => "ready",
        Phase::Failed => "failed",
        Phase::UpdateFailed => "update-failed",
        Phase::Asleep => "asleep",
        Phase::Destroying(_) => "destroying",
        Phase::DestroyFailing(_) => "destroy-failing",
        Phase::Destroyed(_) => "destroyed",
        Phase::NotWanted(_) => "none",
        Phase::Stuck => "stuck",
    }
}

/// Finds a pull request by what a person would call it.
pub(super) async fn find(api: &Api, name: &str) -> anyhow::Result<EnvView> {
    let views: Vec<EnvView> = api.get("/api/environments").await?;
    let matches = |view: &&EnvView| {
        let full = format!("{}#{}", view.repo, view.key.pr.0);
        let short = format!("{}#{}", view.repo.name, view.key.pr.0);
        [full.as_str(), short.as_str(), &view.key.to_string(), &view.key.pr.0.to_string(), view.uid.as_str()]
            .contains(&name.trim_start_matches('#'))
    };
    let mut found: Vec<EnvView> = views.iter().filter(matches).cloned().collect();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => {
            Err(Exit::NotFound.because(format!("no environment is called {name:?}; `kagero env list --all` shows all")))
        }
        _ => {
            let names: Vec<String> = found.iter().map(|view| format!("{}#{}", view.repo, view.key.pr.0)).collect();
            Err(Exit::Usage.because(format!("{name:?} could be {}; use the full name", names.join(" or "))))
        }
    }
}

fn path(view: &EnvView) -> String {
    format!("/api/environments/{}/{}", view.key.repo.0, view.key.pr.0)
}

async fn show(api: &Api, name: &str, json: bool, wait: Option<Duration>) -> anyhow::Result<Exit> {
    let found = find(api, name).await?;
    let view = match wait {
        None => found,
        Some(limit) => wait_for(api, &found, limit, |phase| !matches!(exit_of(phase), Exit::Pending)).await?,
    };
    let detail: Detail = api.get(&path(&view)).await?;
    if json {
        print_json(&detail)?;
    } else {
        print(&describe(&detail))?;
    }
    Ok(exit_of(&detail.view.phase))
}

fn exit_of(phase: &Phase) -> Exit {
    match phase {
        Phase::Ready | Phase::Asleep | Phase::Destroyed(_) | Phase::NotWanted(_) => Exit::Ok,
        Phase::Failed | Phase::UpdateFailed | Phase::Stuck | Phase::DestroyFailing(_) => Exit::EnvironmentFailed,
        Phase::Queued(_) | Phase::Building | Phase::Updating | Phase::Destroying(_) => Exit::Pending,
    }
}

/// Asks again until the phase is as wanted. Says what it waits for on a terminal.
async fn wait_for(
    api: &Api,
    view: &EnvView,
    limit: Duration,
    wanted: impl Fn(&Phase) -> bool,
) -> anyhow::Result<EnvView> {
    let deadline = tokio::time::Instant::now() + limit;
    let spinner = if std::io::stderr().is_terminal() {
        indicatif::ProgressBar::new_spinner()
    } else {
        indicatif::ProgressBar::hidden()
    };
    spinner.enable_steady_tick(Duration::from_millis(120));
    loop {
        let detail: Detail = api.get(&path(view)).await?;
        spinner.set_message(format!("{}#{}: {}", view.repo, view.key.pr.0, word(&detail.view.phase)));
        if wanted(&detail.view.phase) {
            spinner.finish_and_clear();
            return Ok(detail.view);
        }
        if tokio::time::Instant::now() >= deadline {
            spinner.finish_and_clear();
            let (name, state) = (format!("{}#{}", view.repo, view.key.pr.0), word(&detail.view.phase));
            let text =
                format!("{name} is still {state} after {} s; `kagero env plan {name}` says why", limit.as_secs());
            return Err(Exit::Cancelled.because(text));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

fn describe(detail: &Detail) -> String {
    let view = &detail.view;
    let mut lines = vec![
        format!("{}#{}  {}", view.repo, view.key.pr.0, word(&view.phase)),
        format!("environment  {} generation {}", view.uid, view.generation),
    ];
    if let Some(url) = &view.url {
        lines.push(format!("preview      {url}"));
    }
    if let Some(commit) = &view.commit {
        lines.push(format!("commit       {commit}"));
    }
    if let Some(seed) = &view.seed {
        lines.push(format!("database     a copy of seed {seed}"));
    }
    if let Some(took) = view.ready_after_ms {
        lines.push(format!("ready after  {}", duration(took)));
    }
    lines.extend(view.brakes.iter().map(|brake| format!("brake        {}", printable(&brake.to_string()))));
    if let Some(text) = &view.detail {
        lines.push(format!("detail       {}", printable(text)));
    }
    for stage in &view.stages {
        let state = match stage.state {
            StageState::Waiting => "waiting",
            StageState::Running => "running",
            StageState::Done => "done",
            StageState::Failed => "failed",
        };
        lines.push(format!("  {:<10} {state:<8} {}", stage.name, stage.took_ms.map(duration).unwrap_or_default()));
    }
    lines.extend(view.log_tail.iter().map(|line| format!("  | {}", printable(line))));
    lines.join("\n")
}

/// Text from outside for a terminal: no control characters but line ends.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || *c == '\n').collect()
}

async fn plan(api: &Api, name: &str, json: bool) -> anyhow::Result<Exit> {
    let view = find(api, name).await?;
    let detail: Detail = api.get(&path(&view)).await?;
    if json {
        print_json(&serde_json::json!({"explanation": detail.explanation, "journal": detail.journal}))?;
        return Ok(Exit::Ok);
    }
    let explanation = &detail.explanation;
    let mut lines = vec![format!("wanted   {}", explanation.wanted)];
    lines.extend(explanation.seen.iter().map(|line| format!("seen     {line}")));
    lines.extend(explanation.steps.iter().map(|line| format!("step     {line}")));
    lines.extend(explanation.waiting.iter().map(|line| format!("waiting  {line}")));
    lines.push(format!("next     {}", explanation.next));
    if !detail.journal.is_empty() {
        lines.push("journal".to_owned());
    }
    for entry in &detail.journal {
        let outcome = entry.outcome.as_deref().unwrap_or("no answer known");
        lines.push(format!("  {}  {:<18} {}", Timestamp(entry.at), entry.step, printable(outcome)));
    }
    print(&lines.join("\n"))?;
    Ok(Exit::Ok)
}

async fn logs(api: &Api, name: &str, service: Option<&str>, follow: bool, json: bool) -> anyhow::Result<Exit> {
    let view = find(api, name).await?;
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("follow", if follow { "true" } else { "false" });
    query.append_pair("json", if json { "true" } else { "false" });
    if let Some(service) = service {
        query.append_pair("service", service);
    }
    let response = api.send(Method::GET, &format!("{}/logs?{}", path(&view), query.finish())).await?;
    let mut stream = response.bytes_stream();
    while let Some(part) = stream.next().await {
        print_bytes(&part?)?;
    }
    Ok(Exit::Ok)
}

#[derive(Debug, Clone, Copy)]
struct Consent {
    dry_run: bool,
    yes: bool,
}

async fn destroy(api: &Api, name: &str, consent: Consent, wait: Option<Duration>, json: bool) -> anyhow::Result<Exit> {
    let view = find(api, name).await?;
    let detail: Detail = api.get(&path(&view)).await?;
    let title = format!("{}#{}", view.repo, view.key.pr.0);
    let tell = |view: &EnvView| {
        print_json(&serde_json::json!({
            "pull_request": title,
            "uid": view.uid,
            "dry_run": consent.dry_run,
            "state": word(&view.phase),
            "seen": detail.explanation.seen,
        }))
    };
    if consent.dry_run && json {
        tell(&view)?;
        return Ok(Exit::Ok);
    }
    if consent.dry_run {
        print(&format!("would take away {title}:"))?;
        for line in &detail.explanation.seen {
            print(&format!("  {line}"))?;
        }
        return Ok(Exit::Ok);
    }
    if !consent.yes && !agreed(&title)? {
        note("nothing was done");
        return Ok(Exit::Cancelled);
    }
    api.send(Method::POST, &format!("{}/destroy", path(&view))).await?;
    note(&format!("{title} is being taken away; it comes back when the pull request is reopened"));
    let now = match wait {
        Some(limit) => {
            wait_for(api, &view, limit, |phase| matches!(phase, Phase::Destroyed(_) | Phase::NotWanted(_))).await?
        }
        None => api.get::<Detail>(&path(&view)).await?.view,
    };
    if json {
        tell(&now)?;
    }
    Ok(Exit::Ok)
}

fn agreed(title: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Exit::Usage.because(format!("destroying {title} needs --yes where nobody can be asked")));
    }
    note(&format!("Take away everything of {title}, its database included? Type its number to go on:"));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(title.rsplit('#').next() == Some(line.trim()))
}
