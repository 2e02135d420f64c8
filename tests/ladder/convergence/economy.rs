//! What environments cost, at rest and in their lives, and what a sweep does: calls grow with pages, not with environments (I28).

#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kagero::controller::sweep::Scope;
use kagero::plan::sweep::Ruling;
use kagero::sim::fate::Call;
use kagero::sim::hub::key;

use super::member::Outside;
use super::story::Event;
use super::sweep::{nobodys, sweep};
use super::world::{Beginning, Installation, REPO};

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

/// What is asked of cloud and GitHub in the three sweeps after which many machines of nobody are gone. `make bench-aws` plays
/// it with ten thousand: moto is too slow for so many.
#[tokio::test]
async fn a_sweep_lists_each_kind_once_and_takes_each_machine_away_once() {
    let orphans: u64 = std::env::var("KAGERO_SIMULATED").map_or(300, |text| text.parse().unwrap());
    let installation = nobodys(29, orphans).await;
    let Outside { hub, dealer, time, cloud, .. } = &installation.outside;
    let most = Scope::Apply(Some(u32::try_from(orphans).unwrap()));
    for number in 1..=3 {
        let (listed, reads, began) = (cloud.listed(), hub.reads(), Instant::now());
        let report = sweep(&installation, most).await;
        let ruling = if number == 3 { Ruling::Removed } else { Ruling::Wait };
        assert!(report.verdicts.iter().all(|verdict| verdict.ruling == ruling), "sweep {number}");
        println!(
            "swept    {orphans} simulated machines, sweep {number}: {} listings of {} pages, {} reads of GitHub, {:.1} s",
            cloud.listed().0 - listed.0,
            cloud.listed().1 - listed.1,
            hub.reads() - reads,
            began.elapsed().as_secs_f64()
        );
        time.advance_to(HOUR * 12 * number);
    }
    let seen =
        [Call::ListMachines, Call::ListDatabases, Call::ListInterfaces, Call::Terminate].map(|call| dealer.seen(call));
    assert_eq!(seen, [4, 3, 0, orphans], "machines are listed anew before they go");
    // Each pull request once, before its machine goes, and what was said in the repository, twice a sweep.
    assert_eq!(hub.reads(), orphans + 3 * 2);
    installation.end().await;
}

/// The steps of an environment that comes and goes, as the journal has them.
#[tokio::test]
async fn an_environment_comes_and_goes_in_as_few_steps_as_there_are_things_to_do() {
    let mut installation = Installation::begin(Beginning::fair(30)).await;
    for (at, event) in [(1, Event::Push { pr: 1, broken: false }), (2, Event::Close { pr: 1, merged: true })] {
        installation.happen(at, event).await;
        installation.pass_time(HOUR).await.unwrap();
    }
    let journal = installation.outside.store.journal(key(REPO, 1), 100).await.unwrap();
    let mut steps = BTreeMap::<&str, usize>::new();
    for row in &journal {
        *steps.entry(&row.kind).or_default() += 1;
    }
    println!("steps    {} of one environment's life: {steps:?}", journal.len());
    let made = [("launch-machine", 1), ("prepare-database", 1), ("assign", 1)];
    let gone = [("terminate", 1), ("drop-database", 1)];
    let said = [("comment", 4), ("create-deployment", 1), ("set-deployment", 3)];
    assert_eq!(steps, made.into_iter().chain(gone).chain(said).collect());
    installation.end().await;
}
