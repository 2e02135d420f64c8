//! What the controller reaches the world through, apart from the adapters' own traits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures::stream::BoxStream;
use secrecy::SecretString;

use crate::agent::protocol::LogLine;
use crate::clock::Clock;
use crate::cloud::{Databases, Machines};
use crate::domain::assignment::{AgentStatus, Assignment};
use crate::domain::id::{EnvKey, EnvUid, HostLabel, ServiceName};
use crate::domain::policy::Policy;
use crate::forge::Forge;
use crate::forge::budget::{WriteBudget, WriteLimits};
use crate::gateway::route::RouteTable;
use crate::store::{Store, StoreError};

/// Lines of a log as they come.
pub type LogLines = BoxStream<'static, Result<LogLine, String>>;

/// Which log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogWanted {
    /// Checkout, build and migration, newest attempt first.
    Build,
    /// The services, or one of them, newest attempt first.
    Application(Option<ServiceName>),
    /// One service as it grows, or all services and builds.
    Following(Option<ServiceName>),
}

/// Speaks to agents.
#[async_trait]
pub trait Agents: Send + Sync {
    /// How it stands. An answer for another uid is an error.
    async fn status(&self, address: &str, uid: &EnvUid) -> Result<AgentStatus, String>;
    /// Gives it a task; the same one again changes nothing.
    async fn assign(&self, address: &str, assignment: &Assignment) -> Result<(), String>;
    /// The lines of a log.
    async fn logs(&self, address: &str, uid: &EnvUid, wanted: &LogWanted) -> Result<LogLines, String>;
}

/// Asks through the gateway, as a visitor would.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Succeeds if the application of this environment, not a page of the gateway's, answered with 2xx or
    /// 3xx. The error says what came instead.
    async fn probe(&self, host: &HostLabel, path: &str, uid: &EnvUid) -> Result<(), String>;
}

/// Everything a pass may use.
pub struct World {
    /// Facts, ledger, leases, journal.
    pub store: Store,
    /// GitHub.
    pub forge: Arc<dyn Forge>,
    /// Machines.
    pub machines: Arc<dyn Machines>,
    /// Databases.
    pub databases: Arc<dyn Databases>,
    /// Agents.
    pub agents: Arc<dyn Agents>,
    /// The gateway, seen from outside.
    pub prober: Arc<dyn Prober>,
    /// The gateway's table.
    pub routes: RouteTable,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The operator's policy.
    pub policy: ArcSwap<Policy>,
    /// Values of the secrets that repositories may name.
    pub secrets: BTreeMap<String, SecretString>,
    /// This process, as the holder of leases.
    pub holder: String,
    /// What may be written on GitHub, by all replicas together.
    pub writes: WriteLimits,
}

impl World {
    /// Takes one write from the budget, or says how long to wait.
    pub async fn take_write(&self, key: EnvKey) -> Result<Result<(), Duration>, StoreError> {
        let now = self.clock.now();
        let judge = |written| WriteBudget::resume(self.writes, written).take(key, now);
        self.store.take_write(key, now, WriteBudget::WINDOW, judge).await
    }
}
