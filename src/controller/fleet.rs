//! One listing of the whole fleet feeds every pass: calls grow with pages, not with environments.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::cloud::{CloudError, Databases, ErrorClass, Machines};
use crate::domain::observed::{Database, Listing, Machine};
use crate::domain::time::Timestamp;

/// A listing that takes longer counts as failed.
const LISTING_TIMEOUT: Duration = Duration::from_secs(20);

/// What was listed at one time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The machines, or why they could not be listed.
    pub machines: Result<Listing<Machine>, CloudError>,
    /// The databases, or why they could not be listed.
    pub databases: Result<Listing<Database>, CloudError>,
    /// When the listing began.
    pub at: Timestamp,
}

/// Lists at most as often as its readers need.
pub struct Fleet {
    machines: Arc<dyn Machines>,
    databases: Arc<dyn Databases>,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<Arc<Snapshot>>>,
}

impl Fleet {
    /// A fleet that has not been listed yet.
    pub fn new(machines: Arc<dyn Machines>, databases: Arc<dyn Databases>, clock: Arc<dyn Clock>) -> Self {
        Self { machines, databases, clock, last: Mutex::new(None) }
    }

    /// A listing that began after `after` and is no older than `tolerance`. Readers that ask at the same
    /// time share one.
    pub async fn snapshot(&self, after: Timestamp, tolerance: Duration) -> Arc<Snapshot> {
        let asked = self.clock.now();
        let mut last = self.last.lock().await;
        let now = self.clock.now();
        if let Some(snapshot) = last.as_ref()
            && snapshot.at > after
            && snapshot.at <= now
            // One that began while we waited for our turn is as good as our own.
            && (snapshot.at >= asked || now.since(snapshot.at) <= tolerance)
        {
            return Arc::clone(snapshot);
        }
        let (machines, databases) =
            tokio::join!(in_time("machines", self.machines.list()), in_time("databases", self.databases.list()));
        let before = last.as_ref();
        tell("machines", before.and_then(|before| before.machines.as_ref().err()), machines.as_ref().err());
        tell("databases", before.and_then(|before| before.databases.as_ref().err()), databases.as_ref().err());
        let snapshot = Arc::new(Snapshot { machines, databases, at: now });
        *last = Some(Arc::clone(&snapshot));
        snapshot
    }
}

/// A listing that begins to fail, and one that succeeds again, are told once and not by every pass.
fn tell(what: &str, before: Option<&CloudError>, error: Option<&CloudError>) {
    match (before, error) {
        (None, Some(error)) => tracing::warn!(
            error = %error,
            "the {what} cannot be listed: nothing is made or taken away until they can; trying again"
        ),
        (Some(_), None) => tracing::info!("the {what} can be listed again"),
        (None, None) | (Some(_), Some(_)) => {}
    }
}

pub(super) async fn in_time<T>(
    what: &str,
    listing: impl Future<Output = Result<Listing<T>, CloudError>>,
) -> Result<Listing<T>, CloudError> {
    tokio::time::timeout(LISTING_TIMEOUT, listing).await.unwrap_or_else(|_| {
        Err(CloudError {
            class: ErrorClass::Retry,
            what: format!("listing the {what}"),
            why: format!("no answer within {} s", LISTING_TIMEOUT.as_secs()),
        })
    })
}
