//! `kagero audit`: the journal of every call that changed something, read from the store itself.
//!
//! Guarantees: needs no controller and disturbs none; writes nothing.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api::server;
use super::{Exit, print, print_json, run, table};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::id::EnvKey;
use crate::domain::pull::RepoRef;
use crate::domain::time::Timestamp;
use crate::store::{JournalCheck, JournalId, JournalRow, Store};

/// Rows held in memory at once.
const PAGE: u32 = 1_000;

/// Look at the journal of everything that was asked for, and verify it.
#[derive(Debug, Args)]
pub struct AuditArguments {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// Follow the chain of hashes from its beginning, and say where it breaks.
    Verify {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print calls, oldest first: what, why, of which commit, after which delivery, and how it ended.
    Show {
        /// Only this pull request's: `owner/repo#12`, `repo#12` or `12`.
        name: Option<String>,
        /// Only what began since then: `2h`, `7d`, or an instant such as `2026-11-22T10:00:00Z`.
        #[arg(long, value_parser = since)]
        since: Option<Timestamp>,
        /// A JSON object per line.
        #[arg(long)]
        json: bool,
    },
}

/// Runs one of them.
pub async fn run(config: &Path, arguments: AuditArguments) -> anyhow::Result<Exit> {
    let store = run::read_store(&server(config)?).await?;
    let done = match arguments.command {
        AuditCommand::Verify { json } => verify(&store, json).await,
        AuditCommand::Show { name, since, json } => {
            show(&store, name.as_deref(), since.unwrap_or_default(), json).await
        }
    };
    store.close().await;
    done
}

async fn verify(store: &Store, json: bool) -> anyhow::Result<Exit> {
    match store.verify_journal().await? {
        JournalCheck::Intact(rows) => {
            if json {
                print_json(&json!({"intact": true, "rows": rows}))?;
            } else {
                print(&format!("intact: each of {rows} rows follows from the one before it"))?;
            }
            Ok(Exit::Ok)
        }
        JournalCheck::Broken(JournalId(row)) => {
            if json {
                print_json(&json!({"intact": false, "broken_at": row}))?;
            }
            Err(Exit::Broken.because(format!(
                "the journal breaks at row {row}: it does not follow from the row before it, so one of both was changed \
                 or one between them was taken out; compare with a backup of the store"
            )))
        }
    }
}

async fn show(store: &Store, name: Option<&str>, since: Timestamp, json: bool) -> anyhow::Result<Exit> {
    let repos = store.repos().await?;
    let mut shown = Vec::new();
    let mut last = JournalId(0);
    loop {
        let page = store.calls(last, since, PAGE).await?;
        let Some(end) = page.last() else { break };
        last = end.id;
        for row in page {
            if name.is_some_and(|name| !is_called(row.key, &repos, name)) {
                continue;
            }
            if json {
                print(&serde_json::to_string(&as_json(&row, &repos))?)?;
            } else {
                shown.push(row);
            }
        }
    }
    if !json {
        if let Some(name) = name {
            ensure_one(&shown, &repos, name)?;
        }
        let cells: Vec<Vec<String>> = shown.iter().map(|row| cells(row, &repos)).collect();
        print(&table(&["ROW", "AT", "PULL REQUEST", "STEP", "OUTCOME", "REASON", "COMMIT", "DELIVERY"], &cells))?;
    }
    Ok(Exit::Ok)
}

/// A name that fits several pull requests would mix their rows.
fn ensure_one(rows: &[JournalRow], repos: &[RepoRef], name: &str) -> anyhow::Result<()> {
    let keys: std::collections::BTreeSet<EnvKey> = rows.iter().map(|row| row.key).collect();
    match keys.len() {
        0 => {
            Err(Exit::NotFound.because(format!("the journal has no row about {name:?}; `kagero audit show` shows all")))
        }
        1 => Ok(()),
        _ => {
            let names: Vec<String> = keys.iter().map(|key| title(*key, repos)).collect();
            Err(Exit::Usage.because(format!("{name:?} could be {}; use the full name", names.join(" or "))))
        }
    }
}

fn is_called(key: EnvKey, repos: &[RepoRef], name: &str) -> bool {
    let (full, number) = (title(key, repos), key.pr.0.to_string());
    let short = full.split_once('/').map_or(full.as_str(), |(_, short)| short);
    [full.as_str(), short, &key.to_string(), &number].contains(&name.trim_start_matches('#'))
}

fn title(key: EnvKey, repos: &[RepoRef]) -> String {
    match repos.iter().find(|repo| repo.id == key.repo) {
        Some(repo) => format!("{}#{}", repo.name, key.pr.0),
        None => key.to_string(),
    }
}

fn as_json(row: &JournalRow, repos: &[RepoRef]) -> Value {
    let (outcome, ended_at) = match &row.ended {
        Some((outcome, at)) => (Some(outcome), Some(at)),
        None => (None, None),
    };
    json!({
        "row": row.id, "pull_request": title(row.key, repos), "key": row.key, "fence": row.fence, "step": row.kind,
        "began_at": row.began_at, "ended_at": ended_at, "outcome": outcome, "detail": row.detail,
    })
}

fn cells(row: &JournalRow, repos: &[RepoRef]) -> Vec<String> {
    let said = |name: &str| row.detail[name].as_str().unwrap_or_default();
    let outcome = row.ended.as_ref().map_or("no answer known", |(outcome, _)| outcome.as_str());
    let printable = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    vec![
        row.id.0.to_string(),
        row.began_at.to_string(),
        title(row.key, repos),
        row.kind.clone(),
        printable(outcome),
        printable(said("reason")),
        said("commit").chars().take(7).collect(),
        printable(said("delivery")),
    ]
}

/// An instant, or how long before now.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(at.as_millisecond()));
    }
    let wrong = || "expected a duration such as 2h or 7d, or an instant such as 2026-11-22T10:00:00Z".to_owned();
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    let now = jiff::Timestamp::from_millisecond(SystemClock.now().0).map_err(|_| wrong())?;
    let then = now.to_zoned(jiff::tz::TimeZone::UTC).checked_sub(span).map_err(|_| wrong())?;
    Ok(Timestamp(then.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{InstallationId, PrNumber, RepoId, RepoName};

    #[test]
    fn instants_and_durations_are_understood_and_nothing_else() {
        assert_eq!(since("2026-11-22T10:00:00Z"), Ok(Timestamp(1_795_341_600_000)));
        let now = SystemClock.now();
        for (text, hours) in [("2h", 2), ("7d", 7 * 24)] {
            let then = since(text).unwrap();
            let off = now.since(then).as_secs().abs_diff(hours * 3600);
            assert!(off < 60, "{text}: {off} s off");
        }
        assert!(since("yesterday").unwrap_err().contains("7d"));
    }

    #[test]
    fn a_pull_request_is_found_by_what_people_call_it() {
        let name = RepoName::parse("kumo/shop").unwrap();
        let repos = [RepoRef { id: RepoId(42), name, installation: InstallationId(1) }];
        let key = EnvKey { repo: RepoId(42), pr: PrNumber(7) };
        for called in ["kumo/shop#7", "shop#7", "7", "#7", "42#7"] {
            assert!(is_called(key, &repos, called), "{called}");
        }
        for other in ["shop#8", "17", "op#7"] {
            assert!(!is_called(key, &repos, other), "{other}");
        }
    }
}
