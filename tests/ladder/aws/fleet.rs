//! Many environments at once: as few calls as there are things to do, on as many pages as there are.

#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

use futures::StreamExt as _;
use kagero::clock::{Clock as _, SystemClock};
use kagero::cloud::{Databases as _, Machines as _};
use kagero::domain::id::{Generation, MachineId};
use kagero::domain::observed::{Database, Machine};
use kagero::domain::owned::{Claim, Owned, prove_machine};

use super::counterpart::{Wish, install};
use super::databases::{Asked, Rds, in_turn, prove};

const FIFTY: u64 = 50;

/// What a whole life costs: two calls to make a machine and a database and two to take them away, a look at each before it
/// goes, and before a database is made a look for it and for its snapshot.
const EACH: [(&str, usize); 5] = [
    ("RunInstances", 1),
    ("RestoreDBInstanceFromDBSnapshot", 1),
    ("TerminateInstances", 1),
    ("DeleteDBInstance", 1),
    ("DescribeDBSnapshots", 1),
];

#[tokio::test]
async fn fifty_environments_come_and_go_with_as_few_calls_as_there_are_things_to_do() {
    let rds = Rds::start().await;
    let (machines, lane, network) = (rds.staging.machines().await, rds.lane().await, rds.staging.network().await);
    let environments: Vec<(Wish, Asked)> =
        futures::future::join_all((1..=FIFTY).map(async |pr| (Wish::of(pr, &network), Asked::of(pr, &rds).await)))
            .await;
    rds.staging.strict.limit_calls();
    let began = rds.staging.strict.counts();
    let made = environments.iter().map(async |(wish, asked)| {
        in_turn(async || machines.launch(wish.birth()).await).await;
        in_turn(async || lane.prepare(asked.birth()).await).await;
    });
    futures::stream::iter(made).buffer_unordered(8).collect::<Vec<()>>().await;

    let before = rds.staging.strict.counts();
    let (running, databases) = (machines.list().await.unwrap(), lane.list().await.unwrap());
    assert!(running.complete && databases.complete);
    assert_eq!((running.items.len(), databases.items.len()), (50, 50));
    let pages = |action: &str| rds.staging.strict.count(action) - before.get(action).copied().unwrap_or_default();
    assert_eq!(pages("DescribeInstances"), 10, "five on a page");
    assert_eq!(pages("DescribeDBInstances"), 3, "twenty on a page");

    let machine_of = |wish: &Wish| running.items.iter().find(|found| found.tags.as_ref() == Some(&wish.tags)).cloned();
    let gone = environments.iter().map(async |(wish, asked)| {
        let machine = Machine { read_at: SystemClock.now(), ..machine_of(wish).unwrap() };
        let database = databases.items.iter().find(|found| found.name == asked.spec.name).cloned().unwrap();
        in_turn(async || machines.terminate(&prove_machine_of(&rds, &machine)).await).await;
        in_turn(async || lane.delete(&prove(&rds, &Database { read_at: SystemClock.now(), ..database.clone() })).await)
            .await;
    });
    futures::stream::iter(gone).buffer_unordered(8).collect::<Vec<()>>().await;
    assert_eq!(machines.list().await.unwrap().items, []);
    assert_eq!(lane.list().await.unwrap().items, []);
    for (action, each) in EACH {
        assert_eq!(rds.staging.strict.count(action), 50 * each, "{action}");
    }
    assert_eq!(rds.staging.strict.throttled(), 0, "our share of the account's buckets was kept");
    let (after, mut all) = (rds.staging.strict.counts(), 0);
    for (action, count) in after.iter().map(|(action, count)| (action, count - began.get(action).unwrap_or(&0))) {
        all += count;
        println!("fleet    {FIFTY} environments made and removed: {count:>4} {action}");
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
    let each = all as f64 / FIFTY as f64;
    println!("fleet    {FIFTY} environments made and removed: {all:>4} calls, {each:.1} for each");
}

pub(super) fn prove_machine_of(rds: &Rds, machine: &Machine) -> Owned<MachineId> {
    let (tags, install) = (machine.tags.clone().unwrap(), install());
    let claim = Claim { install: &install, uid: &tags.uid, generation: Generation::FIRST };
    prove_machine(machine, claim, &rds.allowed()).unwrap()
}
