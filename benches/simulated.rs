//! An installation in the simulated world of `kagero::sim`: the real engine and a real SQLite store on disk; cloud,
//! agents, GitHub and time are simulated. Time stands still while the controller works, so that a simulated hour costs
//! what the controller's own work costs; what that is, is measured in wall time and CPU time.

use kagero::domain::network::Placements;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use kagero::controller::{Engine, World};
use kagero::domain::id::{CommitSha, EnvKey, InstallId, RepoId, RepoName};
use kagero::domain::policy::{AllowList, Engine as DatabaseEngine, Labels, Limits, LinkBase, Pace, Policy};
use kagero::forge::budget::WriteLimits;
use kagero::gateway::route::RouteTable;
use kagero::sim::chance::Chance;
use kagero::sim::clock::{BEGINNING, SimClock, Time};
use kagero::sim::cloud::{Cloud, Quotas, SimDatabases, SimMachines, Weather, staging};
use kagero::sim::fate::{Call, Dealer, Nerve};
use kagero::sim::hub::{Hub, PostalService, SimForge, key};
use kagero::sim::visitor::SimProber;
use kagero::store::{Delivery, Store};

const REPO: u64 = 42;

const CONFIG: &str = "version: 1
services:
  web: {run: ./serve, health: /, public: true}
build: ./build
database: {engine: postgres, seed: golden, migrate: ./migrate}
";

/// The defaults, but for a cloud in which what is new may be invisible.
pub const PACE: Pace = Pace {
    busy: Duration::from_secs(1),
    idle: Duration::from_secs(15),
    comment: Duration::from_secs(30),
    grace: Duration::from_mins(5),
};

/// As `kagero serve` does.
const RESYNC: Duration = Duration::from_mins(5);

/// What leaves the controller, counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Calls {
    pub listings: u64,
    /// Of 100 items each.
    pub pages: u64,
    pub launches: u64,
    pub changes: u64,
    pub github_reads: u64,
    pub github_writes: u64,
    pub agents: u64,
}

impl Calls {
    pub fn since(self, before: Self) -> Self {
        Self {
            listings: self.listings - before.listings,
            pages: self.pages - before.pages,
            launches: self.launches - before.launches,
            changes: self.changes - before.changes,
            github_reads: self.github_reads - before.github_reads,
            github_writes: self.github_writes - before.github_writes,
            agents: self.agents - before.agents,
        }
    }
}

/// See the module's documentation.
pub struct Stage {
    pub time: Time,
    pub cloud: Cloud,
    pub hub: Hub,
    pub store: Store,
    pub engine: Engine,
    /// What each pass took, in wall time, since they were last taken away.
    pub passes: Vec<Duration>,
    dealer: Arc<Dealer>,
    resync_at: Duration,
    look_at: Option<Duration>,
    commits: u64,
    _home: tempfile::TempDir,
}

impl Stage {
    pub async fn begin(weather: Weather, quotas: Quotas, pace: Pace, writes: WriteLimits) -> Self {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", home.path().join("kagero.db").display())).await.unwrap();
        let (time, chance) = (Time::default(), Chance::new(1));
        let cloud = Cloud::new(time.clone(), chance.branch(1), weather);
        cloud.set_quotas(quotas);
        let hub = Hub::new(time.clone(), chance.branch(2), PostalService::default());
        hub.add_repo(RepoId(REPO), RepoName::parse("acme/shop").unwrap(), CONFIG);
        let dealer = Arc::new(Dealer::default());
        let nerve = Nerve::new(Arc::clone(&dealer));
        let clock = Arc::new(SimClock::new(time.clone()));
        let policy = policy(pace);
        let install = policy.install.clone();
        let machines = Arc::new(SimMachines::new(cloud.clone(), install.clone(), nerve.clone(), clock.clone()));
        let routes = RouteTable::default();
        let world = World {
            forge: Arc::new(SimForge::new(hub.clone(), nerve.clone(), clock.clone())),
            machines: machines.clone(),
            databases: Arc::new(SimDatabases::new(cloud.clone(), install, nerve.clone(), clock.clone())),
            agents: machines,
            prober: Arc::new(SimProber::new(routes.clone(), cloud.clone(), nerve)),
            routes,
            clock,
            policy: ArcSwap::from_pointee(policy),
            secrets: BTreeMap::new(),
            holder: "bench".to_owned(),
            writes,
            store: store.clone(),
        };
        let engine = Engine::new(world).await.unwrap();
        Self {
            look_at: Some(time.elapsed()),
            time,
            cloud,
            hub,
            store,
            engine,
            passes: Vec::new(),
            dealer,
            resync_at: Duration::ZERO,
            commits: 0,
            _home: home,
        }
    }

    /// Something happens on that pull request: it is opened, or gets a commit.
    pub fn push(&mut self, pr: u64) {
        self.commits += 1;
        let sha = CommitSha::parse(format!("{:0<40}", format!("600d{:06x}", self.commits))).unwrap();
        self.hub.change(key(REPO, pr), &sha, |facts| {
            facts.head_sha = sha.clone();
            "topic".clone_into(&mut facts.head_ref);
        });
    }

    /// What the simulated world remembers of our calls is no memory of the controller's.
    pub fn forget(&self) {
        self.cloud.forget_journal();
        self.hub.forget_writes();
    }

    pub fn keys(&self) -> Vec<EnvKey> {
        self.hub.keys()
    }

    /// Lets that much time pass, and the controller do all that is due meanwhile.
    pub async fn pass_time(&mut self, by: Duration) {
        let until = self.time.elapsed() + by;
        while let Some(next) = self.next_at().filter(|next| *next <= until) {
            self.time.advance_to(next);
            self.step().await;
        }
        self.time.advance_to(until);
    }

    /// Lets time pass until that many environments have been proven to answer; the time.
    pub async fn until_ready(&mut self, wanted: usize, patience: Duration) -> Duration {
        let end = self.time.elapsed() + patience;
        loop {
            let ledgers = self.store.ledgers().await.unwrap();
            let proven: Vec<Duration> = ledgers
                .iter()
                .filter_map(|ledger| ledger.proven.as_ref())
                .map(|proof| proof.at.since(BEGINNING))
                .collect();
            if proven.len() >= wanted {
                return proven.into_iter().max().unwrap_or_default();
            }
            assert!(self.time.elapsed() < end, "{} of {wanted} environments are ready", proven.len());
            self.pass_time(Duration::from_secs(5)).await;
        }
    }

    fn next_at(&self) -> Option<Duration> {
        let arrival = self.hub.next_arrival().map(|at| at.since(BEGINNING));
        [arrival, self.engine.due_at(), self.look_at, Some(self.resync_at)].into_iter().flatten().min()
    }

    async fn step(&mut self) {
        let now = self.time.elapsed();
        if let Some(parcel) = self.hub.receive() {
            let delivery = Delivery {
                guid: parcel.guid.clone(),
                event: parcel.event.clone(),
                body: Bytes::from(parcel.body.clone()),
                received_at: self.time.now(),
            };
            self.store.inbox().accept(delivery).await.unwrap();
            self.hub.acknowledge(&parcel, true);
            self.look_at = Some(now);
        } else if self.look_at.is_some_and(|at| at <= now) {
            let again = self.engine.look().await.unwrap();
            self.look_at = again.map(|wait| now + wait.max(Duration::from_millis(1)));
        } else if self.resync_at <= now {
            self.resync_at = now + RESYNC;
            self.engine.resync().await;
        } else {
            let began = Instant::now();
            if self.engine.pass().await.is_some() {
                self.passes.push(began.elapsed());
            }
        }
    }

    pub fn calls(&self) -> Calls {
        let seen = |calls: &[Call]| calls.iter().map(|call| self.dealer.seen(*call)).sum();
        let (listings, pages) = self.cloud.listed();
        Calls {
            listings,
            pages,
            launches: seen(&[Call::Launch]),
            changes: seen(&[Call::Launch, Call::Terminate, Call::Prepare, Call::DeleteDatabase]),
            github_reads: self.hub.reads(),
            github_writes: seen(&[Call::Comment, Call::CreateDeployment, Call::SetDeployment]),
            agents: seen(&[Call::Status, Call::Assign]),
        }
    }
}

fn policy(pace: Pace) -> Policy {
    let place = staging();
    Policy {
        install: InstallId::parse("bench").unwrap(),
        domain: "preview.test".to_owned(),
        link: LinkBase { scheme: "https".to_owned(), port: None },
        repositories: vec!["acme/*".to_owned()],
        // Each environment builds on its own machine.
        limits: Limits { environments: 100_000, per_repository: 100_000, builds: 100_000, attempts: 3 },
        pace,
        labels: Labels { on: "preview".to_owned(), off: "preview:off".to_owned() },
        allow: AllowList { accounts: vec![place.account], regions: vec![place.region], networks: vec![place.network] },
        max_age: Duration::from_hours(14 * 24),
        seeds: BTreeMap::from([("golden".to_owned().try_into().unwrap(), DatabaseEngine::Postgres)]),
        secrets: BTreeSet::new(),
        removals: kagero::domain::policy::RemovalLimits::default(),
        placements: Placements::default(),
        slots: Vec::new(),
    }
}

/// No limit on what is written, or made, for a beginning that is not what is measured.
pub fn unlimited() -> (Quotas, WriteLimits) {
    let many = 1_000_000;
    let writes = WriteLimits { per_minute: many, per_hour: many, pause: Duration::ZERO };
    (Quotas { machines: many, databases: many, launches: (1_000_000, 1_000_000) }, writes)
}

pub fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default()
}
