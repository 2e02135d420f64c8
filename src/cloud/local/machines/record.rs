//! A machine's directory and what is written in it.
//!
//! Guarantees: a directory with a machine's name has had its owner record from its first moment on; the
//! record is the last thing to go.
//! Must not know: when machines are made or removed.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::agent::protocol::{AddressFile, AgentOptions, ProcessRef, remove_tree, write_atomically};
use crate::domain::ledger::Token;
use crate::domain::observed::Tags;
use crate::domain::owned::machine_name;
use crate::domain::time::Timestamp;

/// Where the machines lie in the state directory.
pub(super) const ROOMS_DIR: &str = "environments";
/// The process that was started last.
pub(super) const PROCESS_FILE: &str = "process.json";
const RECORD_FILE: &str = "machine.json";
const LEAVING_FILE: &str = "leaving.json";
const UNBORN: &str = ".making-";
const REMAINS: &str = ".removing-";

/// Who a machine belongs to. Written once, before anything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) tags: Tags,
    pub(super) token: Token,
    pub(super) attempt: u32,
    pub(super) created_at: Timestamp,
}

impl Record {
    /// The machine's name: a function of what is recorded.
    pub(super) fn name(&self) -> String {
        machine_name(&self.tags, self.attempt)
    }
}

/// Whether a machine's agent lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Listening(SocketAddr),
    Starting,
    Dead,
}

/// A machine's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room {
    path: PathBuf,
    name: String,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unborn,
    Whole,
    Remains,
}

impl Room {
    /// The directory at this path, if its name can be a machine's.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let file = path.file_name()?.to_str()?;
        let (name, stage) = match (file.strip_prefix(UNBORN), file.strip_prefix(REMAINS)) {
            (Some(name), _) => (name, Stage::Unborn),
            (_, Some(name)) => (name, Stage::Remains),
            _ => (file, Stage::Whole),
        };
        Some(Self { path: path.to_owned(), name: name.to_owned(), stage })
    }

    /// Whether anything of a machine is there, or it cannot be told.
    pub(super) fn stands(rooms: &Path, name: &str) -> bool {
        let forms = [name.to_owned(), format!("{UNBORN}{name}"), format!("{REMAINS}{name}")];
        forms.iter().any(|form| !matches!(fs::symlink_metadata(rooms.join(form)), Err(error) if error.kind() == io::ErrorKind::NotFound))
    }

    /// Makes a machine's directory: under its name it appears with everything in it.
    pub(super) fn bear(rooms: &Path, record: &Record, options: AgentOptions) -> io::Result<Self> {
        let name = record.name();
        let unborn = rooms.join(format!("{UNBORN}{name}"));
        fs::create_dir(&unborn)?;
        write_atomically(&unborn.join(RECORD_FILE), &serde_json::to_vec_pretty(record)?)?;
        AgentOptions { dir: unborn.clone(), ..options }.save()?;
        let path = rooms.join(&name);
        fs::rename(&unborn, &path)?;
        File::open(rooms)?.sync_all()?;
        Ok(Self { path, name, stage: Stage::Whole })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its making was cut off before anything was started.
    pub(super) fn is_unborn(&self) -> bool {
        self.stage == Stage::Unborn
    }

    /// Whether it is being removed.
    pub(super) fn is_leaving(&self) -> bool {
        self.stage == Stage::Remains || self.path.join(LEAVING_FILE).exists()
    }

    /// Who it belongs to; `None` if that cannot be read.
    pub(super) fn record(&self) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(self.path.join(RECORD_FILE)).ok()?).ok()?;
        (record.name() == self.name).then_some(record)
    }

    /// Whether a process was ever started in it.
    pub(super) fn was_started(&self) -> bool {
        self.path.join(PROCESS_FILE).exists() || AddressFile::read(&self.path).is_some()
    }

    /// Whether its agent lives.
    pub(super) fn life(&self) -> Life {
        match AddressFile::read(&self.path).filter(|file| file.process.is_alive()) {
            Some(file) => Life::Listening(file.address),
            None if self.processes().is_empty() => Life::Dead,
            None => Life::Starting,
        }
    }

    /// The agent's living processes: the one that listens and the one that was started last.
    pub(super) fn processes(&self) -> Vec<ProcessRef> {
        let started = fs::read(self.path.join(PROCESS_FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let mut found: Vec<ProcessRef> = started.into_iter().collect();
        found.extend(AddressFile::read(&self.path).map(|file| file.process));
        found.retain(ProcessRef::is_alive);
        found.dedup();
        found
    }

    /// Notes that it is to go, and since when.
    pub(super) fn ask_to_leave(&self, now: Timestamp) -> io::Result<Timestamp> {
        let path = self.path.join(LEAVING_FILE);
        let since = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(since) = since {
            return Ok(since);
        }
        write_atomically(&path, &serde_json::to_vec(&now)?)?;
        Ok(now)
    }

    /// Removes the directory: first its name, then its content, the record last.
    pub(super) fn clear_away(self) -> io::Result<()> {
        let Some(rooms) = self.path.parent() else { return Ok(()) };
        let remains = match self.stage {
            Stage::Whole => rooms.join(format!("{REMAINS}{}", self.name)),
            Stage::Unborn | Stage::Remains => self.path.clone(),
        };
        if remains != self.path {
            fs::rename(&self.path, &remains)?;
            File::open(rooms)?.sync_all()?;
        }
        for entry in fs::read_dir(&remains)? {
            let entry = entry?;
            if entry.file_name() == RECORD_FILE {
                continue;
            }
            if entry.file_type()?.is_dir() {
                remove_tree(&entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        remove_tree(&remains)
    }
}
