//! What the gateway shows: computed from facts in every pass, never asked of a request.

use std::sync::Arc;

use super::decide::{Decision, Known};
use super::ports::World;
use super::state::Memory;
use crate::domain::assignment::AgentStatus;
use crate::domain::id::ServiceName;
use crate::domain::ledger::Host;
use crate::domain::observed::Observed;
use crate::domain::policy::{RepoSetting, Service};
use crate::domain::seen::Seen;
use crate::gateway::route::Route;
use crate::report::view::Phase;

/// Publishes an environment's routes.
pub fn publish(world: &World, memory: &Memory, known: &Known, seen: &Observed, decision: &Decision) {
    let status = match &seen.agent {
        Seen::Present(status) => {
            memory.keep_agent(known.key, Some(status.clone()));
            Some(status.clone())
        }
        // A moment's silence does not take a preview off its link; a missing machine does.
        Seen::Unknown(_) => memory.agent(known.key),
        Seen::Absent => {
            memory.keep_agent(known.key, None);
            None
        }
    };
    let Some(ledger) = &known.ledger else { return };
    let serves = matches!(
        decision.view.phase,
        Phase::Building | Phase::Updating | Phase::Ready | Phase::UpdateFailed | Phase::Failed | Phase::Stuck
    ) && !ledger.is_released();
    let services = services(known);
    let changes: Vec<_> = ledger
        .hosts
        .iter()
        .map(|host| {
            let upstream = status.as_ref().filter(|_| serves).and_then(|status| upstream(host, status, services));
            let route = Route { uid: known.uid.clone(), upstream, view: Arc::clone(&decision.view) };
            (Box::from(host.label.as_str()), Some(Arc::new(route)))
        })
        .collect();
    world.routes.apply(&changes);
}

fn services(known: &Known) -> &[Service] {
    match known.config.as_ref().map(|config| &config.setting) {
        Some(RepoSetting::Valid(config)) => &config.services,
        _ => &[],
    }
}

/// Where a host's service listens in the rollout that serves.
fn upstream(host: &Host, status: &AgentStatus, services: &[Service]) -> Option<std::net::SocketAddr> {
    let serving = status.serving.as_ref()?;
    let address_of = |name: &ServiceName| {
        serving.services.iter().find(|report| report.name == *name).and_then(|report| report.address)
    };
    match &host.service {
        Some(name) => address_of(name),
        None => services.iter().filter(|service| service.public).find_map(|service| address_of(&service.name)),
    }
}
