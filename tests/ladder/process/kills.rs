//! The controller killed again and again over a stream of pull requests' events: what is left at the end, and what is
//! there twice.
//!
//! `make kills` plays the long form. The seed is printed; `KAGERO_KILLS_SEED` plays the same events again, though not
//! at the same instants.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kagero::sim::github::FileChange;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::rig::{ACTOR, PATIENCE, Rig, Setup};
use crate::store::Place;
use crate::wait::eventually;

/// Kills of the short form.
const KILLS: u32 = 12;

/// Pull requests that are opened, and those open at once.
const PULLS: usize = 6;
const OPEN: usize = 3;

/// How long after an event a kill comes at the latest, in milliseconds: from before a start has ended to when all is at
/// rest again.
const LATEST: u64 = 2_500;

#[tokio::test]
async fn kills_over_a_stream_of_events_leave_nothing_and_double_nothing() {
    survive(Setup::sqlite(), "SQLite").await;
}

#[tokio::test]
async fn kills_over_a_stream_of_events_leave_nothing_and_double_nothing_on_postgresql() {
    let place = Place::postgres().await;
    survive(Setup::postgres().with_store(&place.url), "PostgreSQL").await;
    assert_eq!(
        place.number("SELECT COUNT(*) FROM leases WHERE holder IS NOT NULL").await,
        0,
        "a lease was never given back"
    );
}

/// A number from the environment.
fn number<N: std::str::FromStr>(name: &str) -> Option<N> {
    std::env::var(name).ok().map(|text| text.parse().ok().unwrap_or_else(|| panic!("{name}={text} is no number")))
}

#[expect(clippy::print_stdout, reason = "the result of the long form, and the seed where it fails")]
async fn survive(setup: Setup, store: &str) {
    let kills = number("KAGERO_KILLS").unwrap_or(KILLS);
    let seed = number("KAGERO_KILLS_SEED").unwrap_or(u64::from(std::process::id()));
    println!("{store}: {kills} kills, seed {seed}");
    let began = Instant::now();
    // A clone that a kill breaks off is an attempt that failed; as many as there are kills may fall into one's clones.
    let mut rig = Rig::start(setup.with_attempts(kills.saturating_add(3))).await;
    let mut stream =
        Stream { random: SmallRng::seed_from_u64(seed), pulls: BTreeMap::new(), happened: BTreeMap::new() };
    for _ in 0..kills {
        stream.happen(&mut rig).await;
        stream.moment(&rig).await;
        rig.kill9_controller();
        assert_no_doubles(&rig.machines());
        if stream.random.random_bool(0.3) {
            stream.happen(&mut rig).await;
        }
        rig.spawn();
    }
    let killed = began.elapsed();

    let (open, closed): (Vec<_>, Vec<_>) = stream.pulls.iter().partition(|(_, open)| **open);
    for (number, _) in &open {
        rig.until_ready(**number).await;
    }
    for (number, _) in &closed {
        rig.until_nothing_is_held(**number).await;
    }
    let (machines, databases) = (rig.machines(), rig.databases().await);
    assert_no_doubles(&machines);
    assert_eq!((machines.len(), databases.len()), (open.len(), open.len()), "{machines:?} {databases:?}");
    eventually("each preview has one service", PATIENCE, async || {
        // The version before ends a moment after the new one is shown.
        let services = rig.processes("python3");
        if services.len() == open.len() { Ok(()) } else { Err(format!("{services:?}")) }
    })
    .await;
    let numbers: Vec<u64> = stream.pulls.keys().copied().collect();
    for number in &numbers {
        if stream.pulls[number] {
            rig.close(*number).await;
        }
    }
    for number in &numbers {
        rig.until_nothing_is_held(*number).await;
        eventually(format!("no route of {number} is left"), PATIENCE, async || {
            let (kind, status, _) = rig.page(*number).await?;
            if [404, 410].contains(&status) { Ok(()) } else { Err(format!("{kind} with {status}")) }
        })
        .await;
    }
    rig.finish().await;
    println!(
        "{store}: {kills} kills, seed {seed}: {:?}; killed for {} s, {} s in all; nothing left, nothing doubled",
        stream.happened,
        killed.as_secs(),
        began.elapsed().as_secs()
    );
}

/// A machine's name tells its environment; the attempt differs where one was doubled.
fn assert_no_doubles(machines: &[String]) {
    let environments: std::collections::BTreeSet<_> =
        machines.iter().map(|machine| machine.rsplit_once("-g").map_or(machine.as_str(), |(of, _)| of)).collect();
    assert_eq!(environments.len(), machines.len(), "doubled: {machines:?}");
}

/// What happens on GitHub, and when.
struct Stream {
    random: SmallRng,
    /// Whether each pull request is open.
    pulls: BTreeMap<u64, bool>,
    happened: BTreeMap<&'static str, u32>,
}

impl Stream {
    /// One event.
    async fn happen(&mut self, rig: &mut Rig) {
        let of = |state: bool| self.pulls.iter().filter(move |(_, open)| **open == state).map(|(number, _)| *number);
        let (open, closed): (Vec<u64>, Vec<u64>) = (of(true).collect(), of(false).collect());
        let mut possible = Vec::new();
        if open.len() < OPEN && self.pulls.len() < PULLS {
            possible.extend(["open"; 2]);
        }
        if open.len() < OPEN && !closed.is_empty() {
            possible.push("reopen");
        }
        if !open.is_empty() {
            possible.extend(["push", "push", "close"]);
        }
        let event = *possible.choose(&mut self.random).unwrap();
        let count = self.happened.entry(event).or_default();
        *count += 1;
        let title = format!("{event} {count}");
        let build = || vec![FileChange::write("build.sh", "sleep 0.3; echo built\n")];
        match event {
            "open" => {
                let number = rig.open(&title, build()).await;
                self.pulls.insert(number, true);
            }
            "push" => {
                rig.push(*open.choose(&mut self.random).unwrap(), &title, build()).await;
            }
            "close" => {
                let number = *open.choose(&mut self.random).unwrap();
                rig.close(number).await;
                self.pulls.insert(number, false);
            }
            _ => {
                let number = *closed.choose(&mut self.random).unwrap();
                rig.github.repo().reopen(number, ACTOR).await.unwrap();
                self.pulls.insert(number, true);
            }
        }
    }

    /// Lets a random time pass, or a random number of the controller's lines, whichever is first.
    async fn moment(&mut self, rig: &Rig) {
        let lines = rig.log().lines().count() + self.random.random_range(1..30);
        let latest = Duration::from_millis(self.random.random_range(0..LATEST));
        let said = eventually("the controller says more", PATIENCE, async || rig.log().lines().count() >= lines);
        // Either is a moment to be killed at.
        let _ = tokio::time::timeout(latest, said).await;
    }
}
