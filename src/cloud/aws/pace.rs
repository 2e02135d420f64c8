//! Fewer calls than the account allows: its buckets are shared with everybody else in it.
//!
//! Guarantees: this process takes at most 70 % of what refills a bucket (I28). A call that is not due yet is not made and
//! not waited for: it is told when to come again. Only listings wait for their turn.
//! Must not know: what is called.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::cloud::{CloudError, ErrorClass};

/// A bucket: what is taken from it together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// `Describe*` of EC2.
    Look,
    /// `RunInstances`.
    Launch,
    /// `StartInstances`, and other changes.
    Change,
    /// `TerminateInstances`.
    Terminate,
    /// `Describe*` of RDS.
    LookAtDatabases,
    /// Every other call of RDS.
    ChangeDatabases,
}

const BUCKETS: [Bucket; 6] =
    [Bucket::Look, Bucket::Launch, Bucket::Change, Bucket::Terminate, Bucket::LookAtDatabases, Bucket::ChangeDatabases];

impl Bucket {
    /// What it holds, and what it is refilled with in a second ("Request throttling for the Amazon EC2 API"). RDS
    /// publishes no figures: these are a tenth of what it has been seen to allow.
    fn size(self) -> (u32, u32) {
        match self {
            Self::Look => (100, 20),
            Self::Launch | Self::Change | Self::ChangeDatabases => (5, 2),
            Self::Terminate => (100, 5),
            Self::LookAtDatabases => (20, 10),
        }
    }

    fn limiter(self) -> DefaultDirectRateLimiter {
        let (holds, refill) = self.size();
        // 70 %: a token every 10/7 of the refill's time.
        let period = Duration::from_secs(1).saturating_mul(10) / (7 * refill);
        let burst = NonZeroU32::new(holds * 7 / 10).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(period).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        RateLimiter::direct(quota.allow_burst(burst))
    }
}

/// Tells whether a call is due.
pub struct Pace([DefaultDirectRateLimiter; 6]);

impl Default for Pace {
    fn default() -> Self {
        Self(BUCKETS.map(Bucket::limiter))
    }
}

impl Pace {
    /// Takes a call from its bucket, or says when to come again.
    pub fn take(&self, bucket: Bucket, what: &str) -> Result<(), CloudError> {
        self.0[bucket as usize].check().map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            CloudError {
                class: ErrorClass::SlowDown(wait),
                what: what.to_owned(),
                why: "as many calls as our share of the account's limit allows were made; it follows by itself"
                    .to_owned(),
            }
        })
    }

    /// Waits for a call's turn.
    pub async fn wait(&self, bucket: Bucket) {
        self.0[bucket as usize].until_ready().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_stay_within_seven_tenths_of_the_bucket() {
        let pace = Pace::default();
        let due = (0..10).filter(|_| pace.take(Bucket::Launch, "launch").is_ok()).count();
        assert_eq!(due, 3, "of five");
        let error = pace.take(Bucket::Launch, "launch").unwrap_err();
        let ErrorClass::SlowDown(wait) = error.class else { panic!("{error:?}") };
        assert!(wait > Duration::from_millis(500) && wait <= Duration::from_millis(715), "{wait:?}: 1.4 a second");
        assert!(pace.take(Bucket::Terminate, "terminate").is_ok(), "another bucket");
    }

    #[test]
    fn every_bucket_has_its_own_place() {
        for (place, bucket) in BUCKETS.into_iter().enumerate() {
            assert_eq!(bucket as usize, place);
        }
    }
}
