//! What agents have said last, and since when one has been silent.
//!
//! Guarantees: an agent's silence is told from our own deafness by whether other agents are heard.
//! Must not know: how agents are asked, what follows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::assignment::AgentStatus;
use crate::domain::id::EnvKey;
use crate::domain::time::Timestamp;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Hearing {
    agents: Mutex<HashMap<EnvKey, Agent>>,
}

#[derive(Debug, Default)]
struct Agent {
    last: Option<AgentStatus>,
    heard_at: Timestamp,
    silent_since: Option<Timestamp>,
}

impl Hearing {
    /// The last answer: kept while the agent cannot be reached, so that a moment's silence does not take a preview
    /// off its link.
    pub fn last(&self, key: EnvKey) -> Option<AgentStatus> {
        self.lock().get(&key).and_then(|agent| agent.last.clone())
    }

    /// The agent has answered.
    pub fn heard(&self, key: EnvKey, status: AgentStatus, now: Timestamp) {
        self.lock().insert(key, Agent { last: Some(status), heard_at: now, silent_since: None });
    }

    /// There is no agent.
    pub fn forget(&self, key: EnvKey) {
        self.lock().remove(&key);
    }

    /// The agent has not answered: since when not.
    pub fn not_heard(&self, key: EnvKey, now: Timestamp) -> Timestamp {
        *self.lock().entry(key).or_default().silent_since.get_or_insert(now)
    }

    /// Whether another agent has answered after that time, or there is no other to compare with.
    pub fn are_others_heard(&self, key: EnvKey, since: Timestamp) -> bool {
        let agents = self.lock();
        let mut others = agents.iter().filter(|(other, agent)| **other != key && agent.last.is_some()).peekable();
        others.peek().is_none() || others.any(|(_, agent)| agent.heard_at > since)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EnvKey, Agent>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::assignment::SandboxLevel;
    use crate::domain::id::{EnvUid, Generation, PrNumber, RepoId};

    #[test]
    fn one_agents_silence_is_told_from_our_own_deafness() {
        let hearing = Hearing::default();
        let key = |pr| EnvKey { repo: RepoId(1), pr: PrNumber(pr) };
        let status = AgentStatus {
            uid: EnvUid::parse("a".repeat(20)).unwrap(),
            generation: Generation::FIRST,
            version: String::new(),
            sandbox: SandboxLevel::Bubblewrap,
            candidate: None,
            serving: None,
        };
        hearing.heard(key(1), status.clone(), Timestamp(1));
        assert_eq!(hearing.not_heard(key(1), Timestamp(10)), Timestamp(10));
        assert_eq!(hearing.not_heard(key(1), Timestamp(20)), Timestamp(10), "since the first time");
        assert!(hearing.are_others_heard(key(1), Timestamp(10)), "there is no other");
        hearing.heard(key(2), status.clone(), Timestamp(5));
        assert!(!hearing.are_others_heard(key(1), Timestamp(10)));
        hearing.heard(key(2), status.clone(), Timestamp(15));
        assert!(hearing.are_others_heard(key(1), Timestamp(10)));
        hearing.heard(key(1), status, Timestamp(30));
        assert_eq!(hearing.not_heard(key(1), Timestamp(40)), Timestamp(40));
    }
}
