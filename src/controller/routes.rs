//! What the gateway shows: computed from facts in every pass, never asked of a request.

use std::sync::Arc;

use super::decide::{Decision, Known};
use super::ports::World;
use super::state::Memory;
use crate::domain::assignment::AgentStatus;
use crate::domain::id::ServiceName;
use crate::domain::ledger::Host;
use crate::domain::observed::Observed;
use crate::domain::seen::Seen;
use crate::gateway::route::Route;
use crate::report::view::Phase;

/// Publishes an environment's routes. With the last of those that were known at the start, the table is complete.
pub fn publish(world: &World, memory: &Memory, known: &Known, seen: &Observed, decision: &Decision) {
    put(world, memory, known, seen, decision);
    if memory.is_last_to_publish(known.key) {
        world.routes.complete();
    }
}

fn put(world: &World, memory: &Memory, known: &Known, seen: &Observed, decision: &Decision) {
    let status = match &seen.agent {
        Seen::Present(status) => Some(status.clone()),
        Seen::Unknown(_) => memory.hearing.last(known.key),
        Seen::Absent => None,
    };
    let Some(ledger) = &known.ledger else { return };
    let serves = matches!(
        decision.view.phase,
        Phase::Building | Phase::Updating | Phase::Ready | Phase::UpdateFailed | Phase::Failed | Phase::Stuck
    ) && !ledger.is_released();
    let given_up = memory.publish(known.key, ledger.hosts.iter().map(|host| host.label.clone()).collect());
    let gone = given_up.into_iter().map(|label| (Box::from(label.as_str()), None));
    let changes: Vec<_> = ledger
        .hosts
        .iter()
        .map(|host| {
            let upstream = status.as_ref().filter(|_| serves).and_then(|status| upstream(host, status, &ledger.hosts));
            let route = Route { uid: known.uid.clone(), upstream, view: Arc::clone(&decision.view) };
            (Box::from(host.label.as_str()), Some(Arc::new(route)))
        })
        .chain(gone)
        .collect();
    world.routes.apply(&changes);
}

/// Where a host's service listens in the rollout that serves.
fn upstream(host: &Host, status: &AgentStatus, hosts: &[Host]) -> Option<std::net::SocketAddr> {
    let serving = status.serving.as_ref()?;
    let address_of = |name: &ServiceName| {
        serving.services.iter().find(|report| report.name == *name).and_then(|report| report.address)
    };
    match &host.service {
        Some(name) => address_of(name),
        // The bare name is the first public service's; the record has them in order.
        None => hosts.iter().filter_map(|host| host.service.as_ref()).find_map(address_of),
    }
}
