//! Values of the domain as nobody would write them by hand: control characters, quotes, largest numbers.

use kagero::domain::network::Placement;
use std::collections::BTreeMap;
use std::time::Duration;

use kagero::domain::assignment::TaskDigest;
use kagero::domain::id::{
    CommitSha, EnvKey, EnvUid, Generation, HostLabel, InstallId, InstallationId, PrNumber, RepoId, RepoName, SeedName,
    ServiceName, SlotId,
};
use kagero::domain::ledger::{
    Answer, CommentSaid, DeploymentSaid, DeploymentState, Host, Intent, Ledger, Proof, Role, Said, Standing, Token,
};
use kagero::domain::policy::{
    BotRule, Command, DatabaseConfig, DraftRule, Engine, ForkRule, Lane, Lifetime, OnPush, RepoConfig, RepoSetting,
    Runs, Service, Trigger, TriggerMode,
};
use kagero::domain::pull::{ConfigFacts, Pins, PullFacts, PullState};
use kagero::domain::time::Timestamp;
use proptest::prelude::*;

/// Anything, NUL and quotes included.
pub(super) fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), Just("'; DROP TABLE ledgers; -- \0\u{1}\u{202e}\"\\".to_owned()), Just(String::new()),]
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

pub(super) fn key() -> impl Strategy<Value = EnvKey> {
    (any::<u64>(), any::<u64>()).prop_map(|(repo, pr)| EnvKey { repo: RepoId(repo), pr: PrNumber(pr) })
}

fn sha() -> impl Strategy<Value = CommitSha> {
    "[0-9a-f]{40}|[0-9a-f]{64}".prop_map(|text| CommitSha::parse(text).unwrap())
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![
        Just(Role::Machine),
        text().prop_map(Role::Database),
        text().prop_map(|text| Role::Rollout(TaskDigest(text)))
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![text().prop_map(Answer::Accepted), text().prop_map(Answer::Refused), Just(Answer::Retired)]
}

pub(super) fn said() -> impl Strategy<Value = Said> {
    let state = prop::sample::select(vec![
        DeploymentState::Queued,
        DeploymentState::InProgress,
        DeploymentState::Success,
        DeploymentState::Failure,
        DeploymentState::Inactive,
    ]);
    let deployment = (any::<Option<u64>>(), sha(), prop::option::of(state), any::<bool>());
    (prop::option::of((any::<u64>(), text())), prop::collection::vec(deployment, 0..3), prop::option::of(time()))
        .prop_map(|(comment, deployments, written_at)| Said {
            comment: comment.map(|(id, digest)| CommentSaid { id, digest }),
            deployments: deployments
                .into_iter()
                .map(|(id, sha, state, unsure)| DeploymentSaid {
                    id,
                    sha,
                    state,
                    unsure,
                    asked_at: id.is_none().then_some(Timestamp(5)),
                })
                .collect(),
            written_at,
        })
}

pub(super) fn ledger() -> impl Strategy<Value = Ledger> {
    let standing =
        prop_oneof![Just(Standing::Live), time().prop_map(Standing::Leaving), time().prop_map(Standing::Released)];
    let intent = (role(), any::<u32>(), time(), prop::option::of(answer()));
    let services = prop::collection::btree_set("[a-z][a-z0-9]{0,9}", 0..4);
    (
        key(),
        any::<u32>(),
        services,
        time(),
        standing,
        prop::collection::vec(intent, 0..5),
        prop::option::of((text(), time())),
        said(),
    )
        .prop_map(|(key, generation, services, enrolled_at, standing, intents, proven, said)| {
            let uid = EnvUid::derive(&InstallId::parse("test").unwrap(), key);
            let host = |service: Option<ServiceName>| Host {
                label: HostLabel::derive_unique("shop", key, service.as_ref()),
                service,
            };
            let services = services.into_iter().rev().map(|name| Some(ServiceName::parse(name).unwrap()));
            let intent = |(place, (role, attempt, asked_at, answer))| Intent {
                role,
                attempt,
                // The order of tokens is not the order of asking.
                token: Token(format!("{uid}-{}", u64::MAX - place)),
                placement: (attempt % 2 == 0).then(|| Placement { zone: "a".into(), kind: format!("t{attempt}") }),
                asked_at,
                answer,
            };
            Ledger {
                key,
                generation: Generation(generation),
                hosts: services.chain([None]).map(host).collect(),
                enrolled_at,
                standing,
                // Its own, and not everybody's.
                slot: (generation % 2 == 0).then(|| SlotId::parse(format!("sg-{uid}")).unwrap()),
                left: None,
                intents: (0_u64..).zip(intents).map(intent).collect(),
                proven: proven.map(|(task, at)| Proof { task: TaskDigest(task), at }),
                said,
                uid,
            }
        })
}

pub(super) fn pull() -> impl Strategy<Value = PullFacts> {
    let state = prop::sample::select(vec![PullState::Open, PullState::Closed, PullState::Merged]);
    let person = (text(), text(), any::<bool>(), any::<bool>());
    let head = (sha(), text(), prop::option::of(any::<u64>()), text());
    (key(), any::<u64>(), state, person, head, prop::collection::btree_set(text(), 0..3), time()).prop_map(
        |(key, installation, state, person, head, labels, read_at)| {
            let (title, author, author_is_bot, draft) = person;
            let (head_sha, head_ref, head_repo, base_ref) = head;
            PullFacts {
                key,
                repo: RepoName::parse("acme/shop").unwrap(),
                installation: InstallationId(installation),
                state,
                title,
                author,
                author_is_bot,
                draft,
                head_sha,
                head_ref,
                head_repo: head_repo.map(RepoId),
                base_ref,
                labels,
                updated_at: read_at,
                read_at,
            }
        },
    )
}

pub(super) fn pins() -> impl Strategy<Value = Pins> {
    (prop::option::of(sha()), prop::option::of(time()), prop::option::of(time()), any::<u32>()).prop_map(
        |(approved_sha, destroy_requested_at, closed_at, resets)| Pins {
            approved_sha,
            destroy_requested_at,
            closed_at,
            resets,
        },
    )
}

fn repo_config() -> impl Strategy<Value = RepoConfig> {
    (text(), text(), any::<u64>(), prop::option::of(text())).prop_map(|(run, value, nanos, health)| {
        let command = Command { run: run.clone(), timeout: Duration::from_nanos(nanos) };
        RepoConfig {
            trigger: Trigger {
                mode: TriggerMode::OnLabel,
                draft: DraftRule::Skip,
                forks: ForkRule::Approve,
                bots: BotRule::Never,
                base_branches: vec![value.clone()],
            },
            services: vec![Service {
                name: ServiceName::parse("web").unwrap(),
                runs: Runs::Process(run),
                health,
                start_timeout: Duration::from_nanos(nanos),
                public: true,
                overlap: false,
            }],
            build: Some(command.clone()),
            database: Some(DatabaseConfig {
                engine: Engine::Postgres,
                lane: Lane::Auto,
                seed: SeedName::parse("golden").unwrap(),
                migrate: Some(command),
                on_push: OnPush::Keep,
            }),
            env: BTreeMap::from([(value.clone(), value.clone())]),
            secrets: vec![value],
            lifetime: Lifetime { max_age: Duration::from_nanos(nanos) },
        }
    })
}

pub(super) fn config() -> impl Strategy<Value = ConfigFacts> {
    let setting = prop_oneof![
        Just(RepoSetting::Absent),
        text().prop_map(RepoSetting::Broken),
        repo_config().prop_map(|config| RepoSetting::Valid(Box::new(config)))
    ];
    let base = proptest::option::of(text());
    (sha(), text(), base, setting, time()).prop_map(|(head_sha, base_ref, base, setting, read_at)| ConfigFacts {
        head_sha,
        base_ref,
        base,
        setting,
        read_at,
    })
}
