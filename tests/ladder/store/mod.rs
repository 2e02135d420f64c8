//! The store and the webhook endpoint in front of it, on real files, real processes and real sockets.

mod arbitrary;
mod inbox;
mod intake;
mod process;
mod rows;

use std::time::Duration;

use kagero::domain::id::{EnvKey, PrNumber, RepoId};
use kagero::domain::time::Timestamp;
use kagero::store::{Lease, Store};

const TTL: Duration = Duration::from_mins(1);
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn key(pr: u64) -> EnvKey {
    EnvKey { repo: RepoId(42), pr: PrNumber(pr) }
}

fn url(directory: &std::path::Path) -> String {
    format!("sqlite:{}", directory.join("kagero.db").display())
}

async fn open(directory: &tempfile::TempDir) -> Store {
    Store::open(&url(directory.path())).await.unwrap()
}

async fn lease(store: &Store, key: EnvKey) -> Lease {
    store.acquire(key, "one", TTL, NOW).await.unwrap().unwrap()
}
