//! The guards of deletion, by name.
//!
//! A guard that refuses says so in the value that it returns; whoever acts counts it. A guard that was never seen to
//! refuse proves nothing: `convergence::guards` has a scenario for each.

use serde::{Deserialize, Serialize};

macro_rules! guards {
    ($($(#[$doc:meta])+ $name:ident: $word:literal,)+) => {
        /// What has kept something from being taken away.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Guard { $($(#[$doc])+ $name,)+ }

        impl Guard {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name in metrics.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
        }
    };
}

guards! {
    // The proof of ownership (`domain::owned`), one for each refusal.
    /// It carries no tags.
    Untagged: "untagged",
    /// It is another installation's.
    OtherInstall: "other_install",
    /// It is another environment's.
    OtherEnvironment: "other_environment",
    /// It is of a generation that the record has not reached.
    FutureGeneration: "future_generation",
    /// Its name lacks our prefix.
    Name: "name",
    /// It is where we may not act.
    Place: "place",
    /// The description of it is too old.
    StaleEvidence: "stale_evidence",
    /// A record claims what looked like an orphan.
    Claimed: "claimed",
    /// Something uses what is no environment's.
    InUse: "in_use",
    /// The mark is not on this.
    Unmarked: "unmarked",
    /// The mark is too young.
    YoungMark: "young_mark",

    // Brakes (`plan::brake`).
    /// Everything is paused.
    Pause: "pause",
    /// It is held.
    Hold: "hold",
    /// A person has frozen removals.
    Freeze: "freeze",
    /// A guard has frozen removals.
    FrozenByGuard: "frozen_by_guard",
    /// More environments leave within an hour than looks right.
    ManyLeave: "many_leave",

    // What is not known (`plan::desired`, `plan::teardown`).
    /// The listing is not known or not complete.
    UnknownListing: "unknown_listing",
    /// The database's machine is still there.
    MachineFirst: "machine_first",
    /// The pull request or its configuration has not been read.
    Unread: "unread",
    /// The configuration has errors.
    BrokenConfig: "broken_config",
    /// The repository was taken off the list.
    Delisted: "delisted",
    /// A fork's newest commit has not been approved.
    Unapproved: "unapproved",
    /// The configuration asks for what is not set up.
    Unservable: "unservable",
    /// GitHub showed an older state than the one that is known.
    OlderState: "older_state",

    // A sweep as a whole (`plan::sweep`).
    /// The allow-list was emptied.
    EmptyAllowList: "empty_allow_list",
    /// Nothing can be listed.
    NothingListed: "nothing_listed",
    /// Everything of ours is where we may not act.
    Elsewhere: "elsewhere",
    /// The listing is far too small.
    Shrunk: "shrunk",
    /// A sweep would take too much.
    ManySwept: "many_swept",

    // One thing in a sweep (`plan::sweep`, `controller::sweep`).
    /// The orphan's pull request is open.
    OpenPull: "open_pull",
    /// The orphan's pull request could not be read.
    UnreadPull: "unread_pull",
    /// The listing that shows an orphan was not complete.
    PartialSweep: "partial_sweep",
    /// Whether a machine uses the orphaned database is not known.
    UnknownMachines: "unknown_machines",
    /// The orphaned database's machine is still there.
    HousedOrphan: "housed_orphan",
    /// The orphan was not there any more when it was looked at again.
    Vanished: "vanished",

    // Several replicas (`store::leases`).
    /// Somebody else works on the environment.
    LeaseTaken: "lease_taken",
    /// The lease was lost while something was done under it.
    Fence: "fence",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_guard_has_a_name_of_its_own() {
        let words: BTreeSet<&str> = Guard::ALL.iter().map(|guard| guard.word()).collect();
        assert_eq!(words.len(), Guard::ALL.len());
        for guard in Guard::ALL {
            assert_eq!(serde_json::to_value(guard).unwrap(), guard.word());
        }
    }
}
