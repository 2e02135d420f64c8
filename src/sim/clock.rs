//! Time that moves only when it is moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::domain::time::Timestamp;

/// When every simulation begins.
pub const BEGINNING: Timestamp = Timestamp(1_800_000_000_000);

/// The true time. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Time(Arc<AtomicI64>);

impl Time {
    /// The present instant.
    pub fn now(&self) -> Timestamp {
        Timestamp(BEGINNING.0 + self.0.load(Ordering::SeqCst))
    }

    /// Since the beginning.
    pub fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst).unsigned_abs())
    }

    /// Moves on to that long after the beginning, or to the next whole millisecond: whatever was due by then is. Time never
    /// goes back.
    pub fn advance_to(&self, elapsed: Duration) {
        let to = i64::try_from(elapsed.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX);
        self.0.fetch_max(to, Ordering::SeqCst);
    }
}

/// One machine's clock, which may be wrong.
#[derive(Debug, Clone)]
pub struct SimClock {
    time: Time,
    error_ms: Arc<AtomicI64>,
}

impl SimClock {
    /// A clock that is right.
    pub fn new(time: Time) -> Self {
        Self { time, error_ms: Arc::default() }
    }

    /// Puts it wrong by that many milliseconds.
    pub fn put_wrong(&self, by_ms: i64) {
        self.error_ms.store(by_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.time.now().0 + self.error_ms.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        self.time.elapsed()
    }
}
