//! The way from inside a container to the environment's database.
//!
//! A server on another machine is reached by its address. One on this computer listens on loopback, which a container has
//! one of its own of: there the directory of its socket is mounted, and the address names the socket.
//!
//! Guarantees: an address that need not change does not.
//! Must not know: who made the database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bollard::models::{Mount, MountType};
use url::{Host, Url};

const VARIABLE: &str = "DATABASE_URL";

/// The variables as they are good inside.
pub(super) fn inside(mut env: BTreeMap<String, String>, reachable: &[PathBuf]) -> BTreeMap<String, String> {
    if let Some(address) = env.get(VARIABLE).and_then(|address| by_socket(address, reachable)) {
        env.insert(VARIABLE.to_owned(), address);
    }
    env
}

/// What is mounted so that the database is reached, each at its own path: nothing can be written there but a database that
/// is a file. The certificate of a server's authority comes along where the operator lets processes read it.
pub(super) fn ways(env: &BTreeMap<String, String>, reachable: &[PathBuf], readable: &[PathBuf]) -> Vec<Mount> {
    let address = env.get(VARIABLE).and_then(|address| Url::parse(address).ok());
    let is_file = address.as_ref().is_some_and(|address| address.scheme() == "sqlite");
    let certificate = address.as_ref().and_then(|address| {
        let named = address.query_pairs().find(|(key, _)| key == "sslrootcert")?.1.into_owned();
        readable.iter().find(|path| path.as_path() == Path::new(&named))
    });
    let mount = |path: &PathBuf, read_only: bool| {
        let path = path.to_string_lossy().into_owned();
        let (source, target) = (Some(path.clone()), Some(path));
        Mount { typ: Some(MountType::BIND), source, target, read_only: Some(read_only), ..Default::default() }
    };
    let there = reachable.iter().filter(|path| path.exists()).map(|path| mount(path, !is_file));
    let certificate = certificate.filter(|path| !reachable.contains(path)).map(|path| mount(path, true));
    there.chain(certificate).collect()
}

/// A PostgreSQL on loopback, addressed by the socket that it has in one of the directories.
fn by_socket(address: &str, reachable: &[PathBuf]) -> Option<String> {
    let mut url = Url::parse(address).ok()?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return None;
    }
    let is_loopback = match url.host()? {
        Host::Domain(name) => name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    let port = url.port().unwrap_or(5432);
    let socket = format!(".s.PGSQL.{port}");
    let directory = reachable.iter().find(|directory| is_loopback && directory.join(&socket).exists())?;
    let directory = directory.to_str()?;
    // Drivers take the parameter before the host; the port names the socket.
    url.query_pairs_mut().append_pair("host", directory);
    Some(url.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_a_file_database_can_be_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let certificate = dir.path().join("ca.pem");
        std::fs::write(&certificate, "").unwrap();
        let reachable = [dir.path().to_owned(), PathBuf::from("/nowhere")];
        let modes = |address: &str| {
            let env = BTreeMap::from([(VARIABLE.to_owned(), address.to_owned())]);
            let mounts = ways(&env, &reachable, std::slice::from_ref(&certificate));
            mounts.iter().map(|mount| mount.read_only.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(modes("sqlite:///data/db"), [false]);
        assert_eq!(modes("postgres://a:b@127.0.0.1/c"), [true]);
        assert_eq!(modes(&format!("postgres://a:b@db/c?sslrootcert={}", certificate.display())), [true, true]);
        assert_eq!(modes("postgres://a:b@db/c?sslrootcert=/etc/shadow"), [true]);
    }

    #[test]
    fn only_a_server_on_loopback_with_a_socket_is_addressed_by_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(".s.PGSQL.5433"), "").unwrap();
        let reachable = [PathBuf::from("/nowhere"), dir.path().to_owned()];
        let path = dir.path().to_str().unwrap().replace('/', "%2F");
        for (address, wanted) in [
            (
                "postgres://app:pw@127.0.0.1:5433/shop?sslmode=disable",
                Some(format!("postgres://app:pw@127.0.0.1:5433/shop?sslmode=disable&host={path}")),
            ),
            (
                "postgres://app:pw@localhost:5433/shop",
                Some(format!("postgres://app:pw@localhost:5433/shop?host={path}")),
            ),
            ("postgres://app:pw@127.0.0.1:5434/shop", None),
            ("postgres://app:pw@db.example:5433/shop?sslmode=verify-full", None),
            ("sqlite:///data/db", None),
            ("no address", None),
        ] {
            let env = BTreeMap::from([(VARIABLE.to_owned(), address.to_owned())]);
            assert_eq!(inside(env, &reachable)[VARIABLE], wanted.unwrap_or_else(|| address.to_owned()));
        }
        assert!(inside(BTreeMap::new(), &reachable).is_empty());
    }
}
