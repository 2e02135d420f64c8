//! The controller with a provider that makes its passes panic.

use kagero::domain::network::Interface;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use kagero::clock::{Clock as _, SystemClock};
use kagero::cloud::local::databases::{SqliteConfig, SqliteDatabases};
use kagero::cloud::{CloudError, MachineBirth, Machines, Room, nothing, unknown_residue};
use kagero::config::load_server;
use kagero::controller::{Agents, Controller, LogLines, LogWanted, Prober, Tuning, World};
use kagero::domain::assignment::{AgentStatus, Assignment};
use kagero::domain::id::{EnvUid, HostLabel, MachineId};
use kagero::domain::observed::{Listing, Machine, Residue};
use kagero::domain::owned::{Owned, OwnedResidue};
use kagero::forge::budget::WriteLimits;
use kagero::gateway::RouteTable;
use kagero::store::Store;

use crate::process::rig::{PATIENCE, Rig, Setup};
use crate::wait::eventually;

/// Half of how long a lease lasts that nobody gives back.
const SOON: Duration = Duration::from_secs(30);

/// Has no machine, and panics where it should make one.
#[derive(Default)]
struct Trapdoor {
    fallen: AtomicU32,
    /// How many environments there is room for; `None`: any number.
    room: Option<u32>,
}

#[async_trait]
impl Machines for Trapdoor {
    async fn list(&self) -> Result<Listing<Machine>, CloudError> {
        Ok(Listing { items: Vec::new(), complete: true, at: SystemClock.now() })
    }

    async fn launch(&self, _: MachineBirth<'_>) -> Result<MachineId, CloudError> {
        let before = self.fallen.fetch_add(1, Ordering::Relaxed);
        panic!("fallen {before} times before");
    }

    async fn stop(&self, _: &Owned<MachineId>) -> Result<(), CloudError> {
        unreachable!("nothing sleeps here")
    }

    async fn terminate(&self, _: &Owned<MachineId>) -> Result<(), CloudError> {
        Ok(())
    }

    async fn room(&self) -> Result<Option<Room>, CloudError> {
        Ok(self.room.map(|environments| Room { environments, limit: "vCPUs".to_owned() }))
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

/// Nobody is there to speak to.
struct Nobody;

#[async_trait]
impl Agents for Nobody {
    async fn status(&self, _: &str, _: &EnvUid) -> Result<AgentStatus, String> {
        Err("nobody".to_owned())
    }

    async fn assign(&self, _: &str, _: &Assignment) -> Result<(), String> {
        Err("nobody".to_owned())
    }

    async fn logs(&self, _: &str, _: &EnvUid, _: &LogWanted) -> Result<LogLines, String> {
        Err("nobody".to_owned())
    }
}

#[async_trait]
impl Prober for Nobody {
    async fn probe(&self, _: &HostLabel, _: &str, _: &EnvUid) -> Result<(), String> {
        Err("nobody".to_owned())
    }
}

async fn prepared() -> Rig {
    let database = "database: {engine: sqlite, seed: golden, migrate: \"sh migrate.sh\"}";
    let rig = Rig::prepare(Setup::sqlite().with_yml_edited(database, "database: none")).await;
    rig.reconfigure("grace = \"2s\"", "grace = \"300ms\"");
    rig
}

async fn world(rig: &Rig, machines: Arc<Trapdoor>) -> World {
    let state_dir = rig.dir().join("state");
    let store = Store::open(&format!("sqlite:{}", state_dir.join("kagero.db").display())).await.unwrap();
    let policy = load_server(&rig.dir().join("kagero.toml")).map_err(|errors| format!("{errors:?}")).unwrap().policy();
    let clock = Arc::new(SystemClock);
    let databases = SqliteConfig { state_dir, install: policy.install.clone(), goldens: Vec::new(), at_once: 1 };
    World {
        store,
        forge: Arc::new(rig.app()),
        machines,
        databases: Arc::new(SqliteDatabases::new(databases, clock.clone())),
        agents: Arc::new(Nobody),
        prober: Arc::new(Nobody),
        routes: RouteTable::default(),
        clock,
        policy: ArcSwap::from_pointee(policy),
        secrets: std::collections::BTreeMap::new(),
        holder: "the test".to_owned(),
        writes: WriteLimits { pause: Duration::ZERO, ..WriteLimits::default() },
    }
}

#[tokio::test]
async fn no_more_environments_are_made_than_the_providers_limits_leave_room_for() {
    let mut rig = prepared().await;
    let machines = Arc::new(Trapdoor { room: Some(0), ..Trapdoor::default() });
    let world = world(&rig, machines.clone()).await;
    // Nobody tells of the pull request: it is found by the next listing.
    let tuning = Tuning { resync: Duration::from_secs(1), ..Tuning::default() };
    let controller = Controller::start(world, tuning).await.unwrap();
    eventually("the limits are known", PATIENCE, async || controller.world().policy.load().limits.environments == 0)
        .await;
    let number = rig.open("Waits", vec![]).await;
    rig.until_says(number, "queued").await;
    assert_eq!(machines.fallen.load(Ordering::Relaxed), 0, "no machine was asked for");
    controller.stop().await;
}

#[tokio::test]
async fn a_pass_that_panics_gives_its_lease_back_and_stops_no_other() {
    let mut rig = prepared().await;
    let machines = Arc::new(Trapdoor::default());
    let world = world(&rig, machines.clone()).await;
    let number = rig.open("Falls", vec![]).await;
    let controller = Controller::start(world, Tuning { workers: 1, ..Tuning::default() }).await.unwrap();
    eventually("it falls once", PATIENCE, async || machines.fallen.load(Ordering::Relaxed) > 0).await;
    let fallen = Instant::now();
    // Each pass takes the lease anew.
    eventually("it is tried again", PATIENCE, async || machines.fallen.load(Ordering::Relaxed) > 2).await;
    assert!(fallen.elapsed() < SOON, "the lease was kept for {:?}", fallen.elapsed());
    eventually("the pull request is told", PATIENCE, async || {
        let comments = rig.comments(number).await;
        comments.iter().any(|comment| comment.body.contains("the pass panicked"))
    })
    .await;
    controller.stop().await;
}
