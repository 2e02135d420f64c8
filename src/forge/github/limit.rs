//! Rate limits: what GitHub last said of them, and for how long we keep silent because of it.
//!
//! Guarantees: while a limit is in force, [`Limits::hold`] names the rest of it, so that no request makes it
//! worse; without a hint of GitHub's the silence lasts a minute and doubles with each repetition.
//! Pure: time is given in. Must not know: HTTP clients.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderMap;

use super::call::Identity;
use crate::domain::id::InstallationId;
use crate::domain::time::Timestamp;

const SHORTEST_GUESS: Duration = Duration::from_mins(1);
const LONGEST_GUESS: Duration = Duration::from_mins(16);
/// A primary limit lasts an hour at most; anything longer is a mistake that must not silence us for days.
const LONGEST_HINT: Duration = Duration::from_hours(2);

/// What GitHub last said of one limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Whose limit: an installation's, or the App's own.
    pub installation: Option<InstallationId>,
    /// GitHub's word for the kind of request, mostly `core`.
    pub resource: String,
    /// Requests per window.
    pub limit: u64,
    /// What is left of them.
    pub remaining: u64,
    /// When the window ends.
    pub reset_at: Timestamp,
}

/// Which requests a limit forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// All of them.
    All,
    /// Those that write.
    Writes,
}

#[derive(Debug)]
struct Hold {
    until: Timestamp,
    repeats: u32,
}

#[derive(Debug, Default)]
pub(super) struct Limits {
    seen: HashMap<(Identity, String), RateLimit>,
    holds: HashMap<(Identity, Scope), Hold>,
}

impl Limits {
    /// How long requests of this kind have to wait, if they have to.
    pub(super) fn hold(&self, who: Identity, scope: Scope, now: Timestamp) -> Option<Duration> {
        let scopes: &[Scope] = match scope {
            Scope::All => &[Scope::All],
            Scope::Writes => &[Scope::All, Scope::Writes],
        };
        let rest = scopes.iter().filter_map(|scope| self.holds.get(&(who, *scope))).map(|hold| hold.until.since(now));
        rest.max().filter(|wait| *wait > Duration::ZERO)
    }

    /// Begins a silence, as long as GitHub hinted or else as long as our guess. Refusals that arrive while
    /// one lasts answer requests that were under way already: they lengthen it only by their own hints.
    pub(super) fn refused(&mut self, who: Identity, scope: Scope, hint: Option<Duration>, now: Timestamp) -> Duration {
        let hold = self.holds.entry((who, scope)).or_insert(Hold { until: now, repeats: 0 });
        let lasting = hold.until.since(now);
        let wait = match hint {
            Some(hint) => hint.min(LONGEST_HINT).max(lasting),
            None if lasting > Duration::ZERO => lasting,
            None => {
                let guess = SHORTEST_GUESS.saturating_mul(1 << hold.repeats.min(8)).min(LONGEST_GUESS);
                hold.repeats += 1;
                guess
            }
        };
        hold.until = now.plus(wait);
        wait
    }

    /// A request of this kind went through: the next refusal is a first one again.
    pub(super) fn granted(&mut self, who: Identity, scope: Scope, now: Timestamp) {
        if let Some(hold) = self.holds.get(&(who, scope))
            && hold.until <= now
        {
            self.holds.remove(&(who, scope));
        }
    }

    /// Notes the headers that every answer carries.
    pub(super) fn note(&mut self, who: Identity, headers: &HeaderMap) {
        let (Some(limit), Some(remaining), Some(reset)) = (
            number(headers, "x-ratelimit-limit"),
            number(headers, "x-ratelimit-remaining"),
            number(headers, "x-ratelimit-reset"),
        ) else {
            return;
        };
        let resource = headers.get("x-ratelimit-resource").and_then(|value| value.to_str().ok()).unwrap_or("core");
        let installation = match who {
            Identity::App => None,
            Identity::Installation(id) => Some(id),
        };
        let rate = RateLimit { installation, resource: resource.to_owned(), limit, remaining, reset_at: epoch(reset) };
        self.seen.insert((who, resource.to_owned()), rate);
    }

    pub(super) fn seen(&self) -> Vec<RateLimit> {
        self.seen.values().cloned().collect()
    }
}

/// The wait that the headers of a refusal ask for.
pub(super) fn hint(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if let Some(seconds) = number(headers, "retry-after") {
        return Some(Duration::from_secs(seconds.max(1)));
    }
    let used_up = number(headers, "x-ratelimit-remaining") == Some(0);
    let reset = number(headers, "x-ratelimit-reset").filter(|_| used_up)?;
    // Both clocks count whole seconds and need not agree.
    Some(epoch(reset).since(now) + Duration::from_secs(1))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn epoch(seconds: u64) -> Timestamp {
    Timestamp(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: Identity = Identity::App;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1000)
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn without_a_hint_the_silence_doubles_until_a_request_goes_through() {
        let mut limits = Limits::default();
        let mut now = at(0);
        for expected in [60, 120, 240, 480, 960, 960] {
            let wait = limits.refused(APP, Scope::Writes, None, now);
            assert_eq!(wait, Duration::from_secs(expected));
            now = now.plus(wait);
        }
        limits.granted(APP, Scope::Writes, now);
        assert_eq!(limits.refused(APP, Scope::Writes, None, now), Duration::from_mins(1));
    }

    #[test]
    fn refusals_of_requests_already_under_way_count_once() {
        let mut limits = Limits::default();
        limits.refused(APP, Scope::All, None, at(0));
        assert_eq!(limits.refused(APP, Scope::All, None, at(20)), Duration::from_secs(40));
        assert_eq!(limits.refused(APP, Scope::All, Some(Duration::from_secs(5)), at(20)), Duration::from_secs(40));
        assert_eq!(limits.refused(APP, Scope::All, Some(Duration::from_secs(90)), at(20)), Duration::from_secs(90));
    }

    #[test]
    fn a_limit_on_writes_lets_reads_through_and_others_alone() {
        let mut limits = Limits::default();
        let one = Identity::Installation(InstallationId(1));
        limits.refused(one, Scope::Writes, Some(Duration::from_secs(30)), at(0));
        assert_eq!(limits.hold(one, Scope::All, at(1)), None);
        assert_eq!(limits.hold(one, Scope::Writes, at(1)), Some(Duration::from_secs(29)));
        assert_eq!(limits.hold(APP, Scope::Writes, at(1)), None);
        assert_eq!(limits.hold(one, Scope::Writes, at(30)), None);
        limits.refused(one, Scope::All, Some(Duration::from_secs(30)), at(40));
        assert_eq!(limits.hold(one, Scope::Writes, at(41)), Some(Duration::from_secs(29)));
    }

    #[test]
    fn retry_after_comes_before_the_reset_and_nothing_is_believed_for_days() {
        let both = headers(&[("retry-after", "7"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "500")]);
        assert_eq!(hint(&both, at(100)), Some(Duration::from_secs(7)));
        let reset = headers(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "500")]);
        assert_eq!(hint(&reset, at(100)), Some(Duration::from_secs(401)));
        let some_left = headers(&[("x-ratelimit-remaining", "12"), ("x-ratelimit-reset", "500")]);
        assert_eq!(hint(&some_left, at(100)), None);
        let absurd = headers(&[("retry-after", "99999999999")]);
        let wait = Limits::default().refused(APP, Scope::All, hint(&absurd, at(0)), at(0));
        assert_eq!(wait, LONGEST_HINT);
        assert_eq!(hint(&headers(&[("retry-after", "soon")]), at(0)), None);
    }
}
