//! What must hold at any moment, and what must be true at rest. The numbers are those of the invariants that
//! `docs/reliability.md` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kagero::domain::id::{CommitSha, EnvKey, EnvUid, Generation};
use kagero::domain::ledger::DeploymentState;
use kagero::domain::pull::PullState;
use kagero::domain::time::Timestamp;
use kagero::sim::cloud::BROKEN_COMMIT;
use kagero::sim::hub::{Pull, Written};
use kagero::store::JournalCheck;

use super::member::Outside;

/// What does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

/// Remembers what has been true.
pub struct Truth {
    outside: Outside,
    /// Commits that an environment has served, ever.
    served: BTreeSet<(EnvKey, CommitSha)>,
    /// From when until when a pull request was not to have an environment.
    unwanted: BTreeMap<EnvKey, Vec<(Timestamp, Option<Timestamp>)>>,
    /// When a person deleted our comment: it comes back with the next thing that there is to say.
    deleted: BTreeMap<EnvKey, Timestamp>,
    /// When the first database of a generation was made.
    made: BTreeMap<(EnvUid, Generation), Timestamp>,
    judged_calls: usize,
    judged_writes: usize,
}

impl Truth {
    pub fn new(outside: Outside) -> Self {
        Self {
            outside,
            served: BTreeSet::new(),
            unwanted: BTreeMap::new(),
            deleted: BTreeMap::new(),
            made: BTreeMap::new(),
            judged_calls: 0,
            judged_writes: 0,
        }
    }

    /// From now on the pull request is not to have an environment.
    pub fn note_unwanted(&mut self, key: EnvKey) {
        let spans = self.unwanted.entry(key).or_default();
        if !matches!(spans.last(), Some((_, None))) {
            spans.push((self.outside.time.now(), None));
        }
    }

    /// From now on the pull request is to have an environment.
    pub fn note_wanted(&mut self, key: EnvKey) {
        if let Some((_, end @ None)) = self.unwanted.get_mut(&key).and_then(|spans| spans.last_mut()) {
            *end = Some(self.outside.time.now());
        }
    }

    /// A person has deleted our comment.
    pub fn note_deleted(&mut self, key: EnvKey) {
        self.deleted.insert(key, self.outside.time.now());
    }

    /// Whether nothing was to be said since our comment was deleted.
    fn is_deleted(&self, key: EnvKey, pull: &Pull) -> bool {
        let Some(at) = self.deleted.get(&key).filter(|_| pull.comments.is_empty()) else { return false };
        let comments = |what: &Written| matches!(what, Written::Comment(_));
        !self.outside.hub.writes().iter().any(|write| write.key == key && write.at > *at && comments(&write.what))
    }

    /// What must hold at any moment.
    pub async fn look(&mut self) -> Result<(), Violation> {
        if let Some(breach) = self.outside.cloud.breaches().first() {
            return Err(Violation(format!("I1: {breach}")));
        }
        self.note_served();
        self.judge_calls().await?;
        self.judge_writes()
    }

    fn note_served(&mut self) {
        for key in self.outside.hub.keys() {
            let uid = EnvUid::derive(&self.outside.policy.install, key);
            if let Some(task) = self.outside.cloud.serves(uid.as_str()) {
                self.served.insert((key, task.commit));
            }
        }
    }

    async fn judge_calls(&mut self) -> Result<(), Violation> {
        let calls = self.outside.cloud.journal_from(self.judged_calls);
        for call in calls.iter().filter(|call| call.refused.is_none()) {
            let Some(tags) = &call.tags else { continue };
            let born = (tags.uid.clone(), tags.generation);
            match call.kind {
                "prepare" | "launch" => {
                    if call.kind == "prepare" {
                        self.made.entry(born).or_insert(call.at);
                    }
                    let known = self.outside.store.ledger(tags.key).await.unwrap();
                    let known = known.ok_or_else(|| Violation(format!("I9: {} was made without a row", call.name)))?;
                    if known.generation < tags.generation {
                        return Err(Violation(format!("I9: {} is of a generation without a row", call.name)));
                    }
                }
                "delete" => {
                    let since = self.made.get(&born).copied().unwrap_or_default();
                    let unwanted = self.unwanted.get(&tags.key);
                    let meanwhile = |(_, end): &(_, Option<Timestamp>)| end.is_none_or(|end| end >= since);
                    if !unwanted.is_some_and(|spans| spans.iter().any(meanwhile)) {
                        let why = "was deleted, and its pull request was wanted all its life";
                        return Err(Violation(format!("I5: {} {why}", call.name)));
                    }
                }
                _ => {}
            }
        }
        self.judged_calls += calls.len();
        Ok(())
    }

    fn judge_writes(&mut self) -> Result<(), Violation> {
        let new = self.outside.hub.writes_from(self.judged_writes);
        if new.is_empty() {
            return Ok(());
        }
        for write in &new {
            let Written::Status(sha, DeploymentState::Success) = &write.what else { continue };
            if !self.served.contains(&(write.key, sha.clone())) {
                return Err(Violation(format!("I23: {} was called ready and never served", sha.short())));
            }
        }
        let writes = self.outside.hub.writes();
        for (place, write) in writes.iter().enumerate().skip(self.judged_writes) {
            let within = |window| writes[..=place].iter().rev().take_while(|w| write.at.since(w.at) < window).count();
            if within(Duration::from_mins(1)) > 60 || within(Duration::from_hours(1)) > 400 {
                return Err(Violation(format!("I22: too many writes before {}", write.at)));
            }
        }
        self.judged_writes = writes.len();
        Ok(())
    }

    /// What must be true once nothing happens any more.
    pub async fn at_rest(&mut self) -> Result<(), Violation> {
        self.look().await?;
        let mut held = 0;
        let pulls = self.outside.hub.pulls();
        for (key, pull) in &pulls {
            held += usize::from(self.pull_at_rest(*key, pull).await?);
        }
        let limit = usize::try_from(self.outside.policy.limits.environments).unwrap();
        let waiting = pulls.values().filter(|pull| headline(pull).contains("queued")).count();
        if held > limit || (held < limit && waiting > 0) {
            return Err(Violation(format!("I27: {held} of {limit} seats are taken and {waiting} wait")));
        }
        if held == 0
            && let Err(left) = self.outside.cloud.assert_clean()
        {
            return Err(Violation(format!("I14: nobody has an environment, and there are {left}")));
        }
        let store = &self.outside.store;
        if store.inbox().counts().await.unwrap().pending > 0 {
            return Err(Violation("I26: deliveries are left unread".to_owned()));
        }
        match store.verify_journal().await.unwrap() {
            JournalCheck::Intact(_) => Ok(()),
            JournalCheck::Broken(id) => Err(Violation(format!("I25: the journal is broken at {id:?}"))),
        }
    }

    /// Whether it holds a seat.
    async fn pull_at_rest(&self, key: EnvKey, pull: &Pull) -> Result<bool, Violation> {
        let Outside { cloud, store, policy, .. } = &self.outside;
        let uid = EnvUid::derive(&policy.install, key);
        let alive = cloud.alive(uid.as_str());
        let ledger = store.ledger(key).await.unwrap();
        let released = ledger.as_ref().is_none_or(kagero::domain::ledger::Ledger::is_released);
        let facts = &pull.facts;
        let head = headline(pull);
        let says = |what: &str| {
            let said = ledger.as_ref().map(|ledger| &ledger.said);
            Violation(format!(
                "{key}: {what}; alive {alive:?}, released {released}, comment {head:?}, {:?} {} {:?}, deployments {:?}, \
                 said {said:?}",
                facts.state,
                facts.head_sha.short(),
                facts.labels,
                pull.deployments
            ))
        };
        if pull.comments.len() > 1 {
            return Err(says("I22: more than one comment"));
        }
        let wanted = facts.state == PullState::Open && !facts.labels.contains(&policy.labels.off);
        let successes: Vec<_> =
            pull.deployments.values().filter(|(_, s)| *s == Some(DeploymentState::Success)).collect();
        if !wanted {
            if alive != (0, 0) || !released || cloud.is_in_a_slot(uid.as_str()) {
                return Err(says("I14: something is left"));
            }
            if pull.deployments.values().any(|(_, state)| *state != Some(DeploymentState::Inactive)) {
                return Err(says("I24: a deployment is not inactive"));
            }
            return Ok(false);
        }
        if released && (head.contains("queued") || self.is_deleted(key, pull)) {
            return Ok(false);
        }
        if facts.draft {
            // What was running goes to sleep, with its database if there was one already; what was not is not made.
            let fine = if released { alive == (0, 0) } else { cloud.awake(uid.as_str()) == (0, 0) };
            return if fine { Ok(!released) } else { Err(says("a draft is neither asleep nor absent")) };
        }
        if alive != (1, 1) {
            return Err(says("I8: not one machine and one database"));
        }
        let served = cloud.serves(uid.as_str()).map(|task| task.commit);
        if facts.head_sha.as_str().starts_with(BROKEN_COMMIT) {
            if !head.contains("failed") && !self.is_deleted(key, pull) {
                return Err(says("I13: a broken commit is not shown as failed"));
            }
        } else {
            if served.as_ref() != Some(&facts.head_sha) {
                return Err(says("I13: the newest commit does not serve"));
            }
            if !head.contains("ready") && !self.is_deleted(key, pull) {
                return Err(says("I13: it serves and is not called ready"));
            }
            if successes.len() != 1 || successes[0].0 != facts.head_sha {
                return Err(says("I24: not exactly the newest commit's deployment is a success"));
            }
        }
        Ok(true)
    }
}

/// The second line of the sticky comment.
pub fn headline(pull: &Pull) -> String {
    let text = pull.comments.values().next().map(String::as_str).unwrap_or_default();
    text.lines().nth(1).unwrap_or_default().trim_start_matches("### ").to_owned()
}
