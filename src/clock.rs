//! The clock as a value, so that time can be given in.
//!
//! Guarantees: the only place besides the agent's supervisor that reads the wall clock.
//! Must not know: who asks.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::time::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The present instant. May jump in both directions.
    fn now(&self) -> Timestamp;
    /// How long since some fixed instant. Never goes back and never jumps: for what is due after a while.
    fn uptime(&self) -> Duration;
}

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn uptime(&self) -> Duration {
        BEGAN.elapsed()
    }
}
