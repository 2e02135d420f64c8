//! Passwords of roles, and what the server is given instead of them.
//!
//! Guarantees: a password is a function of the installation's secret and the role's name; a server, its
//! log and its statistics only ever see the SCRAM verifier (RFC 5803, as PostgreSQL writes it).
//! Must not know: roles' rights.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// The least that RFC 7677 allows; clients refuse less. The password has 256 bits, so more adds nothing.
const ITERATIONS: u32 = 4096;

/// The password of a role: 64 hexadecimal digits.
pub fn password(secret: &SecretString, role: &str) -> SecretString {
    hex::encode(hmac(secret.expose_secret().as_bytes(), &[role.as_bytes()])).into()
}

/// What is stored in `pg_authid` for it. The same password and role always give the same text.
pub fn verifier(secret: &SecretString, role: &str) -> String {
    let salt = hmac(secret.expose_secret().as_bytes(), &[b"salt\0", role.as_bytes()]);
    verifier_of(password(secret, role).expose_secret(), &salt[..16])
}

fn verifier_of(password: &str, salt: &[u8]) -> String {
    let mut round = hmac(password.as_bytes(), &[salt, &1_u32.to_be_bytes()]);
    let mut salted = round;
    for _ in 1..ITERATIONS {
        round = hmac(password.as_bytes(), &[&round]);
        for (sum, byte) in salted.iter_mut().zip(round) {
            *sum ^= byte;
        }
    }
    let stored = Sha256::digest(hmac(&salted, &[b"Client Key"]));
    let server = hmac(&salted, &[b"Server Key"]);
    let [salt, stored, server] = [salt, &stored[..], &server[..]].map(|part| STANDARD.encode(part));
    format!("SCRAM-SHA-256${ITERATIONS}:{salt}${stored}:{server}")
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { unreachable!("HMAC takes keys of any length") };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_is_that_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert_eq!(
            verifier_of("pencil", &salt),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==\
             $WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn passwords_differ_by_role_and_secret() {
        let (one, two) = (SecretString::from("one"), SecretString::from("two"));
        let text = |secret, role| password(secret, role).expose_secret().to_owned();
        assert_eq!(text(&one, "a"), text(&one, "a"));
        assert_ne!(text(&one, "a"), text(&one, "b"));
        assert_ne!(text(&one, "a"), text(&two, "a"));
        assert_eq!(text(&one, "a").len(), 64);
    }
}
