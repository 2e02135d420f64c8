//! The controller's reach into the world over HTTP: agents, and the gateway seen from outside.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::header::HOST;

use crate::agent::client::AgentClient;
use crate::agent::protocol::{Follow, LogKind};
use crate::controller::{Agents, LogLines, LogWanted, Prober};
use crate::domain::assignment::{AgentStatus, Assignment};
use crate::domain::id::{EnvUid, HostLabel};
use crate::telemetry::chain;

/// Agents, reached over signed HTTP.
pub struct HttpAgents(pub AgentClient);

#[async_trait]
impl Agents for HttpAgents {
    async fn status(&self, address: &str, uid: &EnvUid) -> Result<AgentStatus, String> {
        self.0.status(address, uid).await.map_err(|error| chain(&error).to_string())
    }

    async fn assign(&self, address: &str, assignment: &Assignment) -> Result<(), String> {
        self.0.assign(address, assignment).await.map_err(|error| chain(&error).to_string())
    }

    async fn logs(&self, address: &str, uid: &EnvUid, wanted: &LogWanted) -> Result<LogLines, String> {
        let (kind, service, follow) = match wanted {
            LogWanted::Build => (Some(LogKind::Build), None, Follow::No),
            LogWanted::Application(service) => (Some(LogKind::Application), service.as_ref(), Follow::No),
            LogWanted::Following(None) => (None, None, Follow::Yes),
            LogWanted::Following(service) => (Some(LogKind::Application), service.as_ref(), Follow::Yes),
        };
        let lines = self.0.logs(address, uid, kind, service, follow).await;
        let lines = lines.map_err(|error| chain(&error).to_string())?;
        Ok(lines.map_err(|error| chain(&error).to_string()).boxed())
    }
}

/// The gateway, asked as a visitor would ask.
pub struct GatewayProber {
    gateway: SocketAddr,
    domain: String,
    client: reqwest::Client,
}

impl GatewayProber {
    /// Asks the gateway at this address for hosts below this domain.
    pub fn new(gateway: SocketAddr, domain: String) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()?;
        Ok(Self { gateway, domain, client })
    }
}

#[async_trait]
impl Prober for GatewayProber {
    async fn probe(&self, host: &HostLabel, path: &str, uid: &EnvUid) -> Result<(), String> {
        let request =
            self.client.get(format!("http://{}{path}", self.gateway)).header(HOST, format!("{host}.{}", self.domain));
        let response = request.send().await.map_err(|error| chain(&error).to_string())?;
        let said = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(page) = said("x-kagero-page") {
            return Err(format!("the gateway still shows its {page} page"));
        }
        if said("x-kagero-environment") != Some(uid.as_str()) {
            return Err("another environment answered".to_owned());
        }
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            Ok(())
        } else {
            Err(format!("the application answered {status} to {path}"))
        }
    }
}
