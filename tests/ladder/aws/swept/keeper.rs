//! A controller that sweeps: the real sweep over the real provider on moto and a store of its own. GitHub is simulated and
//! answers at once.
//!
//! Guarantees: its clock runs as any does, and is put forward only by who asks for it.
//! Must not know: what is compared.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use kagero::clock::{Clock, SystemClock};
use kagero::cloud::aws::{Ec2Machines, MachineSettings, RdsSettings};
use kagero::controller::{Desk, Engine, World};
use kagero::domain::id::{CommitSha, EnvKey, EnvUid, Generation, PrNumber, RepoId, RepoName};
use kagero::domain::ledger::{Ledger, Said, Standing};
use kagero::domain::network::Placements;
use kagero::domain::policy::{Labels, Limits, LinkBase, Pace, Policy, RemovalLimits};
use kagero::domain::pull::PullState;
use kagero::domain::time::Timestamp;
use kagero::forge::budget::WriteLimits;
use kagero::gateway::route::RouteTable;
use kagero::sim::chance::Chance;
use kagero::sim::clock::Time;
use kagero::sim::cloud::{Cloud, SimMachines, Weather};
use kagero::sim::fate::{Dealer, Nerve};
use kagero::sim::hub::{Hub, PostalService, SimForge};
use kagero::sim::visitor::SimProber;
use kagero::store::Store;

use super::super::counterpart::install;
use super::super::databases::Rds;
use super::{FIRST_LIVING, Orphans};

const REPO: RepoId = RepoId(1);

/// The machine's clock, put forward.
#[derive(Default)]
pub struct Forward(AtomicU64);

impl Forward {
    pub fn forward(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for Forward {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(Duration::from_millis(self.0.load(Ordering::SeqCst)))
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime()
    }
}

pub struct Keeper {
    pub desk: Desk,
    pub clock: Arc<Forward>,
    _home: tempfile::TempDir,
}

fn key(pr: u64) -> EnvKey {
    EnvKey { repo: REPO, pr: PrNumber(pr) }
}

impl Keeper {
    pub fn uid(pr: u64) -> EnvUid {
        EnvUid::derive(&install(), key(pr))
    }

    /// One that knows the pull requests of the orphans as closed, and has records of so many environments that live.
    pub async fn of(rds: &Rds, orphans: Orphans, living: u64) -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", home.path().join("kagero.db").display())).await.unwrap();
        let clock = Arc::new(Forward::default());
        let time = Time::default();
        let hub = Hub::new(time.clone(), Chance::new(1), PostalService::default());
        hub.add_repo(REPO, RepoName::parse("acme/shop").unwrap(), "version: 1\n");
        let sha = CommitSha::parse("600d".repeat(10)).unwrap();
        let gone = orphans.machines().chain(orphans.databases());
        for pr in gone.chain(FIRST_LIVING..FIRST_LIVING + living) {
            let state = if pr < FIRST_LIVING { PullState::Closed } else { PullState::Open };
            hub.change(key(pr), &sha, |facts| facts.state = state);
        }
        let facts: Vec<_> = hub.pulls().into_values().map(|pull| pull.facts).collect();
        let repo =
            kagero::forge::RepoRef { id: REPO, name: facts[0].repo.clone(), installation: facts[0].installation };
        store.put_repo(&repo, clock.now()).await.unwrap();
        store.put_pulls(&facts).await.unwrap();
        for pr in FIRST_LIVING..FIRST_LIVING + living {
            let lease = store.acquire(key(pr), "before", Duration::from_mins(1), clock.now()).await.unwrap().unwrap();
            store.enroll(&lease, &record(pr, clock.now())).await.unwrap();
            store.release_lease(&lease).await.unwrap();
        }
        let network = rds.staging.network().await;
        let settings = MachineSettings { page: MachineSettings::PAGE, ..rds.staging.settings() };
        let machines = Ec2Machines::new(rds.staging.aws.clone(), settings, network.clone(), clock.clone());
        let databases = rds.lane_by(network, RdsSettings::PAGE, clock.clone());
        let (nerve, routes) = (Nerve::new(Arc::new(Dealer::default())), RouteTable::default());
        let nowhere = Cloud::new(time, Chance::new(1), Weather::FAIR);
        let world = World {
            forge: Arc::new(SimForge::new(hub, nerve.clone(), clock.clone())),
            machines: Arc::new(machines),
            databases: Arc::new(databases),
            agents: Arc::new(SimMachines::new(nowhere.clone(), install(), nerve.clone(), clock.clone())),
            prober: Arc::new(SimProber::new(routes.clone(), nowhere, nerve)),
            routes,
            clock: clock.clone(),
            policy: ArcSwap::from_pointee(policy(rds)),
            secrets: BTreeMap::new(),
            holder: "sweeper".to_owned(),
            writes: WriteLimits::default(),
            store,
        };
        Self { desk: Engine::new(world).await.unwrap().desk(), clock, _home: home }
    }
}

fn record(pr: u64, now: Timestamp) -> Ledger {
    Ledger {
        key: key(pr),
        uid: Keeper::uid(pr),
        generation: Generation::FIRST,
        hosts: Vec::new(),
        enrolled_at: now,
        standing: Standing::Live,
        slot: None,
        left: None,
        intents: Vec::new(),
        proven: None,
        said: Said::default(),
    }
}

fn policy(rds: &Rds) -> Policy {
    Policy {
        install: install(),
        domain: "preview.test".to_owned(),
        link: LinkBase { scheme: "https".to_owned(), port: None },
        repositories: vec!["acme/*".to_owned()],
        limits: Limits { environments: 1_000, per_repository: 1_000, builds: 1_000, attempts: 3 },
        pace: Pace {
            busy: Duration::from_secs(1),
            idle: Duration::from_secs(15),
            comment: Duration::from_secs(30),
            grace: Duration::from_mins(5),
        },
        labels: Labels { on: "preview".to_owned(), off: "preview:off".to_owned() },
        allow: rds.allowed(),
        max_age: Duration::from_hours(14 * 24),
        seeds: BTreeMap::new(),
        secrets: BTreeSet::new(),
        removals: RemovalLimits::default(),
        placements: Placements::default(),
        slots: Vec::new(),
    }
}
