//! What people read, as snapshots; and that hostile text stays text.

use crate::domain::network::Placements;
use std::time::Duration;

use super::comment::{body, marker, without_times};
use super::say::{Deploying, say};
use super::view::{EnvView, Phase, Removed, ServiceView, StageState, StageView};
use crate::domain::assignment::ServiceState;
use crate::domain::desired::{CapacityLimit, GoneReason, QueueReason};
use crate::domain::id::{CommitSha, EnvKey, EnvUid, Generation, InstallId, PrNumber, RepoId, RepoName, ServiceName};
use crate::domain::ledger::{CommentSaid, DeploymentSaid, DeploymentState, Held, Said};
use crate::domain::policy::{AllowList, Labels, Limits, LinkBase, Pace, Policy};
use crate::domain::step::Step;
use crate::domain::time::Timestamp;

const KEY: EnvKey = EnvKey { repo: RepoId(42), pr: PrNumber(12) };

fn sha(digit: char) -> CommitSha {
    CommitSha::parse(digit.to_string().repeat(40)).unwrap()
}

fn view(phase: Phase) -> EnvView {
    let link = "https://pr-12-shop.preview.test/".to_owned();
    EnvView {
        key: KEY,
        repo: RepoName::parse("acme/shop").unwrap(),
        uid: EnvUid::parse("0123456789abcdef0123").unwrap(),
        generation: Generation(1),
        phase,
        commit: Some(sha('a')),
        serving: None,
        url: Some(link.clone()),
        services: vec![
            ServiceView {
                name: ServiceName::parse("web").unwrap(),
                state: Some(ServiceState::Healthy),
                url: Some(link),
            },
            ServiceView { name: ServiceName::parse("worker").unwrap(), state: Some(ServiceState::Starting), url: None },
        ],
        stages: vec![
            StageView { name: "checkout".to_owned(), state: StageState::Done, took_ms: Some(420) },
            StageView { name: "build".to_owned(), state: StageState::Running, took_ms: Some(90_000) },
        ],
        detail: None,
        log_tail: Vec::new(),
        seed: Some("golden".to_owned()),
        removed: Some(Removed { held: Held { machines: 1, databases: 1 }, checked_at: Timestamp(1_767_000_000_000) }),
        ready_after_ms: Some(2_345),
        brakes: Vec::new(),
        at: Timestamp(1_795_000_000_000),
    }
}

fn policy() -> Policy {
    Policy {
        install: InstallId::parse("test").unwrap(),
        domain: "preview.test".to_owned(),
        link: LinkBase { scheme: "https".to_owned(), port: None },
        repositories: Vec::new(),
        limits: Limits { environments: 1, per_repository: 1, builds: 100, attempts: 1 },
        pace: Pace {
            busy: Duration::from_millis(100),
            idle: Duration::from_secs(15),
            comment: Duration::from_secs(30),
            grace: Duration::ZERO,
        },
        labels: Labels { on: "preview".to_owned(), off: "preview:off".to_owned() },
        allow: AllowList { accounts: Vec::new(), regions: Vec::new(), networks: Vec::new() },
        max_age: Duration::from_hours(24),
        seeds: std::collections::BTreeMap::new(),
        secrets: std::collections::BTreeSet::new(),
        removals: crate::domain::policy::RemovalLimits::default(),
        placements: Placements::default(),
        slots: Vec::new(),
    }
}

#[test]
fn comments_of_every_phase() {
    let queued = QueueReason { position: 2, limit: CapacityLimit::Environments, holders: 20 };
    let failed = EnvView {
        detail: Some("build ended with exit status 2 after 14 s; see the log".to_owned()),
        log_tail: vec!["cc -o app app.c".to_owned(), "app.c:3: error: expected ';'".to_owned()],
        ..view(Phase::Failed)
    };
    let all = [
        ("queued", view(Phase::Queued(queued))),
        ("building", view(Phase::Building)),
        ("updating", EnvView { serving: Some(sha('b')), ..view(Phase::Updating) }),
        ("ready", view(Phase::Ready)),
        ("failed", EnvView { url: None, ..failed.clone() }),
        ("update_failed", EnvView { phase: Phase::UpdateFailed, serving: Some(sha('b')), ..failed }),
        ("asleep", view(Phase::Asleep)),
        ("destroying", view(Phase::Destroying(GoneReason::Merged))),
        ("destroy_failing", view(Phase::DestroyFailing(GoneReason::Closed))),
        ("destroyed", view(Phase::Destroyed(GoneReason::Merged))),
        ("fork", view(Phase::NotWanted(GoneReason::ForkUnapproved(sha('c'))))),
        (
            "broken_config",
            EnvView {
                url: None,
                services: Vec::new(),
                stages: Vec::new(),
                detail: Some(".kagero.yml:3:1: unknown key\n  3 | servces:\n    | ^^^^^^^".to_owned()),
                ..view(Phase::Stuck)
            },
        ),
    ];
    for (name, view) in all {
        insta::assert_snapshot!(name, body(&view));
    }
}

#[test]
fn text_from_outside_cannot_leave_its_place() {
    let fence = "```\n</details>\n@everyone <script>alert(1)</script>\n````";
    let hostile = EnvView {
        detail: Some("@octocat [x](http://evil) <img src=x> | table\u{1b}[31m".to_owned()),
        log_tail: fence.lines().map(ToOwned::to_owned).collect(),
        ..view(Phase::Failed)
    };
    let text = body(&hostile);
    assert!(!text.contains("@octocat"), "{text}");
    assert!(!text.contains("](http://evil"), "{text}");
    assert!(!text.contains("<img"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.contains("`````text\n```\n"), "the fence must be longer than any in the log: {text}");
}

#[test]
fn a_flood_of_log_still_fits_into_a_comment() {
    let flood = EnvView {
        detail: Some(format!("one\n{}", "y".repeat(200_000))),
        log_tail: vec!["x".repeat(200_000)],
        ..view(Phase::Failed)
    };
    let text = body(&flood);
    assert!(text.chars().count() <= super::comment::MAX_CHARACTERS, "{}", text.chars().count());
    assert!(text.starts_with(&marker(&flood.uid)));
}

#[test]
fn a_deployment_whose_creation_was_not_heard_of_is_found_or_asked_for_again() {
    let view = view(Phase::Building);
    let unheard =
        Said { deployments: vec![DeploymentSaid::asked(sha('a')), DeploymentSaid::asked(sha('b'))], ..said(&view, 0) };
    let steps = say(&view, &unheard, Deploying::Follow, &policy(), Timestamp(60_000)).steps;
    assert_eq!(steps, [Step::FindDeployment { sha: sha('b') }, Step::CreateDeployment { sha: sha('a') }]);
    let mut heard = unheard;
    heard.know(&sha('a'), Some(7));
    heard.know(&sha('b'), None);
    assert_eq!(heard.deployments, [DeploymentSaid { id: Some(7), ..DeploymentSaid::asked(sha('a')) }]);
}

#[test]
fn what_may_still_be_on_its_way_is_not_looked_for() {
    let view = view(Phase::Building);
    let mut unheard = said(&view, 0);
    unheard.doubt(&Step::CreateDeployment { sha: sha('b') }, Timestamp(60_000));
    let mut policy = policy();
    policy.pace.grace = Duration::from_mins(5);
    let early = say(&view, &unheard, Deploying::Follow, &policy, Timestamp(60_000));
    assert_eq!((kinds(&early.steps), early.wait), (vec![], Some(policy.pace.grace)));
    let late = say(&view, &unheard, Deploying::Follow, &policy, Timestamp(60_000).plus(policy.pace.grace));
    assert_eq!((kinds(&late.steps), late.wait), (vec!["find-deployment"], None));
}

fn deployment(sha: CommitSha, state: Option<DeploymentState>) -> DeploymentSaid {
    DeploymentSaid { id: Some(7), state, ..DeploymentSaid::asked(sha) }
}

#[test]
fn a_status_that_may_not_be_the_one_noted_is_set_again_in_its_round() {
    let view = view(Phase::Building);
    let doubted = said(&view, 0).doubted();
    let early = say(&view, &doubted, Deploying::Follow, &policy(), Timestamp(1_000));
    assert_eq!((kinds(&early.steps), early.wait.is_some()), (vec![], true));
    let due = say(&view, &doubted, Deploying::Follow, &policy(), Timestamp(60_000));
    assert_eq!(kinds(&due.steps), ["set-deployment", "comment"]);
}

fn kinds(steps: &[Step]) -> Vec<&'static str> {
    steps.iter().map(Step::kind).collect()
}

fn said(view: &EnvView, at: i64) -> Said {
    Said {
        comment: Some(CommentSaid { id: 1, digest: crate::domain::id::digest(&["comment", &without_times(view)], 32) }),
        deployments: vec![deployment(sha('a'), Some(DeploymentState::InProgress))],
        written_at: Some(Timestamp(at)),
    }
}

#[test]
fn the_same_text_is_not_written_twice() {
    let building = view(Phase::Building);
    let later = EnvView { at: Timestamp(building.at.0 + 60_000), ..building.clone() };
    let sayings = say(&later, &said(&building, 0), Deploying::Follow, &policy(), Timestamp(60_000));
    assert_eq!(sayings, super::say::Sayings::default());
}

#[test]
fn a_queue_that_moves_is_no_reason_to_write() {
    let queued = |position| {
        view(Phase::Queued(QueueReason { position, limit: CapacityLimit::Environments, holders: 20 + position }))
    };
    assert_eq!(without_times(&queued(7)), without_times(&queued(2)));
    assert!(body(&queued(2)).contains("position 2"));
}

#[test]
fn an_edit_waits_for_its_turn_and_the_final_state_is_always_written() {
    let building = view(Phase::Building);
    let ready = view(Phase::Ready);
    let early = say(&ready, &said(&building, 10_000), Deploying::Follow, &policy(), Timestamp(12_000));
    assert!(early.steps.is_empty(), "{:?}", early.steps);
    assert_eq!(early.wait, Some(Duration::from_secs(28)));
    let due = say(&ready, &said(&building, 10_000), Deploying::Follow, &policy(), Timestamp(40_000));
    assert_eq!(kinds(&due.steps), ["set-deployment", "comment"]);
    assert_eq!(due.wait, None);
}

#[test]
fn what_is_not_decided_or_not_approved_has_no_deployment_and_is_spoken_of_all_the_same() {
    let building = view(Phase::Building);
    let kinds_of = |said: &Said, deploying| kinds(&say(&building, said, deploying, &policy(), Timestamp(60_000)).steps);
    let (nothing, old) = (Said::default(), [deployment(sha('b'), Some(DeploymentState::Success))]);
    let superseded = Said { deployments: old.to_vec(), ..Said::default() };
    assert_eq!(kinds_of(&nothing, Deploying::Follow), ["create-deployment", "comment"]);
    for deploying in [Deploying::End, Deploying::Leave] {
        assert_eq!(kinds_of(&nothing, deploying), ["comment"], "{deploying:?}");
    }
    assert_eq!(kinds_of(&superseded, Deploying::End), ["set-deployment", "comment"], "it is ended");
    assert_eq!(kinds_of(&superseded, Deploying::Leave), ["comment"], "it stays");
}

#[test]
fn deployments_follow_the_phase_and_end_inactive() {
    let with = |state: Option<DeploymentState>, sha: CommitSha| Said {
        deployments: vec![deployment(sha, state)],
        ..Said::default()
    };
    let state_after = |view: &EnvView, said: &Said| {
        say(view, said, Deploying::Follow, &policy(), Timestamp(0)).steps.into_iter().find_map(|step| match step {
            Step::SetDeployment { state, url, .. } => Some((state, url)),
            _ => None,
        })
    };
    let ready = view(Phase::Ready);
    let first = say(&ready, &Said::default(), Deploying::Follow, &policy(), Timestamp(0));
    assert_eq!(kinds(&first.steps), ["create-deployment", "comment"]);
    assert_eq!(
        state_after(&ready, &with(None, sha('a'))),
        Some((DeploymentState::Success, Some("https://pr-12-shop.preview.test/".to_owned())))
    );
    let failed = state_after(&view(Phase::Failed), &with(Some(DeploymentState::InProgress), sha('a')));
    assert_eq!(failed, Some((DeploymentState::Failure, None)));
    for phase in [Phase::Destroyed(GoneReason::Merged), Phase::Asleep] {
        let ended = state_after(&view(phase), &with(Some(DeploymentState::Success), sha('a')));
        assert_eq!(ended, Some((DeploymentState::Inactive, None)));
    }
    // The commit that still answers keeps its deployment while the next one is being made.
    let updating = EnvView { serving: Some(sha('b')), ..view(Phase::Updating) };
    assert_eq!(state_after(&updating, &with(Some(DeploymentState::Success), sha('b'))), None);
    let replaced = EnvView { serving: Some(sha('a')), ..view(Phase::Ready) };
    assert_eq!(
        state_after(&replaced, &with(Some(DeploymentState::Success), sha('b'))),
        Some((DeploymentState::Inactive, None))
    );
}
