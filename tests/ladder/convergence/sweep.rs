//! The sweep in a simulated world: what leaks is found and goes, what is not ours stays, and each guard refuses.

use std::collections::BTreeMap;
use std::time::Duration;

use kagero::controller::sweep::{Outcome, Report, Scope};
use kagero::domain::brake::{Brake, BrakeKind, SetBy};
use kagero::domain::guard::Guard;
use kagero::domain::id::{InstallId, RepoId};
use kagero::domain::pull::PullState;
use kagero::forge::RepoRef;
use kagero::plan::sweep::{Counts, Ruling};
use kagero::sim::cloud::{Decoy, Weather};
use kagero::sim::fate::{Call, Fate};
use kagero::sim::hub::key;

use super::member::{Member, Outside};
use super::story::Event;
use super::world::{Beginning, Installation, REPO};

const HOUR: Duration = Duration::from_hours(1);

pub async fn sweep(installation: &Installation, scope: Scope) -> Report {
    installation.members[0].desk().sweep(scope).await.unwrap()
}

pub async fn pass(installation: &mut Installation, by: Duration) {
    installation.pass_time(by).await.unwrap();
}

/// Opens pull requests, or closes them.
pub async fn all(installation: &mut Installation, pulls: std::ops::RangeInclusive<u64>, open: bool) {
    for pr in pulls {
        let event = if open { Event::Push { pr, broken: false } } else { Event::Close { pr, merged: false } };
        installation.happen(pr * 2 + u64::from(!open), event).await;
    }
    pass(installation, HOUR).await;
}

/// An environment whose record was closed because listings lacked what there was.
pub async fn leaked() -> Installation {
    let mut installation = Installation::begin(Beginning::fair(3)).await;
    all(&mut installation, 1..=1, true).await;
    installation.outside.cloud.set_weather(Weather { lossy_permille: 1_000, ..Weather::FAIR });
    all(&mut installation, 1..=1, false).await;
    installation.outside.cloud.set_weather(Weather::FAIR);
    assert!(installation.is_leaking().await, "nothing leaked");
    installation
}

/// Machines of ours that no call of this run has made.
pub fn strays(installation: &Installation, pulls: std::ops::RangeInclusive<u64>) {
    let install = &installation.outside.policy.install;
    pulls.for_each(|pr| installation.outside.cloud.add_stray(install, key(REPO, pr)));
}

/// An installation that knows so many pull requests as closed, and of each of them a machine that no record names. Nothing of
/// it moves by itself.
pub async fn nobodys(seed: u64, pulls: u64) -> Installation {
    let installation = Installation::begin(Beginning::fair(seed)).await;
    let Outside { store, hub, time, .. } = &installation.outside;
    for pr in 1..=pulls {
        hub.change(key(REPO, pr), &super::world::commit(1, false), |facts| facts.state = PullState::Closed);
    }
    let facts: Vec<_> = hub.pulls().into_values().map(|pull| pull.facts).collect();
    let repo = RepoRef { id: RepoId(REPO), name: facts[0].repo.clone(), installation: facts[0].installation };
    store.put_repo(&repo, time.now()).await.unwrap();
    store.put_pulls(&facts).await.unwrap();
    strays(&installation, 1..=pulls);
    installation
}

fn rulings(report: &Report) -> BTreeMap<Ruling, usize> {
    let mut all = BTreeMap::new();
    report.verdicts.iter().for_each(|verdict| *all.entry(verdict.ruling).or_default() += 1);
    all
}

#[tokio::test]
async fn what_a_lossy_listing_hid_goes_after_a_day_and_not_before() {
    let mut installation = leaked().await;
    let left = installation.outside.cloud.residue();
    pass(&mut installation, HOUR * 22).await;
    assert_eq!(installation.outside.cloud.residue(), left);
    assert_eq!(rulings(&sweep(&installation, Scope::DryRun).await), BTreeMap::from([(Ruling::Wait, left.len())]));
    pass(&mut installation, HOUR * 5).await;
    assert_eq!(installation.outside.cloud.residue(), Vec::<String>::new());
    let report = sweep(&installation, Scope::DryRun).await;
    assert_eq!((report.outcome, report.applied), (Outcome::Clean, false));
    assert!(sweep(&installation, Scope::Apply(None)).await.applied);
    installation.truth.at_rest().await.unwrap();
    let journal = installation.outside.store.journal(key(REPO, 1), 100).await.unwrap();
    let swept: Vec<_> = journal.iter().filter(|row| row.kind.starts_with("sweep-")).collect();
    assert_eq!(swept.len(), left.len(), "{journal:?}");
    assert!(swept.iter().all(|row| row.ended.is_some()));
    let head = installation.outside.hub.pull(key(REPO, 1)).unwrap().facts.head_sha;
    for row in swept {
        assert_eq!(row.detail["commit"], head.as_str(), "{row:?}");
        assert!(row.detail["delivery"].is_string() && row.detail["evidence"]["uid"].is_string(), "{row:?}");
        assert!(row.detail["reason"].as_str().is_some_and(|why| !why.is_empty()), "{row:?}");
    }
    installation.end().await;
}

#[tokio::test]
async fn what_only_comes_too_soon_for_the_provider_has_not_failed_and_goes_with_the_next_sweep() {
    let installation = nobodys(31, 1).await;
    for number in 1..=2 {
        assert_eq!(rulings(&sweep(&installation, Scope::Apply(None)).await), BTreeMap::from([(Ruling::Wait, 1)]));
        installation.outside.time.advance_to(HOUR * 12 * number);
    }
    installation.outside.dealer.script(Call::Terminate, 0, Fate::Throttled);
    for ruling in [Ruling::Wait, Ruling::Removed] {
        assert_eq!(rulings(&sweep(&installation, Scope::Apply(None)).await), BTreeMap::from([(ruling, 1)]));
    }
    installation.end().await;
}

#[tokio::test]
async fn an_open_pull_request_and_a_hold_keep_even_the_oldest_stray() {
    let mut installation = Installation::begin(Beginning::fair(3)).await;
    // The store knows that it is closed, and nothing else of it.
    let change = |state, draft| {
        installation.outside.hub.change(key(REPO, 1), &super::world::commit(1, false), |facts| {
            facts.state = state;
            facts.draft = draft;
        });
    };
    change(PullState::Open, true);
    change(PullState::Closed, true);
    pass(&mut installation, HOUR).await;
    strays(&installation, 1..=1);
    let left = installation.outside.cloud.residue().len();
    let at = installation.outside.time.now();
    let hold = Brake {
        kind: BrakeKind::Hold,
        key: Some(key(REPO, 1)),
        reason: "evidence".to_owned(),
        by: SetBy::Operator,
        at,
        until: at.plus(HOUR * 40),
    };
    installation.outside.store.set_brake(&hold).await.unwrap();
    pass(&mut installation, HOUR * 39).await;
    assert_eq!(rulings(&sweep(&installation, Scope::DryRun).await), BTreeMap::from([(Ruling::Spare, left)]));
    // GitHub says it is open again, which the store does not know yet: nothing goes on what the store knows.
    installation.outside.hub.change(key(REPO, 1), &super::world::commit(1, false), |facts| {
        facts.state = PullState::Open;
    });
    installation.outside.store.lift_brake(BrakeKind::Hold, hold.key, installation.outside.time.now()).await.unwrap();
    let report = sweep(&installation, Scope::Apply(None)).await;
    assert_eq!(rulings(&report), BTreeMap::from([(Ruling::Spare, left)]), "{report:?}");
    installation.end().await;
}

#[tokio::test]
async fn what_a_closed_environment_left_goes_although_its_pull_request_is_a_draft_again() {
    let mut installation = leaked().await;
    installation.outside.hub.change(key(REPO, 1), &super::world::commit(1, false), |facts| {
        facts.state = PullState::Open;
        facts.draft = true;
    });
    pass(&mut installation, HOUR * 22).await;
    assert_ne!(installation.outside.cloud.residue(), Vec::<String>::new(), "not before a day is over");
    pass(&mut installation, HOUR * 5).await;
    assert_eq!(installation.outside.cloud.residue(), Vec::<String>::new());
    installation.truth.at_rest().await.unwrap();
    installation.end().await;
}

#[tokio::test]
async fn a_sweep_begins_when_its_time_has_come_whoever_makes_it() {
    let mut installation = Installation::begin(Beginning { members: 2, ..Beginning::fair(3) }).await;
    let minutes = |minutes: u64| Duration::from_mins(minutes);
    let swept_at = async |installation: &Installation| {
        installation.outside.store.last_sweep::<Counts>().await.unwrap().map(|counts| counts.at)
    };
    // Nobody but this test sweeps.
    installation.members.iter_mut().for_each(Member::sweep_no_more);
    assert_eq!(swept_at(&installation).await, None);
    let due = async |installation: &Installation, member: usize| {
        installation.members[member].sweep_if_due(HOUR).await.unwrap()
    };
    assert_eq!(due(&installation, 0).await, HOUR);
    let first = swept_at(&installation).await;
    assert_eq!(first, Some(installation.outside.time.now()));
    pass(&mut installation, minutes(20)).await;
    for member in [0, 1] {
        assert_eq!(due(&installation, member).await, minutes(40));
        assert_eq!(swept_at(&installation).await, first);
    }
    pass(&mut installation, minutes(40)).await;
    assert_eq!(due(&installation, 1).await, HOUR);
    let second = swept_at(&installation).await;
    assert_eq!(second, Some(installation.outside.time.now()));
    // A clock that was put back has noted a time that is still to come.
    pass(&mut installation, minutes(1)).await;
    let ahead = installation.outside.time.now().plus(HOUR * 24);
    installation.outside.store.set_mark(kagero::controller::sweep::BEGAN_MARK, ahead.0).await.unwrap();
    assert_eq!(due(&installation, 0).await, HOUR);
    assert_eq!(swept_at(&installation).await, Some(installation.outside.time.now()));
    installation.end().await;
}

/// A sweep whose first termination takes longer than evidence lasts.
async fn with_a_long_removal(installation: &mut Installation) -> Report {
    let (time, dealer) = (installation.outside.time.clone(), installation.outside.dealer.clone());
    time.advance_to(time.elapsed() + HOUR * 24);
    dealer.script(Call::Terminate, 0, Fate::Pause);
    let meanwhile = time.clone();
    installation.members[0]
        .sweep_around(async move { meanwhile.advance_to(meanwhile.elapsed() + Duration::from_secs(70)) })
        .await
}

#[tokio::test]
async fn a_removal_that_takes_long_makes_the_next_one_look_again() {
    let (mut installation, ..) = goldens().await;
    all(&mut installation, 1..=1, true).await;
    all(&mut installation, 1..=1, false).await;
    strays(&installation, 1..=1);
    pass(&mut installation, HOUR * 4).await;
    // What was listed before the machine went is evidence no more when it is the golden's turn.
    let report = with_a_long_removal(&mut installation).await;
    assert_eq!(rulings(&report)[&Ruling::Removed], 2, "{report:?}");
    installation.end().await;
}

#[tokio::test]
async fn of_machines_that_are_removed_together_none_goes_on_evidence_that_has_become_old() {
    let mut installation = Installation::begin(Beginning::fair(9)).await;
    all(&mut installation, 1..=2, true).await;
    all(&mut installation, 1..=2, false).await;
    strays(&installation, 1..=2);
    pass(&mut installation, HOUR * 4).await;
    let report = with_a_long_removal(&mut installation).await;
    assert_eq!(rulings(&report), BTreeMap::from([(Ruling::Removed, 1), (Ruling::Failed, 1)]), "{report:?}");
    let report = sweep(&installation, Scope::Apply(None)).await;
    assert_eq!(rulings(&report).get(&Ruling::Removed), Some(&1), "{report:?}");
    installation.end().await;
}

#[tokio::test]
async fn too_many_orphans_freeze_until_a_person_allows_them() {
    let mut installation = Installation::begin(Beginning::fair(4)).await;
    all(&mut installation, 1..=7, true).await;
    all(&mut installation, 1..=7, false).await;
    strays(&installation, 1..=7);
    pass(&mut installation, HOUR * 26).await;
    assert_eq!(installation.outside.cloud.residue().len(), 7, "a breach takes nothing away");
    let now = installation.outside.time.now();
    let brakes = installation.outside.store.brakes(now).await.unwrap();
    assert!(matches!(brakes.as_slice(), [brake] if brake.by == SetBy::Guard && brake.kind == BrakeKind::Freeze));
    assert!(matches!(sweep(&installation, Scope::Apply(Some(7))).await.outcome, Outcome::Frozen(_)));
    installation.outside.store.lift_brake(BrakeKind::Freeze, None, now).await.unwrap();
    let report = sweep(&installation, Scope::Apply(Some(7))).await;
    assert_eq!(rulings(&report), BTreeMap::from([(Ruling::Removed, 7)]), "{report:?}");
    pass(&mut installation, HOUR).await;
    assert_eq!(installation.outside.cloud.residue(), Vec::<String>::new());
    installation.end().await;
}

#[tokio::test]
async fn no_sweep_touches_a_decoy() {
    for decoy in Decoy::ALL {
        let mut installation = Installation::begin(Beginning::fair(6)).await;
        all(&mut installation, 1..=1, true).await;
        all(&mut installation, 1..=1, false).await;
        installation.outside.cloud.add_decoy(decoy, &installation.outside.policy.install, key(REPO, 1));
        // A violation is found by whoever lets the time pass.
        pass(&mut installation, HOUR * 30).await;
        let report = sweep(&installation, Scope::Apply(None)).await;
        let found = rulings(&report);
        match decoy {
            // Not ours, and not listed as ours.
            Decoy::Production | Decoy::OtherInstall => assert_eq!(found, BTreeMap::new(), "{decoy:?}"),
            // Ours by every sign: the cloud itself does not let it go.
            Decoy::Protected => assert_eq!(found.get(&Ruling::Failed), Some(&1), "{decoy:?}: {report:?}"),
            // Alone in its place: this looks like the wrong credentials.
            Decoy::CopiedTags | Decoy::OtherAccount => {
                assert!(matches!(report.outcome, Outcome::Refused(_)), "{decoy:?}: {report:?}");
                assert_eq!(found, BTreeMap::from([(Ruling::Foreign, 2)]), "{decoy:?}");
            }
            Decoy::Untagged | Decoy::OtherName | Decoy::Future | Decoy::Relabelled => {
                assert_eq!(found, BTreeMap::from([(Ruling::Foreign, 2)]), "{decoy:?}: {report:?}");
            }
        }
        assert_eq!(installation.outside.cloud.breaches(), Vec::<String>::new(), "{decoy:?}");
        installation.end().await;
    }
}

#[tokio::test]
async fn many_that_expire_at_once_are_stopped() {
    let mut installation = Installation::begin(Beginning::fair(8)).await;
    all(&mut installation, 1..=8, true).await;
    // A clock, or a hand in the configuration, has made everything too old.
    installation.outside.policy.max_age = Duration::from_secs(1);
    let policy = installation.outside.policy.clone();
    installation.members[0].adopt(policy).await;
    (1..=8).for_each(|pr| installation.truth.note_unwanted(key(REPO, pr)));
    pass(&mut installation, Duration::from_mins(20)).await;
    let alive = |installation: &Installation| {
        (1..=8)
            .filter(|pr| installation.outside.cloud.alive(installation.uid(key(REPO, *pr)).as_str()) != (0, 0))
            .count()
    };
    assert_eq!(alive(&installation), 3, "5 are never too many");
    let now = installation.outside.time.now();
    let brakes = installation.outside.store.brakes(now).await.unwrap();
    assert!(matches!(brakes.as_slice(), [brake] if brake.by == SetBy::Guard), "{brakes:?}");
    pass(&mut installation, HOUR * 2).await;
    assert_eq!(alive(&installation), 3, "frozen until somebody has looked");
    installation.end().await;
}

/// An installation with a golden that no seed makes any more, and with others that are not to go; it, and them.
async fn goldens() -> (Installation, String, Vec<String>) {
    let installation = Installation::begin(Beginning::fair(9)).await;
    let outside = &installation.outside;
    let (ours, other) = (&outside.policy.install, InstallId::parse("other").unwrap());
    let unused = outside.cloud.add_golden(ours, Some(ours), false);
    let kept = [(Some(ours), true), (Some(&other), false), (None, false)];
    let kept = kept.map(|(install, used)| outside.cloud.add_golden(ours, install, used));
    (installation, unused, kept.to_vec())
}

#[tokio::test]
async fn a_golden_goes_a_day_after_its_seed_and_no_other_does() {
    let (mut installation, unused, kept) = goldens().await;
    pass(&mut installation, HOUR * 23).await;
    assert!(installation.outside.cloud.goldens().contains(&unused), "it went within a day");
    pass(&mut installation, HOUR * 4).await;
    assert_eq!(installation.outside.cloud.goldens(), kept);
    installation.truth.at_rest().await.unwrap();
    installation.end().await;
}

#[tokio::test]
async fn a_golden_stays_if_a_seed_makes_it_again_between_the_verdict_and_the_second_look() {
    let (mut installation, unused, _) = goldens().await;
    pass(&mut installation, HOUR * 4).await;
    let outside = installation.outside.clone();
    outside.time.advance_to(outside.time.elapsed() + HOUR * 24);
    outside.dealer.script(Call::ListGoldens, 1, Fate::Pause);
    let report = installation.members[0].sweep_around(async { outside.cloud.use_golden(&unused, true) }).await;
    assert!(outside.cloud.goldens().contains(&unused), "{report:?}");
    let verdict = report.verdicts.iter().find(|verdict| verdict.name == unused).unwrap();
    assert_eq!((verdict.ruling, verdict.guard), (Ruling::Wait, Some(Guard::InUse)), "{report:?}");
    installation.end().await;
}

#[tokio::test]
async fn whatever_becomes_of_the_calls_a_useless_golden_goes_and_no_other() {
    for call in [Call::ListGoldens, Call::DropGolden] {
        for fate in Fate::ALL {
            let (mut installation, _, kept) = goldens().await;
            installation.outside.dealer.script(call, 0, fate);
            pass(&mut installation, HOUR * 30).await;
            assert!(!installation.outside.dealer.dealt().is_empty(), "no {call:?} met {fate:?}");
            assert_eq!(installation.outside.cloud.goldens(), kept, "{call:?} met {fate:?}");
            installation.truth.at_rest().await.unwrap();
            installation.end().await;
        }
    }
}

#[tokio::test]
async fn a_pause_of_one_environment_stops_that_one_only() {
    let mut installation = Installation::begin(Beginning::fair(31)).await;
    let now = installation.outside.time.now();
    let pause = Brake {
        kind: BrakeKind::Pause,
        key: Some(key(REPO, 1)),
        reason: "somebody looks at it".to_owned(),
        by: SetBy::Operator,
        at: now,
        until: now.plus(HOUR),
    };
    installation.outside.store.set_brake(&pause).await.unwrap();
    for pr in [1, 2] {
        installation.happen(pr, Event::Push { pr, broken: false }).await;
    }
    let alive = |installation: &Installation, pr| {
        let uid = installation.uid(key(REPO, pr));
        installation.outside.cloud.alive(uid.as_str())
    };
    installation.pass_time(HOUR / 2).await.unwrap();
    assert_eq!((alive(&installation, 1), alive(&installation, 2)), ((0, 0), (1, 1)));
    installation.pass_time(HOUR).await.unwrap();
    assert_eq!(alive(&installation, 1), (1, 1), "it is over by itself");
    installation.truth.at_rest().await.unwrap();
    installation.end().await;
}
