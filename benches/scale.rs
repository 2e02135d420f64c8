//! Measures what many environments cost: at rest, and while some of them get a new commit. The world is simulated (see
//! `simulated`); each size runs in a process of its own. A tick is a simulated minute.

use std::process::Command;
use std::time::{Duration, Instant};

use kagero::domain::policy::Pace;
use kagero::sim::cloud::Weather;

use super::simulated::{Calls, PACE, Stage, cpu_seconds, percentile, resident_mb, unlimited};

/// Names the child's role among the arguments.
pub const CHILD: &str = "environments-at-scale";

/// How many environments there are, and how many of them change.
const SIZES: [(u64, u64); 4] = [(0, 0), (1_000, 0), (10_000, 0), (10_000, 2_000)];

/// Pull requests opened at once at the beginning, and how long they have to become ready.
const BATCH: (u64, Duration) = (1_000, Duration::from_mins(16));

const WATCHED: Duration = Duration::from_mins(15);

/// Prints the figures.
pub fn run() {
    let sizes = match std::env::var("KAGERO_SCALE") {
        Ok(size) => vec![(size.parse().unwrap(), 0), (size.parse().unwrap(), size.parse::<u64>().unwrap() / 5)],
        Err(_) => SIZES.to_vec(),
    };
    println!(
        "scale    environments  changing | a minute: cloud listings  pages | GitHub reads  writes | agents  passes"
    );
    for (size, changing) in sizes {
        let program = std::env::current_exe().unwrap();
        let child = Command::new(program).args([CHILD, &size.to_string(), &changing.to_string()]).output().unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        print!("{}", String::from_utf8_lossy(&child.stdout));
    }
}

/// The child: brings that many environments to rest and watches them.
pub fn child(size: &str, changing: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(watch(size.parse().unwrap(), changing.parse().unwrap()));
}

async fn watch(size: u64, changing: u64) {
    let (quotas, writes) = unlimited();
    let asleep = Pace { idle: Duration::from_hours(1_000), ..PACE };
    let mut stage = Stage::begin(Weather::FAIR, quotas, asleep, writes).await;
    let empty = resident_mb();
    let (batch, patience) = BATCH;
    for first in (1..=size).step_by(usize::try_from(batch).unwrap()) {
        (first..=size.min(first + batch - 1)).for_each(|pr| stage.push(pr));
        stage.pass_time(patience).await;
        stage.forget();
    }
    let ready = stage.until_ready(usize::try_from(size).unwrap(), Duration::ZERO).await;
    let world = stage.engine.world();
    let mut policy = (*world.policy.load_full()).clone();
    policy.pace = PACE;
    world.policy.store(policy.into());
    // Spread over the pace, as they are after a while.
    for (number, key) in stage.keys().into_iter().enumerate() {
        let every = usize::try_from(size / 150 + 1).unwrap();
        if number.is_multiple_of(every) {
            stage.pass_time(Duration::from_millis(100)).await;
        }
        stage.engine.wake(key);
    }
    stage.pass_time(Duration::from_mins(2)).await;
    drop(std::mem::take(&mut stage.passes));
    let (calls, cpu, wall) = (stage.calls(), cpu_seconds(), Instant::now());
    // The changes come one after the other during the first two thirds of the time.
    let between = (WATCHED * 2 / 3).checked_div(u32::try_from(changing).unwrap()).unwrap_or_default();
    for pr in 1..=changing {
        stage.push(pr);
        stage.pass_time(between).await;
    }
    stage.pass_time(WATCHED.saturating_sub(between * u32::try_from(changing).unwrap())).await;
    let (cpu, wall) = (cpu_seconds() - cpu, wall.elapsed());
    tell(size, changing, stage.calls().since(calls), stage.passes.len());
    let share = cpu / WATCHED.as_secs_f64() * 100.0;
    let (p50, p99) = (percentile(&mut stage.passes, 50), percentile(&mut stage.passes, 99));
    println!(
        "scale    {share:.1} % of one core ({cpu:.1} s in {wall:.1?} for {WATCHED:?}), pass p50 {p50:.2?}, p99 {p99:.2?}, \
         resident {} MB ({empty} MB when empty), ready by {ready:.0?}",
        resident_mb()
    );
}

fn tell(size: u64, changing: u64, calls: Calls, passes: usize) {
    let minutes = WATCHED.as_secs_f64() / 60.0;
    let each = |count: u64| format!("{:.1}", count as f64 / minutes);
    println!(
        "scale    {size:>12}  {changing:>8} | {:>23}  {:>5} | {:>12}  {:>6} | {:>6}  {:>6}",
        each(calls.listings),
        each(calls.pages),
        each(calls.github_reads),
        each(calls.github_writes),
        each(calls.agents),
        each(passes as u64),
    );
}
