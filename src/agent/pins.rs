//! The keys of agents: the first one that is seen of a machine is believed, and no other from then on.
//!
//! Nobody can vouch for a machine's key ([`super::tls`]); what its address is, the provider says. An address is another
//! machine's one day, and hardly ever the same environment's: so the name that a key goes with is made of both. Where it is the
//! same one's all the same, the machine is replaced as one whose agent is silent.
//!
//! Guarantees: a connection under another key than before fails before anything is sent. Keys are remembered for as long as
//! this process lives, and while they are used.
//! Must not know: what is asked.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest as _, Sha256};

use crate::domain::id::EnvUid;

/// What all names end with. No name server knows it ("Special-Use Domain Names", RFC 6761).
const ZONE: &str = ".agent.invalid";
/// When so many are remembered, those that nobody has used for a while are forgotten.
const MANY: usize = 16_384;
/// The while.
const UNUSED: Duration = Duration::from_hours(1);

/// Where an agent is asked: on this computer in the clear, elsewhere under a name that its key goes with.
pub fn base(address: SocketAddr, uid: &EnvUid) -> String {
    if address.ip().to_canonical().is_loopback() { format!("http://{address}") } else { encrypted(address, uid) }
}

/// Where an agent is asked under the name that its key goes with.
pub fn encrypted(address: SocketAddr, uid: &EnvUid) -> String {
    // Framed by letters: an address may begin and end with what becomes a hyphen.
    let ip = address.ip().to_canonical();
    let kind = if ip.is_ipv4() { "v4" } else { "v6" };
    let ip = ip.to_string().replace(['.', ':'], "-");
    format!("https://{kind}-{ip}-x.{uid}{ZONE}:{}", address.port())
}

/// The address that a name was made of.
fn address_of(name: &str) -> Option<IpAddr> {
    let label = name.strip_suffix(ZONE)?.split('.').next()?.strip_suffix("-x")?;
    match label.split_at_checked(3)? {
        ("v4-", ip) => ip.replace('-', ".").parse().ok().map(IpAddr::V4),
        ("v6-", ip) => ip.replace('-', ":").parse().ok().map(IpAddr::V6),
        _ => None,
    }
}

/// What agents are asked with; it follows no redirects and uses no proxy. The error says why there is none.
pub fn client(patience: Duration) -> Result<reqwest::Client, String> {
    let settings = settings().map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let builder = builder.connect_timeout(patience).dns_resolver(InTheName).tls_backend_preconfigured(settings);
    builder.build().map_err(|error| format!("the HTTP client cannot be set up: {error}"))
}

/// Finds agents by the addresses in their names, and asks no name server.
struct InTheName;

impl Resolve for InTheName {
    fn resolve(&self, name: Name) -> Resolving {
        let found = address_of(name.as_str());
        Box::pin(async move {
            let ip = found.ok_or("it is not the name of an agent")?;
            Ok(Box::new(std::iter::once(SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

fn settings() -> Result<ClientConfig, Error> {
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(FirstSeen { provider: Arc::clone(&provider), known: Mutex::default() });
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth())
}

#[derive(Debug)]
struct FirstSeen {
    provider: Arc<CryptoProvider>,
    /// By name: the digest of the key, and when it was last seen.
    known: Mutex<HashMap<String, ([u8; 32], Instant)>>,
}

impl FirstSeen {
    fn believe(&self, name: &str, key: &[u8], now: Instant) -> bool {
        let digest: [u8; 32] = Sha256::digest(key).into();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MANY && !known.contains_key(name) {
            known.retain(|_, (_, seen)| now.saturating_duration_since(*seen) < UNUSED);
        }
        let (first, seen) = known.entry(name.to_owned()).or_insert((digest, now));
        let is_it = *first == digest;
        // What is refused is not what is remembered.
        if is_it {
            *seen = now;
        }
        is_it
    }
}

impl ServerCertVerifier for FirstSeen {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // A certificate is made anew whenever an agent starts, with the same key.
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        if self.believe(&name.to_str(), &key, Instant::now()) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("agents speak TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uid() -> EnvUid {
        EnvUid::parse("0123456789abcdef0123").unwrap()
    }

    #[test]
    fn an_address_is_found_in_the_name_that_was_made_of_it() {
        for text in
            ["10.64.3.7:7780", "[2001:db8::1]:7780", "[2001:db8::]:1", "[fe80::1:2]:7780", "[::ffff:10.0.0.1]:7780"]
        {
            let address: SocketAddr = text.parse().unwrap();
            let base = url::Url::parse(&base(address, &uid())).unwrap();
            assert_eq!((base.scheme(), base.port()), ("https", Some(address.port())), "{text}");
            let name = base.domain().unwrap();
            assert!(ServerName::try_from(name).is_ok(), "{name}");
            assert_eq!(address_of(name), Some(address.ip().to_canonical()), "{name}");
        }
        for other in [
            "example.com",
            "v4-1-2-3-x.agent.invalid",
            "v5-1-2-3-4-x.agent.invalid",
            ".agent.invalid",
            "é.agent.invalid",
        ] {
            assert_eq!(address_of(other), None, "{other}");
        }
    }

    #[test]
    fn on_this_computer_nothing_is_encrypted() {
        assert_eq!(base("127.0.0.1:9".parse().unwrap(), &uid()), "http://127.0.0.1:9");
        assert_eq!(base("[::1]:9".parse().unwrap(), &uid()), "http://[::1]:9");
    }

    #[test]
    fn the_first_key_of_a_name_is_the_only_one() {
        let pins = FirstSeen { provider: Arc::new(default_provider()), known: Mutex::default() };
        let now = Instant::now();
        assert!(pins.believe("a", b"one", now) && pins.believe("a", b"one", now));
        assert!(!pins.believe("a", b"two", now) && !pins.believe("a", b"two", now), "also when it insists");
        assert!(pins.believe("b", b"two", now) && pins.believe("a", b"one", now));
    }

    #[test]
    fn only_what_nobody_uses_is_forgotten() {
        let pins = FirstSeen { provider: Arc::new(default_provider()), known: Mutex::default() };
        let begin = Instant::now();
        for number in 0..MANY {
            pins.believe(&number.to_string(), b"one", begin);
        }
        let later = begin + UNUSED;
        pins.believe("0", b"one", later);
        pins.believe("new", b"one", later);
        assert_eq!(pins.known.lock().unwrap().len(), 2);
        assert!(!pins.believe("0", b"two", later));
    }
}
