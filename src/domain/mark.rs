//! Marks: since when something of ours has been seen to belong to no environment.
//!
//! A sweep takes nothing away that it sees for the first time. It marks, tells, and looks again.

use serde::{Deserialize, Serialize};

use super::id::{DatabaseId, MachineId, ResidueId};
use super::observed::Tags;
use super::time::Timestamp;

/// What is marked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", content = "id", rename_all = "snake_case")]
pub enum Subject {
    /// A machine.
    Machine(MachineId),
    /// A database.
    Database(DatabaseId),
    /// A process outside every machine.
    Process(ResidueId),
    /// A directory among the machines' that is none.
    Directory(ResidueId),
    /// A golden.
    Golden(ResidueId),
    /// A comment on GitHub.
    Comment(ResidueId),
    /// A deployment on GitHub.
    Deployment(ResidueId),
}

impl Subject {
    /// `machine`, `database`, `process`, `directory`, `golden`, `comment` or `deployment`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Machine(_) => "machine",
            Self::Database(_) => "database",
            Self::Process(_) => "process",
            Self::Directory(_) => "directory",
            Self::Golden(_) => "golden",
            Self::Comment(_) => "comment",
            Self::Deployment(_) => "deployment",
        }
    }

    /// The provider's id.
    pub fn id(&self) -> &str {
        match self {
            Self::Machine(id) => id.as_str(),
            Self::Database(id) => id.as_str(),
            Self::Process(id) | Self::Directory(id) | Self::Golden(id) | Self::Comment(id) | Self::Deployment(id) => {
                id.as_str()
            }
        }
    }
}

/// What sweeps have seen of one orphan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What it stands on.
    pub subject: Subject,
    /// Whose it says it is. With other tags it is another thing, and a new mark. `None`: no environment's, and its id
    /// says all of what it is.
    pub tags: Option<Tags>,
    /// The first sweep that saw it.
    pub first_at: Timestamp,
    /// The last sweep that saw it.
    pub last_at: Timestamp,
    /// How many sweeps have seen it.
    pub sightings: u32,
}

impl Mark {
    /// The first mark on something.
    pub fn begin(subject: Subject, tags: impl Into<Option<Tags>>, now: Timestamp) -> Self {
        Self { subject, tags: tags.into(), first_at: now, last_at: now, sightings: 1 }
    }

    /// It was seen once more.
    #[must_use]
    pub fn again(&self, now: Timestamp) -> Self {
        Self { last_at: now, sightings: self.sightings.saturating_add(1), ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_says_what_it_is() {
        let residue = |id: &str| ResidueId::parse(id).unwrap();
        let all = [
            (Subject::Machine(MachineId::parse("i-1").unwrap()), "machine", "i-1"),
            (Subject::Database(DatabaseId::parse("d-1").unwrap()), "database", "d-1"),
            (Subject::Process(residue("process:1")), "process", "process:1"),
            (Subject::Directory(residue("directory:1")), "directory", "directory:1"),
            (Subject::Golden(residue("golden:1")), "golden", "golden:1"),
        ];
        for (subject, kind, id) in all {
            assert_eq!((subject.kind(), subject.id()), (kind, id));
            // As the store keeps it.
            assert_eq!(serde_json::to_value(&subject).unwrap(), serde_json::json!({"kind": kind, "id": id}));
        }
    }
}
