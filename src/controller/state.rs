//! What the controller keeps in memory: all of it can be lost at any moment without harm.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::builds::Builds;
use super::fleet::Fleet;
use super::hearing::Hearing;
use super::queue::Queue;
use super::seats::Seats;
use super::turns::Turns;
use crate::clock::Clock;
use crate::domain::id::{EnvKey, HostLabel};
use crate::domain::time::Timestamp;

/// See the module's documentation.
pub struct Memory {
    /// Who runs next.
    pub queue: Queue,
    /// Who may run at all.
    pub seats: Seats,
    /// Who may build.
    pub builds: Builds,
    /// Who may ask a provider that is short of calls.
    pub turns: Turns,
    /// What agents have said.
    pub hearing: Hearing,
    /// What was listed.
    pub fleet: Fleet,
    notes: Mutex<HashMap<EnvKey, Note>>,
    /// How often deliveries have been asked for again, by their guid.
    redelivered: Mutex<HashMap<String, u32>>,
    /// When this replica last came to its resync.
    resync: Mutex<Option<Timestamp>>,
    /// Environments known at the start whose routes have not been published yet.
    unpublished: Mutex<BTreeSet<EnvKey>>,
}

#[derive(Debug, Clone, Default)]
struct Note {
    changed_at: Timestamp,
    in_motion: bool,
    failures: u32,
    trouble: Option<String>,
    silent: Vec<(Silence, Timestamp)>,
    doubted: bool,
    steps: String,
    repeats: u32,
    labels: BTreeSet<HostLabel>,
}

/// What is not to be written for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// Anything.
    All,
    /// One thing, by its words.
    Of(String),
}

/// Silences remembered of one environment.
const SILENCES: usize = 16;

/// Deliveries remembered as asked for again.
const REDELIVERED: usize = 10_000;

/// Failures in a row after which they are shown to people.
const SHOWN_AFTER: u32 = 5;

impl Memory {
    /// An empty memory.
    pub fn new(fleet: Fleet, clock: Arc<dyn Clock>) -> Self {
        Self {
            queue: Queue::new(clock),
            seats: Seats::default(),
            builds: Builds::default(),
            turns: Turns::default(),
            hearing: Hearing::default(),
            fleet,
            notes: Mutex::default(),
            redelivered: Mutex::default(),
            resync: Mutex::default(),
            unpublished: Mutex::default(),
        }
    }

    /// A resource of this environment was touched; older listings do not show it.
    pub fn note_change(&self, key: EnvKey, at: Timestamp) {
        self.note(key, |note| note.changed_at = at);
    }

    /// When a resource of this environment was last touched.
    pub fn last_change(&self, key: EnvKey) -> Timestamp {
        self.lock().get(&key).map(|note| note.changed_at).unwrap_or_default()
    }

    /// Whether the environment is on its way somewhere, so that fresh readings are worth their price.
    pub fn note_motion(&self, key: EnvKey, in_motion: bool) {
        self.note(key, |note| note.in_motion = in_motion);
    }

    /// As noted; unknown environments are taken to be in motion.
    pub fn is_in_motion(&self, key: EnvKey) -> bool {
        self.lock().get(&key).is_none_or(|note| note.in_motion)
    }

    /// A pass failed: how long to wait before the next, doubling from 0.2 s to a minute.
    pub fn failed(&self, key: EnvKey, why: String) -> Duration {
        let mut wait = Duration::ZERO;
        self.note(key, |note| {
            note.trouble = Some(why);
            wait = Duration::from_millis(200).saturating_mul(1 << note.failures.min(9)).min(Duration::from_mins(1));
            note.failures = note.failures.saturating_add(1);
        });
        wait
    }

    /// A pass did what it had to.
    pub fn succeeded(&self, key: EnvKey) {
        self.note(key, |note| {
            note.failures = 0;
            note.trouble = None;
        });
    }

    /// What has kept failing, if it is time to show it.
    pub fn trouble(&self, key: EnvKey) -> Option<String> {
        self.lock().get(&key).filter(|note| note.failures >= SHOWN_AFTER).and_then(|note| note.trouble.clone())
    }

    /// Something is not to be written on the pull request before that time.
    pub fn be_silent(&self, key: EnvKey, silence: Silence, until: Timestamp) {
        self.note(key, |note| {
            note.silent.retain(|(what, _)| *what != silence);
            note.silent.push((silence, until));
            // One for each thing that is said of the newest phase; older ones are never asked for again.
            let superfluous = note.silent.len().saturating_sub(SILENCES);
            note.silent.drain(..superfluous);
        });
    }

    /// How long a thing may not be written yet, if it may not.
    pub fn silence(&self, key: EnvKey, subject: &str, now: Timestamp) -> Option<Duration> {
        let notes = self.lock();
        let silent = notes.get(&key)?.silent.iter().filter(|(silence, until)| {
            *until > now && (*silence == Silence::All || matches!(silence, Silence::Of(what) if what == subject))
        });
        silent.map(|(_, until)| until.since(now)).max()
    }

    /// Words of ours may have come to GitHub after those of another replica that holds the lease now.
    pub fn doubt(&self, key: EnvKey) {
        self.note(key, |note| note.doubted = true);
    }

    /// All words are known to be said.
    pub fn trust(&self, key: EnvKey) {
        self.note(key, |note| note.doubted = false);
    }

    /// As noted.
    pub fn is_doubted(&self, key: EnvKey) -> bool {
        self.lock().get(&key).is_some_and(|note| note.doubted)
    }

    /// Notes the steps that were done; how often in a row they have been the same.
    pub fn repeats(&self, key: EnvKey, steps: String) -> u32 {
        let mut repeats = 0;
        self.note(key, |note| {
            note.repeats = if !steps.is_empty() && note.steps == steps { note.repeats.saturating_add(1) } else { 0 };
            note.steps = steps;
            repeats = note.repeats;
        });
        repeats
    }

    /// Replaces the labels under which an environment is published; those that it gave up.
    pub fn publish(&self, key: EnvKey, labels: BTreeSet<HostLabel>) -> Vec<HostLabel> {
        let mut given_up = Vec::new();
        self.note(key, |note| {
            given_up = note.labels.difference(&labels).cloned().collect();
            note.labels = labels;
        });
        given_up
    }

    /// Forgets an environment of which nothing is left, but for what it is published under.
    pub fn forget(&self, key: EnvKey) {
        self.hearing.forget(key);
        self.note(key, |note| {
            *note = Note { labels: std::mem::take(&mut note.labels), in_motion: true, ..Note::default() }
        });
    }

    /// A delivery is to be asked for again: how often it has been before.
    pub fn asked_again(&self, guid: &str) -> u32 {
        let mut redelivered = self.redelivered.lock().unwrap_or_else(PoisonError::into_inner);
        if redelivered.len() > REDELIVERED {
            redelivered.clear();
        }
        let times = redelivered.entry(guid.to_owned()).or_default();
        *times += 1;
        *times - 1
    }

    /// Comes to a resync: when it did so before.
    pub fn resyncs(&self, now: Timestamp) -> Option<Timestamp> {
        self.resync.lock().unwrap_or_else(PoisonError::into_inner).replace(now)
    }

    /// These are to be published before the route table is complete.
    pub fn expect_published(&self, keys: BTreeSet<EnvKey>) {
        *self.unpublished.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// An environment has been published: whether it was the last that was waited for.
    pub fn is_last_to_publish(&self, key: EnvKey) -> bool {
        let mut unpublished = self.unpublished.lock().unwrap_or_else(PoisonError::into_inner);
        unpublished.remove(&key) && unpublished.is_empty()
    }

    fn note(&self, key: EnvKey, change: impl FnOnce(&mut Note)) {
        change(self.lock().entry(key).or_insert_with(|| Note { in_motion: true, ..Note::default() }));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EnvKey, Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
