//! A whole installation in a simulated world: moves time, and whoever has something to do at that time.

use kagero::domain::network::Placements;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kagero::domain::id::{CommitSha, EnvKey, EnvUid, InstallId, RepoId, RepoName, SlotId};
use kagero::domain::ledger::DeploymentState;
use kagero::domain::policy::{AllowList, Engine, Labels, Limits, LinkBase, Pace, Policy, RemovalLimits};
use kagero::sim::chance::Chance;
use kagero::sim::clock::Time;
use kagero::sim::cloud::{Cloud, Weather, staging};
use kagero::sim::fate::Dealer;
use kagero::sim::hub::{Hub, PostalService};
use kagero::store::{Delivery, Store};
use tokio::sync::OnceCell;

use super::member::{Member, Outside};
use super::truth::{Truth, Violation};

/// The repository of all stories.
pub const REPO: u64 = 42;

pub const CONFIG: &str = "version: 1
trigger: {mode: automatic, draft: skip, forks: approve}
services:
  web: {run: ./serve, health: /, public: true}
build: ./build
database: {engine: postgres, seed: golden, migrate: ./migrate}
";

/// How to begin.
pub struct Beginning {
    pub seed: u64,
    pub weather: Weather,
    pub post: PostalService,
    pub members: usize,
    pub environments: u32,
    /// Whether environments are kept apart by slots.
    pub slots: bool,
    /// Whether machines are put into zones.
    pub zones: bool,
    pub removals: RemovalLimits,
}

impl Beginning {
    pub fn fair(seed: u64) -> Self {
        Self {
            seed,
            weather: Weather::FAIR,
            post: PostalService::default(),
            members: 1,
            environments: 100,
            slots: false,
            zones: false,
            removals: RemovalLimits::default(),
        }
    }
}

/// See the module's documentation.
pub struct Installation {
    pub outside: Outside,
    pub members: Vec<Member>,
    pub truth: Truth,
    directory: tempfile::TempDir,
}

const FILE: &str = "kagero.db";

/// No history takes this many steps; one that does goes round in circles.
const STEPS: usize = 60_000;

impl Installation {
    pub async fn begin(beginning: Beginning) -> Self {
        let time = Time::default();
        let chance = Chance::new(beginning.seed);
        let cloud = Cloud::new(time.clone(), chance.branch(1), beginning.weather);
        let hub = Hub::new(time.clone(), chance.branch(2), beginning.post);
        hub.add_repo(RepoId(REPO), RepoName::parse("acme/shop").unwrap(), CONFIG);
        let (store, directory) = store().await;
        let policy = policy(&beginning);
        let has_server = beginning.members > 1;
        let outside = Outside { time, cloud, hub, dealer: Arc::new(Dealer::default()), store, policy, has_server };
        let mut members = Vec::new();
        for number in 0..beginning.members {
            members.push(Member::start(&format!("member{number}"), outside.clone()).await);
        }
        Self { truth: Truth::new(outside.clone()), outside, members, directory }
    }

    /// The store's file.
    pub fn file(&self) -> std::path::PathBuf {
        self.directory.path().join(FILE)
    }

    pub async fn end(self) {
        drop(self.members);
        self.outside.store.close().await;
        drop(self.directory);
    }

    /// Everybody is started again with another policy.
    pub async fn adopt(&mut self, policy: Policy) {
        self.outside.policy = policy.clone();
        self.truth.note_policy(policy.clone());
        for member in &mut self.members {
            member.adopt(policy.clone()).await;
        }
    }

    /// The store is lost with all that is in it, and every controller stands still; in its place is one with nothing in it.
    pub async fn lose_store(&mut self) {
        self.members.iter_mut().for_each(Member::halt);
        let (store, directory) = store().await;
        std::mem::replace(&mut self.outside.store, store.clone()).close().await;
        self.directory = directory;
        self.truth.note_store(store.clone());
        self.members.iter_mut().for_each(|member| member.note_store(store.clone()));
    }

    pub fn uid(&self, key: EnvKey) -> EnvUid {
        EnvUid::derive(&self.outside.policy.install, key)
    }

    /// Whether something lives that no open record knows, or a deployment goes on that no record names.
    pub async fn is_leaking(&self) -> bool {
        for (key, pull) in self.outside.hub.pulls() {
            let ledger = self.outside.store.ledger(key).await.unwrap();
            let named = |id: u64| {
                ledger.as_ref().is_some_and(|ledger| ledger.said.deployments.iter().any(|made| made.id == Some(id)))
            };
            if pull.deployments.iter().any(|(id, (_, state))| {
                !matches!(state, Some(DeploymentState::Inactive | DeploymentState::Failure)) && !named(*id)
            }) {
                return true;
            }
            let released = ledger.is_none_or(|ledger| ledger.is_released());
            if released && self.outside.cloud.alive(self.uid(key).as_str()) != (0, 0) {
                return true;
            }
        }
        false
    }

    /// Lets that much time pass.
    pub async fn pass_time(&mut self, by: Duration) -> Result<(), Violation> {
        let until = self.outside.time.elapsed() + by;
        for _ in 0..STEPS {
            if !self.go_on(until).await? {
                return Ok(());
            }
        }
        Err(Violation(format!("after {STEPS} steps there still is something to do before {until:?}")))
    }

    /// Lets the next thing happen that is due until then: whether there was one.
    pub async fn go_on(&mut self, until: Duration) -> Result<bool, Violation> {
        let arrival = self.outside.hub.next_arrival().map(elapsed);
        let next = self.members.iter().map(Member::due_at).chain(arrival).min().unwrap();
        self.outside.time.advance_to(next.min(until));
        if next > until {
            return Ok(false);
        }
        if !self.deliver().await {
            let index = (0..self.members.len()).min_by_key(|index| self.members[*index].due_at()).unwrap();
            self.members[index].step().await;
        }
        self.truth.look().await?;
        Ok(true)
    }

    /// Whether something had arrived.
    async fn deliver(&mut self) -> bool {
        let Some(parcel) = self.outside.hub.receive() else { return false };
        let mut accepted = false;
        if self.members.iter().any(Member::is_going) {
            let delivery = Delivery {
                guid: parcel.guid.clone(),
                event: parcel.event.clone(),
                body: Bytes::from(parcel.body.clone()),
                received_at: self.outside.time.now(),
            };
            accepted = self.outside.store.inbox().accept(delivery).await.is_ok();
            self.members.iter_mut().for_each(Member::told);
        }
        self.outside.hub.acknowledge(&parcel, accepted);
        true
    }
}

fn elapsed(at: kagero::domain::time::Timestamp) -> Duration {
    at.since(kagero::sim::clock::BEGINNING)
}

async fn store() -> (Store, tempfile::TempDir) {
    // In memory where there is a file system for it: thousands of stores are made.
    let shared = std::path::Path::new("/dev/shm");
    let directory = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() }.unwrap();
    let file = directory.path().join(FILE);
    std::fs::write(&file, EMPTY.get_or_init(empty).await).unwrap();
    (open(&file).await, directory)
}

/// A store with nothing in it, as its file: the migrations need not run thousands of times.
static EMPTY: OnceCell<Vec<u8>> = OnceCell::const_new();

async fn empty() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE);
    open(&file).await.close().await;
    std::fs::read(&file).unwrap()
}

async fn open(file: &std::path::Path) -> Store {
    Store::open(&format!("sqlite:{}", file.display())).await.unwrap()
}

/// What the operator wants.
pub fn policy(beginning: &Beginning) -> Policy {
    let environments = beginning.environments;
    let slots = 1..=if beginning.slots { environments } else { 0 };
    let place = staging();
    Policy {
        install: InstallId::parse("simulated").unwrap(),
        domain: "preview.test".to_owned(),
        link: LinkBase { scheme: "https".to_owned(), port: None },
        repositories: vec!["acme/*".to_owned()],
        limits: Limits { environments, per_repository: environments, builds: 4, attempts: 3 },
        pace: Pace {
            busy: Duration::from_secs(15),
            idle: Duration::from_mins(10),
            comment: Duration::from_secs(30),
            grace: Duration::from_mins(5),
        },
        labels: Labels { on: "preview".to_owned(), off: "preview:off".to_owned() },
        allow: AllowList { accounts: vec![place.account], regions: vec![place.region], networks: vec![place.network] },
        max_age: Duration::from_hours(14 * 24),
        seeds: BTreeMap::from([("golden".to_owned().try_into().unwrap(), Engine::Postgres)]),
        secrets: BTreeSet::new(),
        removals: beginning.removals,
        placements: if beginning.zones { placements() } else { Placements::default() },
        slots: slots.map(|number| SlotId::parse(format!("sg-{number}")).unwrap()).collect(),
    }
}

fn placements() -> Placements {
    let words = |words: [&str; 2]| words.map(str::to_owned).to_vec();
    Placements { zones: words(["eu-central-1a", "eu-central-1b"]), kinds: words(["t3.medium", "t3a.medium"]) }
}

/// A commit with that number; broken ones cannot be built.
pub fn commit(number: u64, broken: bool) -> CommitSha {
    let head = if broken { kagero::sim::cloud::BROKEN_COMMIT } else { "600d" };
    CommitSha::parse(format!("{:0<40}", format!("{head}{number:03x}"))).unwrap()
}
