//! What `kagero doctor --aws` looks at: whose ground it is, and whether what is configured can be made there.
//!
//! Guarantees: changes nothing; a launch is only rehearsed.
//! Must not know: how findings are shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;

use super::Finding;
use crate::agent::signature::ControllerKey;
use crate::cli::compute::{self, Survey};
use crate::clock::{Clock as _, SystemClock};
use crate::cloud::MachineBirth;
use crate::cloud::aws::rules::quota::Quota;
use crate::cloud::aws::{Connection, Ec2Machines, Golden, Network, Source, survey_clock, survey_golden, survey_quotas};
use crate::config::Server;
use crate::config::server::{Compute, Ec2Compute};
use crate::domain::id::{EnvKey, EnvUid, Generation, PrNumber, RepoId, SeedName};
use crate::domain::ledger::{Role, Token};
use crate::domain::observed::Tags;

/// AWS refuses what was signed five minutes ago or later ("Elements of an AWS API request signature").
const SKEW: Duration = Duration::from_mins(5);

/// So much is no reason to worry.
const SLIGHT: Duration = Duration::from_secs(30);

/// Looks at everything.
pub async fn look(server: &Server) -> Vec<Finding> {
    let Compute::Ec2(compute) = &server.compute else {
        return vec![Finding::bad("aws", "compute.kind is local", "set compute.kind = \"ec2\" and [compute.ec2]")];
    };
    let Survey { aws, objections, network } = compute::survey(server, compute).await;
    let mut findings = vec![clock(&aws).await];
    findings.extend(objections.iter().map(|objection| Finding::bad("ground", objection, "see docs/aws.md")));
    if objections.is_empty() {
        findings.push(Finding::good("ground", format!("account {}, {}", compute.account, compute.vpc)));
    }
    let goldens = compute::goldens(server);
    findings.extend(seeds(server, &aws, &goldens).await);
    match network {
        Err(lacks) => findings.extend(lacks.iter().map(|lack| Finding::bad("network", lack, "see infra/README.md"))),
        Ok(network) => {
            findings.extend(places(server, &network));
            let sources: Vec<Source> = goldens.into_values().map(|golden| golden.source).collect();
            findings.extend(quotas(server, &aws, &network, &sources).await);
            findings.push(launch(server, compute, aws, network).await);
        }
    }
    findings
}

async fn clock(aws: &Connection) -> Finding {
    let hint = "set this computer's clock: run an NTP client (chrony, systemd-timesyncd)";
    match survey_clock(aws).await {
        Err(error) => Finding::bad("clock", error.to_string(), "AWS tells the time with each answer: see the cause"),
        Ok(theirs) => {
            let ours = SystemClock.now();
            let off = ours.since(theirs).max(theirs.since(ours));
            let detail = format!("{} s apart from AWS's, and {} s are allowed", off.as_secs(), SKEW.as_secs());
            if off <= SLIGHT { Finding::good("clock", detail) } else { Finding::bad("clock", detail, hint) }
        }
    }
}

fn places(server: &Server, network: &Network) -> Vec<Finding> {
    let wanted = server.limits.environments as usize;
    let slots = format!("{} slots for {wanted} environments", network.slots.len());
    let mut findings = vec![if network.slots.len() < wanted {
        Finding::bad("slots", slots, "infra/deploy slots, or lower limits.environments")
    } else {
        Finding::good("slots", slots)
    }];
    findings.extend(network.subnets.iter().map(|(zone, subnet)| {
        let free = format!("{zone}: {} addresses are free in {}", subnet.free, subnet.id);
        if subnet.free == 0 {
            Finding::bad("subnet", free, "machines go elsewhere; take away what uses the addresses")
        } else {
            Finding::good("subnet", free)
        }
    }));
    findings
}

async fn seeds(server: &Server, aws: &Connection, goldens: &BTreeMap<SeedName, Golden>) -> Vec<Finding> {
    let (now, mut findings) = (SystemClock.now(), Vec::new());
    for (name, golden) in goldens {
        findings.push(match survey_golden(aws, golden, &server.install, now).await {
            Ok(found) => {
                let age = found.data_of.map_or(0, |data_of| now.since(data_of).as_secs() / 3600);
                Finding::good("golden", format!("{name}: {}, whose data is {age} hours old", found.id))
            }
            Err(error) => Finding::bad("golden", format!("{name}: {}", error.why), "see docs/aws.md"),
        });
    }
    findings
}

async fn quotas(server: &Server, aws: &Connection, network: &Network, sources: &[Source]) -> Vec<Finding> {
    match survey_quotas(aws, &server.install, network, sources).await {
        Ok(quotas) => quotas.iter().map(|quota| judge(quota, server.limits.environments)).collect(),
        Err(error) => vec![Finding::bad("quota", error.to_string(), "see the cause")],
    }
}

fn judge(quota: &Quota, wanted: u32) -> Finding {
    let Quota { counted, allowed, others, each } = quota;
    let room = quota.room().min(wanted);
    let detail =
        format!("{counted}: {allowed} allowed, {others} used by others, {each} for each of {wanted} environments");
    let Some(ask) = quota.ask(wanted) else { return Finding::good("quota", detail) };
    let (service, code) = counted.code();
    let hint = format!(
        "only {room} run at once. Ask for {ask}: aws service-quotas request-service-quota-increase --service-code {service} \
         --quota-code {code} --desired-value {ask}"
    );
    Finding::bad("quota", detail, hint)
}

/// Whether a machine could be launched with everything that it is launched with.
async fn launch(server: &Server, compute: &Ec2Compute, aws: Connection, network: Network) -> Finding {
    let hint = "docs/aws.md says what each permission is for";
    let tags = Tags {
        install: server.install.clone(),
        uid: EnvUid::derive(&server.install, NOBODY),
        key: NOBODY,
        generation: Generation::FIRST,
    };
    let (slot, placement) = (network.slots.first().cloned(), network.placements.of(&tags.uid, 1));
    let token = Token::derive(&tags.uid, tags.generation, &Role::Machine, 1, placement.as_ref());
    let birth =
        MachineBirth { token: &token, attempt: 1, tags: &tags, placement: placement.as_ref(), slot: slot.as_ref() };
    // Anybody's key: nothing is launched.
    let key = ControllerKey::from(&SigningKey::from_bytes(&[0; 32]));
    let settings = compute::machine_settings(server, compute, key);
    let machines = Ec2Machines::new(aws, settings, network, Arc::new(SystemClock));
    match machines.rehearse(&birth).await {
        Ok(()) => Finding::good("launch", "rehearsed: it would have been allowed"),
        Err(error) => Finding::bad("launch", error.to_string(), hint),
    }
}

/// No pull request has this number.
const NOBODY: EnvKey = EnvKey { repo: RepoId(0), pr: PrNumber(0) };
