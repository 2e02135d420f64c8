//! One controller for one state directory: its agents, mirrors and databases cannot be shared.
//!
//! Guarantees: whoever comes second is told who came first, before anything is touched; the kernel frees the
//! directory whatever happens to its holder, `kill -9` included. Whoever comes next learns who was there before, and may
//! take over what that one held.
//! Must not know: what lies in the directory.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::Context as _;

use super::Exit;

/// In the state directory; names, one a line, each beginning with a process id: last the holder's, before it those of
/// the holders that have ended and of whom nobody has taken over yet.
const LOCK_FILE: &str = "controller.lock";

/// The state directory is this process's until it is dropped.
#[derive(Debug)]
pub struct StateHolder {
    file: File,
    name: String,
    before: Vec<String>,
}

impl StateHolder {
    /// Takes the directory, or says who has it.
    pub fn take(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(LOCK_FILE);
        let cannot = || format!("state_dir: {} cannot be locked", path.display());
        let mut file = File::options().read(true).append(true).create(true).open(&path).with_context(cannot)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // It may not have written its name yet.
                let holder = match read(&mut file).pop() {
                    None => "another process".to_owned(),
                    Some(name) => format!("process {}", name.split('-').next().unwrap_or_default()),
                };
                return Err(Exit::Held.because(format!(
                    "state_dir: {} is in use by {holder}, another `kagero serve`; stop it first, or give this one a \
                     state_dir of its own",
                    state_dir.display()
                )));
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        let before = read(&mut file);
        let name = format!("{}-{}", std::process::id(), hex::encode(rand::random::<[u8; 4]>()));
        // One killed before it has taken over leaves two to take over from.
        writeln!(file, "{name}").with_context(cannot)?;
        Ok(Self { file, name, before })
    }

    /// What this process calls itself among all that work on a store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who had the directory before and has not been taken over from. They have ended.
    pub fn before(&self) -> &[String] {
        &self.before
    }

    /// Those before have been taken over from.
    pub fn forget_before(&mut self) -> std::io::Result<()> {
        // If this is cut short nobody's name is left; this holder has nothing yet that could be lost.
        self.file.set_len(0)?;
        writeln!(self.file, "{}", self.name)?;
        self.before.clear();
        Ok(())
    }
}

/// The names in the file.
fn read(file: &mut File) -> Vec<String> {
    let mut names = String::new();
    match file.read_to_string(&mut names) {
        Ok(_) => names.split_whitespace().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    }
}

impl Drop for StateHolder {
    fn drop(&mut self) {
        // Closing alone would not do: a process that is being started at this moment has a copy of the handle.
        let _ = self.file.unlock();
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
        let name = first.name().to_owned();
        assert!(first.before().is_empty());
        drop(first);
        let second = StateHolder::take(dir.path()).unwrap();
        assert_eq!(second.before(), [name.as_str()]);
        assert_ne!(second.name(), name);
    }

    #[test]
    fn whoever_ended_before_it_took_over_hands_on_what_it_found() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateHolder::take(dir.path()).unwrap().name().to_owned();
        let second = StateHolder::take(dir.path()).unwrap().name().to_owned();
        let mut third = StateHolder::take(dir.path()).unwrap();
        assert_eq!(third.before(), [first, second]);
        third.forget_before().unwrap();
        assert!(third.before().is_empty());
        let name = third.name().to_owned();
        drop(third);
        assert_eq!(StateHolder::take(dir.path()).unwrap().before(), [name]);
    }
}
