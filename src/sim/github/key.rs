//! The App's RSA key: made anew for every stand-in, so that no private key is ever committed.
//!
//! Guarantees: a JWT is accepted only as GitHub accepts it: RS256, signed by this key, issued by this App,
//! valid now and for at most ten minutes.
//! Must not know: routes, tokens of installations.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::StandinError;
use crate::domain::time::Timestamp;

const LONGEST_LIFE_S: i64 = 600;

/// The App's key pair. No `Debug`: it holds a private key.
pub(super) struct AppKey {
    pem: String,
    public: Vec<u8>,
}

impl AppKey {
    pub(super) fn generate() -> Result<Self, StandinError> {
        let fail =
            |_| StandinError::new("the App's RSA key could not be generated", "the cryptography library refused");
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(fail)?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(fail)?;
        Ok(Self { pem: pem(der.as_ref()), public: pair.public_key().as_ref().to_vec() })
    }

    /// PKCS#8, as octocrab takes it.
    pub(super) fn private_key_pem(&self) -> &str {
        &self.pem
    }

    /// Checks a JWT; the error is GitHub's message.
    pub(super) fn verify(&self, jwt: &str, app_id: u64, now: Timestamp) -> Result<(), &'static str> {
        const UNDECODABLE: &str = "A JSON web token could not be decoded";
        let mut parts = jwt.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(UNDECODABLE);
        };
        let signed = format!("{header}.{claims}");
        let decode = |part: &str| -> Option<Value> { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok() };
        let (header, claims) = (decode(header).ok_or(UNDECODABLE)?, decode(claims).ok_or(UNDECODABLE)?);
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| UNDECODABLE)?;
        if header["alg"] != "RS256" {
            return Err(UNDECODABLE);
        }
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| UNDECODABLE)?;
        let issuer = &claims["iss"];
        if issuer.as_u64() != Some(app_id) && issuer.as_str() != Some(app_id.to_string().as_str()) {
            return Err("Integration not found");
        }
        let now = now.0 / 1000;
        let issued = claims["iat"].as_i64().ok_or("Missing 'issued at' claim ('iat') in assertion")?;
        let expires = claims["exp"].as_i64().ok_or("Missing 'expiration time' claim ('exp') in assertion")?;
        if issued > now {
            return Err(
                "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
            );
        }
        if expires <= now {
            return Err(
                "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
            );
        }
        if expires > now + LONGEST_LIFE_S {
            return Err("'Expiration time' claim ('exp') is too far in the future");
        }
        Ok(())
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

    fn token(key: &AppKey, claims: &Value) -> String {
        let body: String = key.pem.lines().filter(|line| !line.starts_with('-')).collect();
        let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap();
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", text(&serde_json::json!({"alg": "RS256", "typ": "JWT"})), text(claims));
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn a_jwt_is_accepted_only_within_its_bounds() {
        let (key, other) = (AppKey::generate().unwrap(), AppKey::generate().unwrap());
        let now = Timestamp(1_790_000_000_000);
        let at =
            |iat: i64, exp: i64| serde_json::json!({"iss": 7, "iat": 1_790_000_000 + iat, "exp": 1_790_000_000 + exp});
        let good = token(&key, &at(-60, 540));
        assert_eq!(key.verify(&good, 7, now), Ok(()));
        assert!(key.verify(&good, 8, now).is_err(), "another App's id");
        assert!(other.verify(&good, 7, now).is_err(), "another App's key");
        assert!(key.verify(&token(&key, &at(-60, 601)), 7, now).is_err(), "valid for too long");
        assert!(key.verify(&token(&key, &at(-700, 0)), 7, now).is_err(), "expired");
        assert!(key.verify(&token(&key, &at(30, 540)), 7, now).is_err(), "issued in the future");
        assert!(key.verify("a.b", 7, now).is_err(), "not a JWT");
    }
}
