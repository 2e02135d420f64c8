//! Whose a container, a network or an image is.
//!
//! Guarantees: something is ours only if it carries every label of ours with our value; a name is never evidence.
//! Must not know: how things are listed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::assignment::TaskDigest;
use crate::domain::id::{EnvUid, Generation, InstallId};

const INSTALL: &str = "kagero.install";
const UID: &str = "kagero.uid";
const GENERATION: &str = "kagero.generation";
const MACHINE: &str = "kagero.machine";
const RELEASE: &str = "kagero.release";

/// The machine that things are made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    /// The installation, where the agent was told.
    pub install: Option<InstallId>,
    /// The environment.
    pub uid: EnvUid,
    /// Its generation.
    pub generation: Generation,
    /// The machine's directory.
    pub machine: PathBuf,
}

impl Owner {
    /// The labels that a release's things are born with.
    pub(super) fn labels(&self, release: &TaskDigest) -> HashMap<String, String> {
        let mut labels = self.own();
        labels.insert(RELEASE.to_owned(), release.0.clone());
        labels
    }

    fn own(&self) -> HashMap<String, String> {
        HashMap::from([
            (INSTALL.to_owned(), self.install.as_ref().map(ToString::to_string).unwrap_or_default()),
            (UID.to_owned(), self.uid.to_string()),
            (GENERATION.to_owned(), self.generation.0.to_string()),
            (MACHINE.to_owned(), text(&self.machine)),
        ])
    }

    /// Narrows a listing. What it gives is still held against [`Owner::owns`].
    pub(super) fn filter(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{MACHINE}={}", text(&self.machine))])])
    }

    /// Whether something with these labels is ours, and of the release if one is asked for.
    pub(super) fn owns(&self, labels: &HashMap<String, String>, release: Option<&TaskDigest>) -> bool {
        self.own().iter().all(|(label, value)| labels.get(label) == Some(value))
            && labels.get(RELEASE).is_some_and(|found| release.is_none_or(|release| *found == release.0))
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_carries_every_label_is_ours() {
        let owner = Owner {
            install: Some(InstallId::parse("test").unwrap()),
            uid: EnvUid::parse("a".repeat(20)).unwrap(),
            generation: Generation(2),
            machine: PathBuf::from("/state/environments/one"),
        };
        let release = TaskDigest("r".to_owned());
        let labels = owner.labels(&release);
        assert!(owner.owns(&labels, None) && owner.owns(&labels, Some(&release)));
        assert!(!owner.owns(&labels, Some(&TaskDigest("s".to_owned()))));
        for label in [INSTALL, UID, GENERATION, MACHINE, RELEASE] {
            let mut missing = labels.clone();
            missing.remove(label);
            assert!(!owner.owns(&missing, None), "without {label}");
            let mut other = labels.clone();
            other.insert(label.to_owned(), "other".to_owned());
            assert_eq!(owner.owns(&other, None), label == RELEASE, "with another {label}");
        }
        assert!(!owner.owns(&HashMap::new(), None));
    }
}
