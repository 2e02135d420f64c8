//! What this App has said on GitHub, as it is found there again.
//!
//! Guarantees: a text whose first line is not exactly our marker names no environment.
//! Must not know: how GitHub is asked, what follows.

use super::id::{CommitSha, EnvUid, PrNumber};
use super::time::Timestamp;

/// What every one of our comments begins with, of whichever installation.
pub const BEGINNING: &str = "<!-- kagero:";

const END: &str = " -->";

/// A comment that this App wrote and that begins with [`BEGINNING`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// GitHub's id.
    pub id: u64,
    /// The pull request that it stands on.
    pub pr: PrNumber,
    /// Its text, or the beginning of it.
    pub text: String,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A deployment that this App made in the shared environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// GitHub's id.
    pub id: u64,
    /// What identifies our environment.
    pub payload: String,
    /// The commit.
    pub sha: CommitSha,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The hidden first line by which our comment is found again.
pub fn marker(uid: &EnvUid) -> String {
    format!("{BEGINNING}{uid}{END}")
}

/// The environment that a comment's first line names.
pub fn uid_in(text: &str) -> Option<EnvUid> {
    let uid = text.lines().next()?.strip_prefix(BEGINNING)?.strip_suffix(END)?;
    EnvUid::parse(uid).ok()
}

/// Whether a deployment with that status is over: nobody is told that anything runs.
pub fn is_over(state: Option<&str>) -> bool {
    matches!(state, Some("inactive" | "failure" | "error"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_read_back_and_nothing_else_is() {
        let uid = EnvUid::parse("a".repeat(20)).unwrap();
        assert_eq!(uid_in(&format!("{}\n### ready\n", marker(&uid))), Some(uid.clone()));
        let marker = marker(&uid);
        for other in [format!("> {marker}"), format!("{marker} x"), marker.replace('a', "A"), marker.replace(":a", ":")]
        {
            assert_eq!(uid_in(&other), None, "{other}");
        }
        assert_eq!(uid_in(""), None);
    }

    #[test]
    fn a_deployment_without_a_status_is_not_over() {
        assert!(["inactive", "failure", "error"].iter().all(|state| is_over(Some(state))));
        assert!(["success", "queued", "in_progress", "pending"].iter().all(|state| !is_over(Some(state))));
        assert!(!is_over(None));
    }
}
