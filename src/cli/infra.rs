//! `kagero infra`: what the configured environments need of AWS.
//!
//! Guarantees: asks nobody, and needs no credentials.
//! Must not know: prices and quotas.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Args, Subcommand};

use super::{Exit, api, print, print_json, table};
use crate::config::Server;
use crate::config::server::{Compute, RdsSource, SeedSource};
use crate::report::estimate::{Estimate, Line, Outline, Sum, estimate};

/// Look at what environments need of AWS.
#[derive(Debug, Args)]
pub struct InfraArguments {
    #[command(subcommand)]
    command: InfraCommand,
}

#[derive(Debug, Subcommand)]
enum InfraCommand {
    /// Print what environments cost and which quotas they need, from the configuration alone.
    Plan(PlanArguments),
}

#[derive(Debug, Args)]
struct PlanArguments {
    /// Hours of a day in which environments run; in the others only storage is paid.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(0..=24))]
    hours: u32,
    /// GiB of a database's storage: that of the golden snapshot.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(20..=65_536))]
    storage: u32,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(config: &Path, arguments: &InfraArguments) -> anyhow::Result<Exit> {
    let InfraCommand::Plan(arguments) = &arguments.command;
    let server = api::server(config)?;
    let outline = outline(&server, arguments)?;
    let estimate = estimate(&outline);
    if arguments.json {
        print_json(&estimate)?;
    } else {
        print(&text(&estimate, &outline.region, server.install.as_str()))?;
    }
    Ok(Exit::Ok)
}

fn outline(server: &Server, arguments: &PlanArguments) -> anyhow::Result<Outline> {
    let Compute::Ec2(compute) = &server.compute else {
        return Err(Exit::Config.because(
            "compute.kind is local: environments are processes on this host, and cost nothing on AWS. Set \
             compute.kind = \"ec2\" and [compute.ec2] to plan machines there (docs/aws.md)"
                .to_owned(),
        ));
    };
    let (mut classes, mut clusters, mut volumes) = (Vec::new(), false, false);
    for seed in server.seeds.values() {
        let SeedSource::Rds(rds) = &seed.source else { continue };
        match rds.source {
            RdsSource::Cluster(_) => clusters = true,
            RdsSource::Snapshots(_) | RdsSource::Instance(_) => volumes = true,
        }
        if !classes.contains(&rds.class) {
            classes.push(rds.class.clone());
        }
    }
    Ok(Outline {
        environments: server.limits.environments,
        region: compute.region.clone(),
        instance_types: compute.instance_types.clone(),
        volume: compute.volume.into(),
        classes,
        clusters,
        volumes,
        storage: arguments.storage,
        hours: arguments.hours,
    })
}

fn text(estimate: &Estimate, region: &str, install: &str) -> String {
    let mut text = format!("Prices in US dollars; {}.\n", estimate.source);
    let rows: Vec<_> = estimate.environment.iter().map(line).collect();
    section(&mut text, "One environment, an hour", &["PART", "WHAT", "RUNNING", "ASLEEP"], &rows);
    let rows: Vec<_> = estimate.fixed.iter().map(|one| line(one)[..3].to_vec()).collect();
    section(&mut text, "What stands there anyway, an hour", &["PART", "WHAT", "ALWAYS"], &rows);

    let month = format!("A MONTH, {} HOURS A DAY", estimate.hours);
    let header = ["TOGETHER", "RUNNING", "ASLEEP", month.as_str()];
    let rows = [
        sum("one environment", estimate.one),
        sum(&format!("{} environments", estimate.environments), estimate.all),
        sum("what stands there anyway", estimate.standing),
        sum("everything", estimate.total),
    ];
    section(&mut text, "Together, an hour and a month of 730 hours", &header, &rows);

    let rows = estimate.quotas.iter().map(|quota| {
        let ask = match (quota.needed, quota.ask) {
            (None, _) => "look it up".to_owned(),
            (_, None) => "enough".to_owned(),
            (_, Some(number)) => format!("ask for {number}"),
        };
        let needed = quota.needed.map_or(UNKNOWN.to_owned(), |needed| needed.to_string());
        vec![quota.code.to_owned(), quota.name.to_owned(), needed, quota.default.to_string(), ask]
    });
    let title = format!("Quotas for {} environments", estimate.environments);
    section(&mut text, &title, &["CODE", "QUOTA", "NEEDED", "WITHOUT ASKING", "THEN"], &rows.collect::<Vec<_>>());

    text.push_str("\nWhat to do:\n");
    for quota in &estimate.quotas {
        if let Some(number) = quota.ask {
            let (service, code) = (quota.service, quota.code);
            let _ = writeln!(
                text,
                "  aws service-quotas request-service-quota-increase --region {region} --service-code {service} \
                 --quota-code {code} --desired-value {number}"
            );
        }
    }
    let needed = estimate.slots.needed;
    let _ = match estimate.slots.deploy {
        Some(slots) => writeln!(text, "  infra/deploy slots Install={install} Slots={slots}   # {needed} are needed"),
        None => writeln!(text, "  lower limits.environments: {needed} slots are needed, and infra/ makes at most 200"),
    };
    text.push_str("\nTo know:\n");
    for note in &estimate.notes {
        let _ = writeln!(text, "  {note}");
    }
    text.pop();
    text
}

const UNKNOWN: &str = "not known";

fn section(text: &mut String, title: &str, header: &[&str], rows: &[Vec<String>]) {
    let _ = writeln!(text, "\n{title}\n{}", table(header, rows));
}

fn line(line: &Line) -> Vec<String> {
    vec![line.part.to_owned(), line.what.clone(), hour(line.running), hour(line.asleep)]
}

fn sum(what: &str, sum: Sum) -> Vec<String> {
    let month = sum.month.map_or(UNKNOWN.to_owned(), |month| format!("{month:.2}"));
    vec![what.to_owned(), hour(sum.running), hour(sum.asleep), month]
}

fn hour(price: Option<f64>) -> String {
    price.map_or("price not known".to_owned(), |price| format!("{price:.4}"))
}
