//! Pages of the gateway, as pure functions from a view to HTML, text and JSON.
//!
//! Guarantees: whatever a pull request's author wrote (detail, log, names) is escaped and stripped of
//! control characters; pages load nothing from anywhere; the same view gives the same bytes.
//! Must not know: HTTP, routes, sockets.

mod words;

use std::fmt::Write as _;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;

use self::words::{plain, words};
use super::view::{EnvView, Phase};
use crate::domain::desired::GoneReason;

const CSS: &str = include_str!("../../../templates/pages/page.css");
const SCRIPT: &str = include_str!("../../../templates/pages/page.js");

static TEMPLATES: LazyLock<Result<Environment<'static>, minijinja::Error>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.set_syntax(SyntaxConfig::builder().trim_blocks(true).build()?);
    templates.add_template("layout.html", include_str!("../../../templates/pages/layout.html"))?;
    templates.add_template("main.html", include_str!("../../../templates/pages/main.html"))?;
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
