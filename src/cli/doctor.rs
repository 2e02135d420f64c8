//! `kagero doctor`: can this machine and this configuration do the work?

#[cfg(feature = "aws")]
mod aws;

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::{Exit, print, print_json, table};
use crate::agent::options::SandboxOptions;
use crate::agent::sandbox;
use crate::config::server::{Compute, RdsSource, SandboxRule, Seed, SeedSource};
use crate::config::{RenderStyle, Server, load_server};
use crate::domain::assignment::SandboxLevel;
use crate::domain::id::SeedName;

/// The arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Look at AWS too: account, network, slots, quotas, golden data, clock, and whether a machine may be launched.
    #[arg(long)]
    aws: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    ok: bool,
    detail: String,
    hint: String,
}

impl Finding {
    fn good(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, ok: true, detail: detail.into(), hint: String::new() }
    }

    fn bad(name: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, ok: false, detail: detail.into(), hint: hint.into() }
    }
}

/// Looks at everything; fails if anything is wrong.
pub async fn run(config: &Path, arguments: &DoctorArguments) -> anyhow::Result<Exit> {
    let mut findings = Vec::new();
    let server = match load_server(config) {
        Ok(server) => {
            findings.push(Finding::good("configuration", config.display().to_string()));
            Some(server)
        }
        Err(errors) => {
            let hint = "kagero config validate shows each with its place";
            findings.push(Finding::bad("configuration", errors.render(RenderStyle::Plain), hint));
            None
        }
    };
    findings.push(git());
    findings.push(sandbox(server.as_ref()).await);
    if let Some(server) = &server {
        findings.push(state_dir(server));
        findings.extend(seeds(server));
        findings.extend(postgres(server).await);
        findings.push(github(server).await);
        if arguments.aws {
            findings.extend(aws::look(server).await);
        }
    }
    let ok = findings.iter().all(|finding| finding.ok);
    if arguments.json {
        print_json(&findings)?;
    } else {
        let rows: Vec<Vec<String>> = findings
            .iter()
            .map(|finding| {
                let state = if finding.ok { "ok" } else { "FAILED" };
                vec![finding.name.to_owned(), state.to_owned(), finding.detail.clone(), finding.hint.clone()]
            })
            .collect();
        print(&table(&["NAME", "OK", "DETAIL", "HINT"], &rows))?;
    }
    Ok(if ok { Exit::Ok } else { Exit::Error })
}

fn git() -> Finding {
    let hint = "install git: apt-get install git";
    match std::process::Command::new("git").arg("--version").output() {
        Ok(output) if output.status.success() => {
            Finding::good("git", String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => Finding::bad("git", output.status.to_string(), hint),
        Err(error) => Finding::bad("git", error.to_string(), hint),
    }
}

async fn sandbox(server: Option<&Server>) -> Finding {
    let report = match sandbox::probe(&SandboxOptions::default()).await {
        Ok(report) => report,
        Err(error) => {
            return Finding::bad("sandbox", "none works", error.to_string());
        }
    };
    let reasons: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
    let required = server.is_none_or(
        |server| matches!(&server.compute, Compute::Local(compute) if compute.sandbox == SandboxRule::Require),
    );
    Finding {
        name: "sandbox",
        ok: report.level == SandboxLevel::Bubblewrap || !required,
        detail: report.level.as_str().to_owned(),
        hint: reasons.join("; "),
    }
}

fn state_dir(server: &Server) -> Finding {
    let dir = &server.state_dir;
    let name = dir.display().to_string();
    match std::fs::create_dir_all(dir).and_then(|()| tempfile::tempfile_in(dir)) {
        Ok(_) => Finding::good("state directory", name),
        Err(error) => {
            Finding::bad("state directory", format!("{name}: {error}"), "make it writable, or set another state_dir")
        }
    }
}

fn seeds(server: &Server) -> Vec<Finding> {
    let check = |(name, seed): (&SeedName, &Seed)| {
        let file = match &seed.source {
            SeedSource::File(file) => &file.path,
            // Looked at when a database is restored from it.
            SeedSource::Rds(rds) => {
                return Finding::good(
                    "seed",
                    match &rds.source {
                        RdsSource::Snapshots(prefix) => format!("{name}: the newest snapshot {prefix}*"),
                        RdsSource::Instance(instance) => format!("{name}: the newest point in time of {instance}"),
                        RdsSource::Cluster(cluster) => format!("{name}: a clone of {cluster}"),
                    },
                );
            }
        };
        let path = file.display();
        match std::fs::metadata(file) {
            Ok(_) => Finding::good("seed", format!("{name}: {path}")),
            Err(error) => Finding::bad(
                "seed",
                format!("{name}: {path}: {error}"),
                format!("put the dump there, or correct [seeds.{name}]"),
            ),
        }
    };
    server.seeds.iter().map(check).collect()
}

async fn postgres(server: &Server) -> Vec<Finding> {
    match super::run::probe_postgres(server).await {
        None => Vec::new(),
        Some(Ok(detail)) => vec![Finding::good("postgresql", detail)],
        Some(Err(error)) => {
            vec![Finding::bad(
                "postgresql",
                error,
                "install it (apt-get install postgresql), or correct [database.postgres]",
            )]
        }
    }
}

async fn github(server: &Server) -> Finding {
    let hint = "check github.app_id, github.private_key and github.api_url, and that the App is installed";
    match super::run::probe_github(server).await {
        Ok(count) => Finding::good("github", format!("{count} repositories can be reached")),
        Err(error) => Finding::bad("github", format!("{error:#}"), hint),
    }
}

#[cfg(not(feature = "aws"))]
mod aws {
    use super::{Finding, Server};

    #[expect(clippy::unused_async, reason = "the one with AWS waits")]
    pub async fn look(_: &Server) -> Vec<Finding> {
        vec![Finding::bad("aws", "this program was built without its AWS part", "build it with --features aws")]
    }
}
