//! Tables of verdicts: most of them on what is not to go.

mod residue;
mod words;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::domain::brake::SetBy;
use crate::domain::id::{DatabaseId, Generation, InstallId, MachineId, PrNumber};
use crate::domain::ledger::Said;
use crate::domain::pull::PullState;
use crate::plan::tests::{KEY, policy, pull, sha};

const NOW: Timestamp = Timestamp(1_000_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

fn key(pr: u64) -> EnvKey {
    EnvKey { pr: PrNumber(pr), ..KEY }
}

fn tags(pr: u64) -> Tags {
    let install = policy().install;
    Tags { uid: EnvUid::derive(&install, key(pr)), install, key: key(pr), generation: Generation(2) }
}

fn place() -> Location {
    Location { account: "staging".into(), region: "local".into(), network: "host".into() }
}

fn machine(pr: u64) -> Machine {
    let name = format!("kagero-test-m{pr}");
    Machine {
        id: MachineId::parse(name.clone()).unwrap(),
        name,
        tags: Some(tags(pr)),
        location: place(),
        state: MachineState::Running,
        agent: None,
        placement: None,
        slot: None,
        read_at: NOW,
    }
}

fn database(pr: u64) -> Database {
    let name = format!("kagero_test_d{pr}");
    Database {
        id: DatabaseId::parse(name.clone()).unwrap(),
        name,
        tags: Some(tags(pr)),
        location: place(),
        state: DatabaseState::Ready,
        can_stop: true,
        slot: None,
        read_at: NOW,
    }
}

fn record(pr: u64, standing: Standing) -> Ledger {
    Ledger {
        key: key(pr),
        uid: tags(pr).uid,
        generation: Generation(2),
        hosts: Vec::new(),
        enrolled_at: Timestamp(0),
        standing,
        slot: None,
        left: None,
        intents: Vec::new(),
        proven: None,
        said: Said::default(),
    }
}

fn listing<T>(items: Vec<T>) -> Listing<T> {
    Listing { items, complete: true, at: NOW }
}

/// Nothing anywhere.
fn nothing() -> Inventory {
    Inventory {
        machines: Ok(listing(vec![])),
        databases: Ok(listing(vec![])),
        beside: Ok(listing(vec![])),
        goldens: Ok(listing(vec![])),
        words: BTreeMap::new(),
    }
}

/// One way to spoil a case.
type Spoil = fn(&mut Case);

/// One orphaned machine that may go: each case spoils it in one way.
#[derive(Clone)]
struct Case {
    inventory: Inventory,
    known: Known,
    marks: Vec<Mark>,
    past: Past,
    policy: Policy,
}

impl Case {
    fn due() -> Self {
        let mark = Mark {
            first_at: NOW.minus(HOUR * 25),
            last_at: NOW.minus(HOUR),
            sightings: 2,
            ..Mark::begin(Subject::Machine(machine(1).id), tags(1), NOW)
        };
        Self {
            inventory: Inventory { machines: Ok(listing(vec![machine(1)])), ..nothing() },
            known: Known {
                wanted: BTreeMap::from([(key(1), Wanted::No("its pull request is closed".into()))]),
                ..Known::default()
            },
            marks: vec![mark],
            past: Past::default(),
            policy: policy(),
        }
    }

    fn but(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = Self::due();
        change(&mut case);
        case
    }

    /// The same for a database.
    fn of_database(change: impl FnOnce(&mut Self)) -> Self {
        Self::but(|case| {
            case.inventory = Inventory { databases: Ok(listing(vec![database(1)])), ..nothing() };
            case.marks[0].subject = Subject::Database(database(1).id);
            change(case);
        })
    }

    fn machine(&mut self) -> &mut Machine {
        &mut self.inventory.machines.as_mut().unwrap().items[0]
    }

    fn verdicts(&self) -> Vec<Verdict> {
        judge(&self.inventory, &self.known, &self.marks, &self.policy, NOW)
    }

    fn gate(&self) -> Gate {
        before(&self.inventory, &self.known, &self.past, &self.policy, NOW)
    }
}

#[track_caller]
fn check(case: &Case, ruling: Ruling, why: &str) {
    let verdicts = case.verdicts();
    let last = verdicts.last().unwrap();
    assert_eq!(last.ruling, ruling, "{last:?}");
    assert!(last.why.contains(why), "{:?} does not say {why:?}", last.why);
}

fn brake(kind: BrakeKind, of: Option<EnvKey>, until: Timestamp) -> Brake {
    Brake { kind, key: of, reason: "an incident".into(), by: SetBy::Operator, at: NOW.minus(HOUR), until }
}

#[test]
fn an_old_orphan_that_many_sweeps_have_seen_may_go() {
    check(&Case::due(), Ruling::Due, "has no record, and its pull request is closed; marked since");
    let released = Case::but(|case| case.known.ledgers = vec![record(1, Standing::Released(NOW.minus(HOUR * 24)))]);
    check(&released, Ruling::Due, "was closed at");
    check(&Case::of_database(|_| {}), Ruling::Due, "has no record");
    assert_eq!(Case::due().verdicts()[0].name, machine(1).name);
    assert_eq!(Case::of_database(|_| {}).verdicts()[0].name, database(1).name);
    let older = Case::but(|case| {
        let mut record = record(1, Standing::Released(NOW.minus(HOUR * 30)));
        record.generation = Generation(7);
        case.known.ledgers = vec![record];
    });
    check(&older, Ruling::Due, "was closed");
}

#[test]
fn what_an_environment_claims_is_kept() {
    for (standing, why) in [(Standing::Live, "lives"), (Standing::Leaving(NOW), "is being taken away")] {
        let case = Case::but(|case| case.known.ledgers = vec![record(1, standing)]);
        check(&case, Ruling::Keep, why);
        assert_eq!(case.verdicts()[0].mark, None, "its mark is lifted");
        let verdicts = case.verdicts();
        assert_eq!(lifted(&case.marks, &verdicts, &case.inventory, NOW).count(), 1);
    }
}

#[test]
fn what_cannot_be_proven_ours_is_foreign_whatever_its_mark() {
    let cases: [(&str, Spoil); 8] = [
        ("carries no owner tags", |case| case.machine().tags = None),
        ("belongs to installation other", |case| {
            case.machine().tags.as_mut().unwrap().install = InstallId::parse("other").unwrap();
        }),
        ("does not begin with kagero-test-", |case| case.machine().name = "accounting".into()),
        ("which is not in the allow-list", |case| case.machine().location.account = "production".into()),
        ("which is not in the allow-list", |case| case.machine().location.region = "eu-south-9".into()),
        ("which is not in the allow-list", |case| case.machine().location.network = "vpc-production".into()),
        ("the records are older than the world", |case| {
            let mut record = record(1, Standing::Released(NOW.minus(HOUR * 40)));
            record.generation = Generation(1);
            case.known.ledgers = vec![record];
        }),
        ("the records are older than the world", |case| {
            let mut record = record(1, Standing::Released(NOW.minus(HOUR * 40)));
            record.generation = Generation::NONE;
            case.known.ledgers = vec![record];
        }),
    ];
    for (why, spoil) in cases {
        let case = Case::but(spoil);
        check(&case, Ruling::Foreign, why);
        assert_eq!(case.verdicts()[0].mark, None, "{why}: never marked");
    }
}

#[test]
fn the_young_and_the_rarely_seen_wait() {
    let cases: [(&str, Spoil); 7] = [
        ("orphan for 0 h in 1 sweeps", |case| case.marks.clear()),
        ("orphan for 23 h in 3 sweeps", |case| {
            case.marks[0].first_at = NOW.minus(HOUR * 24).plus(Duration::from_secs(1));
        }),
        ("in 2 sweeps", |case| case.marks[0].sightings = 1),
        // The same id with other tags is another thing.
        ("in 1 sweeps", |case| case.marks[0].tags.as_mut().unwrap().generation = Generation(1)),
        ("in 1 sweeps", |case| case.marks[0].subject = Subject::Machine(machine(2).id)),
        // A mark from before its environment was closed says nothing.
        ("orphan for 2 h in 3 sweeps", |case| {
            case.known.ledgers = vec![record(1, Standing::Released(NOW.minus(HOUR * 2)))];
        }),
        ("it is being taken away", |case| case.machine().state = MachineState::Stopping),
    ];
    for (why, spoil) in cases {
        check(&Case::but(spoil), Ruling::Wait, why);
    }
    let again = &Case::due().verdicts()[0];
    assert_eq!(again.mark.as_ref().map(|mark| (mark.sightings, mark.last_at)), Some((3, NOW)));
}

#[test]
fn pull_requests_that_are_open_or_unknown_spare() {
    let spared = |wanted: Option<Wanted>| {
        Case::but(|case| case.known.wanted = wanted.map(|wanted| (key(1), wanted)).into_iter().collect())
    };
    let open = spared(Some(Wanted::Yes));
    check(&open, Ruling::Spare, "is open");
    assert_eq!(open.verdicts()[0].mark, None, "an open pull request takes the mark off");
    check(&spared(Some(Wanted::Unknown("GitHub is away".into()))), Ruling::Spare, "GitHub is away");
    check(&spared(None), Ruling::Spare, "was not asked for");
}

#[test]
fn what_a_closed_environment_left_is_nobodys_even_if_its_pull_request_is_open_again() {
    let left = |wanted: Wanted, generation: u32| {
        Case::but(|case| {
            let record =
                Ledger { generation: Generation(generation), ..record(1, Standing::Released(NOW.minus(HOUR * 30))) };
            case.known.ledgers = vec![record];
            case.known.wanted = BTreeMap::from([(key(1), wanted)]);
        })
    };
    check(&left(Wanted::Yes, 2), Ruling::Due, "has next is of a later generation");
    check(&left(Wanted::Yes, 3), Ruling::Due, "has next is of a later generation");
    check(&left(Wanted::Yes, 1), Ruling::Foreign, "the records are older than the world");
    check(&left(Wanted::Unknown("GitHub is away".into()), 2), Ruling::Spare, "was closed at");
    let mut again = left(Wanted::Yes, 2);
    again.known.ledgers[0].standing = Standing::Live;
    check(&again, Ruling::Keep, "lives");
}

#[test]
fn a_pull_request_is_wanted_unless_it_was_read_otherwise() {
    let policy = policy();
    let ask = |pull: &crate::domain::pull::PullFacts| wanted(Ok(pull), &policy);
    let open = pull(PullState::Open, 'a');
    assert_eq!(ask(&open), Wanted::Yes);
    assert!(matches!(ask(&pull(PullState::Closed, 'a')), Wanted::No(_)));
    assert!(matches!(ask(&pull(PullState::Merged, 'a')), Wanted::No(_)));
    let mut off = open.clone();
    off.labels.insert("preview:off".into());
    assert!(matches!(ask(&off), Wanted::No(_)));
    assert!(matches!(wanted(Err("no answer".into()), &policy), Wanted::Unknown(_)));
}

#[test]
fn a_hold_blocks_until_its_end() {
    let with = |brake: Brake| Case::but(|case| case.known.brakes = vec![brake]);
    check(&with(brake(BrakeKind::Hold, Some(key(1)), NOW.plus(HOUR))), Ruling::Spare, "it is held until");
    check(&with(brake(BrakeKind::Hold, Some(key(1)), NOW)), Ruling::Due, "");
    check(&with(brake(BrakeKind::Hold, Some(key(2)), NOW.plus(HOUR))), Ruling::Due, "");
}

#[test]
fn an_incomplete_listing_proves_nothing_and_spoils_nothing_else() {
    let partial = Case::but(|case| case.inventory.machines.as_mut().unwrap().complete = false);
    check(&partial, Ruling::Wait, "not complete");
    assert_eq!(partial.verdicts()[0].mark, Some(partial.marks[0].clone()), "seen, but not counted");
    let beside = Case::but(|case| case.inventory.databases = Err("no route to host".into()));
    check(&beside, Ruling::Due, "");
    // Nobody knows whether a machine uses the database.
    let alone = Case::of_database(|case| case.inventory.machines = Err("no route to host".into()));
    check(&alone, Ruling::Wait, "the machines could not be listed");
}

#[test]
fn machines_go_before_their_databases() {
    let case = Case::of_database(|case| case.inventory.machines = Ok(listing(vec![machine(1)])));
    check(&case, Ruling::Wait, "its machine goes first");
    check(&Case::of_database(|case| case.inventory.machines = Ok(listing(vec![machine(2)]))), Ruling::Due, "");
}

#[test]
fn a_mark_outlives_a_listing_that_lacks_its_subject() {
    let case = Case::but(|case| case.inventory.machines = Ok(listing(vec![])));
    let verdicts = case.verdicts();
    let lifted_at = |now| lifted(&case.marks, &verdicts, &case.inventory, now).count();
    assert_eq!((lifted_at(NOW), lifted_at(NOW.plus(HOUR * 24))), (0, 1));
    let failed = Case::but(|case| case.inventory.machines = Err("away".into()));
    assert_eq!(lifted(&failed.marks, &[], &failed.inventory, NOW.plus(HOUR * 99)).count(), 0);
}

fn refused(case: &Case) -> String {
    match case.gate() {
        Gate::Refused(_, why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sweep_with_the_wrong_eyes_is_refused() {
    assert_eq!(Case::due().gate(), Gate::Open);
    let emptied: [fn(&mut Policy); 3] = [
        |policy| policy.allow.accounts.clear(),
        |policy| policy.allow.regions.clear(),
        |policy| policy.allow.networks.clear(),
    ];
    for empty in emptied {
        assert!(refused(&Case::but(|case| empty(&mut case.policy))).contains("allow-list"));
    }
    let elsewhere: [fn(&mut Location); 3] = [
        |place| place.account = "another".into(),
        |place| place.region = "another".into(),
        |place| place.network = "another".into(),
    ];
    for go in elsewhere {
        let why = refused(&Case::but(|case| go(&mut case.machine().location)));
        assert!(why.contains("another") && why.contains("credentials"), "{why}");
    }
    // A single stranger beside ours is its own matter.
    let beside = Case::but(|case| {
        case.machine().location.account = "another".into();
        case.inventory.databases = Ok(listing(vec![database(2)]));
    });
    assert_eq!(beside.gate(), Gate::Open);
    let blind = Case::but(|case| {
        case.inventory = Inventory { machines: Err("a".into()), databases: Err("b".into()), ..nothing() };
    });
    assert!(refused(&blind).contains("nothing can be listed"));
}

#[test]
fn a_listing_that_is_too_small_is_refused_unless_something_explains_it() {
    let with = |last: u32, now: u64, at: Timestamp| {
        Case::but(|case| {
            case.past.last = Some(Counts { machines: Some(last), databases: Some(0), at });
            case.inventory.machines = Ok(listing((1..=now).map(machine).collect()));
        })
    };
    let lately = NOW.minus(HOUR);
    let small = with(20, 9, lately);
    assert!(refused(&small).contains("only 9 machines are listed, after 20"));
    for fine in [with(20, 10, lately), with(5, 0, lately), with(20, 9, NOW.minus(HOUR * 24)), with(0, 0, lately)] {
        assert_eq!(fine.gate(), Gate::Open, "{:?}", fine.past);
    }
    // Databases are counted by themselves.
    let databases = Case::but(|case| {
        case.past.last = Some(Counts { machines: Some(1), databases: Some(20), at: lately });
    });
    assert!(refused(&databases).contains("databases"));
    // Not listed in full is not little.
    let mut unknown = databases;
    unknown.inventory.databases.as_mut().unwrap().complete = false;
    assert_eq!(unknown.gate(), Gate::Open);
    // What was taken away lately, by sweeps or by its environment, is not missing.
    let mut swept = small.clone();
    swept.past.removed = 1;
    assert_eq!(swept.gate(), Gate::Open);
    let mut closed = small.clone();
    closed.known.ledgers = vec![record(90, Standing::Released(NOW))];
    assert_eq!(closed.gate(), Gate::Open);
    closed.known.ledgers = vec![record(90, Standing::Released(lately.minus(HOUR)))];
    assert!(refused(&closed).contains("only 9"));
    closed.known.ledgers = vec![record(90, Standing::Live)];
    assert!(refused(&closed).contains("only 9"));
}

#[test]
fn a_freeze_or_a_pause_of_everything_keeps_all() {
    for kind in [BrakeKind::Freeze, BrakeKind::Pause] {
        let case = Case::but(|case| case.known.brakes = vec![brake(kind, None, NOW.plus(HOUR))]);
        assert!(matches!(case.gate(), Gate::Frozen(_, why) if why.contains("an incident")));
        let over = Case::but(|case| case.known.brakes = vec![brake(kind, None, NOW)]);
        assert_eq!(over.gate(), Gate::Open);
    }
}

#[test]
fn too_many_at_once_are_a_breach() {
    let verdicts = |due: u64, kept: u64| {
        let case = Case::but(|case| {
            case.inventory.machines = Ok(listing((1..=due + kept).map(machine).collect()));
            case.known.ledgers = (due + 1..=due + kept).map(|pr| record(pr, Standing::Live)).collect();
            case.known.wanted = (1..=due).map(|pr| (key(pr), Wanted::No("closed".into()))).collect();
            let mark = case.marks[0].clone();
            case.marks = (1..=due)
                .map(|pr| Mark { subject: Subject::Machine(machine(pr).id), tags: Some(tags(pr)), ..mark.clone() })
                .collect();
        });
        case.verdicts()
    };
    let breach = |due, kept, removed| after(&verdicts(due, kept), &Past { last: None, removed }, &policy());
    for (due, kept, removed) in [(0, 0, 0), (0, 10, 99), (5, 0, 0), (3, 0, 2), (5, 95, 0), (20, 80, 0), (1, 99, 19)] {
        assert_eq!(breach(due, kept, removed), None, "{due} of {}, {removed} before", due + kept);
    }
    for (due, kept, removed) in [(6, 0, 0), (3, 0, 3), (21, 79, 0), (1, 99, 20), (1, 0, 5)] {
        let why = breach(due, kept, removed).unwrap_or_else(|| panic!("{due} of {}, {removed} before", due + kept));
        assert!(why.contains(&format!("take away {due} of {}", due + kept)), "{why}");
    }
}

#[test]
fn only_orphans_are_asked_about() {
    let mut case = Case::but(|case| case.inventory.machines = Ok(listing((1..=4).map(machine).collect())));
    case.inventory.machines.as_mut().unwrap().items[3].tags.as_mut().unwrap().install =
        InstallId::parse("other").unwrap();
    let ledgers = [record(1, Standing::Live), record(2, Standing::Released(NOW))];
    let asked = questionable(&case.inventory, &ledgers, &case.policy);
    assert_eq!(asked.into_iter().map(|key| key.pr.0).collect::<Vec<_>>(), [2, 3]);
}
