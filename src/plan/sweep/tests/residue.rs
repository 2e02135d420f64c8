//! Tables of verdicts on what is neither machine nor database.

use super::*;
use crate::domain::id::ResidueId;
use crate::domain::observed::ResidueState;

fn process(pr: u64) -> Residue {
    Residue {
        subject: Subject::Process(ResidueId::parse(format!("process:{pr}-7-boot")).unwrap()),
        name: format!("kagero-test-p{pr}"),
        install: Some(policy().install),
        uid: Some(tags(pr).uid),
        key: None,
        state: ResidueState::Unused("process 1 has outlived its machine".to_owned()),
        location: place(),
        read_at: NOW,
    }
}

fn golden() -> Residue {
    Residue {
        subject: Subject::Golden(ResidueId::parse("sqlite:kagero_test_golden_shop_1").unwrap()),
        name: "kagero_test_golden_shop_1".to_owned(),
        uid: None,
        state: ResidueState::Unused("no configured seed makes it".to_owned()),
        ..process(1)
    }
}

fn mark_on(residue: &Residue) -> Mark {
    Mark {
        first_at: NOW.minus(HOUR * 25),
        last_at: NOW.minus(HOUR),
        sightings: 2,
        ..Mark::begin(residue.subject.clone(), None, NOW)
    }
}

/// A process that may be killed, but for one thing.
fn of_process(change: impl FnOnce(&mut Case)) -> Case {
    Case::but(|case| {
        case.marks = vec![mark_on(&process(1))];
        case.inventory = Inventory { beside: Ok(listing(vec![process(1)])), ..nothing() };
        change(case);
    })
}

/// A golden that may be dropped, but for one thing.
fn of_golden(change: impl FnOnce(&mut Case)) -> Case {
    Case::but(|case| {
        case.marks = vec![mark_on(&golden())];
        case.inventory = Inventory { goldens: Ok(listing(vec![golden()])), ..nothing() };
        change(case);
    })
}

fn first(case: &mut Case) -> &mut Residue {
    let beside = case.inventory.beside.as_mut().unwrap().items.first_mut();
    beside.or(case.inventory.goldens.as_mut().unwrap().items.first_mut()).unwrap()
}

#[test]
fn what_nothing_has_used_for_a_day_may_go() {
    check(&of_process(|_| {}), Ruling::Due, "has outlived its machine; marked since");
    check(&of_golden(|_| {}), Ruling::Due, "no configured seed makes it; marked since");
    // Its environment lives, and has another machine by now.
    let living = of_process(|case| case.known.ledgers = vec![record(1, Standing::Live)]);
    check(&living, Ruling::Due, "has outlived");
    assert_eq!(living.verdicts()[0].owner, Some(key(1)));
}

#[test]
fn what_is_of_use_is_kept_whatever_its_mark() {
    let used = of_golden(|case| first(case).state = ResidueState::Used("seed shop".to_owned()));
    check(&used, Ruling::Keep, "seed shop");
    assert_eq!(used.verdicts()[0].mark, None, "its mark is lifted");
    assert_eq!(lifted(&used.marks, &used.verdicts(), &used.inventory, NOW).count(), 1);
}

#[test]
fn what_carries_no_marker_of_ours_is_for_a_person() {
    let cases: [(&str, Spoil); 6] = [
        ("carries no owner record", |case| first(case).install = None),
        ("belongs to installation other", |case| first(case).install = Some(InstallId::parse("other").unwrap())),
        ("does not begin with kagero", |case| first(case).name = "accounting".into()),
        ("which is not in the allow-list", |case| first(case).location.account = "production".into()),
        ("which is not in the allow-list", |case| first(case).location.region = "eu-south-9".into()),
        ("which is not in the allow-list", |case| first(case).location.network = "vpc-production".into()),
    ];
    for (why, spoil) in cases {
        for case in [of_process(spoil), of_golden(spoil)] {
            check(&case, Ruling::Foreign, why);
            assert_eq!(case.verdicts()[0].mark, None, "{why}: never marked");
        }
    }
    // Of use or not.
    let stranger = of_golden(|case| {
        first(case).install = None;
        first(case).state = ResidueState::Used("seed shop".to_owned());
    });
    check(&stranger, Ruling::Foreign, "carries no owner record");
}

#[test]
fn young_marks_other_marks_and_poor_listings_wait() {
    let cases: [(&str, Spoil); 6] = [
        ("for 0 h in 1 sweeps", |case| case.marks.clear()),
        ("for 23 h in 3 sweeps", |case| case.marks[0].first_at = NOW.minus(HOUR * 24).plus(Duration::from_secs(1))),
        ("in 2 sweeps", |case| case.marks[0].sightings = 1),
        ("in 1 sweeps", |case| case.marks[0].subject = Subject::Machine(machine(1).id)),
        ("in 1 sweeps", |case| case.marks[0].tags = Some(tags(1))),
        ("was read more than a minute ago", |case| first(case).read_at = NOW.minus(Duration::from_secs(61))),
    ];
    for (why, spoil) in cases {
        check(&of_process(spoil), Ruling::Wait, why);
        check(&of_golden(spoil), Ruling::Wait, why);
    }
    let part = of_process(|case| case.inventory.beside.as_mut().unwrap().complete = false);
    check(&part, Ruling::Wait, "not complete");
    assert_eq!(part.verdicts()[0].mark, Some(mark_on(&process(1))), "it is not seen once more");
}

#[test]
fn a_hold_on_its_environment_spares_a_process() {
    // One that is over, and one that is none.
    for other in [brake(BrakeKind::Hold, Some(key(1)), NOW), brake(BrakeKind::Pause, Some(key(1)), NOW.plus(HOUR))] {
        let free = of_process(|case| {
            case.known.ledgers = vec![record(1, Standing::Live)];
            case.known.brakes = vec![other];
        });
        check(&free, Ruling::Due, "has outlived");
    }
    let hold = brake(BrakeKind::Hold, Some(key(1)), NOW.plus(HOUR));
    let held = of_process(|case| {
        case.known.ledgers = vec![record(1, Standing::Live)];
        case.known.brakes = vec![hold];
    });
    check(&held, Ruling::Spare, "an incident");
}

#[test]
fn one_listing_that_fails_says_nothing_of_the_others() {
    let case = of_process(|case| case.inventory.goldens = Err("the server is away".into()));
    check(&case, Ruling::Due, "has outlived");
    assert_eq!(case.inventory.doubts(), ["the server is away"]);
    assert_eq!(case.gate(), Gate::Open);
    let blind = of_golden(|case| {
        case.inventory.goldens = Err("the server is away".into());
        case.inventory.machines = Ok(listing(vec![machine(1)]));
    });
    assert_eq!(lifted(&blind.marks, &blind.verdicts(), &blind.inventory, NOW).count(), 0, "its mark stays");
}

#[test]
fn they_count_like_everything_else() {
    let many = of_process(|case| {
        let processes: Vec<Residue> = (1..=6).map(process).collect();
        case.marks = processes.iter().map(mark_on).collect();
        case.inventory.beside = Ok(listing(processes));
    });
    let verdicts = many.verdicts();
    assert!(after(&verdicts, &Past::default(), &many.policy).is_some_and(|why| why.contains("6 of 6")));
    assert_eq!(after(&verdicts[..5], &Past::default(), &many.policy), None);
}
