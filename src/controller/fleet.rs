//! One listing of the whole fleet feeds every pass: calls grow with pages, not with environments.
//!
//! Guarantees: listings of many pages are made less often, so that however many environments change, their calls stay
//! below half of what the provider's bucket is refilled with (I28).
//! Must not know: what follows from a listing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::cloud::{CloudError, Databases, ErrorClass, Machines};
use crate::domain::id::EnvUid;
use crate::domain::network::Occupancy;
use crate::domain::observed::{Database, Listing, Machine, Tags};
use crate::domain::time::Timestamp;

/// A listing that takes longer counts as failed.
const LISTING_TIMEOUT: Duration = Duration::from_secs(20);

/// Items on a page, if every page is as small as RDS makes them.
const PAGE: usize = 100;

/// For every page but the first, that long passes from one listing to the next: ten pages a second are half of what
/// refills the bucket of `Describe*` (EC2 API reference, "Request throttling": 100 and 20 a second).
const EACH_PAGE: Duration = Duration::from_millis(100);

/// What was listed at one time.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The machines, or why they could not be listed.
    pub machines: Result<Roll<Machine>, CloudError>,
    /// The databases, or why they could not be listed.
    pub databases: Result<Roll<Database>, CloudError>,
    /// Which slots have had interfaces, up to this listing; or why that could not be listed.
    pub occupancy: Result<Occupancy, CloudError>,
    /// When the listing began.
    pub at: Timestamp,
}

impl Snapshot {
    /// How long after its beginning the next one may begin.
    fn gap(&self) -> Duration {
        let machines = self.machines.as_ref().map_or(0, |roll| roll.listing.items.len());
        let databases = self.databases.as_ref().map_or(0, |roll| roll.listing.items.len());
        let pages = machines.div_ceil(PAGE).max(databases.div_ceil(PAGE));
        EACH_PAGE.saturating_mul(u32::try_from(pages.saturating_sub(1)).unwrap_or(u32::MAX))
    }
}

/// Something that is listed.
pub trait Item: Clone {
    /// Its name, which contains its environment's uid.
    fn name(&self) -> &str;
    /// What it says of itself.
    fn tags(&self) -> Option<&Tags>;
}

impl Item for Machine {
    fn name(&self) -> &str {
        &self.name
    }

    fn tags(&self) -> Option<&Tags> {
        self.tags.as_ref()
    }
}

impl Item for Database {
    fn name(&self) -> &str {
        &self.name
    }

    fn tags(&self) -> Option<&Tags> {
        self.tags.as_ref()
    }
}

/// A listing in which every environment finds its own without reading the others'.
#[derive(Debug, Clone)]
pub struct Roll<T> {
    /// All of it.
    pub listing: Listing<T>,
    /// Places of those with tags, by their environment.
    tagged: HashMap<EnvUid, Vec<usize>>,
    /// Places of those without.
    untagged: Vec<usize>,
}

impl<T: Item> Roll<T> {
    /// Sorts a listing.
    pub fn new(listing: Listing<T>) -> Self {
        let (mut tagged, mut untagged) = (HashMap::<EnvUid, Vec<usize>>::new(), Vec::new());
        for (place, item) in listing.items.iter().enumerate() {
            match item.tags() {
                Some(tags) => tagged.entry(tags.uid.clone()).or_default().push(place),
                None => untagged.push(place),
            }
        }
        Self { listing, tagged, untagged }
    }

    /// What an environment looks at, in the listing's order: whatever carries its uid, and whatever has it in its name
    /// and no tags. Such a thing is never touched, but must be seen.
    pub fn of(&self, uid: &EnvUid) -> Vec<T> {
        let named = |place: &usize| self.listing.items[*place].name().contains(uid.as_str());
        let nameless = self.untagged.iter().copied().filter(named);
        let mut places: Vec<usize> = self.tagged.get(uid).into_iter().flatten().copied().chain(nameless).collect();
        places.sort_unstable();
        places.into_iter().map(|place| self.listing.items[place].clone()).collect()
    }
}

/// Lists at most as often as its readers need.
pub struct Fleet {
    machines: Arc<dyn Machines>,
    databases: Arc<dyn Databases>,
    clock: Arc<dyn Clock>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    snapshot: Option<Arc<Snapshot>>,
    /// What complete listings of interfaces have shown.
    occupancy: Occupancy,
}

impl Fleet {
    /// A fleet that has not been listed yet.
    pub fn new(machines: Arc<dyn Machines>, databases: Arc<dyn Databases>, clock: Arc<dyn Clock>) -> Self {
        Self { machines, databases, clock, last: Mutex::default() }
    }

    /// A listing that began after `after` and is no older than `tolerance`. Readers that ask at the same
    /// time share one. A large fleet is listed less often than that: its readers share the last one for longer, and
    /// get none if that one began too early.
    pub async fn snapshot(&self, after: Timestamp, tolerance: Duration) -> Option<Arc<Snapshot>> {
        let asked = self.clock.now();
        let mut last = self.last.lock().await;
        let now = self.clock.now();
        if let Some(snapshot) = last.snapshot.as_ref().filter(|snapshot| snapshot.at <= now) {
            let (age, gap) = (now.since(snapshot.at), snapshot.gap());
            // One that began while we waited for our turn is as good as our own.
            if snapshot.at > after && (snapshot.at >= asked || age <= tolerance.max(gap)) {
                return Some(Arc::clone(snapshot));
            }
            if age < gap {
                return None;
            }
        }
        Some(self.list(&mut last, now).await)
    }

    async fn list(&self, last: &mut Last, now: Timestamp) -> Arc<Snapshot> {
        let (machines, databases, interfaces) = tokio::join!(
            in_time("machines", self.machines.list()),
            in_time("databases", self.databases.list()),
            in_time("network interfaces", self.machines.interfaces()),
        );
        let before = last.snapshot.as_ref();
        tell("machines", before.and_then(|before| before.machines.as_ref().err()), machines.as_ref().err());
        tell("databases", before.and_then(|before| before.databases.as_ref().err()), databases.as_ref().err());
        let unlisted = before.and_then(|before| before.occupancy.as_ref().err());
        tell("network interfaces", unlisted, interfaces.as_ref().err());
        let occupancy = interfaces.map(|listing| {
            if listing.complete {
                last.occupancy.note(now, &listing.items);
            }
            last.occupancy.clone()
        });
        let (machines, databases) = (machines.map(Roll::new), databases.map(Roll::new));
        let snapshot = Arc::new(Snapshot { machines, databases, occupancy, at: now });
        last.snapshot = Some(Arc::clone(&snapshot));
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
