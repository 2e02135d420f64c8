//! Measures what the controller holds and does with many environments at rest: the real controller and store;
//! cloud, agents and GitHub are simulated and answer at once. Each size runs in a process of its own.

use kagero::domain::network::{Interface, Placements};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use kagero::clock::{Clock, SystemClock};
use kagero::cloud::{
    CloudError, DatabaseAccess, DatabaseBirth, Databases, MachineBirth, Machines, nothing, unknown_residue,
};
use kagero::controller::{Agents, Controller, LogLines, LogWanted, Prober, Tuning, World};
use kagero::domain::assignment::{
    AgentStatus, Assignment, Rollout, RolloutPhase, SandboxLevel, ServiceReport, ServiceState,
};
use kagero::domain::desired::DatabaseSpec;
use kagero::domain::id::{
    CommitSha, DatabaseId, EnvKey, EnvUid, HostLabel, InstallId, InstallationId, MachineId, PrNumber, RepoId, RepoName,
};
use kagero::domain::observed::{Listing, Location, Machine, MachineState, Residue};
use kagero::domain::owned::{Owned, OwnedResidue};
use kagero::domain::policy::{AllowList, Labels, Limits, LinkBase, Pace, Policy};
use kagero::domain::pull::{PullFacts, PullState};
use kagero::domain::time::Timestamp;
use kagero::domain::words::{Comment, Deployment};
use kagero::forge::budget::WriteLimits;
use kagero::forge::{DeploymentStatus, FailedDelivery, Forge, ForgeError, RepoRef};
use kagero::gateway::route::RouteTable;
use kagero::store::Store;
use secrecy::SecretString;

/// Names the child's role among the arguments.
pub const CHILD: &str = "environments-at-rest";
const SIZES: [usize; 3] = [0, 100, 1_000];
const WATCHED: Duration = Duration::from_secs(20);

/// Prints the figures.
pub fn run() {
    for size in SIZES {
        let child = Command::new(std::env::current_exe().unwrap()).args([CHILD, &size.to_string()]).output().unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        print!("{}", String::from_utf8_lossy(&child.stdout));
    }
}

/// The child: brings that many environments to rest and watches them.
pub fn child(size: &str) {
    let size: usize = size.parse().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(watch(size));
}

async fn watch(size: usize) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}", home.path().join("kagero.db").display())).await.unwrap();
    let fleet = Arc::new(Fleet::default());
    let world = World {
        store: store.clone(),
        forge: Arc::new(Hub(size)),
        machines: Arc::clone(&fleet) as Arc<dyn Machines>,
        databases: Arc::clone(&fleet) as Arc<dyn Databases>,
        agents: Arc::clone(&fleet) as Arc<dyn Agents>,
        prober: Arc::clone(&fleet) as Arc<dyn Prober>,
        routes: RouteTable::default(),
        clock: Arc::new(SystemClock),
        policy: ArcSwap::from_pointee(policy()),
        secrets: BTreeMap::new(),
        holder: "bench".to_owned(),
        writes: WriteLimits { pause: Duration::ZERO, ..WriteLimits::default() },
    };
    let began = Instant::now();
    let controller = Controller::start(world, Tuning::default()).await.unwrap();
    loop {
        let proven = store.ledgers().await.unwrap().iter().filter(|ledger| ledger.proven.is_some()).count();
        if proven == size {
            break;
        }
        assert!(began.elapsed() < Duration::from_mins(5), "{proven} of {size} environments are up");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let up = began.elapsed();
    let (before, start) = (cpu_seconds(), Instant::now());
    tokio::time::sleep(WATCHED).await;
    let share = (cpu_seconds() - before) / start.elapsed().as_secs_f64() * 100.0;
    println!(
        "rest     {size:>5} environments: up after {up:.1?}, then {share:.1} % of one core, {} MB resident",
        resident()
    );
    controller.stop().await;
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn policy() -> Policy {
    Policy {
        install: InstallId::parse("bench").unwrap(),
        domain: "preview.test".to_owned(),
        link: LinkBase { scheme: "https".to_owned(), port: None },
        repositories: vec!["acme/*".to_owned()],
        limits: Limits { environments: 100_000, per_repository: 100_000, builds: 100, attempts: 3 },
        pace: Pace {
            busy: Duration::from_millis(100),
            idle: Duration::from_secs(15),
            comment: Duration::from_secs(30),
            grace: Duration::ZERO,
        },
        labels: Labels { on: "preview".to_owned(), off: "preview:off".to_owned() },
        allow: AllowList {
            accounts: vec!["bench".to_owned()],
            regions: vec!["local".to_owned()],
            networks: vec!["host".to_owned()],
        },
        max_age: Duration::from_hours(24),
        seeds: BTreeMap::new(),
        secrets: BTreeSet::new(),
        removals: kagero::domain::policy::RemovalLimits::default(),
        placements: Placements::default(),
        slots: Vec::new(),
    }
}

/// Machines that are up as soon as they are asked for, with agents that serve whatever they are given.
#[derive(Default)]
struct Fleet {
    machines: Mutex<BTreeMap<String, Machine>>,
    agents: Mutex<BTreeMap<EnvUid, AgentStatus>>,
}

#[async_trait]
impl Machines for Fleet {
    async fn list(&self) -> Result<Listing<Machine>, CloudError> {
        let at = SystemClock.now();
        let items = self.machines.lock().unwrap().values().cloned().collect();
        Ok(Listing { items, complete: true, at })
    }

    async fn launch(&self, birth: MachineBirth<'_>) -> Result<MachineId, CloudError> {
        let MachineBirth { attempt, tags, .. } = birth;
        let name = format!("kagero-bench-{}-g{}-a{attempt}", tags.uid, tags.generation);
        let id = MachineId::parse(name.clone()).unwrap();
        let location = Location { account: "bench".into(), region: "local".into(), network: "host".into() };
        let (state, read_at) = (MachineState::Running, SystemClock.now());
        let agent = Some("127.0.0.1:9".to_owned());
        let machine = Machine {
            id: id.clone(),
            name: name.clone(),
            tags: Some(tags.clone()),
            location,
            state,
            agent,
            placement: None,
            slot: None,
            read_at,
        };
        self.machines.lock().unwrap().insert(name, machine);
        let idle = AgentStatus {
            uid: tags.uid.clone(),
            generation: tags.generation,
            version: "bench".to_owned(),
            sandbox: SandboxLevel::Bubblewrap,
            candidate: None,
            serving: None,
        };
        self.agents.lock().unwrap().insert(tags.uid.clone(), idle);
        Ok(id)
    }

    async fn stop(&self, _: &Owned<MachineId>) -> Result<(), CloudError> {
        unreachable!("nothing sleeps here")
    }

    async fn terminate(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        self.machines.lock().unwrap().remove(machine.name());
        Ok(())
    }

    async fn interfaces(&self) -> Result<Listing<Interface>, CloudError> {
        Ok(nothing())
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        Ok(nothing())
    }

    async fn clear_away(&self, residue: &OwnedResidue) -> Result<(), CloudError> {
        Err(unknown_residue(residue))
    }
}

#[async_trait]
impl Databases for Fleet {
    async fn list(&self) -> Result<Listing<kagero::domain::observed::Database>, CloudError> {
        Ok(Listing { items: Vec::new(), complete: true, at: SystemClock.now() })
    }

    async fn prepare(&self, _: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        unreachable!("the configuration asks for no database")
    }

    async fn stop(&self, _: &Owned<DatabaseId>) -> Result<(), CloudError> {
        unreachable!("nothing sleeps here")
    }

    async fn delete(&self, _: &Owned<DatabaseId>) -> Result<(), CloudError> {
        Ok(())
    }

    async fn access(&self, _: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        unreachable!("the configuration asks for no database")
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        Ok(nothing())
    }

    async fn clear_away(&self, residue: &OwnedResidue) -> Result<(), CloudError> {
        Err(unknown_residue(residue))
    }
}

#[async_trait]
impl Agents for Fleet {
    async fn status(&self, _: &str, uid: &EnvUid) -> Result<AgentStatus, String> {
        self.agents.lock().unwrap().get(uid).cloned().ok_or_else(|| "not there".to_owned())
    }

    async fn assign(&self, _: &str, assignment: &Assignment) -> Result<(), String> {
        let task = &assignment.task;
        let services = task.services.iter().map(|service| ServiceReport {
            name: service.name.clone(),
            state: ServiceState::Healthy,
            address: "127.0.0.1:9".parse().ok(),
            restarts: 0,
        });
        let rollout = Rollout {
            task: task.digest(),
            commit: task.commit.clone(),
            database: task.database.clone(),
            phase: RolloutPhase::Healthy,
            stages: Vec::new(),
            services: services.collect(),
        };
        if let Some(agent) = self.agents.lock().unwrap().get_mut(&task.uid) {
            agent.serving = Some(rollout);
        }
        Ok(())
    }

    async fn logs(&self, _: &str, _: &EnvUid, _: &LogWanted) -> Result<LogLines, String> {
        Err("no logs".to_owned())
    }
}

#[async_trait]
impl Prober for Fleet {
    async fn probe(&self, _: &HostLabel, _: &str, _: &EnvUid) -> Result<(), String> {
        Ok(())
    }
}

/// A GitHub with one repository and that many open pull requests.
struct Hub(usize);

impl Hub {
    fn facts(number: u64) -> PullFacts {
        PullFacts {
            key: EnvKey { repo: RepoId(1), pr: PrNumber(number) },
            repo: RepoName::parse("acme/shop").unwrap(),
            installation: InstallationId(1),
            state: PullState::Open,
            title: format!("Change {number}"),
            author: "dev".to_owned(),
            author_is_bot: false,
            draft: false,
            head_sha: CommitSha::parse(format!("{number:040x}")).unwrap(),
            head_ref: "topic".to_owned(),
            head_repo: Some(RepoId(1)),
            base_ref: "main".to_owned(),
            labels: BTreeSet::new(),
            updated_at: Timestamp(0),
            read_at: SystemClock.now(),
        }
    }
}

#[async_trait]
impl Forge for Hub {
    async fn repositories(&self) -> Result<Listing<RepoRef>, ForgeError> {
        let name = RepoName::parse("acme/shop").unwrap();
        let items = vec![RepoRef { id: RepoId(1), name, installation: InstallationId(1) }];
        Ok(Listing { items, complete: true, at: SystemClock.now() })
    }

    async fn open_pulls(&self, _: &RepoRef) -> Result<Listing<PullFacts>, ForgeError> {
        let items = (1..=self.0 as u64).map(Self::facts).collect();
        Ok(Listing { items, complete: true, at: SystemClock.now() })
    }

    async fn pull(&self, _: &RepoRef, number: PrNumber) -> Result<PullFacts, ForgeError> {
        Ok(Self::facts(number.0))
    }

    async fn file(&self, _: &RepoRef, _: &str, _: &str) -> Result<Option<String>, ForgeError> {
        Ok(Some("version: 1\nservices:\n  web: {run: \"serve\", health: \"/\", public: true}\n".to_owned()))
    }

    async fn sticky_comments(&self, _: &RepoRef, _: PrNumber, _: &str) -> Result<Vec<u64>, ForgeError> {
        Ok(Vec::new())
    }

    async fn create_comment(&self, _: &RepoRef, number: PrNumber, _: &str) -> Result<u64, ForgeError> {
        Ok(number.0)
    }

    async fn edit_comment(&self, _: &RepoRef, _: u64, _: &str) -> Result<(), ForgeError> {
        Ok(())
    }

    async fn delete_comment(&self, _: &RepoRef, _: u64) -> Result<(), ForgeError> {
        Ok(())
    }

    async fn deployments(&self, _: &RepoRef, _: &CommitSha, _: &str) -> Result<Vec<u64>, ForgeError> {
        Ok(Vec::new())
    }

    async fn create_deployment(&self, _: &RepoRef, _: &CommitSha, _: &str) -> Result<u64, ForgeError> {
        Ok(1)
    }

    async fn set_deployment(&self, _: &RepoRef, _: u64, _: &DeploymentStatus) -> Result<(), ForgeError> {
        Ok(())
    }

    async fn our_comments(&self, _: &RepoRef, _: &str, _: Timestamp) -> Result<Vec<Comment>, ForgeError> {
        Ok(Vec::new())
    }

    async fn our_comment(&self, _: &RepoRef, _: u64, _: &str) -> Result<Option<Comment>, ForgeError> {
        Ok(None)
    }

    async fn our_deployments(&self, _: &RepoRef, _: Timestamp) -> Result<Vec<Deployment>, ForgeError> {
        Ok(Vec::new())
    }

    async fn our_deployment(&self, _: &RepoRef, _: u64) -> Result<Option<Deployment>, ForgeError> {
        Ok(None)
    }

    async fn deployment_state(&self, _: &RepoRef, _: u64) -> Result<Option<String>, ForgeError> {
        Ok(None)
    }

    async fn failed_deliveries(&self, _: Timestamp) -> Result<Listing<FailedDelivery>, ForgeError> {
        Ok(Listing { items: Vec::new(), complete: true, at: SystemClock.now() })
    }

    async fn redeliver(&self, _: u64) -> Result<(), ForgeError> {
        Ok(())
    }

    async fn git_token(&self, _: &RepoRef) -> Result<Option<SecretString>, ForgeError> {
        Ok(None)
    }

    fn clone_url(&self, _: &RepoRef) -> String {
        "https://github.com/acme/shop.git".to_owned()
    }

    fn pull_url(&self, _: &RepoName, number: PrNumber) -> String {
        format!("https://github.com/acme/shop/pull/{}", number.0)
    }
}
