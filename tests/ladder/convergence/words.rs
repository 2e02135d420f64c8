//! What was said on GitHub in a simulated world: what nobody ends any more is found and goes, everything else stays.

use std::time::Duration;

use kagero::controller::sweep::{Report, Scope};
use kagero::domain::guard::Guard;
use kagero::domain::id::{EnvKey, EnvUid, InstallId, RepoId, RepoName};
use kagero::domain::ledger::{DeploymentState, Standing};
use kagero::domain::pull::PullState;
use kagero::domain::words::marker;
use kagero::forge::budget::WriteBudget;
use kagero::plan::sweep::{Ruling, Verdict};
use kagero::sim::fate::{Call, Fate};
use kagero::sim::hub::{Mood, Pull, key};

use super::sweep::{all, leaked, pass, sweep};
use super::world::{Beginning, CONFIG, Installation, REPO, commit};

const HOUR: Duration = Duration::from_hours(1);

/// Pull request 1 has an environment.
async fn one(seed: u64) -> Installation {
    let mut installation = Installation::begin(Beginning::fair(seed)).await;
    all(&mut installation, 1..=1, true).await;
    installation
}

fn comment_of(installation: &Installation, key: EnvKey) -> String {
    format!("{}\n### ready\n", marker(&installation.uid(key)))
}

/// A second comment and a second deployment of an environment, which its record does not name.
fn doubles(installation: &Installation, key: EnvKey) -> (u64, u64) {
    let (hub, uid) = (&installation.outside.hub, installation.uid(key));
    let comment = hub.add_comment(key, true, &comment_of(installation, key)).unwrap();
    (comment, hub.add_deployment(key, uid.as_str(), Some(DeploymentState::Success)).unwrap())
}

fn pull(installation: &Installation, key: EnvKey) -> Pull {
    installation.outside.hub.pull(key).unwrap()
}

fn stands(installation: &Installation, key: EnvKey, (comment, deployment): (u64, u64)) -> (bool, bool) {
    let pull = pull(installation, key);
    let alive = pull.deployments[&deployment].1 != Some(DeploymentState::Inactive);
    (pull.comments.contains_key(&comment), alive)
}

/// Verdicts on what was said.
fn on_words(report: &Report) -> Vec<&Verdict> {
    report.verdicts.iter().filter(|verdict| matches!(verdict.subject.kind(), "comment" | "deployment")).collect()
}

fn rulings(report: &Report) -> Vec<(&'static str, Ruling)> {
    on_words(report).iter().map(|verdict| (verdict.subject.kind(), verdict.ruling)).collect()
}

#[tokio::test]
async fn a_double_comment_and_a_dead_deployment_go_after_a_day_and_not_before() {
    let mut installation = one(31).await;
    let left = doubles(&installation, key(REPO, 1));
    let before = pull(&installation, key(REPO, 1));
    let both = |ruling| vec![("comment", ruling), ("deployment", ruling)];
    assert_eq!(rulings(&sweep(&installation, Scope::DryRun).await), both(Ruling::Wait));
    assert!(installation.outside.store.sweep_marks().await.unwrap().is_empty(), "a dry run notes nothing");
    pass(&mut installation, HOUR * 23).await;
    assert_eq!(stands(&installation, key(REPO, 1), left), (true, true));
    assert_eq!(rulings(&sweep(&installation, Scope::DryRun).await), both(Ruling::Wait));
    pass(&mut installation, HOUR * 3).await;
    assert_eq!(stands(&installation, key(REPO, 1), left), (false, false));
    // What the record names is as it was.
    let after = pull(&installation, key(REPO, 1));
    assert_eq!(after.comments.len(), 1);
    assert!(before.comments.iter().any(|(id, _)| after.comments.contains_key(id) && *id != left.0));
    let others = |pull: &Pull| -> Vec<_> {
        pull.deployments.iter().filter(|(id, _)| **id != left.1).map(|(id, made)| (*id, made.clone())).collect()
    };
    assert_eq!(others(&before), others(&after));
    installation.truth.at_rest().await.unwrap();
    let journal = installation.outside.store.journal(key(REPO, 1), 100).await.unwrap();
    for kind in ["sweep-comment", "sweep-deployment"] {
        let rows: Vec<_> = journal.iter().filter(|row| row.kind == kind).collect();
        assert!(rows.len() == 1 && rows[0].ended.is_some(), "{kind}: {journal:?}");
    }
    installation.end().await;
}

#[tokio::test]
async fn what_is_not_proven_ours_stays_for_ever() {
    let mut installation = one(32).await;
    let (key, hub) = (key(REPO, 1), installation.outside.hub.clone());
    let other = EnvUid::derive(&InstallId::parse("other").unwrap(), key);
    let copied = hub.add_comment(key, false, &comment_of(&installation, key)).unwrap();
    hub.add_comment(key, false, "Looks good to me").unwrap();
    let others = hub.add_comment(key, true, &marker(&other)).unwrap();
    let theirs = hub.add_deployment(key, other.as_str(), Some(DeploymentState::Success)).unwrap();
    let nameless = hub.add_deployment(key, "v1.2.3", Some(DeploymentState::Success)).unwrap();
    let before = hub.pull(key).unwrap();
    pass(&mut installation, HOUR * 40).await;
    let after = hub.pull(key).unwrap();
    assert_eq!((&after.others, &after.comments), (&before.others, &before.comments));
    assert_eq!(after.deployments, before.deployments);
    assert!(after.others.contains_key(&copied) && after.comments.contains_key(&others));
    assert!(after.deployments.contains_key(&theirs) && after.deployments.contains_key(&nameless));
    assert_eq!(on_words(&sweep(&installation, Scope::DryRun).await), Vec::<&Verdict>::new());
    installation.end().await;
}

/// What is left of a pull request that has no environment, and that no record speaks for.
async fn forgotten(seed: u64) -> (Installation, (u64, u64)) {
    let mut installation = one(seed).await;
    let key = key(REPO, 2);
    // It has opted out, so that nobody makes it an environment.
    let off = installation.outside.policy.labels.off.clone();
    installation.outside.hub.change(key, &commit(9, false), |facts| {
        facts.labels.insert(off);
    });
    installation.truth.note_unwanted(key);
    pass(&mut installation, HOUR).await;
    if let Some(ledger) = installation.outside.store.ledger(key).await.unwrap() {
        assert!(matches!(ledger.standing, Standing::Released(_)) && ledger.said.comment.is_none());
    }
    let left = doubles(&installation, key);
    (installation, left)
}

#[tokio::test]
async fn an_orphan_of_a_pull_request_without_an_environment_goes() {
    let (mut installation, left) = forgotten(33).await;
    pass(&mut installation, HOUR * 27).await;
    assert_eq!(stands(&installation, key(REPO, 2), left), (false, false));
    installation.end().await;
}

#[tokio::test]
async fn an_open_pull_request_without_a_record_spares_its_own() {
    let (mut installation, left) = forgotten(34).await;
    pass(&mut installation, HOUR * 20).await;
    installation.outside.time.advance_to(installation.outside.time.elapsed() + HOUR * 10);
    // Nobody has told us yet that it is wanted; the marks are old by now, and GitHub is asked.
    let off = installation.outside.policy.labels.off.clone();
    installation.outside.hub.change(key(REPO, 2), &commit(9, false), |facts| {
        facts.labels.remove(&off);
    });
    let report = sweep(&installation, Scope::Apply(None)).await;
    let spared = on_words(&report);
    assert!(
        spared.len() == 2 && spared.iter().all(|v| (v.ruling, v.guard) == (Ruling::Spare, Some(Guard::OpenPull))),
        "{report:?}"
    );
    assert_eq!(stands(&installation, key(REPO, 2), left), (true, true));
    // It is closed for good: what was spared is still known, however long ago it was made.
    installation.outside.hub.change(key(REPO, 2), &commit(9, false), |facts| facts.state = PullState::Closed);
    let report = sweep(&installation, Scope::Apply(None)).await;
    assert_eq!(rulings(&report), [("comment", Ruling::Removed), ("deployment", Ruling::Removed)], "{report:?}");
    installation.end().await;
}

#[tokio::test]
async fn a_repository_that_cannot_be_listed_spares_only_its_own() {
    let mut installation = Installation::begin(Beginning::fair(35)).await;
    let other = REPO + 1;
    installation.outside.hub.add_repo(RepoId(other), RepoName::parse("acme/tools").unwrap(), CONFIG);
    all(&mut installation, 1..=1, true).await;
    installation.outside.hub.change(key(other, 1), &commit(7, false), |_| {});
    pass(&mut installation, HOUR).await;
    let (here, there) = (doubles(&installation, key(REPO, 1)), doubles(&installation, key(other, 1)));
    pass(&mut installation, HOUR * 3).await;
    installation.outside.time.advance_to(installation.outside.time.elapsed() + HOUR * 24);
    installation.outside.hub.uninstall(RepoId(REPO));
    let report = sweep(&installation, Scope::Apply(None)).await;
    assert!(report.doubts.iter().any(|doubt| doubt.contains("acme/shop")), "{report:?}");
    assert_eq!(stands(&installation, key(REPO, 1), here), (true, true));
    assert_eq!(stands(&installation, key(other, 1), there), (false, false));
    let marks = installation.outside.store.sweep_marks().await.unwrap();
    let kept = marks.iter().filter(|mark| mark.subject.id().starts_with(&format!("{REPO}/"))).count();
    assert_eq!(kept, 2, "its marks stay");
    installation.end().await;
}

#[tokio::test]
async fn a_repository_that_does_not_answer_holds_the_sweep_of_the_cloud_up_for_a_moment_only() {
    let mut installation = leaked().await;
    let left = installation.outside.cloud.residue().len();
    installation.outside.dealer.script(Call::Read, 0, Fate::Pause);
    let report = installation.members[0].sweep_unanswered(Duration::from_secs(21)).await;
    assert!(report.doubts[0].contains("no answer in time"), "{:?}", report.doubts);
    assert_eq!(report.verdicts.iter().filter(|verdict| verdict.ruling == Ruling::Wait).count(), left);
    installation.end().await;
}

#[tokio::test]
async fn a_budget_that_is_used_up_leaves_them_for_the_next_sweep() {
    let mut installation = one(36).await;
    let left = doubles(&installation, key(REPO, 1));
    pass(&mut installation, HOUR * 3).await;
    installation.outside.time.advance_to(installation.outside.time.elapsed() + HOUR * 24);
    let now = installation.outside.time.now();
    for _ in 0..60 {
        let written =
            installation.outside.store.take_write(key(REPO, 9), now, WriteBudget::WINDOW, |_| Ok::<(), ()>(())).await;
        written.unwrap().unwrap();
    }
    let report = sweep(&installation, Scope::Apply(None)).await;
    assert_eq!(rulings(&report), [("comment", Ruling::Wait), ("deployment", Ruling::Wait)], "{report:?}");
    assert!(on_words(&report).iter().all(|verdict| verdict.why.contains("budget")), "{report:?}");
    assert_eq!(stands(&installation, key(REPO, 1), left), (true, true));
    pass(&mut installation, HOUR * 2).await;
    assert_eq!(stands(&installation, key(REPO, 1), left), (false, false));
    installation.end().await;
}

#[tokio::test]
async fn what_was_not_reached_is_looked_at_by_the_next_sweep() {
    let mut installation = one(37).await;
    let (key, uid) = (key(REPO, 1), installation.uid(key(REPO, 1)));
    for _ in 0..150 {
        installation.outside.hub.add_deployment(key, uid.as_str(), Some(DeploymentState::Inactive)).unwrap();
        installation.outside.time.advance_to(installation.outside.time.elapsed() + Duration::from_secs(1));
    }
    let dead = installation.outside.hub.add_deployment(key, uid.as_str(), None).unwrap();
    // Later than what a sweep lists again in any case.
    installation.outside.time.advance_to(installation.outside.time.elapsed() + HOUR * 2);
    let seen = |report: &Report| on_words(report).len();
    assert_eq!(seen(&sweep(&installation, Scope::Apply(None)).await), 0, "a hundred were asked for");
    assert_eq!(seen(&sweep(&installation, Scope::Apply(None)).await), 1);
    pass(&mut installation, HOUR * 27).await;
    assert_eq!(pull(&installation, key).deployments[&dead].1, Some(DeploymentState::Inactive));
    installation.end().await;
}

#[tokio::test]
async fn what_a_record_comes_to_name_before_the_second_look_stays() {
    let mut installation = one(38).await;
    let (key, outside) = (key(REPO, 1), installation.outside.clone());
    let left = doubles(&installation, key);
    // Something else is due too, which is listed anew before it goes.
    outside.cloud.add_golden(&outside.policy.install, Some(&outside.policy.install), false);
    pass(&mut installation, HOUR * 3).await;
    outside.time.advance_to(outside.time.elapsed() + HOUR * 24);
    // It stands still at the second listing of goldens, after the verdicts.
    outside.dealer.script(Call::ListGoldens, 1, Fate::Pause);
    let store = outside.store.clone();
    let meanwhile = async {
        let now = outside.time.now();
        let lease = store.acquire(key, "another", HOUR, now).await.unwrap().unwrap();
        let mut said = store.ledger(key).await.unwrap().unwrap().said;
        said.comment.as_mut().unwrap().id = left.0;
        store.put_said(&lease, &said).await.unwrap();
        store.release_lease(&lease).await.unwrap();
    };
    let report = installation.members[0].sweep_around(meanwhile).await;
    let verdict = on_words(&report).into_iter().find(|verdict| verdict.subject.kind() == "comment").unwrap().clone();
    assert_eq!((verdict.ruling, verdict.guard), (Ruling::Wait, Some(Guard::InUse)), "{report:?}");
    assert_eq!(stands(&installation, key, left), (true, false));
    installation.end().await;
}

#[tokio::test]
async fn whatever_becomes_of_the_calls_they_go_and_nothing_else_does() {
    for (call, number) in [(Call::Comment, 0), (Call::SetDeployment, 0), (Call::Read, 300)] {
        for fate in Fate::ALL {
            let mut installation = one(39).await;
            let left = doubles(&installation, key(REPO, 1));
            installation.outside.dealer.script(call, number, fate);
            pass(&mut installation, HOUR * 30).await;
            assert!(!installation.outside.dealer.dealt().is_empty(), "no {call:?} met {fate:?}");
            assert_eq!(stands(&installation, key(REPO, 1), left), (false, false), "{call:?} met {fate:?}");
            installation.truth.at_rest().await.unwrap();
            installation.end().await;
        }
    }
}

#[tokio::test]
async fn what_carries_a_mark_is_read_by_itself_whatever_the_listings_lack() {
    let mut installation = one(40).await;
    let before = pull(&installation, key(REPO, 1));
    let left = doubles(&installation, key(REPO, 1));
    pass(&mut installation, HOUR * 2).await;
    installation.outside.hub.set_mood(Mood { empty_permille: 1_000, ..Mood::default() });
    pass(&mut installation, HOUR * 27).await;
    assert_eq!(stands(&installation, key(REPO, 1), left), (false, false));
    assert_eq!(pull(&installation, key(REPO, 1)).comments, before.comments);
    installation.end().await;
}
