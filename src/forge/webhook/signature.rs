//! Signatures of deliveries: HMAC-SHA256 over the raw body.
//!
//! Guarantees: every secret is tried and every comparison takes the same time, whether it fits or not; an
//! empty secret never fits.
//! Must not know: payloads.

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// The secret that a delivery was signed with. While a secret is being replaced, two are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichSecret {
    /// The first of the list.
    Current,
    /// The one that many places behind the first.
    Previous(usize),
}

/// Why a delivery is not trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No header.
    #[error("the delivery carries no X-Hub-Signature-256: set a secret in the webhook's settings on GitHub")]
    Missing,
    /// Not `sha256=` and 64 hexadecimal digits.
    #[error("X-Hub-Signature-256 is not sha256= and 64 hexadecimal digits: the sender is not GitHub")]
    Malformed,
    /// Signed with something else.
    #[error("the signature fits none of the webhook secrets: compare the secret on GitHub with github.webhook_secrets")]
    Mismatch,
}

/// Checks the `X-Hub-Signature-256` header over the raw bytes of the body against the secrets, the current
/// one first.
pub fn verify(secrets: &[SecretString], header: Option<&[u8]>, body: &[u8]) -> Result<WhichSecret, SignatureError> {
    let given = parse(header.ok_or(SignatureError::Missing)?).ok_or(SignatureError::Malformed)?;
    let mut fitting = None;
    for (index, secret) in secrets.iter().enumerate() {
        let key = secret.expose_secret();
        let fits = mac(key, body).is_some_and(|mac| mac.verify_slice(&given).is_ok());
        if fits && !key.is_empty() && fitting.is_none() {
            fitting = Some(index);
        }
    }
    match fitting {
        Some(0) => Ok(WhichSecret::Current),
        Some(behind) => Ok(WhichSecret::Previous(behind)),
        None => Err(SignatureError::Mismatch),
    }
}

/// The header that GitHub would send with this body: for stand-ins and for `kagero doctor`.
pub fn sign(secret: &SecretString, body: &[u8]) -> String {
    let code = mac(secret.expose_secret(), body).map(|mac| mac.finalize().into_bytes());
    format!("sha256={}", code.map(hex::encode).unwrap_or_default())
}

/// `None` cannot happen: HMAC takes keys of any length.
fn mac(key: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).ok()?;
    mac.update(body);
    Some(mac)
}

fn parse(header: &[u8]) -> Option<[u8; 32]> {
    let mut code = [0; 32];
    hex::decode_to_slice(header.strip_prefix(b"sha256=")?, &mut code).ok()?;
    Some(code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GITHUBS_EXAMPLE: &[u8] = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn secrets(texts: &[&str]) -> Vec<SecretString> {
        texts.iter().map(|text| SecretString::from(*text)).collect()
    }

    #[test]
    fn githubs_own_example_fits() {
        let secrets = secrets(&["It's a Secret to Everybody"]);
        assert_eq!(verify(&secrets, Some(GITHUBS_EXAMPLE), b"Hello, World!"), Ok(WhichSecret::Current));
        assert_eq!(sign(&secrets[0], b"Hello, World!").as_bytes(), GITHUBS_EXAMPLE);
        assert_eq!(verify(&secrets, Some(GITHUBS_EXAMPLE), b"Hello, World?"), Err(SignatureError::Mismatch));
    }

    #[test]
    fn the_old_secret_fits_while_it_is_listed() {
        let signed = sign(&SecretString::from("old"), b"{}");
        let header = Some(signed.as_bytes());
        assert_eq!(verify(&secrets(&["new", "old"]), header, b"{}"), Ok(WhichSecret::Previous(1)));
        assert_eq!(verify(&secrets(&["old", "new"]), header, b"{}"), Ok(WhichSecret::Current));
        assert_eq!(verify(&secrets(&["new"]), header, b"{}"), Err(SignatureError::Mismatch));
    }

    #[test]
    fn an_empty_secret_or_list_never_fits() {
        let signed = sign(&SecretString::from(""), b"{}");
        let header = Some(signed.as_bytes());
        assert_eq!(verify(&secrets(&[""]), header, b"{}"), Err(SignatureError::Mismatch));
        assert_eq!(verify(&[], header, b"{}"), Err(SignatureError::Mismatch));
    }

    #[test]
    fn anything_but_the_exact_form_is_malformed() {
        let hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let bad = [
            String::new(),
            hex.to_owned(),
            format!("sha1={hex}"),
            format!("SHA256={hex}"),
            format!(" sha256={hex}"),
            format!("sha256={hex} "),
            format!("sha256={hex}00"),
            format!("sha256={}", &hex[..62]),
            format!("sha256={}zz", &hex[..62]),
        ];
        for header in bad {
            let verdict = verify(&secrets(&["s"]), Some(header.as_bytes()), b"");
            assert_eq!(verdict, Err(SignatureError::Malformed), "{header}");
        }
        assert_eq!(verify(&secrets(&["s"]), None, b""), Err(SignatureError::Missing));
    }

    proptest! {
        #[test]
        fn no_header_and_no_body_can_do_harm(header: Vec<u8>, body: Vec<u8>) {
            prop_assert!(verify(&secrets(&["s"]), Some(&header), &body).is_err());
        }

        #[test]
        fn one_flipped_bit_of_the_body_is_noticed(body in prop::collection::vec(any::<u8>(), 1..200), at: prop::sample::Index, bit in 0_u8..8) {
            let secret = SecretString::from("s");
            let signed = sign(&secret, &body);
            let mut changed = body.clone();
            changed[at.index(body.len())] ^= 1 << bit;
            let list = [secret];
            prop_assert_eq!(verify(&list, Some(signed.as_bytes()), &body), Ok(WhichSecret::Current));
            prop_assert_eq!(verify(&list, Some(signed.as_bytes()), &changed), Err(SignatureError::Mismatch));
        }
    }
}
