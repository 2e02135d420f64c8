//! What the agent tells about itself, shared between those who change it and those who ask.
//!
//! Guarantees: an answer is one moment's truth; it is noted that an answer has told of the serving release,
//! because the old one may go only after that.
//! Must not know: how rollouts come about.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::options::AgentOptions;
use super::ports::seen_from_outside;
use super::release::Release;
use super::rollout::{Rollouts, with_services};
use crate::domain::assignment::{AgentStatus, SandboxLevel, TaskDigest};

/// What the agent tells about itself.
pub struct Board {
    options: AgentOptions,
    level: SandboxLevel,
    /// The address that visitors come to, if it is not this computer's own.
    outside: Option<IpAddr>,
    state: Mutex<BoardState>,
    told: watch::Sender<Option<TaskDigest>>,
}

/// What stands on the board.
#[derive(Default)]
pub struct BoardState {
    /// The life of tasks.
    pub rollouts: Rollouts,
    /// The candidate's services, once there are any.
    pub candidate: Option<Arc<Release>>,
    /// The services that visitors see.
    pub serving: Option<Arc<Release>>,
}

impl Board {
    /// An empty board.
    pub fn new(options: AgentOptions, level: SandboxLevel, outside: Option<IpAddr>) -> Self {
        Self { options, level, outside, state: Mutex::default(), told: watch::Sender::new(None) }
    }

    /// To look and to change.
    pub fn state(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer to a question for the status.
    pub fn status(&self) -> AgentStatus {
        let state = self.state();
        let mut rollouts = state.rollouts.clone();
        for (rollout, release) in [(&mut rollouts.candidate, &state.candidate), (&mut rollouts.serving, &state.serving)]
        {
            if let (Some(rollout), Some(release)) = (rollout, release)
                && let Some(services) = release.tell()
            {
                with_services(rollout, services);
            }
        }
        let rollouts_mut = rollouts.candidate.iter_mut().chain(&mut rollouts.serving);
        for address in
            rollouts_mut.flat_map(|rollout| &mut rollout.services).filter_map(|service| service.address.as_mut())
        {
            *address = self.outside.map_or(*address, |ip| seen_from_outside(*address, ip));
        }
        self.told.send_replace(rollouts.serving.as_ref().map(|rollout| rollout.task.clone()));
        AgentStatus {
            uid: self.options.uid.clone(),
            generation: self.options.generation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sandbox: self.level,
            candidate: rollouts.candidate,
            serving: rollouts.serving,
        }
    }

    /// Waits until an answer has told that this task serves.
    pub async fn has_told(&self, task: &TaskDigest) {
        let mut told = self.told.subscribe();
        // The board outlives whoever waits.
        let _ = told.wait_for(|told| told.as_ref() == Some(task)).await;
    }
}
