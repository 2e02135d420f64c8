//! Every call of a whole life, whatever becomes of it; every write of it, when the disk is full.
//!
//! One pull request is opened, pushed to, put to sleep, woken and closed. The first run counts its calls and the
//! rows that it writes; then each of them meets each fate, one run for each.

use std::time::Duration;

use kagero::domain::step::Step;
use kagero::sim::fate::{Call, Fate};

use super::fuse::Fuse;
use super::story::Event;
use super::truth::Violation;
use super::world::{Beginning, Installation};

/// Of no environment's life: goldens are the sweep's, interfaces are listed where there are slots.
const APART: [Call; 3] = [Call::ListGoldens, Call::DropGolden, Call::ListInterfaces];

/// Which call a step makes; `None`: it only writes in the store. A new step does not compile until it stands here.
fn call_of(step: &Step) -> Option<Call> {
    match step {
        Step::FindDeployment { .. } => Some(Call::Read),
        Step::Enroll { .. } | Step::Note { .. } | Step::Retire { .. } | Step::Leave { .. } | Step::Release { .. } => {
            None
        }
        Step::LaunchMachine { .. } => Some(Call::Launch),
        Step::PrepareDatabase { .. } => Some(Call::Prepare),
        Step::Assign { .. } => Some(Call::Assign),
        Step::Probe { .. } => Some(Call::Probe),
        Step::StopMachine { .. } => Some(Call::StopMachine),
        Step::StopDatabase { .. } => Some(Call::StopDatabase),
        Step::Terminate(_) => Some(Call::Terminate),
        Step::DropDatabase(_) => Some(Call::DeleteDatabase),
        Step::Comment { .. } => Some(Call::Comment),
        Step::CreateDeployment { .. } => Some(Call::CreateDeployment),
        Step::SetDeployment { .. } => Some(Call::SetDeployment),
    }
}

/// Reads are many and alike: the first of a kind stand for all.
const READS: u64 = 4;

fn most(call: Call) -> u64 {
    match call {
        Call::ListMachines | Call::ListDatabases | Call::Status | Call::Read => READS,
        _ => u64::MAX,
    }
}

/// One pull request is opened, pushed to, put to sleep, woken and closed.
pub fn life() -> Vec<(Duration, Event)> {
    let minutes = Duration::from_mins;
    vec![
        (Duration::ZERO, Event::Push { pr: 1, broken: false }),
        (minutes(12), Event::Push { pr: 1, broken: false }),
        (minutes(12), Event::Draft { pr: 1, draft: true }),
        (minutes(12), Event::Draft { pr: 1, draft: false }),
        (minutes(12), Event::Close { pr: 1, merged: true }),
    ]
}

const PATIENCE: Duration = Duration::from_mins(45);

async fn live(installation: &mut Installation) -> Result<(), Violation> {
    installation.tell(&life()).await?;
    installation.pass_time(PATIENCE).await?;
    installation.truth.at_rest().await
}

/// One life in which one call meets a fate. Whether there was such a call.
async fn with_fate(call: Call, number: u64, fate: Fate) -> bool {
    let mut installation = Installation::begin(Beginning::fair(1)).await;
    installation.outside.dealer.script(call, number, fate);
    let lived = live(&mut installation).await;
    let was_met = !installation.outside.dealer.dealt().is_empty();
    installation.end().await;
    if let Err(Violation(what)) = lived {
        panic!("{call:?} number {number} met {fate:?}: {what}");
    }
    was_met
}

#[tokio::test]
async fn every_call_may_meet_every_fate() {
    let mut met = 0;
    for call in Call::ALL.iter().copied().filter(|call| !APART.contains(call)) {
        let mut number = 0;
        while number < most(call) {
            let mut any = false;
            for fate in Fate::ALL {
                any |= with_fate(call, number, fate).await;
            }
            if !any {
                break;
            }
            number += 1;
        }
        assert!(number > 0, "a whole life makes no call {call:?}: the matrix proves nothing about it");
        met += number;
    }
    assert!(met > 30, "{met}");
}

/// One life in which the disk is full after that many rows, for a while at whose end the controller is killed.
async fn with_rows(rows: i64) -> bool {
    let mut installation = Installation::begin(Beginning::fair(1)).await;
    let mut fuse = Fuse::put(&installation.file()).await;
    fuse.leave(rows).await;
    let lived = async {
        let mut was_full = false;
        // After each event, and until the end of all.
        let story = life();
        let gaps = story.iter().skip(1).map(|(gap, _)| *gap).chain([PATIENCE]);
        for (number, ((_, event), gap)) in (1..).zip(story.iter().zip(gaps)) {
            installation.happen(number, *event).await;
            installation.pass_time(gap.min(WHILE)).await?;
            if !was_full && fuse.is_full().await {
                was_full = true;
                fuse.make_room().await;
                installation.happen(0, Event::Kill { member: 0 }).await;
            }
            installation.pass_time(gap.saturating_sub(WHILE)).await?;
        }
        was_full |= fuse.is_full().await;
        fuse.make_room().await;
        installation.pass_time(PATIENCE).await?;
        installation.truth.at_rest().await?;
        Ok::<bool, Violation>(was_full)
    }
    .await;
    installation.end().await;
    match lived {
        Ok(was_full) => was_full,
        Err(Violation(what)) => panic!("the disk was full after {rows} rows: {what}"),
    }
}

/// Within which time most of what follows from an event is done.
const WHILE: Duration = Duration::from_mins(4);

/// In how many tests the rows are tried, so that every core has one.
const PARTS: i64 = 4;

async fn every_write(part: i64) {
    let mut rows = part;
    while with_rows(rows).await {
        rows += PARTS;
    }
    assert!(rows > 90, "a life writes only {rows} rows");
}

#[tokio::test]
async fn every_write_may_find_the_disk_full_1() {
    every_write(0).await;
}

#[tokio::test]
async fn every_write_may_find_the_disk_full_2() {
    every_write(1).await;
}

#[tokio::test]
async fn every_write_may_find_the_disk_full_3() {
    every_write(2).await;
}

#[tokio::test]
async fn every_write_may_find_the_disk_full_4() {
    every_write(3).await;
}

#[test]
fn a_step_is_in_the_matrix_or_writes_only_in_the_store() {
    let release = Step::Release { seen_at: kagero::domain::time::Timestamp(0) };
    assert_eq!(call_of(&release), None);
    let comment = Step::Comment { body: String::new(), digest: String::new() };
    assert!(call_of(&comment).is_some_and(|call| !APART.contains(&call)));
}
