//! `kagero adopt`: rebuilds a lost store from GitHub and from what lives.
//!
//! Guarantees: without `--apply` no record is written; nothing is made or destroyed in any case; refused while a
//! controller works.
//! Must not know: how a record is rebuilt.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::api::server;
use super::run::{Parts, Surroundings};
use super::secret::InstallSecret;
use super::{Exit, note, print, print_json, table};
use crate::controller::adoption::{Adopter, Found};
use crate::domain::id::EnvKey;
use crate::domain::ledger::Role;
use crate::domain::pull::PullState;
use crate::plan::Adoption;

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
    let done = look(&parts, arguments).await;
    parts.store.close().await;
    done
}

async fn look(parts: &Parts, arguments: &AdoptArguments) -> anyhow::Result<Exit> {
    let adopter = Adopter {
        store: &parts.store,
        forge: &parts.forge,
        machines: parts.machines.as_ref(),
        databases: &parts.databases,
        policy: &parts.policy,
        clock: parts.clock.as_ref(),
        holder: parts.holder.name(),
    };
    let found = adopter.look().await?;
    if arguments.apply {
        adopter.write(&found).await?;
    }
    tell(&found, arguments)?;
    Ok(if found.adoption.leftovers.is_empty() { Exit::Ok } else { Exit::Unadopted })
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
