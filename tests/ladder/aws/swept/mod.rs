//! The sweep beside Cloud Custodian (`c7n`): two moto servers hold the same machines and databases of environments that nobody
//! knows any more, and decoys that neither may touch. Kagero's sweep, with the real provider and the real store, marks what is
//! nobody's and takes it away once its marks are a day old; Custodian marks by tags (`mark-for-op`) and takes away what is
//! marked (`marked-for-op`). Both see their server through the strict layer, with EC2's buckets in force, and every request
//! is counted there.
//!
//! `make bench-aws` plays the long form (`KAGERO_SWEPT`: how many things).
//!
//! Guarantees: both leave the same; what is compared was measured in one run, each alone.
//! Must not know: how either of them works.

#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

mod custodian;
mod keeper;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_ec2::types::{Instance, Reservation, ResourceType};
use kagero::clock::SystemClock;
use kagero::cloud::aws::{Ec2Machines, RdsSettings};
use kagero::cloud::{Databases as _, Machines as _};
use kagero::controller::sweep::{Outcome, Report, Scope};
use kagero::plan::sweep::Ruling;

use self::custodian::Custodian;
use self::keeper::Keeper;
use super::counterpart::{KIND, Wish, tagged};
use super::databases::{Asked, Rds, tag};

/// Environments that live, with the same tags as those that are gone.
const LIVING: u64 = 5;
/// What others have, of each sort.
const OTHERS: u64 = 3;
/// Pull requests of environments that live begin here.
const FIRST_LIVING: u64 = 10_001;
/// Databases' pull requests come after those of machines.
const FIRST_DATABASE: u64 = 5_001;

/// How much of what is nobody's.
#[derive(Clone, Copy)]
struct Orphans {
    machines: u64,
    databases: u64,
}

impl Orphans {
    fn machines(self) -> impl Iterator<Item = u64> {
        1..=self.machines
    }

    fn databases(self) -> impl Iterator<Item = u64> {
        FIRST_DATABASE..FIRST_DATABASE + self.databases
    }

    fn count(self) -> usize {
        usize::try_from(self.machines + self.databases).unwrap()
    }
}

/// What it took.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    calls: usize,
    /// Of the one that asks, with its start.
    whole: Duration,
    /// From its first call to its last answer.
    calling: Duration,
}

impl Cost {
    fn and(self, other: Self) -> Self {
        Self { calls: self.calls + other.calls, whole: self.whole + other.whole, calling: self.calling + other.calling }
    }
}

/// How many things the long form is played with.
fn long() -> Option<u64> {
    std::env::var("KAGERO_SWEPT").ok().map(|text| text.parse().unwrap())
}

/// An account with that in it.
async fn account(orphans: Orphans) -> Rds {
    let rds = Rds::start().await;
    let network = rds.staging.network().await;
    let living = FIRST_LIVING..FIRST_LIVING + LIVING;
    // Each by a provider of its own, so that its share of the account's calls is not used up.
    for pr in orphans.machines().chain(living.clone()) {
        let (aws, settings) = (rds.staging.aws.clone(), rds.staging.settings());
        let machines = Ec2Machines::new(aws, settings, network.clone(), Arc::new(SystemClock));
        machines.launch(Wish::of(pr, &network).birth()).await.unwrap();
    }
    for pr in orphans.databases().chain(living) {
        let asked = Asked::in_network(pr, &network);
        let lane = rds.lane_by(network.clone(), RdsSettings::PAGE, Arc::new(SystemClock));
        lane.prepare(asked.birth()).await.unwrap();
        // As one that slept when its record was lost: nobody tries to settle it.
        let identifier = asked.spec.name.replace('_', "-");
        rds.raw.stop_db_instance().db_instance_identifier(identifier).send().await.unwrap();
    }
    for number in 1..=OTHERS {
        for (name, tags) in decoys(number) {
            add_decoy(&rds, &name, &tags).await;
        }
    }
    rds.staging.strict.limit_calls();
    rds
}

type Tags = Vec<(&'static str, String)>;

/// What looks a little like ours: somebody else's, another installation's, and what only bears the installation's tag.
fn decoys(number: u64) -> [(String, Tags); 3] {
    let uid = format!("{number:020x}");
    let another = vec![
        ("kagero:managed", "true".to_owned()),
        ("kagero:install", "other".to_owned()),
        ("kagero:uid", uid.clone()),
        ("kagero:key", format!("1/{number}")),
        ("kagero:generation", "1".to_owned()),
    ];
    [
        (format!("reports-{number}"), vec![("team", "reports".to_owned())]),
        (format!("kagero-other-{uid}-g1"), another),
        (format!("bastion-{number}"), vec![("kagero:install", "dev".to_owned())]),
    ]
}

/// A machine in our network, and a database.
async fn add_decoy(rds: &Rds, name: &str, tags: &Tags) {
    let pairs = tags.iter().map(|(key, value)| (*key, value.as_str())).chain([("Name", name)]);
    let pairs = pairs.map(|(key, value)| aws_sdk_ec2::types::Tag::builder().key(key).value(value).build()).collect();
    let mut specification = tagged(ResourceType::Instance, &[]);
    specification.tags = Some(pairs);
    let subnets = rds.staging.ec2.describe_subnets().send().await.unwrap();
    let subnet = subnets.subnets().iter().find(|subnet| subnet.vpc_id() == Some(&rds.staging.vpc)).unwrap();
    let request = rds.staging.ec2.run_instances().image_id(&rds.staging.ami).instance_type(KIND.into());
    let request = request.subnet_id(subnet.subnet_id().unwrap()).min_count(1).max_count(1);
    request.tag_specifications(specification).send().await.unwrap();
    let request = rds.raw.create_db_instance().db_instance_identifier(name).db_instance_class("db.t4g.micro");
    let request = request.engine("postgres").allocated_storage(20).db_subnet_group_name("kagero-dev");
    let request = request.master_username("x").master_user_password("a password of others");
    let tags = tags.iter().map(|(key, value)| tag(key, value)).collect();
    request.set_tags(Some(tags)).send().await.unwrap();
}

/// The names of all that is there.
async fn survivors(rds: &Rds) -> BTreeSet<String> {
    let databases = rds.raw.describe_db_instances().into_paginator().items().send();
    let databases: Vec<_> = databases.try_collect().await.unwrap();
    let databases = databases.into_iter().map(|one| format!("database {}", one.db_instance_identifier.unwrap()));
    let reservations = rds.staging.ec2.describe_instances().into_paginator().items().send();
    let reservations: Vec<Reservation> = reservations.try_collect().await.unwrap();
    let instances = reservations.iter().flat_map(Reservation::instances);
    let living = instances.filter(|one| one.state().unwrap().name().unwrap().as_str() != "terminated");
    let name = |one: &Instance| {
        let name = one.tags().iter().find(|tag| tag.key() == Some("Name")).unwrap();
        format!("machine {}", name.value().unwrap())
    };
    living.map(name).chain(databases).collect()
}

/// What that took, seen from the strict layer.
async fn costing<T>(rds: &Rds, work: impl Future<Output = T>) -> (T, Cost) {
    rds.staging.strict.watch();
    let began = Instant::now();
    let done = work.await;
    let whole = began.elapsed();
    let (calls, calling) = rds.staging.strict.watched();
    (done, Cost { calls, whole, calling })
}

fn count(report: &Report, ruling: Ruling) -> usize {
    report.verdicts.iter().filter(|verdict| verdict.ruling == ruling).count()
}

/// Three sweeps over a day: what it takes before a mark is believed.
async fn by_kagero(rds: &Rds, orphans: Orphans) -> Cost {
    let keeper = Keeper::of(rds, orphans, LIVING).await;
    let scope = Scope::Apply(Some(u32::try_from(orphans.count()).unwrap()));
    let strict = &rds.staging.strict;
    let listings = ["DescribeDBInstances", "DescribeDBClusters", "DescribeNetworkInterfaces"];
    let before = listings.map(|action| strict.count(action));
    let mut all = Cost::default();
    for number in 1..=3 {
        let (report, cost) = costing(rds, keeper.desk.sweep(scope)).await;
        let report = report.unwrap();
        assert_eq!((&report.outcome, &report.doubts[..]), (&Outcome::Found, &[][..]));
        let found = (count(&report, Ruling::Wait), count(&report, Ruling::Removed));
        let first = report.verdicts.iter().find(|verdict| verdict.ruling != Ruling::Keep);
        let wanted = if number < 3 { (orphans.count(), 0) } else { (0, orphans.count()) };
        assert_eq!(found, wanted, "sweep {number}: {first:?}");
        println!("swept    Kagero's sweep {number}: {} calls, {:.2} s", cost.calls, cost.whole.as_secs_f64());
        all = all.and(cost);
        keeper.clock.forward(Duration::from_hours(12));
    }
    if orphans.databases == 0 {
        let asked =
            listings.map(|action| strict.count(action)).into_iter().zip(before).map(|(after, before)| after - before);
        let wanted = [3, 3, 0];
        assert_eq!(
            asked.collect::<Vec<_>>(),
            wanted,
            "each sweep once; before machines go, only those are listed anew"
        );
    }
    assert_eq!(strict.throttled(), 0, "our share of the account's buckets was kept");
    all
}

/// Once to mark, once to take away: the fewest runs that it can be done in.
async fn by_custodian(rds: &Rds, living: &BTreeSet<String>) -> Cost {
    let custodian = Custodian::new(living);
    let mut all = Cost::default();
    for (name, policies) in [("mark", custodian.marking()), ("remove", custodian.removing())] {
        let ((), cost) = costing(rds, custodian.run(&rds.staging.strict.url, &policies)).await;
        println!(
            "swept    c7n's run to {name}: {} calls, {:.2} s, of it {:.2} s from the first call to the last answer",
            cost.calls,
            cost.whole.as_secs_f64(),
            cost.calling.as_secs_f64()
        );
        all = all.and(cost);
    }
    all
}

/// Both at the same task, one after the other.
async fn compare(orphans: Orphans) -> (Cost, Cost) {
    let what = format!("{} machines and {} databases of nobody", orphans.machines, orphans.databases);
    println!("swept    {what}; {LIVING} of each live, {} of each are others'", 3 * OTHERS);
    let (ours, theirs) = (account(orphans).await, account(orphans).await);
    let before = survivors(&ours).await;
    assert_eq!(before, survivors(&theirs).await, "the same in both");
    let gone: Vec<String> =
        orphans.machines().chain(orphans.databases()).map(|pr| Keeper::uid(pr).to_string()).collect();
    let living = (FIRST_LIVING..FIRST_LIVING + LIVING).map(|pr| Keeper::uid(pr).to_string()).collect();
    let is_gone = |name: &String| gone.iter().any(|uid| name.contains(uid.as_str()));
    let wanted: BTreeSet<String> = before.iter().filter(|name| !is_gone(name)).cloned().collect();
    assert_eq!(before.len() - wanted.len(), orphans.count());

    let kagero = by_kagero(&ours, orphans).await;
    let custodian = by_custodian(&theirs, &living).await;
    assert_eq!(survivors(&ours).await, wanted, "Kagero");
    assert_eq!(survivors(&theirs).await, wanted, "Custodian");
    #[expect(clippy::cast_precision_loss, reason = "counts of calls are small")]
    let calls = custodian.calls as f64 / kagero.calls as f64;
    let seconds = |time: Duration| time.as_secs_f64();
    println!(
        "swept    {what}: Kagero {} calls, {:.2} s; c7n {} calls, {:.2} s with its starts, {:.2} s without; it takes {calls:.2} \
         times the calls, {:.2} times the time, {:.2} without its starts",
        kagero.calls,
        seconds(kagero.whole),
        custodian.calls,
        seconds(custodian.whole),
        seconds(custodian.calling),
        seconds(custodian.whole) / seconds(kagero.whole),
        seconds(custodian.calling) / seconds(kagero.whole),
    );
    (kagero, custodian)
}

/// With few of them Custodian's two runs take fewer calls than three sweeps of everything. With many, most of the time is
/// moto's, whose listings cost more the more there is: then time is told, and not asserted.
#[tokio::test]
async fn machines_of_nobody_go_as_custodian_takes_them_away_and_faster() {
    let machines = long().unwrap_or(30);
    let (kagero, custodian) = Box::pin(compare(Orphans { machines, databases: 0 })).await;
    let is_faster = kagero.whole < custodian.whole;
    println!("swept    {machines} machines: goal faster than c7n: {}", if is_faster { "met" } else { "missed" });
    assert!(is_faster || long().is_some(), "{kagero:?} {custodian:?}");
    assert!(kagero.calls < custodian.calls || machines < 300, "{kagero:?} {custodian:?}");
}

/// RDS's changes are paced (I28), so that time says nothing here. Three listings in each sweep and once more before anything
/// goes, then a look and a call for two hundred machines, a look for twenty databases, and a call for each database, since RDS
/// deletes no two by one.
#[tokio::test]
async fn machines_and_databases_of_nobody_go_as_custodian_takes_them_away_without_a_call_too_many() {
    let (machines, databases) = long().map_or((5, 22), |all| (all * 4 / 5, all / 5));
    let (kagero, _) = Box::pin(compare(Orphans { machines, databases })).await;
    // Machines, databases and clusters; others' databases are on the pages too, production's among them.
    let pages = 2 + (databases + LIVING + 3 * OTHERS + 1).div_ceil(100);
    let least = 4 * pages + 2 * machines.div_ceil(200) + databases.div_ceil(20) + databases;
    // Instances and clusters are listed anew after half a minute, and RDS has seven turns in five seconds.
    let again = (pages - 1) * (databases * 5 / 7 / 30);
    let wanted = usize::try_from(least).unwrap()..=usize::try_from(least + again).unwrap();
    assert!(wanted.contains(&kagero.calls), "{kagero:?}: {wanted:?}");
}
