//! Tables of decisions, and a small world in which plans are carried out to their end.

mod adopt;
mod places;
mod table;
mod walk;
mod world;

use crate::domain::network::Placements;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::domain::id::{
    CommitSha, EnvKey, InstallId, InstallationId, PrNumber, RepoId, RepoName, SeedName, ServiceName,
};
use crate::domain::policy::{
    AllowList, BotRule, Command, DatabaseConfig, DraftRule, Engine, ForkRule, Labels, Lane, Lifetime, Limits, LinkBase,
    OnPush, Pace, Policy, RepoConfig, RepoSetting, Runs, Service, Trigger, TriggerMode,
};
use crate::domain::pull::{ConfigFacts, PullFacts, PullState};
use crate::domain::time::Timestamp;

pub(super) const KEY: EnvKey = EnvKey { repo: RepoId(42), pr: PrNumber(12) };

pub(super) fn policy() -> Policy {
    Policy {
        install: InstallId::parse("test").unwrap(),
        domain: "preview.test".to_owned(),
        link: LinkBase { scheme: "https".to_owned(), port: None },
        repositories: vec!["acme/*".to_owned()],
        limits: Limits { environments: 3, per_repository: 3, builds: 100, attempts: 3 },
        pace: Pace {
            busy: Duration::from_millis(100),
            idle: Duration::from_secs(15),
            comment: Duration::from_secs(30),
            grace: Duration::ZERO,
        },
        labels: Labels { on: "preview".to_owned(), off: "preview:off".to_owned() },
        allow: AllowList {
            accounts: vec!["staging".to_owned()],
            regions: vec!["local".to_owned()],
            networks: vec!["host".to_owned()],
        },
        max_age: Duration::from_hours(24 * 30),
        seeds: BTreeMap::from([(SeedName::parse("golden").unwrap(), Engine::Postgres)]),
        secrets: BTreeSet::from(["STRIPE_TEST_KEY".to_owned()]),
        removals: crate::domain::policy::RemovalLimits::default(),
        placements: Placements::default(),
        slots: Vec::new(),
    }
}

pub(super) fn sha(digit: char) -> CommitSha {
    CommitSha::parse(digit.to_string().repeat(40)).unwrap()
}

pub(super) fn pull(state: PullState, head: char) -> PullFacts {
    PullFacts {
        key: KEY,
        repo: RepoName::parse("acme/shop").unwrap(),
        installation: InstallationId(1),
        state,
        title: "A change".to_owned(),
        author: "dev".to_owned(),
        author_is_bot: false,
        draft: false,
        head_sha: sha(head),
        head_ref: "topic".to_owned(),
        head_repo: Some(KEY.repo),
        base_ref: "main".to_owned(),
        labels: BTreeSet::new(),
        updated_at: Timestamp(1_000),
        read_at: Timestamp(1_000),
    }
}

pub(super) fn repo_config() -> RepoConfig {
    RepoConfig {
        trigger: Trigger {
            mode: TriggerMode::Automatic,
            draft: DraftRule::Skip,
            forks: ForkRule::Approve,
            bots: BotRule::OnLabel,
            base_branches: vec!["main".to_owned(), "release/*".to_owned()],
        },
        services: vec![Service {
            name: ServiceName::parse("web").unwrap(),
            runs: Runs::Process("serve".to_owned()),
            health: Some("/healthz".to_owned()),
            start_timeout: Duration::from_mins(1),
            public: true,
            overlap: true,
        }],
        build: Some(Command { run: "make".to_owned(), timeout: Duration::from_mins(10) }),
        database: Some(DatabaseConfig {
            engine: Engine::Postgres,
            lane: Lane::Auto,
            seed: SeedName::parse("golden").unwrap(),
            migrate: None,
            on_push: OnPush::Keep,
        }),
        env: BTreeMap::new(),
        secrets: Vec::new(),
        lifetime: Lifetime { max_age: Duration::from_hours(24 * 14) },
    }
}

pub(super) fn config_for(pull: &PullFacts, config: RepoConfig) -> ConfigFacts {
    ConfigFacts {
        head_sha: pull.head_sha.clone(),
        base_ref: pull.base_ref.clone(),
        base: None,
        setting: RepoSetting::Valid(Box::new(config)),
        read_at: Timestamp(1_000),
    }
}
