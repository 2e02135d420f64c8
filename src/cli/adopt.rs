//! `kagero adopt`: rebuilds a lost store from GitHub and from what lives.
//!
//! Guarantees: without `--apply` no record is written; nothing is made or destroyed in any case; refused while a
//! controller works.
//! Must not know: which records follow from what.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::api::server;
use super::run::{Parts, Surroundings};
use super::secret::InstallSecret;
use super::{Exit, note, print, print_json, table};
use crate::clock::Clock as _;
use crate::cloud::Databases as _;
use crate::config::Server;
use crate::domain::id::{EnvKey, RepoId};
use crate::domain::ledger::{Ledger, Role};
use crate::domain::pull::{PullFacts, PullState, RepoRef};
use crate::forge::Forge as _;
use crate::plan::{Adoption, Remains, adopt, keys_of};

/// How long a record may take to write.
const LEASE: Duration = Duration::from_mins(1);

/// Rebuild a lost store from GitHub and from what lives.
#[derive(Debug, Args)]
pub struct AdoptArguments {
    /// Write the records; without it they are only shown.
    #[arg(long)]
    apply: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Everything that was read.
struct Found {
    adoption: Adoption,
    repos: Vec<RepoRef>,
    pulls: BTreeMap<EnvKey, Result<PullFacts, String>>,
}

/// Shows what would be written, or writes it.
pub async fn run(config: &Path, arguments: &AdoptArguments) -> anyhow::Result<Exit> {
    let server = server(config)?;
    anyhow::ensure!(
        InstallSecret::exists(&server.state_dir),
        "{}/secret is missing: what lives answers to that one only, and a new one would shut us out; restore it from a \
         backup",
        server.state_dir.display()
    );
    let parts = Parts::of(&server, &Surroundings::usual()?).await?;
    let found = look(&server, &parts).await;
    let done = match found {
        Ok(found) => finish(&parts, &found, arguments).await,
        Err(error) => Err(error),
    };
    parts.store.close().await;
    done
}

async fn finish(parts: &Parts, found: &Found, arguments: &AdoptArguments) -> anyhow::Result<Exit> {
    if arguments.apply {
        for ledger in &found.adoption.ledgers {
            write(parts, found, ledger)
                .await
                .with_context(|| format!("the record of {} was not written", ledger.key))?;
        }
    }
    tell(found, arguments)?;
    Ok(if found.adoption.leftovers.is_empty() { Exit::Ok } else { Exit::Unadopted })
}

async fn look(server: &Server, parts: &Parts) -> anyhow::Result<Found> {
    let machines = parts.machines.list().await.context("machines could not be listed")?;
    let databases = parts.databases.list().await.context("databases could not be listed")?;
    anyhow::ensure!(
        machines.complete && databases.complete,
        "the listing of what lives broke off, and what it left out would be made again; try again"
    );
    let repos = parts.forge.repositories().await.context("GitHub could not be asked for the repositories")?.items;
    let by_id: BTreeMap<RepoId, &RepoRef> = repos.iter().map(|repo| (repo.id, repo)).collect();
    let mut pulls = BTreeMap::new();
    for key in keys_of(&machines.items, &databases.items) {
        let read = match by_id.get(&key.repo) {
            Some(repo) => parts.forge.pull(repo, key.pr).await.map_err(|error| error.to_string()),
            None => Err(format!("the App {} has no access to repository {}", server.github.app_id, key.repo.0)),
        };
        pulls.insert(key, read);
    }
    let known = parts.store.ledgers().await?;
    let remains = Remains {
        machines: &machines.items,
        databases: &databases.items,
        pulls: &pulls,
        known: &known,
        policy: &parts.policy,
        now: parts.clock.now(),
    };
    let adoption = adopt(remains);
    Ok(Found { adoption, repos, pulls })
}

/// The record first appears with everything that it is known to hold, and the journal says where it comes from.
async fn write(parts: &Parts, found: &Found, ledger: &Ledger) -> anyhow::Result<()> {
    let now = parts.clock.now();
    if let Some(repo) = found.repos.iter().find(|repo| repo.id == ledger.key.repo) {
        parts.store.put_repo(repo, now).await?;
    }
    let lease = parts.store.acquire(ledger.key, parts.holder.name(), LEASE, now).await?;
    let lease = lease.context("somebody else works on it; stop every controller first")?;
    let detail = json!({
        "reason": "the store was lost; adopted by its tags",
        "generation": ledger.generation,
        "holds": ledger.intents.iter().map(|intent| &intent.answer).collect::<Vec<_>>(),
    });
    let begun = parts.store.begin(&lease, "adopt", detail, now).await?;
    let done = parts.store.enroll(&lease, ledger).await;
    let outcome = done.as_ref().err().map_or_else(|| "ok".to_owned(), |error| format!("failed: {error}"));
    parts.store.finish(begun, &outcome, parts.clock.now()).await?;
    parts.store.release_lease(&lease).await?;
    Ok(done?)
}

fn tell(found: &Found, arguments: &AdoptArguments) -> anyhow::Result<()> {
    let Adoption { ledgers, leftovers } = &found.adoption;
    if arguments.json {
        let records: Vec<_> = ledgers
            .iter()
            .map(|ledger| {
                json!({"pull_request": title(found, ledger.key), "key": ledger.key, "uid": ledger.uid,
                       "generation": ledger.generation, "state": state(found, ledger.key),
                       "intents": ledger.intents})
            })
            .collect();
        return print_json(&json!({"applied": arguments.apply, "records": records, "leftovers": leftovers}));
    }
    if !ledgers.is_empty() {
        let rows: Vec<Vec<String>> = ledgers
            .iter()
            .map(|ledger| {
                let machines = ledger.intents_for(&Role::Machine).count();
                vec![
                    title(found, ledger.key),
                    state(found, ledger.key).to_owned(),
                    ledger.generation.to_string(),
                    machines.to_string(),
                    (ledger.intents.len() - machines).to_string(),
                ]
            })
            .collect();
        print(&table(&["PULL REQUEST", "STATE", "GENERATION", "MACHINES", "DATABASES"], &rows))?;
    }
    if !leftovers.is_empty() {
        note(&format!("{} cannot be told and need a person:", leftovers.len()));
        let rows: Vec<Vec<String>> =
            leftovers.iter().map(|left| vec![left.kind.to_owned(), left.name.clone(), left.why.clone()]).collect();
        print(&table(&["WHAT", "NAME", "WHY"], &rows))?;
    }
    note(&match (ledgers.len(), arguments.apply) {
        (0, _) => "no record is missing".to_owned(),
        (count, true) => format!("{count} records written; `kagero serve` goes on with them"),
        (count, false) => format!("{count} records would be written; --apply writes them"),
    });
    Ok(())
}

fn title(found: &Found, key: EnvKey) -> String {
    match found.repos.iter().find(|repo| repo.id == key.repo) {
        Some(repo) => format!("{}#{}", repo.name, key.pr.0),
        None => key.to_string(),
    }
}

fn state(found: &Found, key: EnvKey) -> &'static str {
    match found.pulls.get(&key) {
        Some(Ok(pull)) => match pull.state {
            PullState::Open => "open",
            PullState::Closed => "closed",
            PullState::Merged => "merged",
        },
        _ => "unread",
    }
}
