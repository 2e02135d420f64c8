//! What must hold at any moment, and what must be true at rest. The numbers are those of the invariants that
//! `docs/reliability.md` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kagero::domain::brake::BrakeKind;
use kagero::domain::desired::GoneReason;
use kagero::domain::id::{CommitSha, EnvKey, EnvUid, Generation};
use kagero::domain::ledger::DeploymentState;
use kagero::domain::observed::Tags;
use kagero::domain::policy::Policy;
use kagero::domain::pull::PullState;
use kagero::domain::time::Timestamp;
use kagero::sim::cloud::{BROKEN_COMMIT, Entry};
use kagero::sim::hub::{Pull, Written};
use kagero::store::{JournalCheck, Store};

use super::member::Outside;
use super::story::FORK;

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
    /// What operators have stopped.
    brakes: Vec<Stopped>,
    /// Commits of forks that a maintainer has approved.
    approved: BTreeSet<CommitSha>,
    /// When each thing of the cloud was last listed.
    listed: BTreeMap<&'static str, Timestamp>,
    /// When a database of that name, or a machine of that environment, was made.
    births: BTreeMap<(EnvUid, Generation, String), Vec<Timestamp>>,
    /// How many machines have failed or were lost.
    losses: u32,
    /// How often a clock was put wrong: what was tried in vain may be tried again at once.
    clocks: u32,
    /// Environments that went although nobody had asked for it, and when that was decided.
    unasked: BTreeMap<(EnvKey, Generation), Timestamp>,
    judged_calls: usize,
    judged_writes: usize,
}

/// A brake that an operator has set.
struct Stopped {
    kind: BrakeKind,
    key: Option<EnvKey>,
    from: Timestamp,
    until: Option<Timestamp>,
}

impl Stopped {
    /// Whether it kept that from happening to that environment at that time. What was decided before it was set may be
    /// done by one who stood still in between.
    fn forbids(&self, key: EnvKey, at: Timestamp, takes_away: bool) -> bool {
        let is_on = at > self.from.plus(STANDSTILL) && self.until.is_none_or(|until| at < until);
        is_on && self.key.is_none_or(|of| of == key) && (takes_away || self.kind == BrakeKind::Pause)
    }
}

/// Longer than a member stands still.
const STANDSTILL: Duration = Duration::from_mins(2);

/// What a call is about, as the simulated cloud calls it: what it does, where its evidence comes from, and whether it
/// takes something away.
const CHANGES: [(&str, Option<&str>, bool); 8] = [
    ("launch", None, false),
    ("start", None, false),
    ("prepare", None, false),
    ("start-database", None, false),
    ("stop", Some("list-machines"), false),
    ("stop-database", Some("list-databases"), false),
    ("terminate", Some("list-machines"), true),
    ("delete", Some("list-databases"), true),
];

/// Attempts that lie further apart are not of one row: what has failed so often is tried again after 20 minutes, which
/// whoever stood still in between may have begun to count later.
const IN_A_ROW: Duration = Duration::from_mins(17);

/// How old what a removal rests on may be (I1), and by how much more where a clock that was put back is caught up with: the
/// controller's seconds last twice as long then.
const EVIDENCE: Duration = Duration::from_mins(1);

impl Truth {
    pub fn new(outside: Outside) -> Self {
        Self {
            outside,
            served: BTreeSet::new(),
            unwanted: BTreeMap::new(),
            deleted: BTreeMap::new(),
            made: BTreeMap::new(),
            brakes: Vec::new(),
            approved: BTreeSet::new(),
            listed: BTreeMap::new(),
            births: BTreeMap::new(),
            losses: 0,
            clocks: 0,
            unasked: BTreeMap::new(),
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

    /// From now on none is to have one.
    pub fn note_all_unwanted(&mut self) {
        self.outside.hub.keys().into_iter().for_each(|key| self.note_unwanted(key));
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

    /// An operator has stopped something, for one environment or for all.
    pub fn note_braked(&mut self, kind: BrakeKind, key: Option<EnvKey>) {
        self.brakes.push(Stopped { kind, key, from: self.outside.time.now(), until: None });
    }

    /// Nothing is stopped any more.
    pub fn note_lifted(&mut self) {
        let now = self.outside.time.now();
        self.brakes.iter_mut().for_each(|brake| brake.until = brake.until.or(Some(now)));
    }

    /// Another policy is in force.
    pub fn note_policy(&mut self, policy: Policy) {
        self.outside.policy = policy;
    }

    /// The records are in another store from now on.
    pub fn note_store(&mut self, store: Store) {
        self.outside.store = store;
    }

    /// A maintainer has approved a fork's commit.
    pub fn note_approved(&mut self, sha: CommitSha) {
        self.approved.insert(sha);
    }

    /// A machine has failed or was lost, if there was one.
    pub fn note_losses(&mut self, is_one: bool) {
        self.losses += u32::from(is_one);
    }

    /// The clock of a controller's machine was put wrong.
    pub fn note_clock(&mut self) {
        self.clocks += 1;
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
        self.note_served()?;
        self.judge_calls().await?;
        self.judge_writes()
    }

    fn note_served(&mut self) -> Result<(), Violation> {
        for key in self.outside.hub.keys() {
            let uid = EnvUid::derive(&self.outside.policy.install, key);
            if let Some(task) = self.outside.cloud.serves(uid.as_str()) {
                if is_fork(key) && !self.approved.contains(&task.commit) {
                    return Err(Violation(format!("I21: {} of a fork serves, and nobody approved it", task.commit)));
                }
                self.served.insert((key, task.commit));
            }
        }
        Ok(())
    }

    /// What every call that changes something has to abide by.
    async fn judge_change(&mut self, call: &Entry, tags: &Tags) -> Result<(), Violation> {
        let (decided, kind) = match call.kind.strip_prefix("ask-") {
            Some(kind) => (true, kind),
            None => (false, call.kind),
        };
        let Some((_, evidence, takes_away)) = CHANGES.iter().find(|(change, ..)| *change == kind) else {
            return Ok(());
        };
        let broken = |rule: &str, why: &str| Err(Violation(format!("{rule}: {kind} of {}, {why}", call.name)));
        if decided {
            let listed = evidence.and_then(|listing| self.listed.get(listing));
            let oldest = EVIDENCE * if self.clocks == 0 { 1 } else { 2 };
            if listed.is_none_or(|at| call.at.since(*at) > oldest) {
                return broken("I1", &format!("which was last listed at {listed:?}"));
            }
            return Ok(());
        }
        if is_fork(tags.key) && self.approved.is_empty() {
            return broken("I21", "which is a fork's that nobody approved");
        }
        if let Some(brake) = self.brakes.iter().find(|brake| brake.forbids(tags.key, call.at, *takes_away)) {
            return broken("I6", &format!("and {:?} of {:?} is on", brake.kind, brake.key));
        }
        if *takes_away {
            return self.judge_unasked(tags).await;
        }
        if matches!(kind, "launch" | "prepare") {
            let name = if kind == "launch" { String::new() } else { call.name.clone() };
            let losses = if kind == "launch" { self.losses } else { 0 };
            let born = self.births.entry((tags.uid.clone(), tags.generation, name)).or_default();
            born.push(call.at);
            let pairs = born.windows(2).rev().take_while(|pair| pair[1].since(pair[0]) < IN_A_ROW);
            let rounds = 1 + self.clocks;
            let (times, most) = (1 + pairs.count(), self.outside.policy.limits.attempts * rounds + losses);
            if times > usize::try_from(most).unwrap() {
                return broken("I16", &format!("for the {times}th time in a row, and {losses} machines were lost"));
            }
        }
        Ok(())
    }

    /// Not too much goes that nobody asked for (I3).
    async fn judge_unasked(&mut self, tags: &Tags) -> Result<(), Violation> {
        let ledger = self.outside.store.ledger(tags.key).await.unwrap();
        let ours = ledger.filter(|ledger| ledger.generation == tags.generation);
        let left = ours.and_then(|ledger| ledger.left);
        let Some(left) = left.filter(|left| matches!(left.why, GoneReason::NotConfigured | GoneReason::Expired)) else {
            return Ok(());
        };
        self.unasked.insert((tags.key, tags.generation), left.at);
        let lately = |at: &&Timestamp| at.0.abs_diff(left.at.0) < 3_600_000 && **at <= left.at;
        let gone = self.unasked.values().filter(lately).count();
        let limit = self.outside.policy.removals.of(self.outside.hub.keys().len());
        if gone > limit {
            return Err(Violation(format!("I3: {gone} environments went within an hour, unasked, and {limit} may")));
        }
        Ok(())
    }

    async fn judge_calls(&mut self) -> Result<(), Violation> {
        let calls = self.outside.cloud.journal_from(self.judged_calls);
        for call in calls.iter().filter(|call| call.refused.is_none()) {
            let Some(tags) = &call.tags else {
                self.listed.insert(call.kind, call.at);
                continue;
            };
            self.judge_change(call, tags).await?;
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
            if let Some(brake) = self.brakes.iter().find(|brake| brake.forbids(write.key, write.at, false))
                && !matches!(write.what, Written::Comment(_))
            {
                return Err(Violation(format!("{:?}: written although {:?} is on", write.what, brake.kind)));
            }
            if is_fork(write.key) && self.approved.is_empty() && matches!(write.what, Written::Deployment(_)) {
                return Err(Violation("I21: a fork's commit that nobody approved has a deployment".to_owned()));
            }
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
        if is_fork(key) && !self.approved.contains(&facts.head_sha) {
            // What runs is what was approved last.
            let served = cloud.serves(uid.as_str()).is_none_or(|task| self.approved.contains(&task.commit));
            let fine = served && alive.0 <= 1 && alive.1 <= 1 && (!released || alive == (0, 0));
            return if fine { Ok(!released) } else { Err(says("I21: a fork's commit that nobody approved")) };
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

/// Whether it is the pull request of stories that comes from a fork.
fn is_fork(key: EnvKey) -> bool {
    key.pr.0 == FORK
}

/// The second line of the sticky comment.
pub fn headline(pull: &Pull) -> String {
    let text = pull.comments.values().next().map(String::as_str).unwrap_or_default();
    text.lines().nth(1).unwrap_or_default().trim_start_matches("### ").to_owned()
}
