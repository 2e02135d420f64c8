//! Faults on demand: scripted answers of the API and mishaps of webhook deliveries.
//!
//! Guarantees: a fault fires exactly as often as it was ordered, and every firing is counted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Method;

/// The switchboard. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    answers: VecDeque<(RoutePattern, AnswerFault, u32)>,
    deliveries: VecDeque<(DeliveryFault, u32)>,
    fired: BTreeMap<&'static str, u64>,
}

/// Which requests a fault is meant for.
#[derive(Debug, Clone)]
pub struct RoutePattern {
    method: Option<Method>,
    segments: Vec<String>,
}

impl RoutePattern {
    /// Requests of that method (`None`: any) whose path below the API's root matches: `*` stands for one
    /// segment, a final `**` for all that follow. Example: `/repos/*/*/pulls/**`.
    pub fn new(method: Option<Method>, path: &str) -> Self {
        Self { method, segments: segments(path).map(str::to_owned).collect() }
    }

    /// Every request.
    pub fn any() -> Self {
        Self::new(None, "/**")
    }

    fn matches(&self, method: &Method, path: &str) -> bool {
        if self.method.as_ref().is_some_and(|wanted| wanted != method) {
            return false;
        }
        let mut given = segments(path);
        for wanted in &self.segments {
            match (wanted.as_str(), given.next()) {
                ("**", _) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(given)) if wanted == given => {}
                (_, Some(_) | None) => return false,
            }
        }
        given.next().is_none()
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub enum AnswerFault {
    /// This answer, without any effect.
    Answer {
        /// The status.
        status: u16,
        /// Headers by name.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
    /// 200 with an empty list, whatever there is.
    EmptyList,
    /// The request takes effect; half of the body arrives, then the connection breaks.
    Truncated,
    /// The request takes effect; no answer arrives.
    LostReply,
    /// The connection breaks before any effect.
    Reset,
    /// The answer is late by so much.
    Delay(Duration),
}

impl AnswerFault {
    /// An error with GitHub's form of body.
    pub fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: format!(r#"{{"message":"scripted {status}"}}"#) }
    }

    /// The secondary rate limit: 403 with `retry-after`.
    pub fn secondary_limit(retry_after: Duration) -> Self {
        Self::Answer {
            status: 403,
            headers: vec![("retry-after".to_owned(), retry_after.as_secs().to_string())],
            body: r#"{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again.","documentation_url":"https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"}"#.to_owned(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "answer",
            Self::EmptyList => "empty-list",
            Self::Truncated => "truncated",
            Self::LostReply => "lost-reply",
            Self::Reset => "reset",
            Self::Delay(_) => "delay",
        }
    }
}

/// What goes wrong with a webhook delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryFault {
    /// Never sent, recorded as timed out: can be found and asked for again.
    TimedOut,
    /// Never sent and never recorded.
    Vanished,
    /// Sent twice under the same id.
    Doubled,
    /// Sent twice, the second time under another id.
    DoubledUnderNewId,
    /// Sent so much later.
    Late(Duration),
    /// Sent after the next delivery.
    Swapped,
    /// Sent with a signature that is wrong.
    Forged,
}

impl DeliveryFault {
    fn name(&self) -> &'static str {
        match self {
            Self::TimedOut => "delivery-timed-out",
            Self::Vanished => "delivery-vanished",
            Self::Doubled => "delivery-doubled",
            Self::DoubledUnderNewId => "delivery-doubled-under-new-id",
            Self::Late(_) => "delivery-late",
            Self::Swapped => "delivery-swapped",
            Self::Forged => "delivery-forged",
        }
    }
}

impl Faults {
    /// The next `times` matching requests fail so. Orders for the same request are served in turn.
    pub fn answer(&self, on: RoutePattern, fault: AnswerFault, times: u32) {
        self.inner().answers.push_back((on, fault, times));
    }

    /// The next `times` deliveries fail so.
    pub fn deliveries(&self, fault: DeliveryFault, times: u32) {
        self.inner().deliveries.push_back((fault, times));
    }

    /// Takes back everything that has not fired.
    pub fn clear(&self) {
        let mut inner = self.inner();
        inner.answers.clear();
        inner.deliveries.clear();
    }

    /// How often each kind of fault has fired.
    pub fn fired(&self) -> BTreeMap<&'static str, u64> {
        self.inner().fired.clone()
    }

    pub(super) fn for_request(&self, method: &Method, path: &str) -> Option<AnswerFault> {
        let mut inner = self.inner();
        let at = inner.answers.iter().position(|(pattern, _, times)| *times > 0 && pattern.matches(method, path))?;
        let order = inner.answers.get_mut(at)?;
        order.2 -= 1;
        let fault = order.1.clone();
        if order.2 == 0 {
            inner.answers.remove(at);
        }
        *inner.fired.entry(fault.name()).or_default() += 1;
        Some(fault)
    }

    pub(super) fn for_delivery(&self) -> Option<DeliveryFault> {
        let mut inner = self.inner();
        while inner.deliveries.front().is_some_and(|order| order.1 == 0) {
            inner.deliveries.pop_front();
        }
        let order = inner.deliveries.front_mut()?;
        order.1 -= 1;
        let fault = order.0.clone();
        *inner.fired.entry(fault.name()).or_default() += 1;
        Some(fault)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_by_segment() {
        let check = |pattern: &str, path: &str| RoutePattern::new(None, pattern).matches(&Method::GET, path);
        assert!(check("/repos/*/*/pulls", "/repos/a/b/pulls"));
        assert!(!check("/repos/*/*/pulls", "/repos/a/b/pulls/1"));
        assert!(check("/repos/**", "/repos/a/b/pulls/1"));
        assert!(!check("/repos/*/*/pulls", "/repos/a/b"));
        assert!(check("/**", "/app"));
        assert!(!RoutePattern::new(Some(Method::POST), "/**").matches(&Method::GET, "/app"));
    }

    #[test]
    fn a_fault_fires_as_often_as_ordered() {
        let faults = Faults::default();
        faults.answer(RoutePattern::any(), AnswerFault::Reset, 2);
        faults.answer(RoutePattern::any(), AnswerFault::EmptyList, 1);
        let fired: Vec<_> =
            (0..4).map(|_| faults.for_request(&Method::GET, "/app").map(|fault| fault.name())).collect();
        assert_eq!(fired, [Some("reset"), Some("reset"), Some("empty-list"), None]);
        assert_eq!(faults.fired(), BTreeMap::from([("empty-list", 1), ("reset", 2)]));
    }
}
