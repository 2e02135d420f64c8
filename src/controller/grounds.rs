//! Why a pass or a sweep acts, for the journal: what is wanted and why, of which commit, after which delivery.
//!
//! Guarantees: every row that announces a call carries it.
//! Must not know: the calls.

use serde_json::{Map, Value, json};

use super::decide::Known;
use super::ports::World;
use crate::domain::desired::Desired;
use crate::domain::id::{CommitSha, EnvKey};
use crate::domain::owned::Owned;
use crate::report::explain;
use crate::store::StoreError;

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Grounds {
    reason: String,
    commit: Option<CommitSha>,
    delivery: Option<String>,
}

impl Grounds {
    /// What is known when a pass begins to act. The delivery is the newest about the pull request that was looked into:
    /// what a resync, a timer or a person has led to carries the last one before it.
    pub(super) async fn of(world: &World, known: &Known, want: &Desired) -> Result<Self, StoreError> {
        Ok(Self {
            reason: explain::wanted(want),
            commit: known.pull.as_ref().map(|pull| pull.head_sha.clone()),
            delivery: world.store.touched_by(known.key).await?,
        })
    }

    /// Of the sweep's: what was found, of a pull request as it was last known.
    pub(super) async fn of_leftover(world: &World, key: EnvKey, why: &str) -> Result<Self, StoreError> {
        Ok(Self {
            reason: why.to_owned(),
            commit: world.store.pull(key).await?.map(|pull| pull.head_sha),
            delivery: world.store.touched_by(key).await?,
        })
    }

    /// What a row says: what is asked for, and why. What is asked for may name a commit of its own.
    pub(super) fn entry(&self, asked: Value) -> Value {
        let mut entry = Map::new();
        entry.insert("reason".to_owned(), json!(self.reason));
        entry.insert("commit".to_owned(), json!(self.commit));
        entry.insert("delivery".to_owned(), json!(self.delivery));
        if let Value::Object(asked) = asked {
            entry.extend(asked);
        }
        Value::Object(entry)
    }
}

/// What shows that something is ours to destroy: what it says of itself, and when that was read.
pub(super) fn evidence<T>(owned: &Owned<T>) -> Value {
    json!({"name": owned.name(), "tags": owned.tags(), "read_at": owned.read_at()})
}
