//! Who a database or role belongs to, as text that stands in the server.
//!
//! A database is born with its owner: `CREATE DATABASE … OWNER` names a role whose comment is the marker,
//! committed before. So there is no instant at which a database of ours cannot be attributed. A second
//! marker stands in a table inside the database; a clone is born with its golden's, which says "of this
//! installation, not yet claimed". Dropping needs both.
//!
//! Guarantees: a text that is not exactly a marker is no marker.
//! Must not know: how the text is stored.

use serde::{Deserialize, Serialize};

use crate::domain::id::{InstallId, SeedName};
use crate::domain::observed::Tags;

/// Whom something belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kagero", rename_all = "snake_case", deny_unknown_fields)]
pub enum Marker {
    /// To one environment.
    Environment {
        /// The environment.
        tags: Tags,
        /// The database: roles carry it too, so that those left over can be attributed.
        database: String,
    },
    /// To an installation's goldens.
    Golden {
        /// The installation.
        install: InstallId,
        /// Which seed; `None` on the roles, which all goldens share.
        seed: Option<SeedName>,
    },
}

impl Marker {
    /// The text.
    pub fn to_text(&self) -> String {
        to_json(self)
    }

    /// Reads a text that may or may not be a marker.
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// How far a database is: the comment on it. Absent until its making is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Complete, with roles.
    Ready,
    /// Someone began to drop it.
    Dropping,
}

/// The comment on a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// How far it is.
    pub stage: Stage,
    /// Whom it belongs to.
    pub owner: Marker,
}

impl Sign {
    /// The text.
    pub fn to_text(&self) -> String {
        to_json(self)
    }

    /// Reads a text that may or may not be a sign.
    pub fn from_text(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

fn to_json(value: &impl Serialize) -> String {
    match serde_json::to_string(value) {
        Ok(text) => text,
        Err(error) => unreachable!("a marker holds only text and numbers: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::{EnvKey, EnvUid, Generation, PrNumber, RepoId};

    #[test]
    fn markers_are_read_back_and_nothing_else_is() {
        let install = InstallId::parse("dev").unwrap();
        let key = EnvKey { repo: RepoId(1), pr: PrNumber(2) };
        let uid = EnvUid::derive(&install, key);
        let tags = Tags { install: install.clone(), uid, key, generation: Generation::FIRST };
        let mine = Marker::Environment { tags, database: "kagero_dev_x".to_owned() };
        let golden = Marker::Golden { install, seed: None };
        for marker in [mine.clone(), golden] {
            assert_eq!(Marker::from_text(&marker.to_text()), Some(marker));
        }
        let sign = Sign { stage: Stage::Ready, owner: mine.clone() };
        assert_eq!(Sign::from_text(&sign.to_text()), Some(sign));
        for not in ["", "{}", "shop database", &mine.to_text().replace("\"uid\":\"", "\"uid\":\"x")] {
            assert_eq!(Marker::from_text(not), None, "{not}");
        }
    }
}
