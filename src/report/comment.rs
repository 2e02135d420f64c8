//! The sticky comment.

use std::fmt::Write as _;

use super::view::{EnvView, Phase, Removed, ServiceView, StageState};
use crate::domain::assignment::ServiceState;
use crate::domain::brake::{Brake, BrakeKind};
use crate::domain::desired::{CapacityLimit, GoneReason};
use crate::domain::ledger::Held;
pub use crate::domain::words::marker;

/// GitHub accepts at most this many characters in a comment.
pub const MAX_CHARACTERS: usize = 65_536;

/// The comment's text.
pub fn body(view: &EnvView) -> String {
    let mut text = without_times(view);
    let _ = write!(text, "\n<sub>Updated {}", view.at);
    if let Phase::Queued(reason) = &view.phase {
        let _ = write!(text, " · position {}, behind {} that hold a seat", reason.position, reason.holders);
    }
    if let (Phase::Ready, Some(took)) = (&view.phase, view.ready_after_ms) {
        let _ = write!(text, " · ready after {}", duration(took));
    }
    text.push_str("</sub>\n");
    text
}

/// The comment's text without what changes each time it is written: equal texts need no new write.
pub fn without_times(view: &EnvView) -> String {
    let mut text = format!("{}\n### {}\n\n", marker(&view.uid), headline(&view.phase));
    if let Some(sentence) = sentence(view) {
        text.push_str(&sentence);
        text.push_str("\n\n");
    }
    for brake in view.brakes.iter().filter(|brake| is_worth_telling(brake, &view.phase)) {
        let _ = writeln!(text, "⏸ Stopped by an operator: {}.\n", escape(&brake.to_string()));
    }
    if has_services(&view.phase) && !view.services.is_empty() {
        services(&mut text, view);
    }
    if let Some(detail) = &view.detail {
        let (first, rest) = detail.split_once('\n').unwrap_or((detail, ""));
        if rest.trim().is_empty() {
            let _ = writeln!(text, "{}\n", escape(first));
        } else {
            fenced(&mut text, detail);
        }
    }
    if !view.log_tail.is_empty() {
        text.push_str("<details><summary>End of the log</summary>\n\n");
        fenced(&mut text, &view.log_tail.join("\n"));
        text.push_str("</details>\n\n");
    }
    if matches!(view.phase, Phase::Ready | Phase::Failed | Phase::UpdateFailed) {
        stages(&mut text, view);
    }
    text
}

/// A hold or pause of its own always; one of everything only where it is in the way.
fn is_worth_telling(brake: &Brake, phase: &Phase) -> bool {
    match phase {
        Phase::Destroyed(_) | Phase::NotWanted(_) => false,
        Phase::Destroying(_) | Phase::DestroyFailing(_) => true,
        _ => brake.key.is_some() || brake.kind == BrakeKind::Pause,
    }
}

fn headline(phase: &Phase) -> String {
    match phase {
        Phase::Queued(_) => "⏳ Preview queued".to_owned(),
        Phase::Building => "🔄 Preview building".to_owned(),
        Phase::Updating => "🔄 Preview updating".to_owned(),
        Phase::Ready => "✅ Preview ready".to_owned(),
        Phase::Failed => "❌ Preview failed".to_owned(),
        Phase::UpdateFailed => "❌ Preview update failed".to_owned(),
        Phase::Asleep => "💤 Preview asleep".to_owned(),
        Phase::Destroying(_) => "🧹 Preview destroying".to_owned(),
        Phase::DestroyFailing(_) => "❌ Preview could not be destroyed".to_owned(),
        Phase::Destroyed(_) => "🗑️ Preview destroyed".to_owned(),
        Phase::NotWanted(GoneReason::ForkUnapproved(_)) => "⏳ Preview waits for approval".to_owned(),
        Phase::NotWanted(_) => "No preview".to_owned(),
        Phase::Stuck => "❌ No preview".to_owned(),
    }
}

fn has_services(phase: &Phase) -> bool {
    matches!(
        phase,
        Phase::Building | Phase::Updating | Phase::Ready | Phase::Failed | Phase::UpdateFailed | Phase::Asleep
    )
}

fn sentence(view: &EnvView) -> Option<String> {
    let link = view.url.as_ref().map(|url| format!("[{url}]({url})"));
    match &view.phase {
        Phase::Queued(reason) => {
            let limit = match reason.limit {
                CapacityLimit::Environments => "all seats of this installation are taken",
                CapacityLimit::PerRepository => "all seats of this repository are taken",
            };
            Some(format!("{limit}. It starts by itself when one becomes free."))
        }
        Phase::Building => {
            link.map(|link| format!("{link} shows how far it is and becomes the application by itself."))
        }
        Phase::Updating => link.map(|link| {
            let old = view.serving.as_ref().map_or("an older commit", |sha| sha.short());
            format!("{link} still shows `{old}` until the newer commit is healthy.")
        }),
        Phase::Ready => link,
        Phase::UpdateFailed => link.map(|link| {
            let old = view.serving.as_ref().map_or("an older commit", |sha| sha.short());
            format!("{link} still shows `{old}`.")
        }),
        Phase::Asleep => {
            Some("A draft: nothing runs, the database is kept. Mark it ready for review to wake it.".to_owned())
        }
        Phase::Destroying(why) => Some(format!("{}. Everything is being taken away.", reason(why))),
        Phase::DestroyFailing(why) => {
            Some(format!("{}. Something could not be taken away; an operator has to look.", reason(why)))
        }
        Phase::Destroyed(why) => Some(match &view.removed {
            Some(removed) => format!("{}. {}", reason(why), taken_away(removed)),
            None => format!("{}.", reason(why)),
        }),
        Phase::NotWanted(why) => Some(format!("{}.", reason(why))),
        Phase::Failed | Phase::Stuck => None,
    }
}

fn taken_away(removed: &Removed) -> String {
    let several = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let Held { machines, databases } = removed.held;
    let were = match (machines, databases) {
        (0, 0) => "There was nothing to remove".to_owned(),
        (machines, 0) => format!("Removed: {} with all its processes and files", several(machines, "machine")),
        (0, databases) => format!("Removed: {} with its roles", several(databases, "database")),
        (machines, databases) => format!(
            "Removed: {} with all its processes and files, {} with its roles",
            several(machines, "machine"),
            several(databases, "database")
        ),
    };
    format!("{were}. A complete listing at {} found nothing left.", removed.checked_at)
}

/// Why an environment is not there, as the beginning of a sentence.
pub fn reason(why: &GoneReason) -> String {
    match why {
        GoneReason::Closed => "The pull request was closed".to_owned(),
        GoneReason::Merged => "The pull request was merged".to_owned(),
        GoneReason::Superseded => "An earlier preview of this pull request is being taken away first".to_owned(),
        GoneReason::RepositoryNotAllowed => "The repository is not in the operator's list".to_owned(),
        GoneReason::OptedOut(label) => format!("The label `{}` opts out", code(label)),
        GoneReason::LabelMissing(label) => format!("The label `{}` asks for a preview; it is not set", code(label)),
        GoneReason::Draft => "Drafts get no preview here".to_owned(),
        GoneReason::BaseBranch(_) => "The base branch is not one that gets previews".to_owned(),
        GoneReason::ForkUnapproved(sha) => {
            format!("It comes from a fork: a maintainer must approve `{sha}`")
        }
        GoneReason::ForkNever => "Pull requests from forks get no preview here".to_owned(),
        GoneReason::Bot => "Pull requests by bots get no preview here".to_owned(),
        GoneReason::NotConfigured => "The repository has no `.kagero.yml`".to_owned(),
        GoneReason::Expired => {
            "It reached its maximum age; a push brings it back, and so does closing and reopening".to_owned()
        }
        GoneReason::Requested => "An operator asked for it".to_owned(),
    }
}

fn services(text: &mut String, view: &EnvView) {
    text.push_str("| Service | Status | Preview | Commit |\n|---|---|---|---|\n");
    let commit = view.commit.as_ref().map(|sha| format!("`{}`", sha.short())).unwrap_or_default();
    for service in &view.services {
        let link = service.url.as_ref().map_or_else(|| "–".to_owned(), |url| format!("[open]({url})"));
        let _ = writeln!(text, "| {} | {} | {link} | {commit} |", service.name, service_status(view, service));
    }
    if let Some(seed) = &view.seed {
        let _ = writeln!(text, "\nDatabase: a copy of seed `{seed}` for this pull request alone.");
    }
    text.push('\n');
}

fn service_status(view: &EnvView, service: &ServiceView) -> &'static str {
    match (&view.phase, service.state) {
        (Phase::Failed | Phase::UpdateFailed, Some(ServiceState::Stopped | ServiceState::Restarting) | None) => {
            "❌ failed"
        }
        (Phase::Asleep, _) => "💤 asleep",
        // The boot page shows how far it is: following each step here would be an edit each time.
        (Phase::Building | Phase::Updating, _) => "🔄 building",
        (Phase::Ready, Some(ServiceState::Healthy)) => "✅ ready",
        (_, Some(ServiceState::Healthy)) => "✅ healthy",
        (_, Some(ServiceState::Restarting)) => "🔄 restarting",
        (_, Some(ServiceState::Starting)) => "🔄 starting",
        (_, Some(ServiceState::Stopped)) => "❌ stopped",
        (_, Some(ServiceState::Waiting) | None) => "⏳ waiting",
    }
}

fn stages(text: &mut String, view: &EnvView) {
    if view.stages.is_empty() {
        return;
    }
    // Only what has come to an end is listed with its time: running clocks would mean endless edits.
    text.push_str("<details><summary>Steps</summary>\n\n| Step | State | Took |\n|---|---|---|\n");
    for stage in &view.stages {
        let (state, took) = match stage.state {
            StageState::Waiting => ("⏳ waiting", None),
            StageState::Running => ("🔄 running", None),
            StageState::Done => ("✅ done", stage.took_ms),
            StageState::Failed => ("❌ failed", stage.took_ms),
        };
        let _ = writeln!(text, "| {} | {state} | {} |", stage.name, took.map(duration).unwrap_or_default());
    }
    text.push_str("\n</details>\n\n");
}

/// Milliseconds for people.
pub fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// Text from outside as one line of Markdown: nothing in it is markup, mentions or links.
fn escape(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars().filter(|c| !c.is_control()) {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            // A zero-width space keeps a mention from notifying anybody.
            '@' => out.push_str("@\u{200b}"),
            '`' => out.push('`'),
            '\\' | '*' | '_' | '{' | '}' | '[' | ']' | '(' | ')' | '#' | '!' | '|' | '~' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// Text from outside between backticks.
fn code(text: &str) -> String {
    text.chars().filter(|c| *c != '`' && !c.is_control()).collect()
}

/// Text from outside as a code block that it cannot close.
fn fenced(text: &mut String, content: &str) {
    const ROOM: usize = MAX_CHARACTERS * 2 / 5;
    let clean: String = content.chars().filter(|c| !c.is_control() || *c == '\n' || *c == '\t').collect();
    let skipped = clean.chars().count().saturating_sub(ROOM);
    let kept: String = clean.chars().skip(skipped).collect();
    let longest = kept.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let _ = write!(text, "{fence}text\n{kept}\n{fence}\n\n");
}
