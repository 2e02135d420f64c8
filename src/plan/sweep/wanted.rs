//! Whether a pull request is to have an environment, for whoever may take away what is left of one (I5).

use serde::{Deserialize, Serialize};

use crate::domain::policy::Policy;
use crate::domain::pull::{PullFacts, PullState};

/// Whether a pull request is to have an environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// It is open and has not opted out. Whether it has one now does not matter, nor whether it had one that has expired:
    /// that one's record tells it.
    Yes,
    /// It is not, and why.
    No(String),
    /// It is not known, and why.
    Unknown(String),
}

/// From a reading of the pull request, or from why there is none.
pub fn wanted(pull: Result<&PullFacts, String>, policy: &Policy) -> Wanted {
    let pull = match pull {
        Ok(pull) => pull,
        Err(why) => return Wanted::Unknown(why),
    };
    match pull.state {
        PullState::Closed => return Wanted::No("its pull request is closed".to_owned()),
        PullState::Merged => return Wanted::No("its pull request is merged".to_owned()),
        PullState::Open => {}
    }
    if pull.labels.contains(&policy.labels.off) {
        return Wanted::No(format!("its pull request has opted out with the label {}", policy.labels.off));
    }
    Wanted::Yes
}
