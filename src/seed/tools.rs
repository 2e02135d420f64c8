//! PostgreSQL's programs: where they are, and how they are run.
//!
//! Guarantees: no password in an argument or in the environment; whatever may run code from a seed, and
//! the server itself, runs as an unprivileged user where we are root.
//! Must not know: clusters, goldens.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::NamedTempFile;
use tokio::process::Command;

/// A directory of PostgreSQL programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    /// Where they are.
    pub bin_dir: PathBuf,
    /// The major version.
    pub version: u32,
}

/// What running a server of our own takes.
pub const SERVER_PROGRAMS: [&str; 5] = ["initdb", "pg_ctl", "postgres", "psql", "pg_restore"];

/// What loading a seed into another's server takes.
pub const CLIENT_PROGRAMS: [&str; 2] = ["psql", "pg_restore"];

/// Why programs cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolsError {
    /// None found.
    #[error(
        "no PostgreSQL program {program} in {searched}: install it (Debian: `apt-get install postgresql`, or \
         `postgresql-client` where the server is elsewhere), name its directory as `bin_dir`, or use `engine: sqlite`"
    )]
    Missing {
        /// The program that was looked for.
        program: &'static str,
        /// Where.
        searched: String,
    },
    /// Found, but it does not say a version.
    #[error("{program} does not tell its version: {why}")]
    Unusable {
        /// The program.
        program: PathBuf,
        /// The cause.
        why: String,
    },
    /// The user to run as does not exist.
    #[error("there is no user {name} to run PostgreSQL as: create it, or name another as `user`")]
    NoUser {
        /// The name.
        name: String,
    },
}

impl Tools {
    /// Finds the newest directory that has all the programs: the one named, else among Debian's and those of
    /// `PATH`.
    pub fn find(bin_dir: Option<&Path>, programs: &[&'static str]) -> Result<Self, ToolsError> {
        let candidates = bin_dir.map_or_else(usual_directories, |named| vec![named.to_owned()]);
        let mut newest: Option<Self> = None;
        let first = programs.first().copied().unwrap_or("postgres");
        let mut missing = first;
        let mut broken = None;
        for directory in &candidates {
            let mut paths = programs.iter().map(|program| (*program, directory.join(program)));
            if let Some((program, _)) = paths.find(|(_, path)| !path.is_file()) {
                missing = program;
                continue;
            }
            match version_of(&directory.join(first)) {
                Ok(version) if newest.as_ref().is_none_or(|tools| tools.version < version) => {
                    newest = Some(Self { bin_dir: directory.clone(), version });
                }
                Ok(_) => {}
                Err(error) => broken = Some(error),
            }
        }
        newest.ok_or_else(|| {
            let searched: Vec<String> = candidates.iter().map(|d| d.display().to_string()).collect();
            broken.unwrap_or(ToolsError::Missing { program: missing, searched: searched.join(", ") })
        })
    }

    /// A command that dies with its handle, speaks English and takes no settings from our environment.
    pub fn command(&self, program: &str, run_as: Option<&RunAs>) -> Command {
        let mut command = Command::new(self.bin_dir.join(program));
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").kill_on_drop(true);
        if let Some(user) = run_as {
            command.uid(user.uid).gid(user.gid).env("HOME", "/");
        }
        command
    }
}

fn usual_directories() -> Vec<PathBuf> {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut all: Vec<PathBuf> = debian.map(|entry| entry.path().join("bin")).collect();
    let path = std::env::var_os("PATH");
    all.extend(path.iter().flat_map(|path| std::env::split_paths(path)));
    all
}

fn version_of(program: &Path) -> Result<u32, ToolsError> {
    let unusable = |why: String| ToolsError::Unusable { program: program.to_owned(), why };
    let output = std::process::Command::new(program)
        .arg("--version")
        .env_clear()
        .output()
        .map_err(|error| unusable(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    parse_version(&text).ok_or_else(|| unusable(format!("it printed {:?}", text.trim())))
}

fn parse_version(text: &str) -> Option<u32> {
    let after = text.split_once("(PostgreSQL) ")?.1;
    after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The user that PostgreSQL runs as where we are root: it refuses to run as root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunAs {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl RunAs {
    /// The named user, else `postgres`, else `nobody`. `None` where we are not root: then everything runs
    /// as ourselves.
    pub fn choose(named: Option<&str>) -> Result<Option<Self>, ToolsError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let candidates = named.map_or_else(|| vec!["postgres", "nobody"], |name| vec![name]);
        for name in &candidates {
            if let Ok(Some(user)) = User::from_name(name) {
                return Ok(Some(Self { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
            }
        }
        Err(ToolsError::NoUser { name: candidates.join(" or ") })
    }

    /// Gives a file or directory to this user.
    pub fn own(&self, path: &Path) -> std::io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
    }
}

/// A password file that is gone once dropped.
pub struct PassFile(NamedTempFile);

impl PassFile {
    /// Writes one for a role. The file is born readable by its owner only.
    pub fn write(
        directory: &Path,
        role: &str,
        password: &SecretString,
        run_as: Option<&RunAs>,
    ) -> std::io::Result<Self> {
        let mut file = NamedTempFile::with_prefix_in("pgpass", directory)?;
        writeln!(file, "*:*:*:{role}:{}", password.expose_secret())?;
        if let Some(user) = run_as {
            user.own(file.path())?;
        }
        Ok(Self(file))
    }

    /// For `PGPASSFILE`.
    pub fn path(&self) -> &OsStr {
        self.0.path().as_os_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(parse_version("ls (GNU coreutils) 9.1"), None);
    }

    #[test]
    fn a_missing_program_is_named_with_the_next_step() {
        let empty = tempfile::tempdir().unwrap();
        let error = Tools::find(Some(empty.path()), &SERVER_PROGRAMS).unwrap_err().to_string();
        assert!(error.contains("initdb") && error.contains("apt-get install postgresql"), "{error}");
    }
}
