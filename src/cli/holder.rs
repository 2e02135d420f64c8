//! One controller for one state directory: its agents, mirrors and databases cannot be shared.
//!
//! Guarantees: whoever comes second is told who came first, before anything is touched; the kernel frees the
//! directory whatever happens to its holder, `kill -9` included.
//! Must not know: what lies in the directory.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::Context as _;

use super::Exit;

/// In the state directory; holds the holder's process id.
const LOCK_FILE: &str = "controller.lock";

/// The state directory is this process's until it is dropped.
#[derive(Debug)]
pub struct StateHolder(File);

impl StateHolder {
    /// Takes the directory, or says who has it.
    pub fn take(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(LOCK_FILE);
        let cannot = || format!("state_dir: {} cannot be locked", path.display());
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // It may not have written its name yet.
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(Exit::Held.because(format!(
                    "state_dir: {} is in use by {holder}, another `kagero serve`; stop it first, or give this one a \
                     state_dir of its own",
                    state_dir.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .with_context(cannot)?;
        Ok(Self(file))
    }
}

impl Drop for StateHolder {
    fn drop(&mut self) {
        // Closing alone would not do: a process that is being started at this moment has a copy of the handle.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_holder_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateHolder::take(dir.path()).unwrap();
        let refused = StateHolder::take(dir.path()).unwrap_err();
        assert_eq!(Exit::after(&refused), Exit::Held);
        assert!(refused.to_string().contains(&format!("in use by process {}", std::process::id())), "{refused}");
        drop(first);
        StateHolder::take(dir.path()).unwrap();
    }
}
