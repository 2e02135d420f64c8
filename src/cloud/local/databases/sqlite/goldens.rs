//! Goldens as SQLite files, each with its owner record beside it.
//!
//! Guarantees: the record is there before the file and goes after it; a file without a record of this installation is
//! listed and never removed.
//! Must not know: how long nobody has used it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::{ID_PREFIX, Inner};
use crate::cloud::CloudError;
use crate::cloud::local::databases::{fault, golden};
use crate::domain::id::SeedName;
use crate::domain::observed::Residue;
use crate::domain::owned::OwnedResidue;
use crate::seed::golden::Golden;
use crate::seed::marker::Marker;
use crate::seed::name::{GoldenName, golden_role};

const FILE: &str = ".sqlite";
const OWNER: &str = ".owner.json";

/// Where the golden of this name is.
pub(super) fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}{FILE}"))
}

fn record(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}{OWNER}"))
}

/// Says whose the golden of this name is, unless that is said already.
pub(super) fn sign(directory: &Path, name: &str, marker: &Marker) -> io::Result<()> {
    let path = record(directory, name);
    if path.exists() { Ok(()) } else { std::fs::write(path, marker.to_text()) }
}

impl Inner {
    pub(super) fn goldens_dir(&self) -> PathBuf {
        self.state_dir.join("goldens")
    }

    pub(super) fn marker(&self, golden: &Golden) -> Marker {
        Marker::Golden { install: self.install.clone(), seed: Some(golden.name.clone()) }
    }

    pub(super) async fn list_goldens(&self) -> Result<Vec<Residue>, CloudError> {
        let what = "list the goldens";
        let read_at = self.clock.now();
        let wanted = self.wanted_goldens(what).await?;
        let directory = self.goldens_dir();
        let names = names(&directory).map_err(|error| fault::io(what, &error))?;
        let mut goldens = Vec::with_capacity(names.len());
        for name in names {
            let is_ours = self.is_ours(&name).map_err(|error| fault::io(what, &error))?;
            let (install, state) = (is_ours.then(|| self.install.clone()), golden::use_of(wanted.get(&name)));
            let (id, seen) = (format!("{ID_PREFIX}{name}"), (self.location(), read_at));
            goldens.extend(golden::residue(id, name, install, state, seen));
        }
        Ok(goldens)
    }

    /// Names that configured seeds give, with the seed. One that cannot be read fails: its golden has an unknown name.
    async fn wanted_goldens(&self, what: &str) -> Result<BTreeMap<String, SeedName>, CloudError> {
        let mut wanted = BTreeMap::new();
        for golden in self.goldens.values() {
            let digest = self.digests.of(golden).await.map_err(|error| fault::seed(what, &error))?;
            wanted.insert(GoldenName::derive(&self.install, &golden.name, &digest).complete, golden.name.clone());
        }
        Ok(wanted)
    }

    /// Whether its record says so.
    fn is_ours(&self, name: &str) -> io::Result<bool> {
        let text = match std::fs::read_to_string(record(&self.goldens_dir(), name)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let marker = Marker::from_text(&text);
        Ok(matches!(marker, Some(Marker::Golden { install, seed: Some(_) }) if install == self.install))
    }

    pub(super) async fn drop_golden(&self, what: &str, golden: &OwnedResidue) -> Result<(), CloudError> {
        let name = golden.name();
        if golden.id().id() != format!("{ID_PREFIX}{name}")
            || *golden.tags() != self.install
            || !name.starts_with(&format!("{}_", golden_role(&self.install)))
            || name.contains('/')
        {
            return Err(fault::bug(what, "the proof is of something else"));
        }
        let _one_at_a_time = self.making_golden.lock().await;
        if self.wanted_goldens(what).await?.contains_key(name) {
            return Err(fault::retry(what, "a configured seed makes it again"));
        }
        let directory = self.goldens_dir();
        let failed = |error: &io::Error| fault::io(what, error);
        if !names(&directory).map_err(|error| failed(&error))?.contains(name) {
            return Ok(());
        }
        if !self.is_ours(name).map_err(|error| failed(&error))? {
            return Err(fault::denied(what, "refused: its owner record is missing or another's"));
        }
        remove(&file(&directory, name)).and_then(|()| remove(&record(&directory, name))).map_err(|error| failed(&error))
    }
}

/// Goldens of which the file or the record is there.
fn names(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(all),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let Ok(entry) = entry?.file_name().into_string() else { continue };
        if let Some(name) = entry.strip_suffix(FILE).or_else(|| entry.strip_suffix(OWNER)) {
            all.insert(name.to_owned());
        }
    }
    Ok(all)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
