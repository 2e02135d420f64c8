//! Ports for services, leased from a book.
//!
//! On a machine of its own, visitors come over the network: an outlet leads from the machine's address to the service,
//! which goes on listening on this computer only.
//!
//! Guarantees: no two agents of a computer hold the same port, whatever installations they belong to; a port that
//! was let go comes up again in its installation only after every other one; whatever happens to a holder,
//! `kill -9` included, the kernel ends its lease.
//! Must not know: what listens on a port, who visits it.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::PathBuf;

use tokio_util::task::AbortOnDropHandle;

use super::outlet;

/// Above what Linux hands out by itself, so that no connection and no other program gets one by chance.
const FIRST: u16 = 61_000;
const LAST: u16 = u16::MAX;
/// The file that holds the port that was leased last, and is locked while one is looked for.
const BOOK: &str = "last";

/// How far below its port a service's outlet is: below what Linux hands out by itself too.
const OUTLET: u16 = 36_000;

/// The book of an installation, open to take ports from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PortBook {
    dir: PathBuf,
    outside: Option<IpAddr>,
}

/// A port that is this agent's until the lease is dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    /// Its name is taken by one process of the network namespace at a time, as a port is.
    _claim: UnixDatagram,
    /// Led through until the lease is dropped.
    _outlet: Option<AbortOnDropHandle<()>>,
}

impl PortBook {
    /// The book in this directory, which is made if it is missing. `outside`: the address that visitors come to, if it is
    /// not this computer's own.
    pub fn open(dir: PathBuf, outside: Option<IpAddr>) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, outside })
    }

    /// Takes the next port that nobody holds and nobody listens on.
    pub fn lease(&self) -> io::Result<PortLease> {
        let path = self.dir.join(BOOK);
        let mut book = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        book.lock()?;
        let mut text = String::new();
        book.read_to_string(&mut text)?;
        // A new book, and one that a crash left empty, begin anywhere: installations keep out of each other's way.
        let anywhere = || rand::random_range(FIRST..=LAST);
        let last = text.trim().parse().ok().filter(|port| *port >= FIRST).unwrap_or_else(anywhere);
        let all = FIRST..=LAST;
        for port in all.clone().cycle().skip(usize::from(last - FIRST) + 1).take(all.len()) {
            if let Some(lease) = self.take(port)? {
                book.set_len(0)?;
                book.rewind()?;
                write!(book, "{port}")?;
                return Ok(lease);
            }
        }
        Err(io::Error::other(format!("every port from {FIRST} to {LAST} is in use; end what uses them")))
    }

    fn take(&self, port: u16) -> io::Result<Option<PortLease>> {
        let name = UnixAddress::from_abstract_name(format!("kagero/port/{port}"))?;
        let claim = match UnixDatagram::bind_addr(&name) {
            Ok(claim) => claim,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            Err(error) => return Err(error),
        };
        let inside = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        // Somebody who knows nothing of leases may listen there.
        if TcpListener::bind(inside).is_err() {
            return Ok(None);
        }
        let outlet = match self.outside.map(|ip| outlet::open(seen_from_outside(inside, ip), inside)) {
            None => None,
            Some(Ok(outlet)) => Some(outlet),
            Some(Err(error)) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            Some(Err(error)) => return Err(error),
        };
        Ok(Some(PortLease { port, _claim: claim, _outlet: outlet }))
    }
}

/// Where visitors from outside find what listens on a leased port.
pub fn seen_from_outside(inside: SocketAddr, ip: IpAddr) -> SocketAddr {
    SocketAddr::new(ip, inside.port().saturating_sub(OUTLET))
}

impl PortLease {
    /// Where a service with this lease listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> (tempfile::TempDir, PortBook) {
        let dir = tempfile::tempdir().unwrap();
        let book = PortBook::open(dir.path().to_owned(), None).unwrap();
        (dir, book)
    }

    #[test]
    fn a_port_has_one_holder_and_rests_after_it() {
        let (dir, one) = book();
        let other = PortBook::open(dir.path().to_owned(), None).unwrap();
        let mut ports: Vec<u16> =
            (0..20).map(|i| if i % 2 == 0 { &one } else { &other }.lease().unwrap().port).collect();
        assert!(ports.iter().all(|port| *port >= FIRST));
        ports.sort_unstable();
        assert!(ports.windows(2).all(|pair| pair[0] != pair[1]), "{ports:?}: each was let go at once");

        let held = one.lease().unwrap();
        fs::write(dir.path().join(BOOK), (held.port - 1).to_string()).unwrap();
        assert_ne!(other.lease().unwrap().port, held.port);
        fs::write(dir.path().join(BOOK), LAST.to_string()).unwrap();
        assert!(one.lease().unwrap().port < FIRST + 1_000, "it begins again at the first");
    }

    #[test]
    fn another_installation_passes_over_what_is_held() {
        let ((_one_dir, one), (other_dir, other)) = (book(), book());
        let held = one.lease().unwrap();
        fs::write(other_dir.path().join(BOOK), (held.port - 1).to_string()).unwrap();
        assert_ne!(other.lease().unwrap().port, held.port);
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_passed_over() {
        let (dir, book) = book();
        let first = book.lease().unwrap();
        let stranger = TcpListener::bind(first.address()).unwrap();
        let port = first.port;
        drop(first);
        fs::write(dir.path().join(BOOK), (port - 1).to_string()).unwrap();
        assert_ne!(book.lease().unwrap().port, port);
        drop(stranger);
    }

    #[tokio::test]
    async fn visitors_from_outside_are_led_to_the_service_for_as_long_as_its_lease() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let dir = tempfile::tempdir().unwrap();
        let ip = IpAddr::from([127, 0, 0, 77]);
        let lease = PortBook::open(dir.path().to_owned(), Some(ip)).unwrap().lease().unwrap();
        let service = tokio::net::TcpListener::bind(lease.address()).await.unwrap();
        let outside = seen_from_outside(lease.address(), ip);
        assert!(outside.port() < 32_768, "{outside}");
        let mut visitor = tokio::net::TcpStream::connect(outside).await.unwrap();
        let (mut inside, _) = service.accept().await.unwrap();
        visitor.write_all(b"hello").await.unwrap();
        visitor.shutdown().await.unwrap();
        let mut said = String::new();
        inside.read_to_string(&mut said).await.unwrap();
        // Half of it is closed, the other half still answers.
        inside.write_all(b"bye").await.unwrap();
        drop(inside);
        let mut answer = String::new();
        visitor.read_to_string(&mut answer).await.unwrap();
        assert_eq!((said.as_str(), answer.as_str()), ("hello", "bye"));
        drop(lease);
        while tokio::net::TcpStream::connect(outside).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
