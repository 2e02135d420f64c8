//! `kagero sweep`: what belongs to no environment, and taking it away.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use reqwest::Method;

use super::api::{Api, server};
use super::holder::StateHolder;
use super::run::{Alone, Surroundings, prepare_state_dir};
use super::{Exit, note, print, print_json, table};
use crate::controller::sweep::{Outcome, Report, Scope};
use crate::domain::mark::Subject;
use crate::plan::sweep::{Ruling, Verdict};

/// Between two looks at whether something is gone.
const LOOK: Duration = Duration::from_millis(200);

/// How long what was asked to go may take, where no controller goes on with it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Find what belongs to no environment, and take away what has been so for a day.
#[derive(Debug, Args)]
pub struct SweepArguments {
    /// Mark what is found, and take away what carries a mark for a day. Without it nothing is changed.
    #[arg(long)]
    apply: bool,
    /// Take away up to so many, for once: after somebody has looked.
    #[arg(long, requires = "apply")]
    most: Option<u32>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Sweeps once: by the running controller where there is one, otherwise by itself.
pub async fn run(config: &Path, arguments: &SweepArguments) -> anyhow::Result<Exit> {
    let scope = if arguments.apply { Scope::Apply(arguments.most) } else { Scope::DryRun };
    let server = server(config)?;
    let state_dir = prepare_state_dir(&server.state_dir)?;
    let report = match StateHolder::take(&state_dir) {
        Ok(holder) => {
            let alone = Alone::begin(&server, &Surroundings::usual()?, holder).await?;
            let report = alone.desk.sweep(scope).await;
            if let Ok(report) = &report {
                see_off(&alone, report).await;
            }
            alone.end().await;
            report?
        }
        Err(error) if Exit::after(&error) == Exit::Held => {
            let most = arguments.most.map(|most| format!("&most={most}")).unwrap_or_default();
            let path = format!("/api/sweep?apply={}{most}", arguments.apply);
            Api::of(config)?.send(Method::POST, &path).await?.json().await?
        }
        Err(error) => return Err(error),
    };
    if arguments.json {
        print_json(&report)?;
    } else {
        show(&report)?;
    }
    Ok(exit_of(&report.outcome))
}

/// How the program ends, for cron.
fn exit_of(outcome: &Outcome) -> Exit {
    match outcome {
        Outcome::Clean => Exit::Ok,
        Outcome::Found => Exit::Found,
        Outcome::Frozen(_) => Exit::Frozen,
        Outcome::Refused(_) => Exit::Refused,
    }
}

/// Removals go on in the background of the process that began them: this one waits for its own.
async fn see_off(alone: &Alone, report: &Report) {
    let removed = report.verdicts.iter().filter(|verdict| verdict.ruling == Ruling::Removed);
    let mut left: BTreeSet<&Subject> = removed.map(|verdict| &verdict.subject).collect();
    let deadline = Instant::now() + PATIENCE;
    while !left.is_empty() {
        let (machines, databases) = (&alone.desk.world().machines, &alone.desk.world().databases);
        let (machines, databases) = tokio::join!(machines.list(), databases.list());
        if let (Ok(machines), Ok(databases)) = (machines, databases) {
            let machines = machines.items.into_iter().map(|machine| Subject::Machine(machine.id));
            let databases = databases.items.into_iter().map(|database| Subject::Database(database.id));
            let there: BTreeSet<Subject> = machines.chain(databases).collect();
            left.retain(|subject| there.contains(subject));
        }
        if Instant::now() > deadline {
            note(&format!("{} of them are still there; the next sweep looks again", left.len()));
            return;
        }
        if !left.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn show(report: &Report) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = report.verdicts.iter().map(row).collect();
    print(&table(&["KIND", "NAME", "PULL REQUEST", "VERDICT", "WHY"], &rows))?;
    for doubt in &report.doubts {
        note(&format!("not known: {doubt}"));
    }
    match &report.outcome {
        Outcome::Clean => note("everything belongs to an environment or is of use"),
        Outcome::Found if report.applied => {
            note("something belongs to no environment; it is marked, or was taken away");
        }
        Outcome::Found => note("something belongs to no environment; --apply marks it, and takes it away after a day"),
        Outcome::Frozen(why) => note(&format!("nothing may be taken away: {why}")),
        Outcome::Refused(why) => note(&format!("refused: {why}")),
    }
    Ok(())
}

fn row(verdict: &Verdict) -> Vec<String> {
    vec![
        verdict.subject.kind().to_owned(),
        verdict.name.clone(),
        verdict.owner.map(|key| key.to_string()).unwrap_or_default(),
        word(verdict.ruling).to_owned(),
        verdict.why.clone(),
    ]
}

fn word(ruling: Ruling) -> &'static str {
    match ruling {
        Ruling::Keep => "keep",
        Ruling::Foreign => "foreign",
        Ruling::Spare => "spare",
        Ruling::Wait => "wait",
        Ruling::Due => "due",
        Ruling::Removed => "removed",
        Ruling::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_that_sweeps_knows_the_codes() {
        let unit = include_str!("../../infra/systemd/kagero-sweep.service");
        assert!(unit.contains(&format!("\nSuccessExitStatus={}\n", Exit::Found.code())), "{unit}");
        let both = format!("Frozen ({}) and refused ({}) fail", Exit::Frozen.code(), Exit::Refused.code());
        assert!(unit.contains(&both), "{unit}");
    }
}
