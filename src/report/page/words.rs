//! What the pages say: from a view to headlines, sentences, steps and facts.
//!
//! Guarantees: every text that comes from a pull request has passed through [`plain`]; nothing is HTML yet.
//! Must not know: templates.

use std::borrow::Cow;

use serde::Serialize;

use super::{Page, PageKind};
use crate::domain::assignment::ServiceState;
use crate::domain::desired::{CapacityLimit, GoneReason};
use crate::report::view::{EnvView, Phase, StageState};

/// What one page says.
#[derive(Serialize)]
pub(super) struct Words<'a> {
    pub tone: &'static str,
    pub headline: &'static str,
    pub lead: Cow<'static, str>,
    pub detail: Option<String>,
    pub note: Option<&'static str>,
    pub about: Option<About<'a>>,
    pub steps: Vec<StepWords>,
    pub services: Vec<ServiceWords<'a>>,
    pub log: Vec<String>,
    pub facts: Vec<Fact>,
}

#[derive(Serialize)]
pub(super) struct About<'a> {
    pub repo: String,
    pub pr: u64,
    pub pull_url: Option<String>,
    pub commit: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct StepWords {
    pub label: String,
    pub state: StageState,
    pub took: Option<String>,
    pub took_ms: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct ServiceWords<'a> {
    pub name: &'a str,
    pub state: ServiceState,
}

#[derive(Serialize)]
pub(super) struct Fact {
    pub term: &'static str,
    pub text: String,
}

/// The words of a page.
pub(super) fn words<'a>(page: &Page<'a>) -> Words<'a> {
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
    let state = |service: &crate::report::view::ServiceView| service.state.unwrap_or(ServiceState::Waiting);
    if view.services.iter().all(|service| service.state.is_none()) {
        return Vec::new();
    }
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

/// The text without what acts on a terminal (its sequences as a whole) or on the direction of writing.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' if chars.peek() == Some(&'[') => {
                chars.next();
                // A sequence ends with its first character of this range.
                while chars.next().is_some_and(|c| !matches!(c, '@'..='~')) {}
            }
            '\t' => plain.push(c),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain
}
