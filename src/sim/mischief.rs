//! What the simulated world does to us by itself, counted: a run in which something never happened proves nothing about it.
//! What becomes of our calls is [`super::fate`]'s.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An enumeration that knows all of its kinds.
macro_rules! kinds {
    ($(#[$about:meta])* $name:ident { $(#[doc = $doc:literal] $kind:ident),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $(#[doc = $doc] $kind),+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),+];
        }
    };
}

pub(super) use kinds;

kinds! {
    /// Something that the world does.
    Mischief {
        /// What is new is not shown in a listing yet.
        Invisible,
        /// What is gone is shown still.
        Ghost,
        /// A listing of the cloud's lacks an item, without saying so.
        Lossy,
        /// A listing of the cloud's ends early, and says so.
        Partial,
        /// A database cannot be made.
        NotMade,
        /// A database refuses to go while it is backed up.
        BackingUp,
        /// A network interface outlives its owner.
        Lingering,
        /// A quota is used up.
        Quota,
        /// A zone has no machine to give.
        NoRoom,
        /// What is to go is protected by hand.
        Protected,
        /// A listing of GitHub's is empty.
        EmptyList,
        /// A listing of GitHub's lacks an item.
        LossyList,
        /// A pull request is read as it was before.
        Stale,
        /// GitHub is down.
        Outage,
        /// A delivery is lost.
        LostDelivery,
        /// A delivery is not accepted, and listed as failed.
        FailedDelivery,
        /// A delivery comes again under another guid.
        ReplayedDelivery,
        /// A delivery comes twice.
        DoubledDelivery,
        /// A delivery comes hours late.
        LateDelivery,
    }
}

/// How often each happened. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<Mischief, u64>>>);

impl Tally {
    /// It happened once more.
    pub fn note(&self, mischief: Mischief) {
        *self.lock().entry(mischief).or_default() += 1;
    }

    /// How often each happened so far.
    pub fn counts(&self) -> BTreeMap<Mischief, u64> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Mischief, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
