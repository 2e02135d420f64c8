//! Which deliveries are taken in: the reading of `forge::webhook`, as the endpoint asks for it.

use secrecy::SecretString;

use super::webhook::{Reading, Verdict};
use crate::forge::webhook::{Event, SignatureError, Touch, WhichSecret, verify};

/// Checks a signature against the secrets, the current one first.
pub fn check(secrets: &[SecretString], header: Option<&str>, body: &[u8]) -> Verdict {
    match verify(secrets, header.map(str::as_bytes), body) {
        Ok(WhichSecret::Current) => Verdict::Genuine { secret: 0 },
        Ok(WhichSecret::Previous(number)) => Verdict::Genuine { secret: number },
        Err(SignatureError::Missing) => Verdict::Missing,
        Err(_) => Verdict::Forged,
    }
}

/// Whether anybody acts on a delivery. A pull request's number is all that is needed of it.
pub fn read(event: &str, body: &[u8]) -> Reading {
    match Event::read(event, body) {
        Ok(event) if event.touches() == Touch::Nothing => Reading::Ignored,
        Ok(_) => Reading::Relevant,
        Err(error) => Reading::Malformed(crate::telemetry::chain(&error).to_string()),
    }
}
