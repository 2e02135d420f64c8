//! From facts to an [`EnvView`].

use super::view::{EnvView, Phase, Removed, ServiceView, StageState, StageView};
use crate::domain::assignment::{AgentStatus, Rollout, RolloutPhase, ServiceReport, ServiceState, Stage};
use crate::domain::brake::Brake;
use crate::domain::desired::{Desired, EnvSpec, GoneReason, Obstacle};
use crate::domain::id::{EnvKey, EnvUid, Generation, RepoName};
use crate::domain::ledger::{Ledger, Role, Standing};
use crate::domain::observed::{DatabaseState, MachineState, Observed};
use crate::domain::policy::Policy;
use crate::domain::pull::PullFacts;
use crate::domain::seen::{Doubt, Seen};
use crate::domain::step::{Plan, Step, Waiting};

/// A teardown that takes longer is shown as one that does not succeed.
const TEARDOWN_EXPECTED: std::time::Duration = std::time::Duration::from_mins(5);

/// The facts that a view is made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The pull request.
    pub key: EnvKey,
    /// Its newest reading.
    pub pull: Option<&'a PullFacts>,
    /// What should be true.
    pub want: &'a Desired,
    /// What was read.
    pub seen: &'a Observed,
    /// The agent's last answer, if it is not known to be gone.
    pub agent: Option<&'a AgentStatus>,
    /// The environment's record.
    pub ledger: Option<&'a Ledger>,
    /// What is being done about it.
    pub plan: &'a Plan,
    /// The operator's policy.
    pub policy: &'a Policy,
    /// Brakes that are on and concern it.
    pub brakes: &'a [Brake],
}

/// One environment as people see it.
pub fn view(facts: Facts<'_>) -> EnvView {
    let Facts { key, pull, want, seen, agent, ledger, plan, policy, brakes } = facts;
    let spec = match want {
        Desired::Running(spec) | Desired::Asleep(spec) => Some(spec.as_ref()),
        Desired::Queued(_) | Desired::Gone(_) | Desired::Unchanged(_) => None,
    };
    let hosts = ledger.map(|ledger| ledger.hosts.as_slice()).or(spec.map(|spec| spec.hosts.as_slice())).unwrap_or(&[]);
    let phase = phase(&facts, spec);
    let failure = plan.waiting.iter().find_map(|waiting| match waiting {
        Waiting::Failed(failure) => Some(failure),
        _ => None,
    });
    let serving = agent.and_then(|agent| agent.serving.as_ref());
    let shows_link = !matches!(
        phase,
        Phase::Failed
            | Phase::Destroying(_)
            | Phase::DestroyFailing(_)
            | Phase::Destroyed(_)
            | Phase::NotWanted(_)
            | Phase::Stuck
    );
    let url = if shows_link { policy.link(hosts, None) } else { None };
    EnvView {
        key,
        repo: pull.map_or_else(unknown_repository, |pull| pull.repo.clone()),
        uid: EnvUid::derive(&policy.install, key),
        generation: ledger.map_or(Generation::NONE, |ledger| ledger.generation),
        commit: pull.map(|pull| pull.head_sha.clone()).filter(|_| !is_unapproved(want)),
        serving: serving.map(|rollout| rollout.commit.clone()),
        services: spec.map(|spec| services(spec, agent, hosts, policy, shows_link)).unwrap_or_default(),
        stages: spec.map(|spec| stages(&facts, spec, agent, failure.map(|failure| failure.stage))).unwrap_or_default(),
        detail: detail(&facts, failure.map(|failure| failure.reason.as_str())),
        log_tail: failure.map(|failure| failure.log_tail.clone()).unwrap_or_default(),
        seed: spec.and_then(|spec| spec.database.as_ref()).map(|database| database.seed.to_string()),
        removed: ledger.and_then(removed),
        ready_after_ms: ledger.and_then(ready_after_ms),
        brakes: brakes.to_vec(),
        at: seen.at,
        phase,
        url,
    }
}

fn removed(ledger: &Ledger) -> Option<Removed> {
    match (ledger.standing, &ledger.left) {
        (Standing::Released(checked_at), Some(left)) => Some(Removed { held: left.held, checked_at }),
        _ => None,
    }
}

/// How long the newest version took: the first one from the environment's beginning, one that was pushed later
/// from its task, one that was woken or brought back from its machine.
fn ready_after_ms(ledger: &Ledger) -> Option<u64> {
    let proof = ledger.proven.as_ref()?;
    let asked = |role: &Role| ledger.intents_for(role).next_back().map(|intent| (intent.attempt, intent.asked_at));
    let rollouts = ledger.intents.iter().filter(|intent| matches!(intent.role, Role::Rollout(_))).count();
    let pushed = asked(&Role::Rollout(proof.task.clone())).filter(|_| rollouts > 1).map(|(_, at)| at);
    let woken = asked(&Role::Machine).filter(|(attempt, _)| *attempt > 1).map(|(_, at)| at);
    let began = match (pushed, woken) {
        // A machine that was asked for before the task had nothing to do with it.
        (Some(pushed), Some(woken)) if woken > pushed => woken,
        (Some(pushed), _) => pushed,
        (None, woken) => woken.unwrap_or(ledger.enrolled_at),
    };
    u64::try_from(proof.at.since(began).as_millis()).ok()
}

/// A commit that nobody has approved is not spoken of as if it ran, nor deployed.
fn is_unapproved(want: &Desired) -> bool {
    matches!(want, Desired::Gone(GoneReason::ForkUnapproved(_)) | Desired::Unchanged(Obstacle::ForkUnapproved(_)))
}

fn unknown_repository() -> RepoName {
    RepoName { owner: "unknown".to_owned(), name: "unknown".to_owned() }
}

fn phase(facts: &Facts<'_>, spec: Option<&EnvSpec>) -> Phase {
    if let Some(ledger) = facts.ledger
        && let Some(phase) = leaving(ledger, facts)
    {
        return phase;
    }
    let serving = facts.agent.and_then(|agent| agent.serving.as_ref());
    let failed = facts.plan.waiting.iter().any(|waiting| matches!(waiting, Waiting::Failed(_)));
    match facts.want {
        Desired::Queued(reason) => Phase::Queued(reason.clone()),
        Desired::Gone(why) => Phase::NotWanted(why.clone()),
        Desired::Asleep(_) => Phase::Asleep,
        Desired::Unchanged(Obstacle::NotRead(_)) if facts.ledger.is_some_and(|ledger| !ledger.is_released()) => {
            if serving.is_some() {
                Phase::Updating
            } else {
                Phase::Building
            }
        }
        Desired::Unchanged(Obstacle::ForkUnapproved(_)) if serving.is_some() => Phase::Updating,
        Desired::Unchanged(_) => match serving {
            Some(_) => Phase::UpdateFailed,
            None => Phase::Stuck,
        },
        Desired::Running(_) => match (failed, serving) {
            (true, Some(_)) => Phase::UpdateFailed,
            (true, None) => Phase::Failed,
            (false, serving) => {
                let proven =
                    |rollout: &Rollout| facts.ledger.is_some_and(|ledger| ledger.proof_of(&rollout.task).is_some());
                let wanted = spec.map(|spec| &spec.task.commit);
                match serving {
                    Some(rollout) if proven(rollout) && Some(&rollout.commit) == wanted => Phase::Ready,
                    Some(rollout) if Some(&rollout.commit) != wanted => Phase::Updating,
                    Some(_) | None => Phase::Building,
                }
            }
        },
    }
}

/// The phase of an environment that is or was being taken away and has not begun anew.
fn leaving(ledger: &Ledger, facts: &Facts<'_>) -> Option<Phase> {
    let why = || match (&ledger.left, facts.want) {
        (_, Desired::Gone(why)) if *why != GoneReason::Superseded => why.clone(),
        (Some(left), _) => left.why.clone(),
        (None, _) => GoneReason::Superseded,
    };
    match ledger.standing {
        Standing::Leaving(since) => {
            let refused = facts.plan.waiting.iter().any(|waiting| matches!(waiting, Waiting::Refused(_)));
            let late = facts.seen.at.since(since) > TEARDOWN_EXPECTED;
            Some(if refused || late { Phase::DestroyFailing(why()) } else { Phase::Destroying(why()) })
        }
        Standing::Released(_) if ledger.generation > Generation::NONE => {
            matches!(facts.want, Desired::Gone(_) | Desired::Unchanged(_)).then(|| Phase::Destroyed(why()))
        }
        Standing::Released(_) => None,
        Standing::Live => match facts.want {
            Desired::Gone(why) => Some(Phase::Destroying(why.clone())),
            _ => None,
        },
    }
}

fn services(
    spec: &EnvSpec,
    agent: Option<&AgentStatus>,
    hosts: &[crate::domain::ledger::Host],
    policy: &Policy,
    shows_link: bool,
) -> Vec<ServiceView> {
    let reports: &[ServiceReport] = newest(agent).map_or(&[], |rollout| rollout.services.as_slice());
    spec.task
        .services
        .iter()
        .map(|service| ServiceView {
            name: service.name.clone(),
            state: reports.iter().find(|report| report.name == service.name).map(|report| report.state),
            url: if service.public && shows_link { policy.link(hosts, Some(&service.name)) } else { None },
        })
        .collect()
}

fn newest(agent: Option<&AgentStatus>) -> Option<&Rollout> {
    agent.and_then(|agent| agent.candidate.as_ref().or(agent.serving.as_ref()))
}

fn stages(facts: &Facts<'_>, spec: &EnvSpec, agent: Option<&AgentStatus>, failed: Option<&str>) -> Vec<StageView> {
    let mut stages = vec![StageView { name: "machine".to_owned(), state: machine_state(facts, failed), took_ms: None }];
    if let Some(database) = &spec.database {
        stages.push(StageView {
            name: "database".to_owned(),
            state: database_state(facts, &database.name, failed),
            took_ms: None,
        });
    }
    let rollout = newest(agent).filter(|rollout| rollout.commit == spec.task.commit);
    for stage in [Stage::Checkout, Stage::Build, Stage::Migrate, Stage::Start] {
        let needed = match stage {
            Stage::Build => spec.task.build.is_some(),
            Stage::Migrate => spec.task.migrate.is_some(),
            Stage::Checkout | Stage::Start => true,
        };
        if !needed {
            continue;
        }
        let report = rollout.and_then(|rollout| rollout.stages.iter().find(|report| report.stage == stage));
        let state = match (report, rollout.map(|rollout| &rollout.phase)) {
            (Some(_), Some(RolloutPhase::Failed(failure))) if failure.stage == stage => StageState::Failed,
            (Some(report), _) if report.ended_at.is_some() => StageState::Done,
            (Some(_), _) => StageState::Running,
            (None, _) => StageState::Waiting,
        };
        let took_ms = report.and_then(|report| {
            let end = report.ended_at.unwrap_or(facts.seen.at);
            u64::try_from(end.since(report.began_at).as_millis()).ok()
        });
        stages.push(StageView { name: stage.as_str().to_owned(), state, took_ms });
    }
    if spec.probe.is_some() {
        let serving = agent.and_then(|agent| agent.serving.as_ref());
        let proven = serving.is_some_and(|serving| {
            serving.commit == spec.task.commit
                && facts.ledger.is_some_and(|ledger| ledger.proof_of(&serving.task).is_some())
        });
        let probing = facts.plan.steps.iter().any(|step| matches!(step, Step::Probe { .. }));
        let state = match (proven, probing) {
            (true, _) => StageState::Done,
            (false, true) => StageState::Running,
            (false, false) => StageState::Waiting,
        };
        stages.push(StageView { name: "probe".to_owned(), state, took_ms: None });
    }
    stages
}

fn machine_state(facts: &Facts<'_>, failed: Option<&str>) -> StageState {
    let up = facts.seen.machines.present().is_some_and(|machines| {
        machines.iter().any(|machine| machine.state == MachineState::Running && machine.agent.is_some())
    });
    let asked = facts.ledger.is_some_and(|ledger| ledger.intents.iter().any(|intent| intent.role == Role::Machine));
    match (failed, up, asked) {
        (Some("machine"), _, _) => StageState::Failed,
        (_, true, _) => StageState::Done,
        (_, false, true) => StageState::Running,
        (_, false, false) => StageState::Waiting,
    }
}

fn database_state(facts: &Facts<'_>, name: &str, failed: Option<&str>) -> StageState {
    let found = facts
        .seen
        .databases
        .present()
        .and_then(|databases| databases.iter().find(|database| database.name == name))
        .map(|database| &database.state);
    match (failed, found) {
        (Some("database"), _) => StageState::Failed,
        (_, Some(DatabaseState::Ready)) => StageState::Done,
        (_, Some(_)) => StageState::Running,
        (_, None) => StageState::Waiting,
    }
}

/// Whether nothing can be shown yet because the databases could not be listed. Where something serves, that is no
/// reader's concern.
fn waits_for_server(facts: &Facts<'_>) -> bool {
    let wants_database = matches!(facts.want, Desired::Running(spec) if spec.database.is_some());
    let unread = matches!(facts.seen.databases, Seen::Unknown(Doubt::ReadFailed(_)));
    wants_database && unread && facts.agent.is_none_or(|agent| agent.serving.is_none())
}

fn detail(facts: &Facts<'_>, failure: Option<&str>) -> Option<String> {
    if let Some(reason) = failure {
        return Some(reason.to_owned());
    }
    match facts.want {
        Desired::Unchanged(Obstacle::BrokenConfig(text)) => return Some(text.clone()),
        Desired::Unchanged(obstacle) => return Some(obstacle.to_string()),
        Desired::Queued(_) | Desired::Running(_) | Desired::Asleep(_) | Desired::Gone(_) => {}
    }
    if waits_for_server(facts) {
        let words = "The database server cannot be reached at this time. The preview goes on by itself when it can.";
        return Some(words.to_owned());
    }
    let waiting = facts.plan.waiting.iter().find_map(|waiting| match waiting {
        Waiting::Refused(why) => Some(format!("left alone: {why}")),
        Waiting::Turn => {
            Some("As many commits as allowed are being built at this time. This one follows by itself.".to_owned())
        }
        Waiting::Room(_) => Some(
            "The cloud has no room for another machine at this time, in any of the allowed zones and types. It is asked \
             again by itself."
                .to_owned(),
        ),
        // What passes by itself, and addresses of this installation, are for `kagero env plan`. Brakes are shown by
        // themselves, whether or not they stop anything now.
        Waiting::Braked(_)
        | Waiting::Agent(_)
        | Waiting::Knowledge(_)
        | Waiting::Machine
        | Waiting::Database
        | Waiting::Rollout
        | Waiting::Stop
        | Waiting::Removal
        | Waiting::MachineFirst
        | Waiting::Failed(_) => None,
    });
    // Beside a candidate, services may be down because it takes their place.
    let serving = facts.agent.filter(|agent| agent.candidate.is_none()).and_then(|agent| agent.serving.as_ref());
    waiting.or_else(|| serving.filter(|_| matches!(facts.want, Desired::Running(_))).and_then(down))
}

/// Which services of what serves are down now.
fn down(serving: &Rollout) -> Option<String> {
    let down = serving.services.iter().filter(|service| service.state != ServiceState::Healthy);
    let names: Vec<String> = down.map(|service| format!("`{}`", service.name)).collect();
    let (what, are) = match names.len() {
        0 => return None,
        1 => ("Service", "is"),
        _ => ("Services", "are"),
    };
    let names = names.join(", ");
    Some(format!("{what} {names} {are} not healthy now and {are} being restarted; the application log says why."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::assignment::ServiceState::{Healthy, Restarting, Starting};
    use crate::domain::assignment::TaskDigest;
    use crate::domain::id::{CommitSha, ServiceName};

    #[test]
    fn services_that_are_down_are_named() {
        let report = |name: &str, state| ServiceReport {
            name: ServiceName::parse(name).unwrap(),
            state,
            address: None,
            restarts: 1,
        };
        let said = |web, api| {
            down(&Rollout {
                task: TaskDigest("t".to_owned()),
                commit: CommitSha::parse("a".repeat(40)).unwrap(),
                database: None,
                phase: RolloutPhase::Degraded,
                stages: Vec::new(),
                services: vec![report("web", web), report("api", api)],
            })
        };
        assert_eq!(said(Healthy, Healthy), None);
        let one = said(Restarting, Healthy).unwrap();
        assert!(one.starts_with("Service `web` is not healthy now and is being restarted"), "{one}");
        let both = said(Restarting, Starting).unwrap();
        assert!(both.starts_with("Services `web`, `api` are not healthy"), "{both}");
    }
}
