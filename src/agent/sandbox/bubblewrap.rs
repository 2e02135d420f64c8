//! Confinement by bubblewrap: own mounts, processes, IPC and host name; the network stays shared.
//!
//! Guarantees: no variable and no secret in the arguments: they go in through standard input, and only the
//! process inside sees them, so that none of them (`LD_PRELOAD`, …) can work outside the sandbox.
//! Must not know: what is run.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Rooms, SYSTEM_DIRS, SYSTEM_FILES, Sandbox};

/// How bubblewrap gets the rights to make namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// From root; the processes then become another user, without any capability.
    Root,
    /// From a user namespace.
    UserNamespace,
}

/// Where the variables lie inside.
const SCRIPT: &str = "/run/kagero/env";

/// Reads the variables, then becomes the command. Prefers to be the kernel's victim when memory runs out.
const ENTER: &str = "exec </dev/null; echo 800 2>/dev/null >/proc/self/oom_score_adj; \
                     cd /app || exit 126; . \"$1\"; shift; exec \"$@\"";

/// Files in the machine's directory that stand in for the computer's lists of users.
pub(super) const PASSWD: &str = "sandbox/passwd";
/// See [`PASSWD`].
pub(super) const GROUP: &str = "sandbox/group";

/// The rooms as a process inside sees them: the same for every environment.
pub(super) fn inside() -> Rooms {
    Rooms {
        source: PathBuf::from("/app"),
        tmp: PathBuf::from("/tmp"),
        home: PathBuf::from("/home/kagero"),
        shared: PathBuf::from("/shared"),
        reachable: Vec::new(),
    }
}

/// Where the program is. Searched here, because the command itself starts without variables.
pub(super) fn program() -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|dir| dir.join("bwrap"));
    candidates.find(|program| program.is_file()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Shell text that sets the variables.
pub(super) fn script(env: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut text = String::new();
    for (name, value) in env {
        let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !valid || value.contains('\0') {
            let why = format!("variable {name:?} cannot be set; use letters, digits and underscores, and no NUL");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        for part in ["export ", name, "='", &value.replace('\'', r"'\''"), "'\n"] {
            text.push_str(part);
        }
    }
    Ok(text.into_bytes())
}

/// The arguments of `bwrap` for one command.
pub(super) fn arguments(sandbox: &Sandbox, flavour: Flavour, rooms: &Rooms, run: &str) -> Vec<OsString> {
    let mut arguments = Arguments::default();
    arguments.add(["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
    arguments.add(["--die-with-parent", "--new-session", "--hostname", "kagero", "--cap-drop", "ALL"]);
    match flavour {
        Flavour::Root => {
            arguments.add(["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]);
        }
        Flavour::UserNamespace => arguments.add(["--unshare-user"]),
    }
    for dir in SYSTEM_DIRS {
        arguments.system(Path::new(dir));
    }
    for file in SYSTEM_FILES {
        arguments.passage(Path::new(file));
        arguments.bind("--ro-bind-try", Path::new(file), Path::new(file));
    }
    arguments.bind("--ro-bind", &sandbox.machine.join(PASSWD), Path::new("/etc/passwd"));
    arguments.bind("--ro-bind", &sandbox.machine.join(GROUP), Path::new("/etc/group"));
    arguments.add(["--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm", "--proc", "/proc"]);
    let inside = inside();
    for (outside, inside) in rooms.writable().into_iter().zip(inside.writable()) {
        arguments.passage(inside);
        arguments.bind("--bind", outside, inside);
    }
    for path in &sandbox.read_only {
        arguments.passage(path);
        arguments.bind("--ro-bind-try", path, path);
    }
    for path in &rooms.reachable {
        arguments.passage(path);
        arguments.bind("--bind", path, path);
    }
    arguments.add(["--perms", "0444", "--ro-bind-data", "0", SCRIPT]);
    arguments.add(["--remount-ro", "/", "--chdir", "/", "--", "prlimit"]);
    arguments.list.extend(sandbox.limits.arguments().into_iter().map(OsString::from));
    arguments.add(["--"]);
    if let Some(uid) = sandbox.run_as {
        let uid = uid.to_string();
        arguments.add(["setpriv", "--reuid", &uid, "--regid", &uid, "--clear-groups"]);
        arguments.add(["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]);
    }
    arguments.add(["/bin/sh", "-c", ENTER, "sh", SCRIPT, "/bin/sh", "-c", run]);
    arguments.list
}

#[derive(Default)]
struct Arguments {
    list: Vec<OsString>,
    passages: BTreeSet<PathBuf>,
}

impl Arguments {
    fn add<const N: usize>(&mut self, arguments: [&str; N]) {
        self.list.extend(arguments.map(OsString::from));
    }

    fn bind(&mut self, option: &str, outside: &Path, inside: &Path) {
        self.list.extend([option.into(), outside.as_os_str().to_owned(), inside.as_os_str().to_owned()]);
    }

    /// The directories above a path, open to all: bubblewrap would close them like the path itself.
    fn passage(&mut self, path: &Path) {
        let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|dir| dir.parent().is_some()).collect();
        above.reverse();
        for dir in above {
            if self.passages.insert(dir.to_owned()) {
                self.add(["--perms", "0755", "--dir"]);
                self.list.push(dir.as_os_str().to_owned());
            }
        }
    }

    /// A system directory the way it is here: a link (`/bin` → `usr/bin`) stays a link.
    fn system(&mut self, dir: &Path) {
        if let Ok(target) = fs::read_link(dir) {
            self.bind("--symlink", &target, dir);
        } else if dir.is_dir() {
            self.bind("--ro-bind", dir, dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_break_out_of_their_quotes() {
        let env = BTreeMap::from([("A".to_owned(), "x'; echo broken; '".to_owned())]);
        assert_eq!(script(&env).unwrap(), b"export A='x'\\''; echo broken; '\\'''\n");
    }

    #[test]
    fn names_that_a_shell_would_run_are_refused() {
        for name in ["", "1A", "A B", "A;id", "A=$(id)", "é"] {
            let env = BTreeMap::from([(name.to_owned(), String::new())]);
            assert!(script(&env).is_err(), "{name}");
        }
    }
}
