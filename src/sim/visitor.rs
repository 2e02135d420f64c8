//! A visitor's question: through one controller's route table, to what truly answers.

use async_trait::async_trait;

use super::cloud::Cloud;
use super::fate::{Call, Nerve};
use crate::controller::Prober;
use crate::domain::id::{EnvUid, HostLabel};
use crate::gateway::route::RouteTable;

/// Asks as a visitor would.
#[derive(Clone)]
pub struct SimProber {
    routes: RouteTable,
    cloud: Cloud,
    nerve: Nerve,
}

impl SimProber {
    /// Through that table.
    pub fn new(routes: RouteTable, cloud: Cloud, nerve: Nerve) -> Self {
        Self { routes, cloud, nerve }
    }

    fn ask(&self, host: &HostLabel, uid: &EnvUid) -> Result<(), String> {
        let route = self.routes.get(host.as_str()).ok_or("404: there is no such preview")?;
        if route.uid != *uid {
            return Err(format!("it is environment {}'s", route.uid));
        }
        if route.upstream.is_none() || self.cloud.serves(uid.as_str()).is_none() {
            return Err("503: nothing answers there yet".to_owned());
        }
        Ok(())
    }
}

#[async_trait]
impl Prober for SimProber {
    async fn probe(&self, host: &HostLabel, _: &str, uid: &EnvUid) -> Result<(), String> {
        let asked = self.nerve.call(Call::Probe, || self.ask(host, uid)).await;
        asked.map_err(|_| "timed out".to_owned())?
    }
}
