//! The rules of `desired`, one row each.

use std::collections::BTreeSet;

use super::{KEY, config_for, policy, pull, repo_config, sha};
use crate::domain::desired::{CapacityLimit, Desired, GoneReason, Obstacle, QueueReason};
use crate::domain::id::{EnvUid, Generation, RepoId};
use crate::domain::ledger::{Held, Ledger, Left, Said, Standing};
use crate::domain::policy::{BotRule, DraftRule, ForkRule, Policy, RepoConfig, RepoSetting, TriggerMode};
use crate::domain::pull::{Pins, PullFacts, PullState};
use crate::domain::time::Timestamp;
use crate::plan::{Ground, Seat, desired};

struct Case {
    policy: Policy,
    pull: PullFacts,
    config: RepoConfig,
    pins: Pins,
    ledger: Option<Ledger>,
    seat: Seat,
    now: Timestamp,
}

impl Case {
    fn new() -> Self {
        Self {
            policy: policy(),
            pull: pull(PullState::Open, 'a'),
            config: repo_config(),
            pins: Pins::default(),
            ledger: None,
            seat: Seat::Granted,
            now: Timestamp(10_000),
        }
    }

    fn live(mut self) -> Self {
        self.ledger = Some(ledger(&self.policy, Standing::Live));
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn verdict(&self) -> Desired {
        let config = config_for(&self.pull, self.config.clone());
        self.verdict_with(Some(&config))
    }

    fn verdict_with(&self, config: Option<&crate::domain::pull::ConfigFacts>) -> Desired {
        desired(Ground {
            key: KEY,
            pull: Some(&self.pull),
            config,
            pins: &self.pins,
            ledger: self.ledger.as_ref(),
            seat: &self.seat,
            taken: &BTreeSet::new(),
            clone_url: "https://github.com/acme/shop.git",
            policy: &self.policy,
            now: self.now,
        })
    }
}

pub(super) fn ledger(policy: &Policy, standing: Standing) -> Ledger {
    Ledger {
        key: KEY,
        uid: EnvUid::derive(&policy.install, KEY),
        generation: Generation::FIRST,
        hosts: Vec::new(),
        enrolled_at: Timestamp(5_000),
        standing,
        slot: None,
        left: None,
        intents: Vec::new(),
        proven: None,
        said: Said::default(),
    }
}

fn gone(why: GoneReason) -> Desired {
    Desired::Gone(why)
}

#[track_caller]
fn runs(case: &Case) {
    assert!(matches!(case.verdict(), Desired::Running(_)), "{:?}", case.verdict());
}

#[test]
fn an_ordinary_pull_request_runs() {
    runs(&Case::new());
    runs(&Case::new().live());
}

#[test]
fn closed_and_merged_mean_gone_whatever_else_is_true() {
    for (state, why) in [(PullState::Closed, GoneReason::Closed), (PullState::Merged, GoneReason::Merged)] {
        let case = Case::new().live().with(|c| {
            c.pull.state = state;
            c.pull.base_ref = "elsewhere".to_owned();
            c.policy.repositories = vec!["other/*".to_owned()];
        });
        assert_eq!(case.verdict_with(None), gone(why));
    }
}

#[test]
fn what_is_not_known_changes_nothing() {
    let case = Case::new().live();
    assert!(matches!(case.verdict_with(None), Desired::Unchanged(Obstacle::NotRead(_))));
    let other = config_for(&pull(PullState::Open, 'b'), repo_config());
    assert!(matches!(case.verdict_with(Some(&other)), Desired::Unchanged(Obstacle::NotRead(_))));
    let mut broken = config_for(&case.pull, repo_config());
    broken.setting = RepoSetting::Broken("line 3".to_owned());
    assert_eq!(case.verdict_with(Some(&broken)), Desired::Unchanged(Obstacle::BrokenConfig("line 3".to_owned())));
}

#[test]
fn a_repository_taken_off_the_list_keeps_what_lives_and_gets_nothing_new() {
    let off = |c: &mut Case| c.policy.repositories = vec!["other/*".to_owned()];
    assert_eq!(Case::new().with(off).verdict(), gone(GoneReason::RepositoryNotAllowed));
    assert_eq!(Case::new().live().with(off).verdict(), Desired::Unchanged(Obstacle::RepositoryNotAllowed));
}

#[test]
fn labels_opt_out_and_in() {
    let off = Case::new().live().with(|c| {
        c.pull.labels.extend(["preview:off".to_owned(), "preview".to_owned()]);
    });
    assert_eq!(off.verdict(), gone(GoneReason::OptedOut("preview:off".to_owned())));
    let asks = Case::new().with(|c| c.config.trigger.mode = TriggerMode::OnLabel);
    assert_eq!(asks.verdict(), gone(GoneReason::LabelMissing("preview".to_owned())));
    runs(&asks.with(|c| {
        c.pull.labels.insert("preview".to_owned());
    }));
}

#[test]
fn drafts_sleep_if_they_live_and_are_not_made_otherwise() {
    let draft = |c: &mut Case| c.pull.draft = true;
    assert_eq!(Case::new().with(draft).verdict(), gone(GoneReason::Draft));
    assert!(matches!(Case::new().live().with(draft).verdict(), Desired::Asleep(_)));
    runs(&Case::new().with(draft).with(|c| c.config.trigger.draft = DraftRule::Run));
}

#[test]
fn base_branches_are_matched_as_paths() {
    runs(&Case::new().with(|c| c.pull.base_ref = "release/1".to_owned()));
    for other in ["develop", "release/1/2", "mainly"] {
        let case = Case::new().with(|c| c.pull.base_ref = other.to_owned());
        assert_eq!(case.verdict(), gone(GoneReason::BaseBranch(other.to_owned())));
    }
    runs(&Case::new().with(|c| {
        c.config.trigger.base_branches.clear();
        c.pull.base_ref = "anything".to_owned();
    }));
}

#[test]
fn a_fork_needs_the_approval_of_exactly_this_commit() {
    for head_repo in [None, Some(RepoId(7))] {
        let fork = |c: &mut Case| c.pull.head_repo = head_repo;
        assert_eq!(Case::new().with(fork).verdict(), gone(GoneReason::ForkUnapproved(sha('a'))));
        runs(&Case::new().with(fork).with(|c| c.pins.approved_sha = Some(sha('a'))));
        let pushed = Case::new().live().with(fork).with(|c| c.pins.approved_sha = Some(sha('b')));
        assert_eq!(pushed.verdict(), Desired::Unchanged(Obstacle::ForkUnapproved(sha('a'))));
        let never = Case::new().with(fork).with(|c| c.config.trigger.forks = ForkRule::Never);
        assert_eq!(never.verdict(), gone(GoneReason::ForkNever));
    }
}

#[test]
fn bots_follow_their_rule() {
    let bot = |c: &mut Case| c.pull.author_is_bot = true;
    assert_eq!(Case::new().with(bot).verdict(), gone(GoneReason::LabelMissing("preview".to_owned())));
    runs(&Case::new().with(bot).with(|c| {
        c.pull.labels.insert("preview".to_owned());
    }));
    runs(&Case::new().with(bot).with(|c| c.config.trigger.bots = BotRule::Run));
    let never = Case::new().with(bot).with(|c| c.config.trigger.bots = BotRule::Never);
    assert_eq!(never.verdict(), gone(GoneReason::Bot));
}

#[test]
fn age_ends_an_environment_without_github_and_a_push_brings_it_back() {
    let day = 24 * 3_600_000;
    let old = Case::new().live().with(|c| c.now = Timestamp(15 * day));
    assert_eq!(old.verdict(), gone(GoneReason::Expired));
    assert!(matches!(Case::new().live().with(|c| c.now = Timestamp(13 * day)).verdict(), Desired::Running(_)));
    let left = |c: &mut Case| {
        let mut row = ledger(&c.policy, Standing::Released(c.now));
        row.left = Some(Left { why: GoneReason::Expired, head_sha: Some(sha('a')), at: c.now, held: Held::default() });
        c.ledger = Some(row);
    };
    assert_eq!(Case::new().with(left).verdict(), gone(GoneReason::Expired));
    let closed_before = Case::new().with(left).with(|c| c.pins.closed_at = Some(Timestamp(c.now.0 - 1)));
    assert_eq!(closed_before.verdict(), gone(GoneReason::Expired));
    let pushed = Case::new().with(left).with(|c| c.pull = pull(PullState::Open, 'b'));
    let reopened = Case::new().with(left).with(|c| c.pins.closed_at = Some(Timestamp(c.now.0 + 1)));
    for back in [pushed, reopened] {
        match back.verdict() {
            Desired::Running(spec) => assert_eq!(spec.generation, Generation(2)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_reopened_pull_request_first_finishes_leaving() {
    let leaving = Case::new().with(|c| c.ledger = Some(ledger(&c.policy, Standing::Leaving(c.now))));
    assert_eq!(leaving.verdict(), gone(GoneReason::Superseded));
    let released = Case::new().with(|c| c.ledger = Some(ledger(&c.policy, Standing::Released(c.now))));
    match released.verdict() {
        Desired::Running(spec) => assert_eq!(spec.generation, Generation(2)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_seat_it_waits_and_a_seat_once_held_is_kept() {
    let reason = QueueReason { position: 2, limit: CapacityLimit::Environments, holders: 3 };
    let waits = |c: &mut Case| {
        c.seat = Seat::Waiting(QueueReason { position: 2, limit: CapacityLimit::Environments, holders: 3 });
    };
    assert_eq!(Case::new().with(waits).verdict(), Desired::Queued(reason));
    runs(&Case::new().live().with(waits));
}

#[test]
fn what_the_operator_has_not_set_up_is_said_and_nothing_is_made() {
    let seed = Case::new().with(|c| c.policy.seeds.clear());
    assert!(matches!(seed.verdict(), Desired::Unchanged(Obstacle::Unservable(text)) if text.contains("golden")));
    let secret = Case::new().with(|c| c.config.secrets.push("OTHER".to_owned()));
    assert!(matches!(secret.verdict(), Desired::Unchanged(Obstacle::Unservable(text)) if text.contains("OTHER")));
}

#[test]
fn an_operator_can_send_an_open_one_away() {
    let case = Case::new().live().with(|c| c.pins.destroy_requested_at = Some(Timestamp(1)));
    assert_eq!(case.verdict(), gone(GoneReason::Requested));
}
