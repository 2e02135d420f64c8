//! What many environments cost at rest: calls grow with pages, not with environments (I28).

use std::time::Duration;

use super::story::Event;
use super::world::{Beginning, Installation};

const HOUR: Duration = Duration::from_hours(1);

/// Items on a page of a listing.
const PAGE: u64 = 100;

/// Listings of the cloud, pages of them, and questions to GitHub, in an hour in which nothing happens.
async fn cost_of_an_hour(environments: u64) -> (u64, u64, u64) {
    let mut installation = Installation::begin(Beginning { environments: 1_000, ..Beginning::fair(28) }).await;
    // As many as can be told of in one hour.
    for first in (1..=environments).step_by(50) {
        for pr in first..first + 50 {
            installation.happen(pr, Event::Push { pr, broken: false }).await;
        }
        installation.pass_time(HOUR).await.unwrap();
    }
    let proven = installation.outside.store.ledgers().await.unwrap();
    assert!(proven.len() as u64 == environments && proven.iter().all(|ledger| ledger.proven.is_some()));
    let writes = installation.outside.hub.writes().len();
    let count = |installation: &Installation| {
        let (listings, pages) = installation.outside.cloud.listed();
        (listings, pages, installation.outside.hub.reads())
    };
    let before = count(&installation);
    installation.pass_time(HOUR).await.unwrap();
    let after = count(&installation);
    assert_eq!(installation.outside.hub.writes().len(), writes, "something was still to be said");
    installation.end().await;
    (after.0 - before.0, after.1 - before.1, after.2 - before.2)
}

#[tokio::test]
async fn calls_at_rest_grow_with_pages_and_not_with_environments() {
    for environments in [50, 150] {
        let (listings, pages, reads) = cost_of_an_hour(environments).await;
        let each = environments.div_ceil(PAGE);
        // Machines and databases, at most once in a third of `pace.idle`, which is ten minutes.
        assert!((2..=2 * 18).contains(&listings), "{environments} environments: {listings} listings");
        assert_eq!(pages, listings * each, "{environments} environments");
        // Every ten minutes: repositories, pull requests, the configuration of the base branch, failed deliveries.
        // Every hour a sweep: the comments and the deployments of the last two hours, which are one page each.
        assert_eq!(reads, 6 * (3 + each) + 2, "{environments} environments");
    }
}
