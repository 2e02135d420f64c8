//! A GitHub and a fleet that several controllers in this process share, and what they have done to them.

use kagero::domain::network::{Interface, Placements};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
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
use kagero::domain::observed::{Database, Listing, Location, Machine, MachineState, Residue};
use kagero::domain::owned::{Owned, OwnedResidue};
use kagero::domain::policy::{AllowList, Labels, Limits, LinkBase, Pace, Policy};
use kagero::domain::pull::{PullFacts, PullState};
use kagero::domain::time::Timestamp;
use kagero::domain::words::{Comment, Deployment};
use kagero::forge::budget::WriteLimits;
use kagero::forge::{DeploymentStatus, FailedDelivery, Forge, ForgeError, RepoRef};
use kagero::gateway::route::{Route, RouteTable};
use kagero::store::{Delivery, Store};
use secrecy::SecretString;

/// How often an agent says that it builds before it has built.
const LOOKS: u32 = 4;

/// What all replicas see.
#[derive(Default)]
pub struct Shared {
    pub machines: Mutex<BTreeMap<String, Machine>>,
    agents: Mutex<BTreeMap<EnvUid, (AgentStatus, u32)>>,
    /// The open pull requests.
    pub open: Mutex<BTreeSet<u64>>,
    /// Which replica has launched what.
    pub launched: Mutex<Vec<(&'static str, String)>>,
    /// The texts of comments by pull request: one entry for each comment that was made.
    pub comments: Mutex<Vec<u64>>,
    pub most_machines: Mutex<usize>,
    pub most_builds: Mutex<usize>,
    pub listings: Mutex<usize>,
    /// Which machines were taken away.
    pub terminated: Mutex<Vec<String>>,
    /// Whose listings do not come back yet, and how many wait.
    pub held: Mutex<Option<&'static str>>,
    pub waiting: Mutex<usize>,
    ahead: AtomicI64,
}

impl Shared {
    pub fn new(open: impl IntoIterator<Item = u64>) -> Arc<Self> {
        Arc::new(Self { open: Mutex::new(open.into_iter().collect()), ..Self::default() })
    }

    /// Lets time pass at once.
    pub fn pass(&self, time: Duration) {
        self.ahead.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }

    fn now(&self) -> Timestamp {
        Timestamp(SystemClock.now().0 + self.ahead.load(Ordering::Relaxed))
    }
}

pub fn key(number: u64) -> EnvKey {
    EnvKey { repo: RepoId(1), pr: PrNumber(number) }
}

pub fn limits(environments: u32, builds: u32) -> Limits {
    Limits { environments, per_repository: environments, builds, attempts: 3 }
}

/// One controller.
pub struct Replica {
    pub store: Store,
    routes: RouteTable,
    controller: Controller,
}

/// What one replica sees.
struct Eyes {
    name: &'static str,
    shared: Arc<Shared>,
    /// Whether it dies at its first launch: the call never returns.
    dies: bool,
}

impl Replica {
    pub async fn start(name: &'static str, url: &str, shared: &Arc<Shared>, limits: Limits) -> Self {
        Self::start_with(Eyes { name, shared: Arc::clone(shared), dies: false }, url, limits).await
    }

    /// One whose first calls to the provider never come back.
    pub async fn start_to_die(name: &'static str, url: &str, shared: &Arc<Shared>, limits: Limits) -> Self {
        Self::start_with(Eyes { name, shared: Arc::clone(shared), dies: true }, url, limits).await
    }

    /// One that makes a full look at GitHub that often.
    pub async fn start_looking(name: &'static str, url: &str, shared: &Arc<Shared>, resync: Duration) -> Self {
        let eyes = Eyes { name, shared: Arc::clone(shared), dies: false };
        Self::start_tuned(eyes, url, limits(100, 100), resync).await
    }

    async fn start_with(eyes: Eyes, url: &str, limits: Limits) -> Self {
        Self::start_tuned(eyes, url, limits, Tuning::default().resync).await
    }

    async fn start_tuned(eyes: Eyes, url: &str, limits: Limits, resync: Duration) -> Self {
        let store = Store::open(url).await.unwrap();
        let routes = RouteTable::default();
        let holder = eyes.name.to_owned();
        let eyes = Arc::new(eyes);
        let world = World {
            store: store.clone(),
            forge: Arc::clone(&eyes) as Arc<dyn Forge>,
            machines: Arc::clone(&eyes) as Arc<dyn Machines>,
            databases: Arc::clone(&eyes) as Arc<dyn Databases>,
            agents: Arc::clone(&eyes) as Arc<dyn Agents>,
            prober: Arc::clone(&eyes) as Arc<dyn Prober>,
            routes: routes.clone(),
            clock: Arc::clone(&eyes) as Arc<dyn Clock>,
            policy: ArcSwap::from_pointee(policy(limits)),
            secrets: BTreeMap::new(),
            holder,
            writes: WriteLimits { per_minute: 10_000, per_hour: 10_000, pause: Duration::ZERO },
        };
        let tuning = Tuning { workers: 4, resync, sweep: None };
        let controller = Controller::start(world, tuning).await.unwrap();
        Self { store, routes, controller }
    }

    /// A webhook reaches this replica.
    pub async fn deliver(&self, number: u64, action: &str) {
        let body = format!(
            r#"{{"action": "{action}", "pull_request": {{"number": {number}}}, "installation": {{"id": 1}},
                 "repository": {{"id": 1, "full_name": "acme/shop"}}}}"#
        );
        let guid = format!("{number}-{}", SystemClock.now().0);
        let delivery = Delivery {
            guid,
            event: "pull_request".to_owned(),
            body: Bytes::from(body),
            received_at: SystemClock.now(),
        };
        self.store.inbox().accept(delivery).await.unwrap();
    }

    /// Ends wherever it is, in the middle of passes too; gives nothing back.
    pub async fn die(self) {
        self.controller.stop().await;
        self.store.close().await;
    }

    /// The number of proven environments.
    pub async fn ready(&self) -> usize {
        let ledgers = self.store.unreleased().await.unwrap();
        ledgers.iter().filter(|ledger| ledger.proven.is_some()).count()
    }

    /// How many of these environments the gateway leads to.
    pub fn served(&self, numbers: impl IntoIterator<Item = u64>) -> usize {
        self.routed(numbers).filter(|route| route.upstream.is_some()).count()
    }

    /// How many of these environments the gateway has at least a page for.
    pub fn shown(&self, numbers: impl IntoIterator<Item = u64>) -> usize {
        self.routed(numbers).count()
    }

    fn routed(&self, numbers: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Arc<Route>> {
        let label = |number| HostLabel::derive("shop", key(number), None);
        numbers.into_iter().filter_map(move |number| self.routes.get(label(number).as_str()))
    }
}

fn policy(limits: Limits) -> Policy {
    Policy {
        install: InstallId::parse("twins").unwrap(),
        domain: "preview.test".to_owned(),
        link: LinkBase { scheme: "https".to_owned(), port: None },
        repositories: vec!["acme/*".to_owned()],
        limits,
        pace: Pace {
            busy: Duration::from_millis(50),
            // What is to be seen without a webhook within a test is seen because a replica was told.
            idle: Duration::from_hours(1),
            comment: Duration::ZERO,
            // Between a question's note and its effect a listing shows neither.
            grace: Duration::from_secs(1),
        },
        labels: Labels { on: "preview".to_owned(), off: "preview:off".to_owned() },
        allow: AllowList {
            accounts: vec!["twins".to_owned()],
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

impl Clock for Eyes {
    fn now(&self) -> Timestamp {
        self.shared.now()
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime()
    }
}

#[async_trait]
impl Machines for Eyes {
    async fn list(&self) -> Result<Listing<Machine>, CloudError> {
        let at = self.shared.now();
        let mut items: Vec<Machine> = self.shared.machines.lock().unwrap().values().cloned().collect();
        for machine in &mut items {
            machine.read_at = at;
        }
        if *self.shared.held.lock().unwrap() == Some(self.name) {
            *self.shared.waiting.lock().unwrap() += 1;
            while *self.shared.held.lock().unwrap() == Some(self.name) {
                crate::wait::look_again().await;
            }
        }
        Ok(Listing { items, complete: true, at })
    }

    async fn launch(&self, birth: MachineBirth<'_>) -> Result<MachineId, CloudError> {
        let MachineBirth { attempt, tags, .. } = birth;
        let name = format!("kagero-twins-{}-g{}-a{attempt}", tags.uid, tags.generation);
        self.shared.launched.lock().unwrap().push((self.name, name.clone()));
        if self.dies {
            std::future::pending::<()>().await;
        }
        let id = MachineId::parse(name.clone()).unwrap();
        let location = Location { account: "twins".into(), region: "local".into(), network: "host".into() };
        let (state, read_at) = (MachineState::Running, self.shared.now());
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
        let idle = AgentStatus {
            uid: tags.uid.clone(),
            generation: tags.generation,
            version: "twins".to_owned(),
            sandbox: SandboxLevel::Bubblewrap,
            candidate: None,
            serving: None,
        };
        self.shared.agents.lock().unwrap().entry(tags.uid.clone()).or_insert((idle, 0));
        let mut machines = self.shared.machines.lock().unwrap();
        machines.entry(name).or_insert(machine);
        let mut most = self.shared.most_machines.lock().unwrap();
        *most = machines.len().max(*most);
        Ok(id)
    }

    async fn stop(&self, _: &Owned<MachineId>) -> Result<(), CloudError> {
        unreachable!("nothing sleeps here")
    }

    async fn terminate(&self, machine: &Owned<MachineId>) -> Result<(), CloudError> {
        self.shared.terminated.lock().unwrap().push(machine.name().to_owned());
        let gone = self.shared.machines.lock().unwrap().remove(machine.name());
        if let Some(tags) = gone.and_then(|machine| machine.tags) {
            self.shared.agents.lock().unwrap().remove(&tags.uid);
        }
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
impl Databases for Eyes {
    async fn list(&self) -> Result<Listing<Database>, CloudError> {
        Ok(Listing { items: Vec::new(), complete: true, at: self.shared.now() })
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

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        Ok(nothing())
    }

    async fn clear_away(&self, residue: &OwnedResidue) -> Result<(), CloudError> {
        Err(unknown_residue(residue))
    }

    async fn access(&self, _: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        unreachable!("the configuration asks for no database")
    }
}

#[async_trait]
impl Agents for Eyes {
    async fn status(&self, _: &str, uid: &EnvUid) -> Result<AgentStatus, String> {
        let mut agents = self.shared.agents.lock().unwrap();
        let (status, looks) = agents.get_mut(uid).ok_or("not there")?;
        if let Some(candidate) = &status.candidate {
            *looks += 1;
            if *looks > LOOKS {
                status.serving = Some(Rollout { phase: RolloutPhase::Healthy, ..candidate.clone() });
                status.candidate = None;
            }
        }
        Ok(status.clone())
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
            phase: RolloutPhase::Working,
            stages: Vec::new(),
            services: services.collect(),
        };
        let mut agents = self.shared.agents.lock().unwrap();
        let (status, looks) = agents.get_mut(&task.uid).ok_or("not there")?;
        if status.serving.as_ref().is_none_or(|serving| serving.task != rollout.task) && status.candidate.is_none() {
            (status.candidate, *looks) = (Some(rollout), 0);
        }
        let builds = agents.values().filter(|(status, _)| status.candidate.is_some()).count();
        let mut most = self.shared.most_builds.lock().unwrap();
        *most = builds.max(*most);
        Ok(())
    }

    async fn logs(&self, _: &str, _: &EnvUid, _: &LogWanted) -> Result<LogLines, String> {
        Err("no logs".to_owned())
    }
}

#[async_trait]
impl Prober for Eyes {
    async fn probe(&self, _: &HostLabel, _: &str, _: &EnvUid) -> Result<(), String> {
        Ok(())
    }
}

impl Eyes {
    fn facts(&self, number: u64) -> PullFacts {
        let open = self.shared.open.lock().unwrap().contains(&number);
        PullFacts {
            key: key(number),
            repo: RepoName::parse("acme/shop").unwrap(),
            installation: InstallationId(1),
            state: if open { PullState::Open } else { PullState::Closed },
            title: format!("Change {number}"),
            author: "dev".to_owned(),
            author_is_bot: false,
            draft: false,
            head_sha: CommitSha::parse(format!("{number:040x}")).unwrap(),
            head_ref: "topic".to_owned(),
            head_repo: Some(RepoId(1)),
            base_ref: "main".to_owned(),
            labels: BTreeSet::new(),
            updated_at: self.shared.now(),
            read_at: self.shared.now(),
        }
    }
}

#[async_trait]
impl Forge for Eyes {
    async fn repositories(&self) -> Result<Listing<RepoRef>, ForgeError> {
        let name = RepoName::parse("acme/shop").unwrap();
        let items = vec![RepoRef { id: RepoId(1), name, installation: InstallationId(1) }];
        Ok(Listing { items, complete: true, at: self.shared.now() })
    }

    async fn open_pulls(&self, _: &RepoRef) -> Result<Listing<PullFacts>, ForgeError> {
        *self.shared.listings.lock().unwrap() += 1;
        let open = self.shared.open.lock().unwrap().clone();
        let items = open.into_iter().map(|number| self.facts(number)).collect();
        Ok(Listing { items, complete: true, at: self.shared.now() })
    }

    async fn pull(&self, _: &RepoRef, number: PrNumber) -> Result<PullFacts, ForgeError> {
        Ok(self.facts(number.0))
    }

    async fn file(&self, _: &RepoRef, _: &str, _: &str) -> Result<Option<String>, ForgeError> {
        Ok(Some("version: 1\nservices:\n  web: {run: \"serve\", health: \"/\", public: true}\n".to_owned()))
    }

    async fn sticky_comments(&self, _: &RepoRef, number: PrNumber, _: &str) -> Result<Vec<u64>, ForgeError> {
        let comments = self.shared.comments.lock().unwrap();
        Ok(comments.iter().copied().filter(|of| *of == number.0).collect())
    }

    async fn create_comment(&self, _: &RepoRef, number: PrNumber, _: &str) -> Result<u64, ForgeError> {
        self.shared.comments.lock().unwrap().push(number.0);
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
        Ok(Listing { items: Vec::new(), complete: true, at: self.shared.now() })
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
