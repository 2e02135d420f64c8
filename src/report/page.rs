//! Pages of the gateway, as pure functions from a view to HTML, text and JSON.
//!
//! Guarantees: whatever a pull request's author wrote (detail, log, names) is escaped and stripped of
//! control characters; pages load nothing from anywhere; the same view gives the same bytes.
//! Must not know: HTTP, routes, sockets.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use super::view::{EnvView, Phase, StageState};
use crate::domain::assignment::ServiceState;
use crate::domain::desired::{CapacityLimit, GoneReason};

const CSS: &str = include_str!("../../templates/pages/page.css");
const SCRIPT: &str = include_str!("../../templates/pages/page.js");

static TEMPLATES: LazyLock<Result<Environment<'static>, minijinja::Error>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_syntax(SyntaxConfig::builder().trim_blocks(true).build()?);
    templates.add_template("layout.html", include_str!("../../templates/pages/layout.html"))?;
    templates.add_template("main.html", include_str!("../../templates/pages/main.html"))?;
    Ok(templates)
});

/// Which page is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PageKind {
    /// The application is being made.
    Boot,
    /// It waits for a seat.
    Queued,
    /// It failed, and nothing answers.
    Failed,
    /// The database stays, nothing runs.
    Asleep,
    /// Nothing is done for lack of ground to decide on.
    Stuck,
    /// The environment is being taken away, or is gone.
    Closed,
    /// The rules say that there is none.
    Unwanted,
    /// No environment has this host name.
    Unknown,
    /// The gateway has only just started and does not know the environments yet.
    Starting,
    /// The application should answer and does not.
    Unreachable,
}

impl PageKind {
    /// The page of an environment that has nothing to forward to.
    pub fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Queued(_) => Self::Queued,
            // The pull request was reopened: the same link comes back once the older copy is gone.
            Phase::Destroying(GoneReason::Superseded)
            | Phase::DestroyFailing(GoneReason::Superseded)
            | Phase::Destroyed(GoneReason::Superseded)
            | Phase::Building
            | Phase::Updating
            | Phase::Ready => Self::Boot,
            Phase::Failed | Phase::UpdateFailed => Self::Failed,
            Phase::Asleep => Self::Asleep,
            Phase::Destroying(_) | Phase::DestroyFailing(_) | Phase::Destroyed(_) => Self::Closed,
            Phase::NotWanted(_) => Self::Unwanted,
            Phase::Stuck => Self::Stuck,
        }
    }

    /// One word, as in the header that tells a page from the application.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Queued => "queued",
            Self::Failed => "failed",
            Self::Asleep => "asleep",
            Self::Stuck => "stuck",
            Self::Closed => "closed",
            Self::Unwanted => "unwanted",
            Self::Unknown => "unknown",
            Self::Starting => "starting",
            Self::Unreachable => "unreachable",
        }
    }

    fn turn_over(self) -> TurnOver {
        match self {
            Self::Boot | Self::Queued | Self::Failed | Self::Asleep | Self::Stuck | Self::Unwanted => TurnOver::Follow,
            Self::Unknown | Self::Starting | Self::Unreachable => TurnOver::Reload,
            Self::Closed => TurnOver::Never,
        }
    }
}

/// How a page gives way to the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum TurnOver {
    /// It follows the environment's events.
    Follow,
    /// It asks again after a while: there is nothing to follow.
    Reload,
    /// It stays.
    Never,
}

/// What a page is made from.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Which page.
    pub kind: PageKind,
    /// The host name that was asked for.
    pub host: &'a str,
    /// The environment, unless the host name is unknown.
    pub view: Option<&'a EnvView>,
    /// Where pull requests are read, for example `https://github.com`.
    pub forge_url: &'a str,
}

/// A page that could not be made: a fault of a template.
#[derive(Debug, thiserror::Error)]
#[error("the page could not be rendered from its template; this is a fault of this version of Kagero")]
pub struct PageError {
    #[from]
    source: minijinja::Error,
}

#[derive(Serialize)]
struct Words<'a> {
    tone: &'static str,
    headline: &'static str,
    lead: Cow<'static, str>,
    detail: Option<String>,
    note: Option<&'static str>,
    about: Option<About<'a>>,
    steps: Vec<StepWords>,
    services: Vec<ServiceWords<'a>>,
    log: Vec<String>,
    facts: Vec<Fact>,
}

#[derive(Serialize)]
struct About<'a> {
    repo: String,
    pr: u64,
    pull_url: Option<String>,
    commit: Option<&'a str>,
}

#[derive(Serialize)]
struct StepWords {
    label: String,
    state: StageState,
    took: Option<String>,
    took_ms: Option<u64>,
}

#[derive(Serialize)]
struct ServiceWords<'a> {
    name: &'a str,
    state: ServiceState,
}

#[derive(Serialize)]
struct Fact {
    term: &'static str,
    text: String,
}

#[derive(Serialize)]
struct Layout<'a> {
    title: String,
    kind: &'static str,
    turn_over: TurnOver,
    reload_after_ms: u32,
    css: minijinja::Value,
    script: minijinja::Value,
    main: &'a minijinja::Value,
}

/// The whole page.
pub fn html(page: &Page<'_>) -> Result<String, PageError> {
    let main = minijinja::Value::from_safe_string(main_html(page)?);
    let title = match page.view {
        Some(view) => format!("{} · {} #{}", words(page).headline, plain(&view.repo.to_string()), view.key.pr.0),
        None => words(page).headline.to_owned(),
    };
    render(
        "layout.html",
        &Layout {
            title,
            kind: page.kind.as_str(),
            turn_over: page.kind.turn_over(),
            reload_after_ms: if page.kind == PageKind::Unknown { 15_000 } else { 3_000 },
            css: minijinja::Value::from_safe_string(CSS.to_owned()),
            script: minijinja::Value::from_safe_string(SCRIPT.to_owned()),
            main: &main,
        },
    )
}

/// The part of the page that changes while the environment does.
pub fn main_html(page: &Page<'_>) -> Result<String, PageError> {
    render("main.html", words(page))
}

/// The page for machines, a line or two.
pub fn text(page: &Page<'_>) -> String {
    let words = words(page);
    let mut text = match &words.about {
        Some(about) => format!("{} #{}: {}. {}\n", about.repo, about.pr, words.headline, words.lead),
        None => format!("{}. {}\n", words.headline, words.lead),
    };
    if let Some(detail) = &words.detail {
        let _ = writeln!(text, "{detail}");
    }
    text
}

/// The page's facts for machines: nothing but what the page itself shows, without the log.
pub fn json(page: &Page<'_>) -> serde_json::Value {
    let words = words(page);
    let mut facts = serde_json::json!({
        "page": page.kind.as_str(),
        "live": false,
        "headline": words.headline,
        "detail": words.detail,
    });
    if let (Some(view), Some(object)) = (page.view, facts.as_object_mut()) {
        object.append(&mut public_facts(view));
    }
    facts
}

/// The facts of an environment that answers at its link.
pub fn live_json(view: &EnvView) -> serde_json::Value {
    let mut facts = serde_json::json!({ "page": null, "live": true });
    if let Some(object) = facts.as_object_mut() {
        object.append(&mut public_facts(view));
    }
    facts
}

/// The styles and the script of every page, as they stand between their tags: what a content security
/// policy takes its digests from.
pub fn inline_parts() -> (&'static str, &'static str) {
    (CSS, SCRIPT)
}

fn public_facts(view: &EnvView) -> serde_json::Map<String, serde_json::Value> {
    let facts = serde_json::json!({
        "environment": view.uid,
        "repository": view.repo.to_string(),
        "pull_request": view.key.pr,
        "phase": phase_word(&view.phase),
        "commit": view.commit,
        "serving": view.serving,
        "url": view.url,
        "services": view.services,
        "stages": view.stages,
        "ready_after_ms": view.ready_after_ms,
        "at": view.at,
    });
    match facts {
        serde_json::Value::Object(facts) => facts,
        _ => serde_json::Map::new(),
    }
}

fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Queued(_) => "queued",
        Phase::Building => "building",
        Phase::Updating => "updating",
        Phase::Ready => "ready",
        Phase::Failed => "failed",
        Phase::UpdateFailed => "update_failed",
        Phase::Asleep => "asleep",
        Phase::Destroying(_) => "destroying",
        Phase::DestroyFailing(_) => "destroy_failing",
        Phase::Destroyed(_) => "destroyed",
        Phase::NotWanted(_) => "not_wanted",
        Phase::Stuck => "stuck",
    }
}

fn render(name: &str, words: impl Serialize) -> Result<String, PageError> {
    let templates = TEMPLATES.as_ref().map_err(|fault| minijinja::Error::new(fault.kind(), fault.to_string()))?;
    Ok(templates.get_template(name)?.render(Serde(words))?)
}

fn words<'a>(page: &Page<'a>) -> Words<'a> {
    let mut words = Words {
        tone: "calm",
        headline: "",
        lead: "".into(),
        detail: page.view.and_then(|view| view.detail.as_deref()).map(plain),
        note: None,
        about: page.view.map(|view| about(view, page.forge_url)),
        steps: Vec::new(),
        services: Vec::new(),
        log: Vec::new(),
        facts: Vec::new(),
    };
    let phase = page.view.map(|view| &view.phase);
    match page.kind {
        PageKind::Boot => {
            words.tone = "busy";
            (words.headline, words.lead) = match phase {
                Some(Phase::Destroying(_) | Phase::DestroyFailing(_) | Phase::Destroyed(_)) => {
                    ("Starting over", "The pull request was reopened. Its older copy is taken away first.".into())
                }
                Some(Phase::Ready | Phase::Updating) => ("Coming back", "The application is started again.".into()),
                _ => ("Preparing the preview", "This pull request's own copy of the product is being made.".into()),
            };
            words.note = Some("This page turns into the application by itself.");
            words.made_so_far(page.view);
        }
        PageKind::Queued => {
            words.tone = "busy";
            words.headline = "Waiting for a seat";
            words.lead = match phase {
                Some(Phase::Queued(why)) => {
                    let limit = match why.limit {
                        CapacityLimit::Environments => "in this installation",
                        CapacityLimit::PerRepository => "for this repository",
                    };
                    let place = match why.position {
                        0 | 1 => "This preview is next.".to_owned(),
                        n => format!("This preview is number {n} in the queue."),
                    };
                    format!("All {} seats {limit} are taken. {place}", why.holders).into()
                }
                _ => "All seats are taken.".into(),
            };
            words.note = Some("This page turns into the application by itself.");
        }
        PageKind::Failed => {
            words.tone = "bad";
            words.headline = "The preview failed";
            words.lead = "Nothing answers at this link. It is tried again with the next push.".into();
            words.made_so_far(page.view);
            words.log =
                page.view.map(|view| view.log_tail.iter().map(|line| plain(line)).collect()).unwrap_or_default();
            words.note = Some("This page turns into the application once it works.");
        }
        PageKind::Asleep => {
            words.headline = "Asleep";
            words.lead = "Nothing runs at the moment. The database is kept as it was.".into();
            words.note = Some("This page turns into the application once it is awake.");
        }
        PageKind::Stuck => {
            words.headline = "On hold";
            words.lead = "There is no ground to decide on what to run; nothing is changed until there is.".into();
            words.note = Some("This page turns into the application once it runs.");
        }
        PageKind::Closed => {
            words.headline = "This preview is closed";
            words.lead = match phase {
                Some(Phase::Destroying(why)) => format!("{} It is being taken away, data included.", gone(why)).into(),
                Some(Phase::DestroyFailing(why)) => {
                    format!("{} Taking it away does not succeed yet and is tried again.", gone(why)).into()
                }
                Some(Phase::Destroyed(why)) => format!("{} Nothing is left of it.", gone(why)).into(),
                _ => "It has been taken away.".into(),
            };
        }
        PageKind::Unwanted => {
            words.headline = "No preview for this pull request";
            words.lead = match phase {
                Some(Phase::NotWanted(why)) => gone(why).into(),
                _ => "The rules of this installation ask for none.".into(),
            };
        }
        PageKind::Unknown => {
            words.headline = "No preview here";
            words.lead = format!("No pull request has the link {}.", plain(page.host)).into();
            words.note = Some("A pull request that was opened a moment ago appears here by itself.");
        }
        PageKind::Starting => {
            words.tone = "busy";
            words.headline = "One moment";
            words.lead = "The gateway has just started and is reading what it has to know.".into();
            words.note = Some("This page tries again by itself.");
        }
        PageKind::Unreachable => {
            words.tone = "bad";
            words.headline = "The application does not answer";
            words.lead = "It is running according to its last report, but gave no answer.".into();
            words.note = Some("This page tries again by itself.");
            words.services = page.view.map(services).unwrap_or_default();
        }
    }
    words
}

impl<'a> Words<'a> {
    fn made_so_far(&mut self, view: Option<&'a EnvView>) {
        let Some(view) = view else { return };
        self.steps = view
            .stages
            .iter()
            .map(|stage| StepWords {
                label: step_label(&stage.name),
                state: stage.state,
                took: stage.took_ms.map(|ms| duration(ms, stage.state)),
                took_ms: stage.took_ms,
            })
            .collect();
        self.services = services(view);
        if let Some(seed) = &view.seed {
            self.facts.push(Fact { term: "Data from", text: plain(seed) });
        }
    }
}

fn services(view: &EnvView) -> Vec<ServiceWords<'_>> {
    let state = |service: &super::view::ServiceView| service.state.unwrap_or(ServiceState::Waiting);
    view.services.iter().map(|s| ServiceWords { name: s.name.as_str(), state: state(s) }).collect()
}

fn about<'a>(view: &'a EnvView, forge_url: &str) -> About<'a> {
    let web = forge_url.starts_with("https://") || forge_url.starts_with("http://");
    About {
        repo: plain(&view.repo.to_string()),
        pr: view.key.pr.0,
        pull_url: web.then(|| {
            format!("{}/{}/{}/pull/{}", forge_url.trim_end_matches('/'), view.repo.owner, view.repo.name, view.key.pr.0)
        }),
        commit: view.commit.as_ref().map(crate::domain::id::CommitSha::as_str),
    }
}

fn step_label(name: &str) -> String {
    match name {
        "machine" => "Machine".to_owned(),
        "database" => "Database".to_owned(),
        "checkout" => "Check out".to_owned(),
        "build" => "Build".to_owned(),
        "migrate" => "Migrate".to_owned(),
        "start" => "Start".to_owned(),
        "probe" => "First answer".to_owned(),
        other => plain(other),
    }
}

fn gone(why: &GoneReason) -> String {
    match why {
        GoneReason::Closed => "The pull request was closed.".to_owned(),
        GoneReason::Merged => "The pull request was merged.".to_owned(),
        GoneReason::Superseded => "The pull request was reopened.".to_owned(),
        GoneReason::RepositoryNotAllowed => "The repository is not in this installation's list.".to_owned(),
        GoneReason::OptedOut(label) => format!("The label “{}” keeps previews away.", plain(label)),
        GoneReason::LabelMissing(label) => format!("Set the label “{}” to get one.", plain(label)),
        GoneReason::Draft => "Drafts get none; mark the pull request as ready for review.".to_owned(),
        GoneReason::BaseBranch(branch) => format!("Pull requests into “{}” get none.", plain(branch)),
        GoneReason::ForkUnapproved(sha) => {
            format!("It comes from a fork; a maintainer has to approve commit {} first.", sha.short())
        }
        GoneReason::ForkNever => "It comes from a fork, and forks get none.".to_owned(),
        GoneReason::Bot => "It was opened by a bot, and bots get none.".to_owned(),
        GoneReason::NotConfigured => "The repository has no .kagero.yml on its base branch.".to_owned(),
        GoneReason::Expired => "It had reached its maximum age.".to_owned(),
        GoneReason::Requested => "It was taken away on request.".to_owned(),
    }
}

fn duration(ms: u64, state: StageState) -> String {
    match (ms, state) {
        // A running step is shown in whole seconds, as the page counts them on.
        (0..60_000, StageState::Running) => format!("{} s", ms / 1000),
        (0..1_000, _) => format!("{ms} ms"),
        (1_000..60_000, _) => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => format!("{} min {:02} s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// The text without characters that act on a terminal or on the direction of writing.
fn plain(text: &str) -> String {
    let acts = |c: char| {
        (c.is_control() && c != '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().filter(|&c| !acts(c)).collect()
}
