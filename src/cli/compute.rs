//! Machines of the kind that the operator has chosen.
//!
//! Guarantees: with `kind = "ec2"` nothing is built before the credentials' account and the network were seen to be
//! staging's; whatever speaks against it is told at once, and nothing starts.
//! Must not know: what machines are for.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;

use super::confining::Confining;
use super::secret::InstallSecret;
use crate::agent::signature::ControllerKey;
use crate::clock::Clock;
use crate::cloud::Machines;
use crate::cloud::lanes::Instances;
use crate::cloud::local::machines::{LocalMachines, LocalOptions};
use crate::config::Server;
use crate::config::server::{Compute, Ec2Compute, LocalCompute, Postgres, PostgresServer, SandboxRule};
use crate::domain::assignment::SandboxLevel;
use crate::domain::id::SlotId;
use crate::domain::network::Placements;
use crate::domain::policy::Policy;
use crate::domain::server_address::ServerAddress;

/// Machines, and what decisions have to know of them.
pub struct Built {
    /// The machines.
    pub machines: Arc<dyn Machines>,
    /// What this computer can confine, where it is the one that machines are on.
    pub confining: Option<Arc<Confining<LocalMachines>>>,
    /// Databases that are instances of their own, and their seeds.
    pub databases: Option<Instances>,
    placements: Placements,
    slots: Vec<SlotId>,
}

impl Built {
    /// Lets decisions know.
    pub fn bind(&self, policy: &mut Policy) {
        policy.placements = self.placements.clone();
        policy.slots.clone_from(&self.slots);
        if let Some(slots) = u32::try_from(self.slots.len()).ok().filter(|slots| *slots > 0) {
            let limits = &mut policy.limits;
            if slots < limits.environments {
                tracing::warn!(
                    "limits.environments is {}, but the network has {slots} slots: so many at once",
                    limits.environments
                );
            }
            limits.environments = limits.environments.min(slots);
            limits.per_repository = limits.per_repository.min(slots);
        }
    }
}

/// Builds them.
pub async fn build(
    server: &Server,
    program: &Path,
    state_dir: &Path,
    secret: &InstallSecret,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Built> {
    match &server.compute {
        Compute::Local(compute) => {
            let machines = Arc::new(local(server, compute, program, state_dir, secret, clock)?);
            let (placements, slots) = (Placements::default(), Vec::new());
            Ok(Built { machines: machines.clone(), confining: Some(machines), databases: None, placements, slots })
        }
        // Boxed: calls of the SDKs are large.
        Compute::Ec2(compute) => Box::pin(ec2(server, compute, secret, clock)).await,
    }
}

fn local(
    server: &Server,
    compute: &LocalCompute,
    program: &Path,
    state_dir: &Path,
    secret: &InstallSecret,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Confining<LocalMachines>> {
    let key = ControllerKey::from(&secret.signing_key());
    let mut options = LocalOptions::new(server.install.clone(), state_dir, program, key);
    options.sandbox.read_only_paths.clone_from(&compute.read_only_paths);
    // The application verifies the database server's certificate by the same authorities as we do.
    if let Some(Postgres { server: PostgresServer::External { url }, .. }) = &server.postgres
        && let Ok(address) = ServerAddress::parse(url.value.expose_secret())
    {
        options.sandbox.read_only_paths.extend(address.tls.root_certificate);
    }
    options.sandbox.path.clone_from(&compute.path);
    options.sandbox.weakest = match compute.sandbox {
        SandboxRule::Require => SandboxLevel::Bubblewrap,
        SandboxRule::BestEffort => SandboxLevel::Rlimit,
    };
    options.containers.engine.clone_from(&compute.container_engine);
    if server.github.clone_base.starts_with("file:") {
        options.git.protocols.push("file".to_owned());
    }
    if server.github.clone_base.starts_with("http:") {
        options.git.protocols.push("http".to_owned());
    }
    let sandbox = options.sandbox.clone();
    let machines = LocalMachines::open(options, Arc::clone(clock)).context("the state directory cannot be used")?;
    Ok(Confining::new(machines, sandbox))
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "the one with AWS waits")]
async fn ec2(_: &Server, _: &Ec2Compute, _: &InstallSecret, _: &Arc<dyn Clock>) -> anyhow::Result<Built> {
    anyhow::bail!("compute.kind is ec2, but this program was built without its AWS part; build it with --features aws")
}

/// What speaks against the ground, and what the network has.
#[cfg(feature = "aws")]
pub struct Survey {
    /// The way there.
    pub aws: crate::cloud::aws::Connection,
    /// Everything that speaks against it.
    pub objections: Vec<String>,
    /// The network, or all that it lacks.
    pub network: Result<crate::cloud::aws::Network, Vec<String>>,
}

/// Looks, and changes nothing.
#[cfg(feature = "aws")]
pub async fn survey(server: &Server, compute: &Ec2Compute) -> Survey {
    use crate::cloud::aws::rules::ground::{Expected, judge};
    use crate::cloud::aws::{Connection, Network, Roles, Wanted, survey_ground, survey_network};

    let roles = if compute.separate_roles {
        Roles::Separate { account: compute.account.clone(), install: server.install.clone() }
    } else {
        Roles::Together
    };
    let aws = Connection::open(&compute.region, &roles).await;
    let expected = Expected {
        install: server.install.clone(),
        account: compute.account.clone(),
        vpc: compute.vpc.clone(),
        production_words: compute.production_words.clone(),
    };
    let objections = judge(&survey_ground(&aws, &compute.vpc).await, &expected);
    let mut objections: Vec<String> = objections.iter().map(ToString::to_string).collect();
    if server.install.as_str().contains("--") {
        objections.push("the installation's name has two hyphens in a row, which names on RDS may not".to_owned());
    }
    let wanted = Wanted { vpc: compute.vpc.clone(), ami: compute.ami.clone(), kinds: compute.instance_types.clone() };
    let network = match survey_network(&aws, &wanted).await {
        Err(error) => Err(vec![error.to_string()]),
        Ok(found) => Network::assemble(&found, &server.install, &compute.ami, &compute.instance_types)
            .map_err(|lacks| lacks.iter().map(ToString::to_string).collect()),
    };
    Survey { aws, objections, network }
}

#[cfg(feature = "aws")]
async fn ec2(
    server: &Server,
    compute: &Ec2Compute,
    secret: &InstallSecret,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Built> {
    use super::Exit;
    use crate::cloud::aws::Ec2Machines;

    let Survey { aws, objections, network } = survey(server, compute).await;
    if !objections.is_empty() {
        return Err(Exit::Unauthorised.because(format!("this is not staging's ground: {}", lines(&objections))));
    }
    let network =
        network.map_err(|lacks| Exit::Config.because(format!("compute.ec2 cannot be used: {}", lines(&lacks))))?;
    let settings = machine_settings(server, compute, ControllerKey::from(&secret.signing_key()));
    let (placements, slots) = (network.placements.clone(), network.slots.clone());
    // Also without such a seed: what was restored from one before has to be found, to be taken away.
    let databases = Some(instances(server, compute, secret, clock, &aws, &network));
    let machines = Arc::new(Ec2Machines::new(aws, settings, network, Arc::clone(clock)));
    Ok(Built { machines, confining: None, databases, placements, slots })
}

/// What machines are made from.
#[cfg(feature = "aws")]
pub fn machine_settings(
    server: &Server,
    compute: &Ec2Compute,
    public_key: ControllerKey,
) -> crate::cloud::aws::MachineSettings {
    use crate::cloud::aws::{AgentSource, MachineSettings};

    MachineSettings {
        install: server.install.clone(),
        account: compute.account.clone(),
        vpc: compute.vpc.clone(),
        ami: compute.ami.clone(),
        volume: i32::from(compute.volume),
        profile: compute.profile.clone(),
        databases: goldens(server).into_values().map(|golden| golden.source).collect(),
        public_key,
        agent: match &compute.agent {
            None => AgentSource::Image,
            Some((url, sha256)) => AgentSource::Fetched { url: url.clone(), sha256: sha256.clone() },
        },
        // The application verifies its database's certificate by the same authorities as we do.
        readable: server.rds.root_certificate.iter().cloned().collect(),
        page: MachineSettings::PAGE,
    }
}

/// The seeds that are on RDS, and what may be restored.
#[cfg(feature = "aws")]
pub fn goldens(server: &Server) -> std::collections::BTreeMap<crate::domain::id::SeedName, crate::cloud::aws::Golden> {
    use crate::cloud::aws::{Golden, Source};
    use crate::config::server::{RdsSource, SeedSource};

    let golden = |source: &SeedSource| match source {
        SeedSource::File(_) => None,
        SeedSource::Rds(rds) => Some(Golden {
            source: match &rds.source {
                RdsSource::Snapshots(prefix) => Source::Snapshots(prefix.clone()),
                RdsSource::Instance(name) => Source::Instance(name.clone()),
                RdsSource::Cluster(name) => Source::Cluster(name.clone()),
            },
            max_age: rds.max_age,
            class: rds.class.clone(),
            database: rds.database.clone(),
        }),
    };
    server.seeds.iter().filter_map(|(name, seed)| Some((name.clone(), golden(&seed.source)?))).collect()
}

/// Databases on RDS.
#[cfg(feature = "aws")]
fn instances(
    server: &Server,
    compute: &Ec2Compute,
    secret: &InstallSecret,
    clock: &Arc<dyn Clock>,
    aws: &crate::cloud::aws::Connection,
    network: &crate::cloud::aws::Network,
) -> Instances {
    use crate::cloud::aws::{RdsDatabases, RdsSettings};
    use crate::domain::server_address::{Tls, TlsMode};

    let goldens = goldens(server);
    let seeds = goldens.keys().cloned().collect();
    // infra/network.yaml calls both so.
    let groups = format!("kagero-{}", server.install);
    let settings = RdsSettings {
        install: server.install.clone(),
        vpc: compute.vpc.clone(),
        subnet_group: groups.clone(),
        parameter_group: groups,
        key: server.rds.key.clone(),
        secret: secret.for_roles(),
        tls: match &server.rds.root_certificate {
            Some(path) => Tls { mode: TlsMode::VerifyFull, root_certificate: Some(path.clone()) },
            None => Tls { mode: TlsMode::Require, root_certificate: None },
        },
        page: RdsSettings::PAGE,
        goldens,
    };
    let databases = Arc::new(RdsDatabases::new(aws.clone(), settings, network.clone(), Arc::clone(clock)));
    Instances { databases, seeds }
}

#[cfg(feature = "aws")]
fn lines(all: &[String]) -> String {
    let lines: Vec<String> = all.iter().map(|one| format!("\n  - {one}")).collect();
    lines.concat()
}
