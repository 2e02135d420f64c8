//! Brakes: what people, or a guard, have stopped for a time.
//!
//! Every brake has an end: one that is forgotten must not keep things for ever.

use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::id::EnvKey;
use super::time::Timestamp;

/// What is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrakeKind {
    /// Nothing is taken away.
    Freeze,
    /// Nothing is done at all: neither made, nor changed, nor taken away.
    Pause,
    /// Nothing of one environment is taken away (I6).
    Hold,
}

impl BrakeKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Freeze, Self::Pause, Self::Hold];

    /// One word, as commands and the journal call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Freeze => "freeze",
            Self::Pause => "pause",
            Self::Hold => "hold",
        }
    }

    /// What its end is called.
    pub fn end(self) -> &'static str {
        match self {
            Self::Freeze => "thaw",
            Self::Pause => "resume",
            Self::Hold => "unhold",
        }
    }

    /// From its word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// Who has set a brake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetBy {
    /// A person.
    Operator,
    /// A guard that saw more being taken away than is usual (I3).
    Guard,
}

/// A brake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brake {
    /// What is stopped.
    pub kind: BrakeKind,
    /// For which environment; `None`: for all.
    pub key: Option<EnvKey>,
    /// Why.
    pub reason: String,
    /// By whom.
    pub by: SetBy,
    /// Since when.
    pub at: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

impl Brake {
    /// Whether it still holds.
    pub fn is_on(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// The guard that it is.
    pub fn guard(&self) -> Guard {
        match (self.kind, self.by) {
            (BrakeKind::Pause, _) => Guard::Pause,
            (BrakeKind::Hold, _) => Guard::Hold,
            (BrakeKind::Freeze, SetBy::Operator) => Guard::Freeze,
            (BrakeKind::Freeze, SetBy::Guard) => Guard::FrozenByGuard,
        }
    }

    /// Whether it is about this environment.
    pub fn concerns(&self, key: EnvKey) -> bool {
        self.key.is_none_or(|of| of == key)
    }
}

impl std::fmt::Display for Brake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match (self.kind, self.key) {
            (BrakeKind::Freeze, _) => "removals are frozen",
            (BrakeKind::Pause, None) => "everything is paused",
            (BrakeKind::Pause, Some(_)) => "it is paused",
            (BrakeKind::Hold, _) => "it is held",
        };
        write!(f, "{what} until {}: {}", self.until, self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_brake_has_a_word_to_set_it_and_one_to_end_it() {
        let words = BrakeKind::ALL.map(|kind| (kind.word(), kind.end()));
        assert_eq!(words, [("freeze", "thaw"), ("pause", "resume"), ("hold", "unhold")]);
        for kind in BrakeKind::ALL {
            assert_eq!(BrakeKind::parse(kind.word()), Some(kind));
        }
        assert_eq!(BrakeKind::parse("stop"), None);
    }
}
