//! What is said on the pull request, and when: at most one content write per pull request in the interval
//! of I22, the final state always.

use super::comment;
use super::view::{EnvView, Phase};
use crate::domain::desired::{Desired, GoneReason, Obstacle};
use crate::domain::id::digest;
use crate::domain::ledger::{DeploymentSaid, DeploymentState, Said};
use crate::domain::policy::Policy;
use crate::domain::step::Step;
use crate::domain::time::Timestamp;

/// The writes that are due, and how long until the next one may be made if one has to wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sayings {
    /// In order.
    pub steps: Vec<Step>,
    /// Something is left to say after this long.
    pub wait: Option<std::time::Duration>,
}

/// Whether anything is said about this pull request at all. Pull requests that get no environment by the
/// ordinary rules are left in peace; a person who expects one and does not get it is told why.
pub fn is_spoken_of(want: &Desired, said: &Said) -> bool {
    said.comment.is_some()
        || !said.deployments.is_empty()
        || match want {
            Desired::Running(_) | Desired::Asleep(_) | Desired::Queued(_) => true,
            Desired::Gone(why) => matches!(why, GoneReason::ForkUnapproved(_)),
            Desired::Unchanged(obstacle) => {
                matches!(obstacle, Obstacle::BrokenConfig(_) | Obstacle::Unservable(_) | Obstacle::ForkUnapproved(_))
            }
        }
}

/// What is said by deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deploying {
    /// The one of the wanted commit follows the phase, and is made if there is none.
    Follow,
    /// None is made; those of what is not there any more are ended.
    End,
    /// They stay as they are: nothing is known, or everything is paused.
    Leave,
}

/// What to write now. A round of writes is one edit of the comment and what has changed of the deployments;
/// between two rounds lies the interval. A deployment's very first status need not wait for its round.
pub fn say(view: &EnvView, said: &Said, deploying: Deploying, policy: &Policy, now: Timestamp) -> Sayings {
    let mut steps = if deploying == Deploying::Leave { Vec::new() } else { deployments(view, said, deploying) };
    let digest = digest(&["comment", &comment::without_times(view)], 32);
    if said.comment.as_ref().is_none_or(|comment| comment.digest != digest) {
        steps.push(Step::Comment { body: comment::body(view), digest });
    }
    let settled = until_settled(&mut steps, said, policy, now);
    let due = said.written_at.map(|at| at.plus(policy.pace.comment));
    match due {
        Some(due) if due > now && !steps.is_empty() => {
            let first = |step: &Step| match step {
                Step::SetDeployment { id, .. } => {
                    said.deployments.iter().any(|made| made.id == Some(*id) && made.state.is_none() && !made.unsure)
                }
                _ => false,
            };
            steps.retain(first);
            let due = due.since(now);
            Sayings { steps, wait: Some(settled.map_or(due, |settled| settled.min(due))) }
        }
        Some(_) | None => Sayings { steps, wait: settled },
    }
}

/// A deployment whose creation was not heard of is looked for when the question cannot be on its way any more. Takes
/// out what is too early, and says how long until the first is not.
fn until_settled(steps: &mut Vec<Step>, said: &Said, policy: &Policy, now: Timestamp) -> Option<std::time::Duration> {
    let left = |step: &Step| {
        let Step::FindDeployment { sha } = step else { return None };
        let asked_at = said.deployments.iter().find(|made| made.sha == *sha)?.asked_at?;
        let settled = asked_at.plus(policy.pace.grace);
        (settled > now).then(|| settled.since(now))
    };
    let wait = steps.iter().filter_map(left).min();
    steps.retain(|step| left(step).is_none());
    wait
}

/// The deployment of the wanted commit follows the phase; those of other commits become inactive.
fn deployments(view: &EnvView, said: &Said, deploying: Deploying) -> Vec<Step> {
    let mut steps = Vec::new();
    let gone = matches!(
        view.phase,
        Phase::DestroyFailing(_) | Phase::Destroyed(_) | Phase::NotWanted(_) | Phase::Destroying(_) | Phase::Asleep
    );
    let current = view.commit.as_ref().and_then(|sha| said.deployments.iter().find(|made| made.sha == *sha));
    let target = target(view);
    for made in &said.deployments {
        let is_current = current.is_some_and(|current| current.sha == made.sha);
        // An older commit that still answers keeps its deployment until the newer one is ready.
        let still_serves = !gone && view.serving.as_ref() == Some(&made.sha);
        if (!is_current && !still_serves) || (gone && made.lacks(DeploymentState::Inactive)) {
            steps.extend(set(made, DeploymentState::Inactive, "taken away", None));
        }
    }
    let Some((state, description)) = target.filter(|_| deploying == Deploying::Follow && !gone) else { return steps };
    match (current, &view.commit) {
        (None | Some(DeploymentSaid { id: None, .. }), Some(sha)) => {
            steps.retain(|step| !matches!(step, Step::FindDeployment { sha: other } if other == sha));
            steps.push(Step::CreateDeployment { sha: sha.clone() });
        }
        (None, None) => {}
        (Some(made), _) => {
            let url = if state == DeploymentState::Success { view.url.clone() } else { None };
            steps.extend(set(made, state, &description, url));
        }
    }
    steps
}

fn set(made: &DeploymentSaid, state: DeploymentState, description: &str, url: Option<String>) -> Option<Step> {
    let Some(id) = made.id else { return Some(Step::FindDeployment { sha: made.sha.clone() }) };
    made.lacks(state).then(|| Step::SetDeployment {
        id,
        state,
        description: description.chars().take(140).collect(),
        log_url: url.clone(),
        url,
    })
}

fn target(view: &EnvView) -> Option<(DeploymentState, String)> {
    let first_line = |text: &Option<String>, otherwise: &str| {
        text.as_ref().and_then(|text| text.lines().next()).unwrap_or(otherwise).to_owned()
    };
    match &view.phase {
        Phase::Queued(reason) => Some((DeploymentState::Queued, format!("queued, position {}", reason.position))),
        Phase::Building | Phase::Updating => Some((DeploymentState::InProgress, "being made".to_owned())),
        Phase::Ready => Some((DeploymentState::Success, "ready".to_owned())),
        Phase::Failed | Phase::UpdateFailed | Phase::Stuck => {
            Some((DeploymentState::Failure, first_line(&view.detail, "failed")))
        }
        Phase::Asleep | Phase::Destroying(_) | Phase::DestroyFailing(_) | Phase::Destroyed(_) | Phase::NotWanted(_) => {
            None
        }
    }
}
