//! The two worlds.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kagero::clock::{Clock as _, SystemClock};
use kagero::cloud::aws::{Ec2Machines, Network, RdsDatabases};
use kagero::cloud::{Databases, Machines};
use kagero::domain::id::{InstallId, SlotId};
use kagero::domain::network::Placement;
use kagero::domain::policy::AllowList;
use kagero::domain::time::Timestamp;
use kagero::sim::chance::Chance;
use kagero::sim::clock::{SimClock, Time};
use kagero::sim::cloud::{Cloud, SimDatabases, SimMachines, Weather, staging};
use kagero::sim::fate::{self, Dealer, Nerve};

use super::super::counterpart::install;
use super::super::databases::Rds;
use super::super::strict::Fault;
use super::{Call, Fate, World};

/// The simulator, in fair weather.
pub struct Simulated {
    time: Time,
    dealer: Arc<Dealer>,
    machines: SimMachines,
    databases: SimDatabases,
}

impl Simulated {
    pub fn begin() -> Self {
        let time = Time::default();
        let cloud = Cloud::new(time.clone(), Chance::new(1), Weather::FAIR);
        let (dealer, clock) = (Arc::new(Dealer::default()), Arc::new(SimClock::new(time.clone())));
        let nerve = Nerve::new(Arc::clone(&dealer));
        let machines = SimMachines::new(cloud.clone(), install(), nerve.clone(), clock.clone());
        let databases = SimDatabases::new(cloud, install(), nerve, clock);
        Self { time, dealer, machines, databases }
    }
}

#[async_trait]
impl World for Simulated {
    fn machines(&self) -> &dyn Machines {
        &self.machines
    }

    fn databases(&self) -> &dyn Databases {
        &self.databases
    }

    fn install(&self) -> InstallId {
        install()
    }

    fn allowed(&self) -> AllowList {
        let place = staging();
        AllowList { accounts: vec![place.account], regions: vec![place.region], networks: vec![place.network] }
    }

    fn slots(&self) -> Vec<SlotId> {
        (1..=3).map(|number| SlotId::parse(format!("sg-{number}")).unwrap()).collect()
    }

    fn placement(&self) -> Placement {
        Placement { zone: "zone-a".to_owned(), kind: "small".to_owned() }
    }

    fn now(&self) -> Timestamp {
        self.time.now()
    }

    fn meet(&self, call: Call, fate: Fate) {
        let call = match call {
            Call::Launch => fate::Call::Launch,
            Call::StopMachine => fate::Call::StopMachine,
            Call::Terminate => fate::Call::Terminate,
            Call::Prepare => fate::Call::Prepare,
            Call::StopDatabase => fate::Call::StopDatabase,
            Call::DeleteDatabase => fate::Call::DeleteDatabase,
        };
        let fate = match fate {
            Fate::LostAfter => fate::Fate::LostAfter,
            Fate::LostBefore => fate::Fate::LostBefore,
            Fate::Throttled => fate::Fate::Throttled,
        };
        self.dealer.script(call, 0, fate);
    }

    async fn pass(&self) {
        self.time.advance_to(self.time.elapsed() + Duration::from_secs(5));
    }
}

/// The provider for AWS, with moto behind the strict layer and a server behind the endpoints of databases.
pub struct OnMoto {
    rds: Rds,
    network: Network,
    machines: Ec2Machines,
    databases: RdsDatabases,
}

impl OnMoto {
    pub async fn begin() -> Self {
        let rds = Rds::start().await;
        let (network, machines) = (rds.staging.network().await, rds.staging.machines().await);
        let databases = rds.lane().await;
        Self { rds, network, machines, databases }
    }
}

#[async_trait]
impl World for OnMoto {
    fn machines(&self) -> &dyn Machines {
        &self.machines
    }

    fn databases(&self) -> &dyn Databases {
        &self.databases
    }

    fn install(&self) -> InstallId {
        install()
    }

    fn allowed(&self) -> AllowList {
        self.rds.allowed()
    }

    fn slots(&self) -> Vec<SlotId> {
        self.network.slots.clone()
    }

    fn placement(&self) -> Placement {
        let zone = self.network.subnets.keys().next().unwrap().clone();
        Placement { zone, kind: super::super::counterpart::KIND.to_owned() }
    }

    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn meet(&self, call: Call, fate: Fate) {
        let action = match call {
            Call::Launch => "RunInstances",
            Call::StopMachine => "StopInstances",
            Call::Terminate => "TerminateInstances",
            Call::Prepare => "RestoreDBInstanceFromDBSnapshot",
            Call::StopDatabase => "StopDBInstance",
            Call::DeleteDatabase => "DeleteDBInstance",
        };
        let fault = match fate {
            Fate::LostAfter => Fault::Lost,
            Fate::LostBefore => Fault::Dropped,
            Fate::Throttled if action.contains("DB") => Fault::Refused("Throttling", 400),
            Fate::Throttled => Fault::Refused("RequestLimitExceeded", 503),
        };
        self.rds.staging.strict.next(action, fault);
    }

    async fn pass(&self) {
        self.rds.rotate_all().await;
    }
}
