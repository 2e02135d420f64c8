//! What the gateway shows: computed from facts in every pass, never asked of a request.

use std::sync::Arc;

use super::decide::{Decision, Known};
use super::ports::World;
use super::state::Memory;
use crate::domain::assignment::{AgentStatus, ServiceReport};
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
    for label in memory.publish(known.key, ledger.hosts.iter().map(|host| host.label.clone()).collect()) {
        world.routes.remove(label.as_str(), &known.uid);
    }
    for host in &ledger.hosts {
        let upstream = status.as_ref().filter(|_| serves).and_then(|status| upstream(host, status, &ledger.hosts));
        let route = Route { uid: known.uid.clone(), upstream, view: Arc::clone(&decision.view) };
        world.routes.set(host.label.as_str(), route);
    }
}

/// Where a host's service answers in the rollout that serves; nowhere unless it is healthy now.
fn upstream(host: &Host, status: &AgentStatus, hosts: &[Host]) -> Option<std::net::SocketAddr> {
    let serving = status.serving.as_ref()?;
    let report_of = |name: &ServiceName| serving.services.iter().find(|report| report.name == *name);
    let report = match &host.service {
        Some(name) => report_of(name),
        // The bare name is the first public service's; the record has them in order.
        None => hosts.iter().filter_map(|host| host.service.as_ref()).find_map(report_of),
    };
    report.and_then(ServiceReport::open_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::assignment::{Rollout, RolloutPhase, SandboxLevel, ServiceState, TaskDigest};
    use crate::domain::id::{CommitSha, EnvUid, Generation, HostLabel};

    #[test]
    fn visitors_are_sent_to_services_that_are_healthy_now() {
        let name = |name: &str| ServiceName::parse(name).unwrap();
        let host = |label: &str, service| Host { label: HostLabel::parse(label).unwrap(), service };
        let hosts = [host("pr-1", None), host("pr-1-web", Some(name("web"))), host("pr-1-api", Some(name("api")))];
        let report = |name: ServiceName, state, port: u16| ServiceReport {
            name,
            state,
            address: Some(([127, 0, 0, 1], port).into()),
            restarts: 0,
        };
        let status = |web| AgentStatus {
            uid: EnvUid::parse("a".repeat(20)).unwrap(),
            generation: Generation::FIRST,
            version: String::new(),
            sandbox: SandboxLevel::Bubblewrap,
            candidate: None,
            serving: Some(Rollout {
                task: TaskDigest("t".to_owned()),
                commit: CommitSha::parse("a".repeat(40)).unwrap(),
                database: None,
                phase: RolloutPhase::Degraded,
                stages: Vec::new(),
                services: vec![report(name("web"), web, 61_001), report(name("api"), ServiceState::Healthy, 61_002)],
            }),
        };
        let ports = |web| -> Vec<Option<u16>> {
            let port = |host| upstream(host, &status(web), &hosts).map(|address| address.port());
            hosts.iter().map(port).collect()
        };
        assert_eq!(ports(ServiceState::Healthy), [Some(61_001), Some(61_001), Some(61_002)]);
        for state in [ServiceState::Waiting, ServiceState::Starting, ServiceState::Restarting, ServiceState::Stopped] {
            assert_eq!(ports(state), [None, None, Some(61_002)], "{state:?}");
        }
    }
}
