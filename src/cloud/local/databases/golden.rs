//! Goldens as a sweep sees them, whichever engine has them.

use crate::domain::id::{InstallId, ResidueId, SeedName};
use crate::domain::mark::Subject;
use crate::domain::observed::{Location, Residue, ResidueState};
use crate::domain::time::Timestamp;

/// A golden with that id, of the installation that its marker names; `None`: its id is none that was given out here.
pub(super) fn residue(
    id: String,
    name: String,
    install: Option<InstallId>,
    state: ResidueState,
    (location, read_at): (Location, Timestamp),
) -> Option<Residue> {
    let subject = Subject::Golden(ResidueId::parse(id).ok()?);
    Some(Residue { subject, name, install, uid: None, key: None, state, location, read_at })
}

/// What it is good for, if that configured seed makes it.
pub(super) fn use_of(seed: Option<&SeedName>) -> ResidueState {
    match seed {
        Some(seed) => ResidueState::Used(format!("seed {seed} makes it")),
        None => ResidueState::Unused("no configured seed makes it".to_owned()),
    }
}
