//! What needs to look behind the methods: damaged rows, a full disk, half-done transactions. Everything else is
//! tested from outside, in `tests/ladder/store`, on both databases.

mod damage;
mod schema;

use std::time::Duration;

use super::{Lease, Store};
use crate::domain::id::{EnvKey, EnvUid, Generation, HostLabel, InstallId, PrNumber, RepoId};
use crate::domain::ledger::{Host, Ledger, Said, Standing};
use crate::domain::time::Timestamp;

const TTL: Duration = Duration::from_mins(1);
const NOW: Timestamp = Timestamp(1_000_000);

fn key(pr: u64) -> EnvKey {
    EnvKey { repo: RepoId(42), pr: PrNumber(pr) }
}

fn ledger(pr: u64, generation: u32) -> Ledger {
    Ledger {
        key: key(pr),
        uid: EnvUid::derive(&InstallId::parse("test").unwrap(), key(pr)),
        generation: Generation(generation),
        hosts: vec![Host { label: HostLabel::derive("shop", key(pr), None), service: None }],
        enrolled_at: NOW,
        standing: Standing::Live,
        slot: None,
        left: None,
        intents: Vec::new(),
        proven: None,
        said: Said::default(),
    }
}

async fn open(directory: &tempfile::TempDir) -> Store {
    Store::open(&url(directory)).await.unwrap()
}

fn url(directory: &tempfile::TempDir) -> String {
    format!("sqlite:{}", directory.path().join("state/kagero.db").display())
}

async fn lease(store: &Store, pr: u64) -> Lease {
    store.acquire(key(pr), "one", TTL, NOW).await.unwrap().unwrap()
}
