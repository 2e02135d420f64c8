//! Facts about processes, read from `/proc`.
//!
//! Guarantees: a process is known by its number, its start time and the boot it belongs to, never by its
//! number alone, so that a number that was given out again is never signalled.
//! Must not know: what the processes are for.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// One process of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Its number.
    pub pid: i32,
    /// Its start, in clock ticks since the boot.
    pub started: u64,
    /// The kernel's id of the boot.
    pub boot: String,
}

impl ProcessRef {
    /// The calling process.
    pub fn current() -> io::Result<Self> {
        let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
        Self::of(pid).ok_or_else(|| io::Error::other("cannot read /proc/self/stat; mount /proc"))
    }

    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Stat::read(pid)?;
        Some(Self { pid, started: stat.started, boot: boot_id() })
    }

    /// Whether it still runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && !stat.is_dead())
            && self.boot == boot_id()
    }

    /// Sends a signal, unless the process is gone.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may end between the look and the signal: then there is nothing left to tell.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Everything below a process in the tree of parents, children before grandchildren.
pub fn descendants(root: i32) -> Vec<ProcessRef> {
    let mut children: HashMap<i32, Vec<Stat>> = HashMap::new();
    for stat in all() {
        children.entry(stat.parent).or_default().push(stat);
    }
    let boot = boot_id();
    let mut found = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut next = vec![root];
    while let Some(parent) = next.pop() {
        for stat in children.remove(&parent).unwrap_or_default() {
            if seen.insert(stat.pid) {
                next.push(stat.pid);
                if !stat.is_dead() {
                    found.push(ProcessRef { pid: stat.pid, started: stat.started, boot: boot.clone() });
                }
            }
        }
    }
    found
}

/// Children that have ended and were not waited for.
pub fn dead_children(parent: i32) -> Vec<ProcessRef> {
    let boot = boot_id();
    all()
        .filter(|stat| stat.parent == parent && stat.is_dead())
        .map(|stat| ProcessRef { pid: stat.pid, started: stat.started, boot: boot.clone() })
        .collect()
}

/// Processes whose environment holds exactly this `NAME=value`, whoever their parent is.
pub fn carrying(variable: &str) -> Vec<ProcessRef> {
    let wanted = variable.as_bytes();
    all()
        .filter(|stat| {
            fs::read(format!("/proc/{}/environ", stat.pid))
                .is_ok_and(|text| text.split(|byte| *byte == 0).any(|entry| entry == wanted))
        })
        .filter_map(|stat| ProcessRef::of(stat.pid))
        .collect()
}

/// Processes whose environment holds this variable, with its value.
pub fn carriers(variable: &str) -> Vec<(ProcessRef, String)> {
    let wanted = format!("{variable}=");
    all()
        .filter_map(|stat| {
            let text = fs::read(format!("/proc/{}/environ", stat.pid)).ok()?;
            let value = text.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(wanted.as_bytes()))?;
            Some((ProcessRef::of(stat.pid)?, String::from_utf8(value.to_vec()).ok()?))
        })
        .collect()
}

/// Whether one of these processes holds the socket that listens on the TCP port.
pub fn listens(port: u16, processes: &[ProcessRef]) -> bool {
    let sockets: HashSet<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listening_inodes(table, port)).collect();
    processes.iter().any(|process| {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", process.pid)) else { return false };
        entries.filter_map(Result::ok).any(|entry| {
            fs::read_link(entry.path())
                .is_ok_and(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
        })
    })
}

fn listening_inodes(table: &str, port: u16) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap_or_default();
    let suffix = format!(":{port:04X}");
    text.lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listening = fields.get(3) == Some(&"0A") && fields.get(1)?.ends_with(&suffix);
            listening.then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
        })
        .collect()
}

struct Stat {
    pid: i32,
    parent: i32,
    state: u8,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name in parentheses is the process's own choice and may hold anything: count from its end.
    fn parse(pid: i32, text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            state: *fields.first()?.as_bytes().first()?,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

fn all() -> impl Iterator<Item = Stat> {
    let entries = fs::read_dir(Path::new("/proc")).into_iter().flatten();
    entries.filter_map(|entry| Stat::read(entry.ok()?.file_name().to_str()?.parse().ok()?))
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_process_name_does_not_shift_the_fields() {
        let line = "42 (a) S 1 (x) R 7 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        let stat = Stat::parse(42, line).unwrap();
        assert_eq!((stat.parent, stat.state, stat.started), (7, b'R', 12345));
    }

    #[test]
    fn a_process_is_known_by_more_than_its_number() {
        let me = ProcessRef::current().unwrap();
        assert!(me.is_alive());
        assert!(!ProcessRef { started: me.started + 1, ..me.clone() }.is_alive());
        assert!(!ProcessRef { boot: "another".to_owned(), ..me }.is_alive());
    }

    #[test]
    fn a_listening_socket_belongs_to_its_process_only() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(listens(port, &[ProcessRef::current().unwrap()]));
        assert!(!listens(port, &[ProcessRef::of(1).unwrap()]));
        drop(socket);
        assert!(!listens(port, &[ProcessRef::current().unwrap()]));
    }
}
