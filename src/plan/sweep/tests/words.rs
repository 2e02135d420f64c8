//! Tables of verdicts on what was said on GitHub.

use super::super::words::{Claim, Site, claim_on_comment, claim_on_deployment, first_look, next_look, place_of};
use super::*;
use crate::domain::id::{InstallationId, RepoName, ResidueId};
use crate::domain::ledger::{CommentSaid, DeploymentSaid};
use crate::domain::observed::ResidueState;
use crate::domain::pull::RepoRef;
use crate::domain::words::{Comment, Deployment, marker};

fn shop() -> RepoRef {
    RepoRef { id: KEY.repo, name: RepoName::parse("acme/shop").unwrap(), installation: InstallationId(1) }
}

fn site<T>(see: impl FnOnce(Site<'_>) -> T) -> T {
    see(Site { repo: &shop(), install: &policy().install, read_at: NOW })
}

fn comment(id: u64, pr: u64) -> Comment {
    let text = format!("{}\n### ready\n", marker(&tags(pr).uid));
    Comment { id, pr: PrNumber(pr), text, updated_at: NOW }
}

fn deployment(id: u64) -> Deployment {
    Deployment { id, payload: tags(1).uid.to_string(), sha: sha('a'), created_at: NOW }
}

fn unnamed() -> Claim {
    Claim::Unnamed("no record names it".to_owned())
}

fn mark_on(words: &Residue) -> Mark {
    Mark {
        first_at: NOW.minus(HOUR * 25),
        last_at: NOW.minus(HOUR),
        sightings: 2,
        ..Mark::begin(words.subject.clone(), None, NOW)
    }
}

fn of_words(words: Residue, change: impl FnOnce(&mut Case)) -> Case {
    Case::but(|case| {
        case.marks = vec![mark_on(&words)];
        case.inventory = Inventory { words: BTreeMap::from([(KEY.repo, Ok(vec![words]))]), ..nothing() };
        change(case);
    })
}

/// A comment that may be deleted, but for one thing.
fn of_comment(change: impl FnOnce(&mut Case)) -> Case {
    of_words(site(|site| site.comment(&comment(7, 1), key(1), unnamed())).unwrap(), change)
}

/// A deployment that may be ended, but for one thing.
fn of_deployment(change: impl FnOnce(&mut Case)) -> Case {
    of_words(site(|site| site.deployment(8, key(1), unnamed(), Some("success"))).unwrap(), change)
}

fn first(case: &mut Case) -> &mut Residue {
    &mut case.inventory.words.get_mut(&KEY.repo).unwrap().as_mut().unwrap()[0]
}

/// A record that names these.
fn saying(standing: Standing, comment: Option<u64>, deployments: &[(Option<u64>, char)]) -> Ledger {
    let mut record = record(1, standing);
    record.said.comment = comment.map(|id| CommentSaid { id, digest: String::new() });
    let made = |(id, commit): &(Option<u64>, char)| DeploymentSaid { id: *id, ..DeploymentSaid::asked(sha(*commit)) };
    record.said.deployments = deployments.iter().map(made).collect();
    record
}

#[test]
fn what_no_record_names_for_a_day_is_taken_back() {
    check(&of_comment(|_| {}), Ruling::Due, "no record names it; marked since");
    check(&of_deployment(|_| {}), Ruling::Due, "and GitHub shows it as success; marked since");
    assert_eq!(of_comment(|_| {}).verdicts()[0].owner, Some(key(1)));
    // Beside the comment that a record names, it is a double, and no pull request has to be asked for.
    for standing in [Standing::Live, Standing::Released(NOW)] {
        let double = of_comment(|case| {
            case.known.ledgers = vec![saying(standing, Some(6), &[])];
            case.known.wanted.clear();
        });
        check(&double, Ruling::Due, "no record names it");
        assert!(questionable(&double.inventory, &double.known.ledgers, &double.policy).is_empty());
    }
}

#[test]
fn only_what_a_record_neither_names_nor_expects_is_unnamed() {
    let released = Standing::Released(NOW);
    let of = |record: Option<Ledger>| claim_on_comment(7, key(1), record.as_ref());
    assert_eq!(of(Some(saying(Standing::Live, Some(7), &[]))), Claim::Named);
    assert_eq!(of(Some(saying(released, Some(7), &[]))), Claim::Named);
    for standing in [Standing::Live, Standing::Leaving(NOW)] {
        assert!(matches!(of(Some(saying(standing, None, &[]))), Claim::Expected(_)));
    }
    for record in [None, Some(saying(released, None, &[])), Some(saying(Standing::Live, Some(6), &[]))] {
        assert!(matches!(of(record), Claim::Unnamed(_)));
    }

    let of = |record: Option<Ledger>| claim_on_deployment(&deployment(8), key(1), record.as_ref());
    assert_eq!(of(Some(saying(Standing::Live, None, &[(Some(9), 'b'), (Some(8), 'a')]))), Claim::Named);
    assert!(matches!(of(Some(saying(Standing::Live, None, &[(None, 'a')]))), Claim::Expected(_)));
    for said in [&[][..], &[(Some(9), 'a')], &[(None, 'b')]] {
        assert!(matches!(of(Some(saying(Standing::Live, None, said))), Claim::Unnamed(_)), "{said:?}");
    }
    assert!(matches!(of(None), Claim::Unnamed(_)));
}

#[test]
fn a_comment_that_names_another_environment_is_nobodys_to_judge() {
    site(|site| {
        assert_eq!(site.key_of(&comment(7, 1)), Some(key(1)));
        let copied = Comment { pr: PrNumber(2), ..comment(7, 1) };
        let quoted = Comment { text: format!("> {}", comment(7, 1).text), ..comment(7, 1) };
        let other = EnvUid::derive(&InstallId::parse("other").unwrap(), key(1));
        let others = Comment { text: marker(&other), ..comment(7, 1) };
        for stranger in [copied, quoted, others] {
            assert_eq!(site.key_of(&stranger), None, "{stranger:?}");
        }
        let environments = site.environments(PrNumber(3));
        assert_eq!((environments.get(&tags(3).uid), environments.get(&tags(4).uid)), (Some(&key(3)), None));
    });
}

#[test]
fn what_has_ended_is_of_no_interest_and_what_has_no_status_is() {
    let state = |shown: Option<&str>| site(|site| site.deployment(8, key(1), unnamed(), shown)).unwrap().state;
    for over in ["inactive", "failure", "error"] {
        assert!(matches!(state(Some(over)), ResidueState::Used(_)), "{over}");
    }
    for alive in [Some("success"), Some("in_progress"), Some("queued"), Some("pending"), None] {
        assert!(matches!(state(alive), ResidueState::Unused(_)), "{alive:?}");
    }
    let ended = of_deployment(|case| first(case).state = state(Some("inactive")));
    check(&ended, Ruling::Keep, "it has ended");
    assert_eq!(lifted(&ended.marks, &ended.verdicts(), &ended.inventory, NOW).count(), 1, "its mark is lifted");
}

#[test]
fn an_open_or_unread_pull_request_spares_what_no_record_speaks_for() {
    let cases: [(Option<Wanted>, &str); 3] = [
        (Some(Wanted::Yes), "is open"),
        (Some(Wanted::Unknown("GitHub is away".into())), "GitHub is away"),
        (None, "was not asked for"),
    ];
    for (wanted, why) in cases {
        let spoil = |case: &mut Case| {
            case.known.wanted = wanted.clone().into_iter().map(|wanted| (key(1), wanted)).collect();
        };
        for case in [of_comment(spoil), of_deployment(spoil)] {
            check(&case, Ruling::Spare, why);
            assert!(case.verdicts()[0].mark.is_some(), "it is not listed again, and must be looked at again");
            assert_eq!(questionable(&case.inventory, &[], &case.policy).into_iter().collect::<Vec<_>>(), [key(1)]);
        }
    }
    // A closed record without a comment does not speak for one.
    let closed = of_comment(|case| {
        case.known.ledgers = vec![saying(Standing::Released(NOW), None, &[])];
        case.known.wanted = BTreeMap::from([(key(1), Wanted::Yes)]);
    });
    check(&closed, Ruling::Spare, "is open");
}

#[test]
fn what_is_not_proven_ours_is_for_a_person() {
    let cases: [(&str, Spoil); 5] = [
        ("carries no owner record", |case| first(case).key = None),
        ("carries no owner record", |case| first(case).uid = None),
        ("belongs to environment", |case| first(case).key = Some(key(2))),
        ("belongs to installation other", |case| first(case).install = Some(InstallId::parse("other").unwrap())),
        ("is in acme/shop, which is not in the allow-list", |case| case.policy.repositories = vec!["else/*".into()]),
    ];
    for (why, spoil) in cases {
        for case in [of_comment(spoil), of_deployment(spoil)] {
            check(&case, Ruling::Foreign, why);
            assert_eq!(case.verdicts()[0].mark, None, "{why}: never marked");
        }
    }
}

#[test]
fn young_marks_and_holds_keep_them() {
    let cases: [(&str, Ruling, Spoil); 4] = [
        ("for 0 h in 1 sweeps", Ruling::Wait, |case| case.marks.clear()),
        ("for 23 h in 3 sweeps", Ruling::Wait, |case| {
            case.marks[0].first_at = NOW.minus(HOUR * 24).plus(Duration::from_secs(1));
        }),
        ("in 2 sweeps", Ruling::Wait, |case| case.marks[0].sightings = 1),
        ("an incident", Ruling::Spare, |case| {
            case.known.brakes = vec![brake(BrakeKind::Hold, Some(key(1)), NOW.plus(HOUR))];
        }),
    ];
    for (why, ruling, spoil) in cases {
        check(&of_comment(spoil), ruling, why);
        check(&of_deployment(spoil), ruling, why);
    }
}

#[test]
fn a_repository_that_cannot_be_read_keeps_its_marks_and_hides_no_other() {
    let mut case = of_comment(|_| {});
    let elsewhere = Mark {
        last_at: NOW.minus(HOUR * 25),
        ..Mark::begin(Subject::Comment(ResidueId::parse("9/1").unwrap()), None, NOW)
    };
    case.marks.push(elsewhere);
    case.inventory.words.insert(RepoId(9), Err("acme/other is away".to_owned()));
    check(&case, Ruling::Due, "no record names it");
    assert_eq!(case.inventory.doubts(), ["acme/other is away"]);
    assert_eq!(lifted(&case.marks, &case.verdicts(), &case.inventory, NOW).count(), 0);
    case.inventory.words.insert(RepoId(9), Ok(Vec::new()));
    assert_eq!(lifted(&case.marks, &case.verdicts(), &case.inventory, NOW).count(), 1);
}

#[test]
fn the_next_look_begins_before_whatever_was_left_open() {
    assert_eq!(next_look(NOW, HOUR, []), NOW.minus(HOUR));
    assert_eq!(next_look(NOW, HOUR, [NOW, NOW.minus(HOUR * 3)]), NOW.minus(HOUR * 3));
    assert_eq!(first_look(None, NOW, HOUR * 24), NOW.minus(HOUR * 24));
    assert_eq!(first_look(Some(NOW.minus(HOUR)), NOW, HOUR * 24), NOW.minus(HOUR));
    assert_eq!(first_look(Some(NOW.minus(HOUR * 99)), NOW, HOUR * 24), NOW.minus(HOUR * 24));
    assert_eq!(first_look(Some(NOW.plus(HOUR)), NOW, HOUR * 24), NOW.minus(HOUR * 24), "the clock was put back");
}

#[test]
fn an_id_tells_where_it_is() {
    let found = site(|site| site.comment(&comment(7, 1), key(1), unnamed())).unwrap();
    assert_eq!(place_of(&found.subject), Some((KEY.repo, 7)));
    assert_eq!(place_of(&Subject::Machine(machine(1).id)), None);
}
