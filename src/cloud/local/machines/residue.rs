//! What is beside the machines: processes that outlived theirs, directories that are no machine's.
//!
//! Guarantees: a process is ours only by the variable that agents start everything with, when it names a machine of this
//! state directory that is not there any more; it is known by number, start and boot, never by its program's name.
//! Whatever is cleared away is looked at again under the lock that machines are made under.
//! Must not know: why it has to go.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::signal::Signal;

use super::record::{ROOMS_DIR, Room};
use super::{Inner, LOCK_FILE, failed};
use crate::agent::protocol::{MACHINE_VARIABLE, ProcessRef, carriers, descendants};
use crate::cloud::CloudError;
use crate::domain::id::{EnvUid, ResidueId, digest};
use crate::domain::mark::Subject;
use crate::domain::observed::{Listing, Residue, ResidueState};
use crate::domain::owned::OwnedResidue;
use crate::domain::time::Timestamp;

impl Inner {
    pub(super) fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        let at = self.clock.now();
        // Processes first: one whose machine goes meanwhile is seen once too often, and that only marks it.
        let mut items: Vec<Residue> = self.left_processes(at).into_iter().map(|(_, residue)| residue).collect();
        let directories = self.strange_directories(at);
        let directories =
            directories.map_err(|error| failed("listing the machines' directories".to_owned(), &error))?;
        items.extend(directories.into_iter().map(|(_, residue)| residue));
        Ok(Listing { items, complete: true, at })
    }

    pub(super) fn clear_away(&self, residue: &OwnedResidue) -> io::Result<()> {
        let _alone = self.lock()?;
        let now = self.clock.now();
        let is_it = |found: &Residue| found.subject == *residue.id() && found.install.as_ref() == Some(residue.tags());
        if let Some((process, _)) = self.left_processes(now).into_iter().find(|(_, found)| is_it(found)) {
            let below = descendants(process.pid);
            process.signal(Signal::SIGKILL);
            for process in &below {
                process.signal(Signal::SIGKILL);
            }
        }
        match self.strange_directories(now)?.into_iter().find(|(_, found)| is_it(found)) {
            Some((Some(room), _)) => room.clear_away(),
            _ => Ok(()),
        }
    }

    /// The uppermost processes of machines that are not there.
    fn left_processes(&self, read_at: Timestamp) -> Vec<(ProcessRef, Residue)> {
        let rooms = self.state.join(ROOMS_DIR);
        let me = std::process::id();
        let mut left = Vec::new();
        for (process, machine) in carriers(MACHINE_VARIABLE) {
            let path = Path::new(&machine);
            if path.parent() != Some(&rooms) || u32::try_from(process.pid) == Ok(me) {
                continue;
            }
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if Room::stands(&rooms, name) {
                continue;
            }
            let uid = self.uid_in(name);
            let Ok(id) = ResidueId::parse(format!("process:{}-{}-{}", process.pid, process.started, process.boot))
            else {
                continue;
            };
            let residue = Residue {
                subject: Subject::Process(id),
                name: name.to_owned(),
                install: uid.is_some().then(|| self.options.install.clone()),
                uid,
                key: None,
                state: ResidueState::Unused(format!("process {} has outlived its machine", process.pid)),
                location: self.location(),
                read_at,
            };
            left.push((process, residue));
        }
        let below: Vec<ProcessRef> = left.iter().flat_map(|(process, _)| descendants(process.pid)).collect();
        left.retain(|(process, _)| !below.contains(process));
        left
    }

    /// Directories whose making was cut off, and whatever else lies there.
    fn strange_directories(&self, read_at: Timestamp) -> io::Result<Vec<(Option<Room>, Residue)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.state.join(ROOMS_DIR))? {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            if file == LOCK_FILE {
                continue;
            }
            let ours = |room: &Room| room.name().starts_with(&self.prefix());
            let room = if entry.file_type()?.is_dir() { Room::of(&entry.path()).filter(ours) } else { None };
            let (name, record, why) = match &room {
                Some(room) if room.is_unborn() => {
                    (room.name().to_owned(), room.record(), "its making was cut off before anything was started in it")
                }
                // A machine.
                Some(_) => continue,
                None => (file.clone(), None, "it lies among the machines and is none of this installation"),
            };
            let tags = record.map(|record| record.tags);
            let residue = Residue {
                subject: Subject::Directory(directory_id(&file)?),
                name,
                install: tags.as_ref().map(|tags| tags.install.clone()),
                uid: tags.map(|tags| tags.uid),
                key: None,
                state: ResidueState::Unused(why.to_owned()),
                location: self.location(),
                read_at,
            };
            found.push((room, residue));
        }
        found.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
        Ok(found)
    }

    /// The environment in a machine's name.
    fn uid_in(&self, name: &str) -> Option<EnvUid> {
        let (uid, _) = name.strip_prefix(&self.prefix())?.split_once('-')?;
        EnvUid::parse(uid).ok()
    }
}

fn directory_id(file: &str) -> io::Result<ResidueId> {
    let id = ResidueId::parse(format!("directory:{file}"));
    id.or_else(|_| ResidueId::parse(format!("directory:{}", digest(&["directory", file], 16))))
        .map_err(io::Error::other)
}
