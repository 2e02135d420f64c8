//! Sorts everything that is not a success by what the caller should do about it.
//!
//! Guarantees: every status has exactly one meaning; text of GitHub's reaches our errors short, on one line
//! and without control characters. Pure.
//! Must not know: which request was refused.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::limit::hint;
use super::transport::TransportError;
use crate::domain::time::Timestamp;
use crate::forge::ForgeErrorKind;

/// What an answer that is not a success means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It concerns this request only.
    Plain(ForgeErrorKind),
    /// A rate limit, with the wait that GitHub asks for, if it does.
    Limit(Limit, Option<Duration>),
}

/// The two kinds of rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// The hour's requests are used up.
    Primary,
    /// Too much of one kind at once.
    Secondary,
}

#[derive(Deserialize)]
struct Complaint {
    message: Option<String>,
    documentation_url: Option<String>,
    #[serde(default)]
    errors: serde_json::Value,
}

/// Sorts an answer.
pub(super) fn sort(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Refusal {
    let plain = match status.as_u16() {
        403 | 429 => return forbidden(status, headers, body, now),
        // 451: taken down for legal reasons.
        401 | 451 => ForgeErrorKind::Denied,
        404 | 410 => ForgeErrorKind::NotFound,
        408 => ForgeErrorKind::Retry,
        400..=499 => ForgeErrorKind::Rejected,
        500..=599 => match hint(headers, now) {
            Some(wait) => ForgeErrorKind::SlowDown(wait),
            None => ForgeErrorKind::Retry,
        },
        _ => ForgeErrorKind::Garbled,
    };
    Refusal::Plain(plain)
}

/// GitHub says 403 for "you may not" as well as for "not so fast", and tells them apart by headers and words.
fn forbidden(status: StatusCode, headers: &HeaderMap, body: &[u8], now: Timestamp) -> Refusal {
    let said = serde_json::from_slice::<Complaint>(body).ok();
    let says = |words: &[&str]| {
        let text = said.as_ref().and_then(|said| said.message.as_deref()).unwrap_or_default().to_lowercase();
        let link = said.as_ref().and_then(|said| said.documentation_url.as_deref()).unwrap_or_default();
        words.iter().any(|word| text.contains(word) || link.contains(word))
    };
    let secondary = says(&["secondary rate limit", "secondary-rate-limits", "abuse"]);
    let used_up = headers.get("x-ratelimit-remaining").is_some_and(|left| left == "0");
    let limited = status == StatusCode::TOO_MANY_REQUESTS
        || secondary
        || used_up
        || headers.contains_key("retry-after")
        || says(&["rate limit exceeded"]);
    if !limited {
        return Refusal::Plain(ForgeErrorKind::Denied);
    }
    let limit = if secondary && !used_up { Limit::Secondary } else { Limit::Primary };
    Refusal::Limit(limit, hint(headers, now))
}

/// Sorts a request that got no answer.
pub(super) fn sort_transport(error: &TransportError) -> ForgeErrorKind {
    match error {
        TransportError::TimedOut(_) | TransportError::Broken(_) => ForgeErrorKind::Retry,
        TransportError::TooLarge => ForgeErrorKind::Garbled,
    }
}

/// What GitHub said, for our error message.
pub(super) fn quote(status: StatusCode, body: &[u8]) -> String {
    let said = serde_json::from_slice::<Complaint>(body).ok();
    let Some(message) = said.as_ref().and_then(|said| said.message.as_deref()) else {
        return format!("GitHub answered {status} without an explanation");
    };
    let mut text = format!("GitHub answered {status}: {message}");
    let details = said.iter().flat_map(|said| said.errors.as_array().into_iter().flatten());
    for detail in details.filter_map(|detail| detail.get("message").or(detail.get("code")).and_then(|it| it.as_str())) {
        text = format!("{text}; {detail}");
    }
    plain(&text)
}

/// Text of others, fit for an error message: short, and on one line.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use ForgeErrorKind::{Denied, Garbled, NotFound, Rejected, Retry, SlowDown};

    const SECONDARY: &str = r#"{"message":"You have exceeded a secondary rate limit. Please wait."}"#;
    const PRIMARY: &str = r#"{"message":"API rate limit exceeded for installation ID 3."}"#;
    const FORBIDDEN: &str = r#"{"message":"Resource not accessible by integration"}"#;

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[rstest]
    #[case(401, &[], "{}", Refusal::Plain(Denied))]
    #[case(403, &[], FORBIDDEN, Refusal::Plain(Denied))]
    #[case(403, &[("x-ratelimit-remaining", "4999"), ("x-ratelimit-reset", "60")], FORBIDDEN, Refusal::Plain(Denied))]
    #[case(403, &[], "<html>", Refusal::Plain(Denied))]
    #[case(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "60")], PRIMARY, Refusal::Limit(Limit::Primary, Some(secs(51))))]
    #[case(403, &[], PRIMARY, Refusal::Limit(Limit::Primary, None))]
    #[case(403, &[("retry-after", "9")], SECONDARY, Refusal::Limit(Limit::Secondary, Some(secs(9))))]
    #[case(403, &[], SECONDARY, Refusal::Limit(Limit::Secondary, None))]
    #[case(403, &[("retry-after", "9")], FORBIDDEN, Refusal::Limit(Limit::Primary, Some(secs(9))))]
    #[case(404, &[], "{}", Refusal::Plain(NotFound))]
    #[case(410, &[], "{}", Refusal::Plain(NotFound))]
    #[case(409, &[], "{}", Refusal::Plain(Rejected))]
    #[case(422, &[], "{}", Refusal::Plain(Rejected))]
    #[case(451, &[], "{}", Refusal::Plain(Denied))]
    #[case(429, &[], "", Refusal::Limit(Limit::Primary, None))]
    #[case(429, &[("retry-after", "2")], SECONDARY, Refusal::Limit(Limit::Secondary, Some(secs(2))))]
    #[case(500, &[], "", Refusal::Plain(Retry))]
    #[case(502, &[], "<html>", Refusal::Plain(Retry))]
    #[case(503, &[("retry-after", "120")], "", Refusal::Plain(SlowDown(secs(120))))]
    #[case(304, &[], "", Refusal::Plain(Garbled))]
    #[case(100, &[], "", Refusal::Plain(Garbled))]
    fn every_status_has_one_meaning(
        #[case] status: u16,
        #[case] headers: &[(&str, &str)],
        #[case] body: &str,
        #[case] expected: Refusal,
    ) {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(sort(status, &headers, body.as_bytes(), Timestamp(10_000)), expected);
    }

    #[test]
    fn a_quotation_is_short_plain_and_complete() {
        let body = r#"{"message":"Validation\u0007 Failed","errors":[{"code":"custom","message":"Body is too long"},{"code":"missing"}]}"#;
        assert_eq!(
            quote(StatusCode::UNPROCESSABLE_ENTITY, body.as_bytes()),
            "GitHub answered 422 Unprocessable Entity: Validation  Failed; Body is too long; missing"
        );
        assert_eq!(quote(StatusCode::BAD_GATEWAY, b"<html>"), "GitHub answered 502 Bad Gateway without an explanation");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(status in 100_u16..1000, body: Vec<u8>, text: String) {
            let status = StatusCode::from_u16(status).unwrap();
            let complaint = serde_json::json!({"message": text, "errors": [text, {"message": text}]}).to_string();
            for body in [body.as_slice(), complaint.as_bytes()] {
                let _ = sort(status, &HeaderMap::new(), body, Timestamp(0));
                let said = quote(status, body);
                prop_assert!(said.chars().count() <= 300 && !said.contains(char::is_control));
            }
        }
    }
}
