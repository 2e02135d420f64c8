//! What machines reach on the internet: GitHub's repositories, and the place where they fetch the agent. By TLS, from an
//! authority that the image trusts.
//!
//! Guarantees: repositories are read with a token of an installation and without one not at all, as private ones on GitHub.
//! Must not know: who asks.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::serve::Listener;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
pub struct Certified {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, for those who trust it.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", self.0.der())
    }

    /// A certificate for whoever answers at that address.
    pub fn certify(&self, address: &str) -> Certified {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![address.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Certified { certificate: certificate.der().to_vec(), key: key.serialize_der() }
    }
}

impl Certified {
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// Answers at that address: below `/<owner>/` with the repositories of that folder, at `/kagero` with the program.
pub async fn answer(at: SocketAddr, certified: &Certified, repositories: PathBuf, program: &'static Path) {
    let config =
        ServerConfig::builder_with_provider(Arc::new(default_provider())).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::try_from(certified.key.clone()).unwrap();
    let config = config.unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![certified.certificate.clone().into()], key).unwrap();
    let listener =
        Encrypted { listener: TcpListener::bind(at).await.unwrap(), acceptor: TlsAcceptor::from(Arc::new(config)) };
    let router = Router::new()
        .route("/kagero", get(async move || sent(program).await))
        .fallback(git)
        .with_state(Arc::new(repositories));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
}

struct Encrypted {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Encrypted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, from) = self.listener.accept().await.unwrap();
            // Whoever does not trust the authority breaks off.
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn sent(program: &Path) -> Response {
    let file = tokio::fs::File::open(program).await.unwrap();
    Body::from_stream(tokio_util::io::ReaderStream::with_capacity(file, 1 << 20)).into_response()
}

/// git's own server, as CGI (git-http-backend(1)).
async fn git(State(repositories): State<Arc<PathBuf>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let given = header(AUTHORIZATION.as_str()).strip_prefix("Basic ").unwrap_or_default();
    let given = String::from_utf8(STANDARD.decode(given).unwrap_or_default()).unwrap_or_default();
    if !given.starts_with("x-access-token:ghs_") {
        return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Basic realm=\"GitHub\"")]).into_response();
    }
    let body = axum::body::to_bytes(body, 10 << 20).await.unwrap();
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    for (name, value) in [
        ("GIT_PROJECT_ROOT", repositories.to_str().unwrap()),
        ("GIT_HTTP_EXPORT_ALL", "1"),
        ("PATH_INFO", head.uri.path()),
        ("QUERY_STRING", head.uri.query().unwrap_or_default()),
        ("REQUEST_METHOD", head.method.as_str()),
        ("CONTENT_TYPE", header(CONTENT_TYPE.as_str())),
        ("CONTENT_LENGTH", &body.len().to_string()),
        ("HTTP_CONTENT_ENCODING", header(CONTENT_ENCODING.as_str())),
        ("GIT_PROTOCOL", header("git-protocol")),
    ] {
        command.env(name, value);
    }
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    // Questions are smaller than what a pipe holds.
    process.stdin.take().unwrap().write_all(&body).await.unwrap();
    let output = process.wait_with_output().await.unwrap().stdout;
    let end = output.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let mut response = Response::new(Body::from(Bytes::copy_from_slice(&output[end + 4..])));
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        if name.eq_ignore_ascii_case("status") {
            *response.status_mut() = value.split(' ').next().unwrap().parse().unwrap();
        } else {
            response.headers_mut().insert(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                http::HeaderValue::from_str(value).unwrap(),
            );
        }
    }
    response
}
