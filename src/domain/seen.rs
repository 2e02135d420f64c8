//! Three-valued knowledge of things outside the process.
//!
//! A failed, partial or too-young read is [`Seen::Unknown`], never [`Seen::Absent`]: absence is something
//! to be proven, because destroying and releasing follow from it.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// What is known of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen<T> {
    /// A complete and successful read, with no question of ours younger than the grace window, did not
    /// show it.
    Absent,
    /// Cannot tell.
    Unknown(Doubt),
    /// It was read.
    Present(T),
}

impl<T> Seen<T> {
    /// The value, if it was read.
    pub fn present(&self) -> Option<&T> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }

    /// Whether absence has been proven.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Applies a function to the value, if it was read.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Self::Absent => Seen::Absent,
            Self::Unknown(doubt) => Seen::Unknown(doubt),
            Self::Present(value) => Seen::Present(f(value)),
        }
    }
}

/// Why something cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Nobody has looked yet.
    NotRead,
    /// The read failed; the text says how.
    ReadFailed(String),
    /// It has not answered for some time, while others of its kind do.
    Silent {
        /// Since when.
        since: Timestamp,
        /// How the last read failed.
        how: String,
    },
    /// The listing ended early.
    Partial,
    /// We asked for it so recently that it may not be visible yet.
    TooYoung,
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotRead => f.write_str("not read yet"),
            Self::ReadFailed(how) => write!(f, "could not be read: {how}"),
            Self::Silent { since, how } => write!(f, "silent since {since}: {how}"),
            Self::Partial => f.write_str("the listing was incomplete"),
            Self::TooYoung => f.write_str("asked for too recently to be visible"),
        }
    }
}
