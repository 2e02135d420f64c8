//! The clock as a value, so that time can be given in.
//!
//! Guarantees: the only place besides the agent's supervisor that reads the wall clock. A controller's time
//! ([`SteadyClock`]) never goes back.
//! Must not know: who asks.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::domain::time::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The present instant. That of a machine may jump in both directions.
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

/// What was written before a start and lies further ahead than this was written by a clock that was wrong beyond belief.
pub const BELIEVED: Duration = Duration::from_hours(24);

/// The time that a controller goes by, whatever happens to the machine's clock.
///
/// It never goes back: where it is ahead of what it goes by, it runs at half speed until both meet. It goes by the
/// machine's clock, or by that of a server which several machines share; then a step of the machine's clock does not
/// concern it at all. What it tells is for ages and order among our own records; whoever talks to others about the
/// time, as signatures do, asks the [`SystemClock`].
pub struct SteadyClock {
    machine: Arc<dyn Clock>,
    hands: Mutex<Hands>,
}

/// Instants with the uptimes at which they were told.
#[derive(Debug, Default)]
struct Hands {
    /// The last time that was not told at half speed.
    told: Option<(Timestamp, Duration)>,
    server: Option<(Timestamp, Duration)>,
}

impl SteadyClock {
    /// Goes by that machine's clock.
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        Self { machine, hands: Mutex::default() }
    }

    /// Something was written at that time: from now on it is at least as late. Whether that was believed
    /// ([`BELIEVED`]).
    pub fn not_before(&self, written: Timestamp) -> bool {
        let mut hands = self.lock();
        let uptime = self.machine.uptime();
        let now = self.read(&mut hands);
        if written.since(now) > BELIEVED {
            return false;
        }
        if written > now {
            hands.told = Some((written, uptime));
        }
        true
    }

    /// Goes by a server from now on, which told that time at that uptime. Asked again from time to time, it is
    /// followed; in between only the uptime counts.
    pub fn follow(&self, server: Timestamp, uptime: Duration) {
        self.lock().server = Some((server, uptime));
    }

    fn read(&self, hands: &mut Hands) -> Timestamp {
        let uptime = self.machine.uptime();
        let there = match hands.server {
            Some((at, then)) => at.plus(uptime.saturating_sub(then)),
            None => self.machine.now(),
        };
        if let Some((at, then)) = hands.told {
            let least = at.plus(uptime.saturating_sub(then) / 2);
            if least > there {
                return least;
            }
        }
        hands.told = Some((there, uptime));
        there
    }

    fn lock(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        self.read(&mut self.lock())
    }

    fn uptime(&self) -> Duration {
        self.machine.uptime()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    const HOUR: i64 = 3_600_000;

    /// A machine that has run for so long, and what its clock shows.
    #[derive(Default)]
    struct Machine {
        up: AtomicI64,
        wall: AtomicI64,
    }

    impl Machine {
        fn runs(&self, ms: i64) {
            self.up.fetch_add(ms, Ordering::SeqCst);
            self.wall.fetch_add(ms, Ordering::SeqCst);
        }

        fn is_put(&self, by: i64) {
            self.wall.fetch_add(by, Ordering::SeqCst);
        }
    }

    impl Clock for Machine {
        fn now(&self) -> Timestamp {
            Timestamp(self.wall.load(Ordering::SeqCst))
        }

        fn uptime(&self) -> Duration {
            Duration::from_millis(self.up.load(Ordering::SeqCst).unsigned_abs())
        }
    }

    fn set() -> (Arc<Machine>, SteadyClock) {
        let machine = Arc::new(Machine::default());
        machine.is_put(100 * HOUR);
        let clock = SteadyClock::new(Arc::clone(&machine) as Arc<dyn Clock>);
        (machine, clock)
    }

    #[test]
    fn it_goes_by_the_machine_forwards_and_at_half_speed_while_it_is_ahead() {
        let (machine, clock) = set();
        assert_eq!(clock.now(), Timestamp(100 * HOUR));
        machine.runs(1_000);
        machine.is_put(HOUR);
        assert_eq!(clock.now(), Timestamp(101 * HOUR + 1_000), "a step forwards is believed");
        machine.is_put(-HOUR);
        assert_eq!(clock.now(), Timestamp(101 * HOUR + 1_000), "a step back is not");
        machine.runs(HOUR);
        assert_eq!(clock.now(), Timestamp(101 * HOUR + 1_000 + HOUR / 2));
        machine.runs(2 * HOUR);
        assert_eq!(clock.now(), machine.now(), "they have met");
    }

    #[test]
    fn asking_often_does_not_hold_it_up() {
        let (machine, clock) = set();
        clock.now();
        machine.is_put(-HOUR);
        for _ in 0..1_000 {
            machine.runs(1);
            clock.now();
        }
        assert_eq!(clock.now(), Timestamp(100 * HOUR + 500));
    }

    #[test]
    fn a_server_is_followed_whatever_happens_to_the_machine() {
        let (machine, clock) = set();
        clock.follow(Timestamp(50 * HOUR), machine.uptime());
        assert_eq!(clock.now(), Timestamp(50 * HOUR), "nothing was told before");
        machine.is_put(HOUR);
        machine.runs(1_000);
        assert_eq!(clock.now(), Timestamp(50 * HOUR + 1_000));
        clock.follow(Timestamp(50 * HOUR), machine.uptime());
        machine.runs(1_000);
        assert_eq!(clock.now(), Timestamp(50 * HOUR + 1_500), "it is ahead of the server by now");
        machine.runs(1_000);
        assert_eq!(clock.now(), Timestamp(50 * HOUR + 2_000), "and has met it");
    }

    #[test]
    fn what_was_written_lies_in_the_past_unless_it_is_beyond_belief() {
        let (machine, clock) = set();
        assert!(clock.not_before(Timestamp(99 * HOUR)));
        assert_eq!(clock.now(), machine.now());
        assert!(clock.not_before(Timestamp(101 * HOUR)));
        assert_eq!(clock.now(), Timestamp(101 * HOUR));
        machine.runs(HOUR);
        assert_eq!(clock.now(), Timestamp(101 * HOUR + HOUR / 2));
        assert!(!clock.not_before(Timestamp(1_000 * HOUR)));
        assert_eq!(clock.now(), Timestamp(101 * HOUR + HOUR / 2));
    }
}
