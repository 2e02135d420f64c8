//! The webhook's outer form: who signed a delivery, and where it tells us to look.
//!
//! Guarantees: signatures are checked over the raw bytes, in constant time, against every secret that is
//! valid at present; GitHub's new events, new actions, new and missing fields are never errors; what a
//! delivery means is only ever a place to read again.
//! Must not know: HTTP, the store, and anything of the payload but that place.

mod event;
mod signature;

pub use event::{Event, IssueCommentAction, PayloadError, Place, PullAction, Touch};
pub use signature::{SignatureError, WhichSecret, sign, verify};

/// The `X-GitHub-Delivery` header: the same on every attempt to deliver the same thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(String);

/// The `X-GitHub-Event` header.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName(String);

/// A header of a delivery that is not what GitHub sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header {name} is not valid: expected {expected}; only GitHub should call this address")]
pub struct HeaderError {
    /// The header.
    pub name: &'static str,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl DeliveryId {
    /// Accepts 1 to 64 printable ASCII characters: GitHub sends a GUID but promises no form.
    pub fn parse(header: &[u8]) -> Result<Self, HeaderError> {
        let error = HeaderError { name: "X-GitHub-Delivery", expected: "1 to 64 printable ASCII characters" };
        token(header, |b| b.is_ascii_graphic()).map(Self).ok_or(error)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl EventName {
    /// Accepts 1 to 64 lower-case letters, digits and underscores.
    pub fn parse(header: &[u8]) -> Result<Self, HeaderError> {
        let error = HeaderError { name: "X-GitHub-Event", expected: "1 to 64 of a-z, 0-9 and _" };
        token(header, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_').map(Self).ok_or(error)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn token(header: &[u8], allowed: impl Fn(u8) -> bool) -> Option<String> {
    let fits = (1..=64).contains(&header.len()) && header.iter().all(|b| allowed(*b));
    fits.then(|| header.iter().map(|b| char::from(*b)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_short_plain_tokens() {
        assert!(DeliveryId::parse(b"72d3162e-cc78-11e3-81ab-4c9367dc0958").is_ok());
        for bad in [&b""[..], b"a b", b"a\n", &[b'a'; 65], "ünï".as_bytes(), b"\x00"] {
            assert!(DeliveryId::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(EventName::parse(b"pull_request").unwrap().as_str(), "pull_request");
        for bad in [&b""[..], b"Pull", b"a-b", b"../x", &[b'a'; 65]] {
            assert!(EventName::parse(bad).is_err(), "{bad:?}");
        }
    }
}
