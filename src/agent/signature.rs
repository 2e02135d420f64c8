//! Signed requests: Ed25519 over method, path with query, digest of the body, time, uid and a nonce.
//!
//! Guarantees: a request that is unsigned, altered, older than a minute, for another environment, or sent
//! before, is refused. The agent holds the public key only.
//! Must not know: what the requests mean.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::protocol::{DIGEST_HEADER, NONCE_HEADER, SIGNATURE_HEADER, TIME_HEADER, UID_HEADER};
use crate::domain::id::EnvUid;
use crate::domain::time::Timestamp;

/// How far the signer's clock and the agent's may be apart, the way of the request included.
pub const SIGNATURE_LIFETIME: Duration = Duration::from_mins(1);

/// The controller's public key, in Base64 where it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ControllerKey(VerifyingKey);

impl From<&SigningKey> for ControllerKey {
    fn from(key: &SigningKey) -> Self {
        Self(key.verifying_key())
    }
}

impl From<ControllerKey> for String {
    fn from(key: ControllerKey) -> Self {
        STANDARD.encode(key.0.as_bytes())
    }
}

impl TryFrom<String> for ControllerKey {
    type Error = InvalidKey;
    fn try_from(text: String) -> Result<Self, InvalidKey> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidKey)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| InvalidKey)?;
        VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| InvalidKey)
    }
}

/// A public key that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller's public key is not valid: expected 32 bytes of Ed25519 in Base64; copy it anew")]
pub struct InvalidKey;

/// The parts of a request that a signature covers.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// `GET`, `PUT`, ….
    pub method: &'a str,
    /// Path with query.
    pub target: &'a str,
    /// The body, empty if there is none.
    pub body: &'a [u8],
}

impl Signed<'_> {
    /// The headers that make an agent accept the request.
    pub fn headers(&self, key: &SigningKey, uid: &EnvUid, now: Timestamp) -> HeaderMap {
        let time = now.0.to_string();
        let nonce = hex::encode(rand::random::<[u8; 16]>());
        let digest = hex::encode(Sha256::digest(self.body));
        let text = text(self.method, self.target, [&digest, &time, uid.as_str(), &nonce]);
        let signature = STANDARD.encode(key.sign(&text).to_bytes());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (TIME_HEADER, time.as_str()),
            (UID_HEADER, uid.as_str()),
            (NONCE_HEADER, &nonce),
            (DIGEST_HEADER, &digest),
            (SIGNATURE_HEADER, &signature),
        ] {
            // Digits, hexadecimal and Base64 only: always a valid header.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

fn text(method: &str, target: &str, [digest, time, uid, nonce]: [&str; 4]) -> Vec<u8> {
    format!("kagero-agent-1\n{method}\n{target}\n{digest}\n{time}\n{uid}\n{nonce}").into_bytes()
}

/// Proof that the head of a request was signed; what follows is still to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    digest: String,
}

impl SignedHead {
    /// Accepts the body that was signed.
    pub fn check_body(&self, body: &[u8]) -> Result<(), SignatureRefusal> {
        if hex::encode(Sha256::digest(body)) == self.digest { Ok(()) } else { Err(SignatureRefusal::Wrong) }
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureRefusal {
    /// A header is missing or cannot be read.
    #[error("the request is not signed: header {0} is missing or garbled")]
    Unsigned(&'static str),
    /// For another environment.
    #[error("the request is for environment {0}, not for this one; look up the machine's address again")]
    OtherEnvironment(String),
    /// Too old, or from the future.
    #[error("the request was signed {0} s away from this machine's time; set both clocks")]
    Stale(u64),
    /// By another key, or altered.
    #[error("the signature does not fit the request and the controller's public key")]
    Wrong,
    /// Sent before.
    #[error("the request was sent before; sign a new one")]
    Replayed,
}

/// Checks requests against one key and one environment.
pub struct Verifier {
    key: ControllerKey,
    uid: EnvUid,
    accepted: Mutex<HashMap<[u8; 64], Timestamp>>,
}

impl Verifier {
    /// A verifier that has seen nothing yet.
    pub fn new(key: ControllerKey, uid: EnvUid) -> Self {
        Self { key, uid, accepted: Mutex::default() }
    }

    /// Accepts the head of a request once.
    pub fn check(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<SignedHead, SignatureRefusal> {
        let get = |name: &'static str| {
            headers.get(name).and_then(|value| value.to_str().ok()).ok_or(SignatureRefusal::Unsigned(name))
        };
        let (time, uid, nonce) = (get(TIME_HEADER)?, get(UID_HEADER)?, get(NONCE_HEADER)?);
        let digest = get(DIGEST_HEADER)?;
        let signature = STANDARD
            .decode(get(SIGNATURE_HEADER)?)
            .ok()
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .ok_or(SignatureRefusal::Unsigned(SIGNATURE_HEADER))?;
        let signed_at = Timestamp(time.parse().map_err(|_| SignatureRefusal::Unsigned(TIME_HEADER))?);
        self.key
            .0
            .verify_strict(&text(method, target, [digest, time, uid, nonce]), &Signature::from_bytes(&signature))
            .map_err(|_| SignatureRefusal::Wrong)?;
        if uid != self.uid.as_str() {
            return Err(SignatureRefusal::OtherEnvironment(uid.to_owned()));
        }
        let apart = now.since(signed_at).max(signed_at.since(now));
        if apart > SIGNATURE_LIFETIME {
            return Err(SignatureRefusal::Stale(apart.as_secs()));
        }
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.retain(|_, at| now.since(*at) <= SIGNATURE_LIFETIME);
        match accepted.insert(signature, signed_at.max(now)) {
            None => Ok(SignedHead { digest: digest.to_owned() }),
            Some(_) => Err(SignatureRefusal::Replayed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn uid(fill: char) -> EnvUid {
        EnvUid::parse(fill.to_string().repeat(20)).unwrap()
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn request() -> Signed<'static> {
        Signed { method: "PUT", target: "/v1/assignment?x=1", body: b"body" }
    }

    fn check(
        verifier: &Verifier,
        signed: Signed<'_>,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<(), SignatureRefusal> {
        verifier.check(signed.method, signed.target, headers, now)?.check_body(signed.body)
    }

    #[test]
    fn a_signed_request_is_accepted_once() {
        let verifier = Verifier::new((&key(1)).into(), uid('a'));
        let headers = request().headers(&key(1), &uid('a'), NOW);
        assert_eq!(check(&verifier, request(), &headers, NOW), Ok(()));
        assert_eq!(check(&verifier, request(), &headers, NOW), Err(SignatureRefusal::Replayed));
        let again = request().headers(&key(1), &uid('a'), NOW);
        assert_eq!(check(&verifier, request(), &again, NOW), Ok(()));
    }

    #[test]
    fn a_replay_is_refused_for_as_long_as_the_signature_lives() {
        let verifier = Verifier::new((&key(1)).into(), uid('a'));
        let ahead = NOW.plus(SIGNATURE_LIFETIME);
        let headers = request().headers(&key(1), &uid('a'), ahead);
        assert_eq!(check(&verifier, request(), &headers, NOW), Ok(()));
        let late = ahead.plus(SIGNATURE_LIFETIME);
        assert_eq!(check(&verifier, request(), &headers, late), Err(SignatureRefusal::Replayed));
    }

    #[test]
    fn whatever_is_altered_is_refused() {
        let verifier = Verifier::new((&key(1)).into(), uid('a'));
        let headers = request().headers(&key(1), &uid('a'), NOW);
        for altered in [
            Signed { method: "POST", ..request() },
            Signed { target: "/v1/assignment?x=2", ..request() },
            Signed { body: b"Body", ..request() },
        ] {
            let headers =
                if altered.body == b"Body" { request().headers(&key(1), &uid('a'), NOW) } else { headers.clone() };
            assert_eq!(check(&verifier, altered, &headers, NOW), Err(SignatureRefusal::Wrong));
        }
        for (name, value) in
            [(TIME_HEADER, "1800000000001"), (UID_HEADER, "b"), (NONCE_HEADER, "0"), (DIGEST_HEADER, "0")]
        {
            let mut headers = headers.clone();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(check(&verifier, request(), &headers, NOW), Err(SignatureRefusal::Wrong), "{name}");
        }
    }

    #[test]
    fn other_keys_other_environments_and_other_times_are_refused() {
        let verifier = Verifier::new((&key(1)).into(), uid('a'));
        let by_other_key = request().headers(&key(2), &uid('a'), NOW);
        assert_eq!(check(&verifier, request(), &by_other_key, NOW), Err(SignatureRefusal::Wrong));
        let for_other = request().headers(&key(1), &uid('b'), NOW);
        let refusal = check(&verifier, request(), &for_other, NOW);
        assert_eq!(refusal, Err(SignatureRefusal::OtherEnvironment(uid('b').to_string())));
        for off in [NOW.plus(Duration::from_secs(61)), NOW.minus(Duration::from_secs(61))] {
            let stale = request().headers(&key(1), &uid('a'), off);
            assert_eq!(check(&verifier, request(), &stale, NOW), Err(SignatureRefusal::Stale(61)));
        }
        assert_eq!(check(&verifier, request(), &HeaderMap::new(), NOW), Err(SignatureRefusal::Unsigned(TIME_HEADER)));
    }

    #[test]
    fn a_key_survives_being_written_down() {
        let ours = ControllerKey::from(&key(3));
        let text = serde_json::to_string(&ours).unwrap();
        assert_eq!(serde_json::from_str::<ControllerKey>(&text).unwrap(), ours);
        assert!(serde_json::from_str::<ControllerKey>("\"short\"").is_err());
    }
}
