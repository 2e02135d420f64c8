//! How often an account may call EC2 ("Request throttling for the Amazon EC2 API"): buckets of tokens, one for each kind of
//! action, refilled by the second. moto has none.
//!
//! Guarantees: what finds its bucket empty is refused and counted.
//! Must not know: who calls.

use std::collections::HashMap;
use std::time::Instant;

/// A bucket: how much it holds, and what it is refilled with in a second.
type Size = (f64, f64);

/// The bucket that an action takes from.
fn bucket_of(action: &str) -> Option<(&'static str, Size)> {
    match action {
        "RunInstances" => Some(("RunInstances", (5.0, 2.0))),
        "StartInstances" => Some(("StartInstances", (5.0, 2.0))),
        "StopInstances" => Some(("StopInstances", (100.0, 5.0))),
        "TerminateInstances" => Some(("TerminateInstances", (100.0, 5.0))),
        // RDS's actions bear the same prefix, and have no published figures.
        _ if action.starts_with("DescribeDB") => None,
        _ if action.starts_with("Describe") => Some(("Describe*", (100.0, 20.0))),
        _ => None,
    }
}

/// All buckets of an account.
#[derive(Debug, Default)]
pub struct Buckets {
    levels: HashMap<&'static str, (f64, Instant)>,
    /// How many calls were refused.
    pub refused: usize,
}

impl Buckets {
    /// Whether there is a token for a call of that action now.
    pub fn take(&mut self, action: &str) -> bool {
        let Some((name, (holds, refill))) = bucket_of(action) else { return true };
        let now = Instant::now();
        let (level, at) = self.levels.entry(name).or_insert((holds, now));
        *level = (*level + now.duration_since(*at).as_secs_f64() * refill).min(holds);
        *at = now;
        if *level < 1.0 {
            self.refused += 1;
            return false;
        }
        *level -= 1.0;
        true
    }
}
