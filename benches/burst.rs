//! Measures how long it takes until many pull requests that are opened at once are all ready, next to what the cloud
//! itself needs; and for a single one, what the controller adds to the critical path. The world is simulated.

use std::time::Duration;

use kagero::domain::policy::Pace;
use kagero::forge::budget::WriteLimits;
use kagero::sim::clock::BEGINNING;
use kagero::sim::cloud::{Quotas, Weather};

use super::simulated::{PACE, Stage, unlimited};

const BURSTS: [u64; 2] = [100, 500];

/// Fixed times, so that what is beyond them is the controller's: the medians that `Weather` names.
const BOOT: Duration = Duration::from_millis(25_800);
const CLONE: Duration = Duration::from_secs(6);
/// RDS, restored from a small snapshot.
const RESTORE: Duration = Duration::from_mins(10);
/// The simulated agent's.
const BUILD: Duration = Duration::from_secs(45);

fn weather(restore: Duration) -> Weather {
    Weather { boot: (BOOT, BOOT), restore: (restore, restore), ..Weather::FAIR }
}

/// Prints the figures of the bursts.
pub fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for size in BURSTS {
        runtime.block_on(burst(size));
    }
}

async fn burst(size: u64) {
    let quotas = Quotas { machines: 1_000, databases: 1_000, ..Quotas::default() };
    let mut stage = Stage::begin(weather(CLONE), quotas, PACE, WriteLimits::default()).await;
    (1..=size).for_each(|pr| stage.push(pr));
    let took = stage.until_ready(usize::try_from(size).unwrap(), Duration::from_hours(2)).await;
    // The last launch cannot be made before the bucket has been refilled often enough; its life follows.
    let (held, refill) = quotas.launches;
    let bucket = Duration::from_secs_f64((size as f64 - f64::from(held)).max(0.0) / f64::from(refill));
    let least = bucket + BOOT.max(CLONE) + BUILD;
    let over = (took.as_secs_f64() / least.as_secs_f64() - 1.0) * 100.0;
    let calls = stage.calls();
    let last = stage.cloud.journal().into_iter().rfind(|entry| entry.kind == "launch" && entry.refused.is_none());
    let verdict = if over <= 10.0 { "met" } else { "missed" };
    println!(
        "burst    {size:>3} pull requests: all ready after {:.1} s, the least is {:.1} s (bucket {:.1} s, boot {:.1} s, build {:.0} s): \
         {over:+.1} % (goal ≤ 10 %: {verdict})",
        took.as_secs_f64(),
        least.as_secs_f64(),
        bucket.as_secs_f64(),
        BOOT.as_secs_f64(),
        BUILD.as_secs_f64(),
    );
    println!(
        "burst    {size:>3} pull requests: {} launches asked for, the last made after {:.1} s, {} listings of {} pages, \
         {} reads of GitHub",
        calls.launches,
        last.map_or(0.0, |entry| entry.at.since(BEGINNING).as_secs_f64()),
        calls.listings,
        calls.pages,
        calls.github_reads
    );
}

/// Prints what the controller adds to one environment.
pub fn overhead() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let second = Duration::from_secs(1);
    runtime.block_on(single("cloned in 6 s", CLONE, Duration::from_millis(100), 20));
    runtime.block_on(single("cloned in 6 s", CLONE, second, 20));
    runtime.block_on(single("restored in 10 min", RESTORE, second, 5));
}

async fn single(database: &str, restore: Duration, busy: Duration, rounds: usize) {
    let mut overheads = Vec::new();
    let (quotas, writes) = unlimited();
    let mut stage = Stage::begin(weather(restore), quotas, Pace { busy, ..PACE }, writes).await;
    let own = BOOT.max(restore) + BUILD;
    for pr in 1..=rounds as u64 {
        // Not in step with any pace.
        stage.pass_time(Duration::from_millis(60_000 + pr * 37)).await;
        let opened = stage.time.elapsed();
        stage.push(pr);
        let ready = stage.until_ready(usize::try_from(pr).unwrap(), Duration::from_hours(1)).await;
        overheads.push(ready.saturating_sub(opened + own));
    }
    overheads.sort_unstable();
    let whole = |overhead: Duration| overhead.as_secs_f64() / (own + overhead).as_secs_f64() * 100.0;
    let (median, slowest) = (overheads[rounds / 2], overheads[rounds - 1]);
    let verdict = if whole(median) <= 3.0 { "met" } else { "missed" };
    println!(
        "overhead database {database}, pace.busy {busy:?}: {:.2} s of {:.2} s, {:.2} % (slowest of {rounds}: {:.2} %; goal ≤ 3 %: {verdict})",
        median.as_secs_f64(),
        (own + median).as_secs_f64(),
        whole(median),
        whole(slowest),
    );
}
