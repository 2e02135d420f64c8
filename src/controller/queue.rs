//! The keyed, delayed queue: one entry per pull request, one pass per key at a time.
//!
//! A wake carries no payload. Waking a key that is being worked on makes it run once more afterwards.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::domain::id::EnvKey;

/// How many keys are looked at in a second while all is as it should be.
const LOOKS_A_SECOND: u32 = 300;

/// See the module's documentation. Times are uptimes of the clock.
pub struct Queue {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    due: BTreeSet<(Duration, EnvKey)>,
    at: HashMap<EnvKey, Duration>,
    running: HashSet<EnvKey>,
    again: HashMap<EnvKey, Duration>,
}

impl Inner {
    fn schedule(&mut self, key: EnvKey, at: Duration) {
        if self.running.contains(&key) {
            let again = self.again.entry(key).or_insert(at);
            *again = (*again).min(at);
            return;
        }
        if let Some(old) = self.at.get(&key).copied() {
            if old <= at {
                return;
            }
            self.due.remove(&(old, key));
        }
        self.due.insert((at, key));
        self.at.insert(key, at);
    }

    /// The next key, or when one will be due.
    fn take(&mut self, now: Duration) -> Result<EnvKey, Option<Duration>> {
        match self.due.first().copied() {
            Some((at, key)) if at <= now => {
                self.due.remove(&(at, key));
                self.at.remove(&key);
                self.running.insert(key);
                Ok(key)
            }
            Some((at, _)) => Err(Some(at)),
            None => Err(None),
        }
    }
}

impl Queue {
    /// An empty queue.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, inner: Mutex::default(), changed: Notify::new() }
    }

    /// Runs the key as soon as possible.
    pub fn wake(&self, key: EnvKey) {
        self.wake_after(key, Duration::ZERO);
    }

    /// Runs the key after that long, or earlier if it was due earlier.
    pub fn wake_after(&self, key: EnvKey, delay: Duration) {
        self.lock().schedule(key, self.clock.uptime().saturating_add(delay));
        self.changed.notify_one();
    }

    /// The next key that is due; waits until one is. Call [`Queue::done`] afterwards.
    pub async fn next(&self) -> EnvKey {
        loop {
            let now = self.clock.uptime();
            let taken = self.lock().take(now);
            match taken {
                Ok(key) => {
                    // Another worker may be waiting for what else is due.
                    self.changed.notify_one();
                    return key;
                }
                Err(Some(at)) => {
                    tokio::select! {
                        () = tokio::time::sleep(at.saturating_sub(now)) => {}
                        () = self.changed.notified() => {}
                    }
                }
                Err(None) => self.changed.notified().await,
            }
        }
    }

    /// The next key if one is due now, without waiting. Call [`Queue::done`] afterwards.
    pub fn next_now(&self) -> Option<EnvKey> {
        self.lock().take(self.clock.uptime()).ok()
    }

    /// The least time between two looks at what is as it should be. It grows with the number of keys, so that the looks
    /// of all together do not (I28).
    pub fn leisure(&self) -> Duration {
        let keys = u32::try_from(self.len()).unwrap_or(u32::MAX);
        Duration::from_secs(1).saturating_mul(keys) / LOOKS_A_SECOND
    }

    /// At which uptime the next key is due, if one waits.
    pub fn due_at(&self) -> Option<Duration> {
        self.lock().due.first().map(|(at, _)| *at)
    }

    /// Ends a pass and says when the key is to run again, if by itself.
    pub fn done(&self, key: EnvKey, next: Option<Duration>) {
        let now = self.clock.uptime();
        let mut inner = self.lock();
        inner.running.remove(&key);
        let again = inner.again.remove(&key);
        let next = next.map(|delay| now.saturating_add(delay));
        if let Some(at) = [again, next].into_iter().flatten().min() {
            inner.schedule(key, at);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// How many keys wait or run.
    pub fn len(&self) -> usize {
        let inner = self.lock();
        inner.at.len() + inner.running.len()
    }

    /// Whether no key waits or runs.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::domain::id::{PrNumber, RepoId};
    use crate::domain::time::Timestamp;

    /// The runtime's clock, which the tests pause.
    struct Paused(Instant);

    impl Clock for Paused {
        fn now(&self) -> Timestamp {
            Timestamp::default()
        }

        fn uptime(&self) -> Duration {
            self.0.elapsed()
        }
    }

    fn queue() -> Queue {
        Queue::new(Arc::new(Paused(Instant::now())))
    }

    fn key(pr: u64) -> EnvKey {
        EnvKey { repo: RepoId(1), pr: PrNumber(pr) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_wake_overtakes_and_a_later_one_does_not_delay() {
        let queue = queue();
        let began = Instant::now();
        queue.wake_after(key(1), Duration::from_secs(10));
        queue.wake_after(key(1), Duration::from_secs(2));
        queue.wake_after(key(1), Duration::from_secs(20));
        assert_eq!(queue.next().await, key(1));
        assert_eq!(began.elapsed().as_secs(), 2);
        queue.done(key(1), None);
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_never_runs_twice_at_once_and_a_wake_meanwhile_is_not_lost() {
        let queue = queue();
        queue.wake(key(1));
        assert_eq!(queue.next().await, key(1));
        queue.wake(key(1));
        queue.wake(key(2));
        assert_eq!(queue.next().await, key(2));
        let none = tokio::time::timeout(Duration::from_mins(1), queue.next()).await;
        assert!(none.is_err(), "key 1 ran beside itself");
        queue.done(key(1), Some(Duration::from_hours(1)));
        assert_eq!(queue.next().await, key(1));
    }

    #[tokio::test(start_paused = true)]
    async fn looks_at_leisure_are_as_many_in_a_second_however_many_keys_there_are() {
        let queue = queue();
        assert_eq!(queue.leisure(), Duration::ZERO);
        (0..900).for_each(|pr| queue.wake_after(key(pr), Duration::from_mins(1)));
        assert_eq!(queue.leisure(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn every_waiting_worker_gets_its_key() {
        let queue = Arc::new(queue());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        for pr in 0..4 {
            queue.wake(key(pr));
        }
        let mut got = BTreeSet::new();
        for worker in workers {
            got.insert(worker.await.unwrap());
        }
        assert_eq!(got.len(), 4);
    }
}
