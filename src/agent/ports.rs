//! Ports for services, leased from a book.
//!
//! Guarantees: no two agents of a computer hold the same port, whatever installations they belong to; a port that
//! was let go comes up again in its installation only after every other one; whatever happens to a holder,
//! `kill -9` included, the kernel ends its lease.
//! Must not know: what listens on a port, who visits it.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::path::PathBuf;

/// Above what Linux hands out by itself, so that no connection and no other program gets one by chance.
const FIRST: u16 = 61_000;
const LAST: u16 = u16::MAX;
/// The file that holds the port that was leased last, and is locked while one is looked for.
const BOOK: &str = "last";

/// The book of an installation, open to take ports from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PortBook {
    dir: PathBuf,
}

/// A port that is this agent's until the lease is dropped.
#[derive(Debug)]
pub struct PortLease {
    port: u16,
    /// Its name is taken by one process of the network namespace at a time, as a port is.
    _claim: UnixDatagram,
}

impl PortBook {
    /// The book in this directory, which is made if it is missing.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
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
            if let Some(lease) = take(port)? {
                book.set_len(0)?;
                book.rewind()?;
                write!(book, "{port}")?;
                return Ok(lease);
            }
        }
        Err(io::Error::other(format!("every port from {FIRST} to {LAST} is in use; end what uses them")))
    }
}

fn take(port: u16) -> io::Result<Option<PortLease>> {
    let name = UnixAddress::from_abstract_name(format!("kagero/port/{port}"))?;
    let claim = match UnixDatagram::bind_addr(&name) {
        Ok(claim) => claim,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
        Err(error) => return Err(error),
    };
    // Somebody who knows nothing of leases may listen there.
    let is_free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    Ok(is_free.then_some(PortLease { port, _claim: claim }))
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
        let book = PortBook::open(dir.path().to_owned()).unwrap();
        (dir, book)
    }

    #[test]
    fn a_port_has_one_holder_and_rests_after_it() {
        let (dir, one) = book();
        let other = PortBook::open(dir.path().to_owned()).unwrap();
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
}
