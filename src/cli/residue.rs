//! What is left of environments on this host, asked from outside: of the process table and of the disk.
//!
//! Guarantees: needs neither the store nor a running controller, and believes neither.
//! Must not know: which environments there should be.

use std::path::Path;

use anyhow::Context as _;

/// Where machines are, below the state directory.
const MACHINES: &str = "environments";

/// Processes that belong to an environment: their command line, working directory or environment variables lead
/// into it. A sandboxed process is known by the last of these only.
pub fn processes(state_dir: &Path) -> anyhow::Result<Vec<(i32, String)>> {
    let inside = state_dir.join(MACHINES).display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
        let directory = std::fs::read_link(entry.path().join("cwd")).map(|path| path.display().to_string());
        let variables = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let is_marked = String::from_utf8_lossy(&variables).contains(&inside);
        if is_marked || arguments.contains(&inside) || directory.is_ok_and(|path| path.starts_with(&inside)) {
            found.push((pid, arguments.trim().to_owned()));
        }
    }
    Ok(found)
}

/// Directories of machines, whole or half removed.
pub fn machines(state_dir: &Path) -> anyhow::Result<Vec<String>> {
    directories(&state_dir.join(MACHINES))
}

/// Directories in that directory; none if it is not there.
pub fn directories(dir: &Path) -> anyhow::Result<Vec<String>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            Ok(directories.map(|entry| entry.path().display().to_string()).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", dir.display())),
    }
}
