//! One controller per SQLite file, and per state directory.
//!
//! Guarantees: whoever comes second is told who came first; the kernel frees the lock whatever happens to its
//! holder, `kill -9` included.
//! Must not know: what is in the file.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::error::StoreError;

/// The lock on `<file>.lock`, held until it is freed or the last user of the connections is gone.
pub struct FileLock(Mutex<Option<File>>);

impl FileLock {
    /// Takes the lock next to a file and writes our process id into it.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let trouble = |error: std::io::Error| StoreError::Address {
            given: path.display().to_string(),
            why: format!("its lock file: {error}"),
        };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&beside).map_err(trouble)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                let holder = match holder.trim() {
                    "" => "another process".to_owned(),
                    pid => format!("process {pid}"),
                };
                return Err(StoreError::Locked { path: path.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(trouble(error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(trouble)?;
        Ok(Self(Mutex::new(Some(file))))
    }

    /// Frees the lock. Closing the file alone would not do: a process that is being started at this moment
    /// has a copy of the handle.
    pub fn free(&self) {
        if let Some(file) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = file.unlock();
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        self.free();
    }
}
