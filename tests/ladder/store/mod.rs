//! The store and the webhook endpoint in front of it, on real files, real servers, real processes and real sockets.
//!
//! What both databases must do is tested on both: [`Place::both`].

mod arbitrary;
mod fence;
mod inbox;
mod intake;
mod outage;
mod paused;
mod place;
mod process;
mod replicas;
mod rows;
mod schema;
mod sweep;

use std::time::Duration;

use kagero::domain::id::{EnvKey, EnvUid, Generation, HostLabel, InstallId, PrNumber, RepoId};
use kagero::domain::ledger::{Host, Ledger, Said, Standing};
use kagero::domain::time::Timestamp;
use kagero::store::{Lease, Store};

pub use place::Place;

const TTL: Duration = Duration::from_mins(1);
const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn key(pr: u64) -> EnvKey {
    EnvKey { repo: RepoId(42), pr: PrNumber(pr) }
}

fn url(directory: &std::path::Path) -> String {
    format!("sqlite:{}", directory.join("kagero.db").display())
}

async fn lease(store: &Store, key: EnvKey) -> Lease {
    store.acquire(key, "one", TTL, NOW).await.unwrap().unwrap()
}

/// A record of an environment that lives.
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
