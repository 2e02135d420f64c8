//! The agent's key, and the encrypted connections that it takes where others than its own computer can reach it.
//!
//! A machine is born without a secret, so that nobody can have vouched for its key: it makes one for itself, and the
//! controller keeps to the first one that it sees of a machine ([`super::pins`]). The controller proves itself by the
//! signature of each request.
//!
//! Guarantees: the key never leaves the machine's directory, and is the same after a restart; a handshake that is not
//! finished holds up nobody else as long as there are fewer than [`AT_ONCE`] of them, and ends after [`HANDSHAKE`].
//! Must not know: what the requests mean.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::TLS13;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

use super::protocol::write_atomically;

/// Only the agent's own user can read it.
const KEY_FILE: &str = "tls-key.der";
/// A handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once. The controller needs one or two.
const AT_ONCE: usize = 64;
/// After an error of the computer, such as too many open files.
const AFTER_TROUBLE: Duration = Duration::from_secs(1);

/// Takes encrypted connections.
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl TlsListener {
    /// Begins to take connections, with the key of the machine's directory, which is made if there is none.
    pub fn begin(listener: TcpListener, dir: &Path) -> io::Result<Self> {
        let (acceptor, address) = (acceptor(dir)?, listener.local_addr()?);
        let (done, ready) = mpsc::channel(AT_ONCE);
        let accepting = AbortOnDropHandle::new(tokio::spawn(accept(listener, acceptor, done)));
        Ok(Self { ready, address, _accepting: accepting })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // Whoever accepts lives as long as this.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    let seats = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(AFTER_TROUBLE).await;
                continue;
            }
        };
        let (acceptor, done) = (acceptor.clone(), done.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(done.send((stream, from)).await),
                Ok(Err(error)) => tracing::debug!(%from, %error, "a handshake failed"),
                Err(_) => tracing::debug!(%from, "a handshake took too long"),
            }
            drop(seat);
        });
    }
}

fn acceptor(dir: &Path) -> io::Result<TlsAcceptor> {
    let key = key(dir)?;
    // Nobody reads the name: the controller knows the key.
    let params = CertificateParams::new(vec!["kagero-agent".to_owned()]).map_err(io::Error::other)?;
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The key of this directory.
fn key(dir: &Path) -> io::Result<KeyPair> {
    let path = dir.join(KEY_FILE);
    match fs::read(&path) {
        Ok(der) => KeyPair::try_from(der.as_slice()).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate().map_err(io::Error::other)?;
            write_atomically(&path, &key.serialize_der())?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let made = key(dir.path()).unwrap();
        assert_eq!(key(dir.path()).unwrap().serialize_der(), made.serialize_der());
        let mode = fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(dir.path().join(KEY_FILE), "no key").unwrap();
        assert!(key(dir.path()).is_err(), "a key that is damaged is not silently replaced");
    }
}
