//! What should be true of an environment, from what is known of its pull request.
//!
//! The order of the rules is their rank. Whatever would take something away needs a positive reading: a
//! pull request that could not be read, a configuration with errors or a repository that vanished from a
//! list changes nothing (I4, I5).

use std::collections::{BTreeMap, BTreeSet};

use super::admission::Seat;
use super::hosts;
use crate::domain::assignment::{Source, Task};
use crate::domain::desired::{DatabaseSpec, Desired, EnvSpec, GoneReason, Obstacle};
use crate::domain::id::{CommitSha, EnvKey, EnvUid, Generation, HostLabel};
use crate::domain::ledger::{Ledger, Standing};
use crate::domain::owned::name_prefix;
use crate::domain::policy::{
    BotRule, DatabaseConfig, DraftRule, ForkRule, OnPush, Policy, RepoConfig, RepoSetting, TriggerMode, matches_glob,
};
use crate::domain::pull::{ConfigFacts, Pins, PullFacts, PullState};
use crate::domain::time::Timestamp;

/// Everything that the decision rests on.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The pull request.
    pub key: EnvKey,
    /// Its newest reading.
    pub pull: Option<&'a PullFacts>,
    /// The newest reading of its configuration.
    pub config: Option<&'a ConfigFacts>,
    /// What people have said.
    pub pins: &'a Pins,
    /// The environment's record.
    pub ledger: Option<&'a Ledger>,
    /// Its place in the queue.
    pub seat: &'a Seat,
    /// Host labels that belong to other environments.
    pub taken: &'a BTreeSet<HostLabel>,
    /// Where git fetches the repository from.
    pub clone_url: &'a str,
    /// The operator's policy.
    pub policy: &'a Policy,
    /// The present instant.
    pub now: Timestamp,
}

/// What should be true.
pub fn desired(ground: Ground<'_>) -> Desired {
    let live = ground.ledger.is_some_and(|ledger| ledger.standing == Standing::Live);

    // Age needs neither GitHub nor webhooks (I15).
    if let Some(ledger) = ground.ledger
        && live
        && ground.now.since(ledger.enrolled_at) >= max_age(&ground)
    {
        return Desired::Gone(GoneReason::Expired);
    }

    let Some(pull) = ground.pull else {
        return Desired::Unchanged(Obstacle::NotRead("the pull request has not been read yet".to_owned()));
    };
    match pull.state {
        PullState::Closed => return Desired::Gone(GoneReason::Closed),
        PullState::Merged => return Desired::Gone(GoneReason::Merged),
        PullState::Open => {}
    }
    if let Some(ledger) = ground.ledger {
        if matches!(ledger.standing, Standing::Leaving(_)) {
            return Desired::Gone(GoneReason::Superseded);
        }
        if let Some(why) = stays_away(ledger, pull, ground.pins) {
            return Desired::Gone(why);
        }
    }
    if ground.pins.destroy_requested_at.is_some() {
        return Desired::Gone(GoneReason::Requested);
    }
    if !is_allowed_repository(pull, ground.policy) {
        return if live {
            Desired::Unchanged(Obstacle::RepositoryNotAllowed)
        } else {
            Desired::Gone(GoneReason::RepositoryNotAllowed)
        };
    }
    if pull.labels.contains(&ground.policy.labels.off) {
        return Desired::Gone(GoneReason::OptedOut(ground.policy.labels.off.clone()));
    }

    let config = match current_config(&ground, pull) {
        Ok(config) => config,
        Err(obstacle @ Desired::Unchanged(Obstacle::BrokenConfig(_))) if !live => {
            return is_left_in_peace(&ground, pull).map_or(obstacle, Desired::Gone);
        }
        Err(obstacle) => return obstacle,
    };
    if let Some(verdict) = triggered(&ground, pull, config, live) {
        return verdict;
    }
    if let Some(obstacle) = unservable(config, ground.policy) {
        return Desired::Unchanged(Obstacle::Unservable(obstacle));
    }

    let spec = Box::new(spec(&ground, pull, config));
    if pull.draft && config.trigger.draft == DraftRule::Skip {
        return if live { Desired::Asleep(spec) } else { Desired::Gone(GoneReason::Draft) };
    }
    match ground.seat {
        Seat::Waiting(reason) if !live => Desired::Queued(reason.clone()),
        Seat::Waiting(_) | Seat::Granted => Desired::Running(spec),
    }
}

/// Pull requests that get nothing without somebody's asking are not told of errors in a configuration that
/// they may not have touched.
fn is_left_in_peace(ground: &Ground<'_>, pull: &PullFacts) -> Option<GoneReason> {
    if pull.is_fork() && ground.pins.approved_sha.as_ref() != Some(&pull.head_sha) {
        return Some(GoneReason::ForkUnapproved(pull.head_sha.clone()));
    }
    if pull.author_is_bot {
        return Some(GoneReason::Bot);
    }
    pull.draft.then_some(GoneReason::Draft)
}

fn max_age(ground: &Ground<'_>) -> std::time::Duration {
    match ground.config.map(|config| &config.setting) {
        Some(RepoSetting::Valid(config)) => config.lifetime.max_age.min(ground.policy.max_age),
        _ => ground.policy.max_age,
    }
}

/// An environment that has expired stays away until its pull request gets a new commit or is closed and
/// reopened: a leftover label or a late webhook does not bring it back.
fn stays_away(ledger: &Ledger, pull: &PullFacts, pins: &Pins) -> Option<GoneReason> {
    let left = ledger.left.as_ref()?;
    let expired = left.why == GoneReason::Expired;
    let pushed = left.head_sha.as_ref().is_none_or(|sha| *sha != pull.head_sha);
    let reopened = pins.closed_at.is_some_and(|at| at > left.at);
    (ledger.is_released() && expired && !pushed && !reopened).then_some(GoneReason::Expired)
}

fn is_allowed_repository(pull: &PullFacts, policy: &Policy) -> bool {
    policy.serves(&pull.repo.to_string())
}

fn current_config<'a>(ground: &Ground<'a>, pull: &PullFacts) -> Result<&'a RepoConfig, Desired> {
    let Some(facts) = ground.config else {
        return Err(Desired::Unchanged(Obstacle::NotRead(".kagero.yml has not been read yet".to_owned())));
    };
    if facts.head_sha != pull.head_sha || facts.base_ref != pull.base_ref {
        return Err(Desired::Unchanged(Obstacle::NotRead(format!(
            ".kagero.yml of {} has not been read yet",
            pull.head_sha.short()
        ))));
    }
    match &facts.setting {
        RepoSetting::Valid(config) => Ok(config),
        RepoSetting::Absent => Err(Desired::Gone(GoneReason::NotConfigured)),
        RepoSetting::Broken(text) => Err(Desired::Unchanged(Obstacle::BrokenConfig(text.clone()))),
    }
}

/// The trigger's rules; `None` lets the pull request through.
fn triggered(ground: &Ground<'_>, pull: &PullFacts, config: &RepoConfig, live: bool) -> Option<Desired> {
    let trigger = &config.trigger;
    let labels = &ground.policy.labels;
    if !trigger.base_branches.is_empty()
        && !trigger.base_branches.iter().any(|pattern| matches_glob(pattern, &pull.base_ref))
    {
        return Some(Desired::Gone(GoneReason::BaseBranch(pull.base_ref.clone())));
    }
    if pull.is_fork() {
        match trigger.forks {
            ForkRule::Never => return Some(Desired::Gone(GoneReason::ForkNever)),
            ForkRule::Approve if ground.pins.approved_sha.as_ref() == Some(&pull.head_sha) => {}
            // A push voids the approval: the approved commit goes on running, the new one does not start.
            ForkRule::Approve if live => {
                return Some(Desired::Unchanged(Obstacle::ForkUnapproved(pull.head_sha.clone())));
            }
            ForkRule::Approve => return Some(Desired::Gone(GoneReason::ForkUnapproved(pull.head_sha.clone()))),
        }
    }
    let labelled = pull.labels.contains(&labels.on);
    if pull.author_is_bot {
        match trigger.bots {
            BotRule::Run => {}
            BotRule::OnLabel if labelled => {}
            BotRule::OnLabel => return Some(Desired::Gone(GoneReason::LabelMissing(labels.on.clone()))),
            BotRule::Never => return Some(Desired::Gone(GoneReason::Bot)),
        }
    }
    if trigger.mode == TriggerMode::OnLabel && !labelled {
        return Some(Desired::Gone(GoneReason::LabelMissing(labels.on.clone())));
    }
    None
}

fn unservable(config: &RepoConfig, policy: &Policy) -> Option<String> {
    if let Some(database) = &config.database {
        match policy.seeds.get(&database.seed) {
            None => {
                let known: Vec<&str> = policy.seeds.keys().map(crate::domain::id::SeedName::as_str).collect();
                return Some(format!(
                    "seed `{}` is not set up here (known seeds: {}); ask the operator to add [seeds.{}] to kagero.toml or name another seed in .kagero.yml",
                    database.seed,
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") },
                    database.seed,
                ));
            }
            Some(engine) if *engine != database.engine => {
                return Some(format!(
                    "seed `{}` is for another database engine than the one .kagero.yml asks for",
                    database.seed
                ));
            }
            Some(_) => {}
        }
    }
    let missing: Vec<&str> =
        config.secrets.iter().filter(|name| !policy.secrets.contains(*name)).map(String::as_str).collect();
    (!missing.is_empty()).then(|| {
        format!(
            "secret(s) {} not set up here; ask the operator to add them under [secrets] in kagero.toml",
            missing.join(", ")
        )
    })
}

fn spec(ground: &Ground<'_>, pull: &PullFacts, config: &RepoConfig) -> EnvSpec {
    let policy = ground.policy;
    let uid = EnvUid::derive(&policy.install, ground.key);
    let generation = match ground.ledger {
        None => Generation::FIRST,
        Some(ledger) if ledger.is_released() => ledger.generation.next(),
        Some(ledger) => ledger.generation,
    };
    let ours = ground.ledger.map_or(&[][..], |ledger| &ledger.hosts);
    let hosts = hosts::choose(&pull.repo.name, ground.key, &config.services, ours, ground.taken);
    let database = config.database.as_ref().map(|database| DatabaseSpec {
        name: database_name(policy, &uid, generation, database, &pull.head_sha, ground.pins.resets),
        engine: database.engine,
        seed: database.seed.clone(),
    });
    let mut env: BTreeMap<String, String> = config.env.clone();
    if let Some(url) = policy.link(&hosts, None) {
        env.insert("KAGERO_URL".to_owned(), url);
    }
    env.insert("KAGERO_COMMIT".to_owned(), pull.head_sha.to_string());
    env.insert("KAGERO_ENVIRONMENT".to_owned(), uid.to_string());
    env.insert("KAGERO_PULL_REQUEST".to_owned(), ground.key.pr.0.to_string());
    let task = Task {
        uid: uid.clone(),
        generation,
        commit: pull.head_sha.clone(),
        source: Source {
            url: ground.clone_url.to_owned(),
            reference: format!("refs/pull/{}/head", ground.key.pr.0),
            mirror: ground.key.repo.0.to_string(),
        },
        build: config.build.clone(),
        migrate: config.database.as_ref().and_then(|database| database.migrate.clone()),
        services: config.services.clone(),
        env,
        secret_names: config.secrets.clone(),
        database: database.as_ref().map(|database| database.name.clone()),
        attempt: 1,
    };
    let probe = config
        .services
        .iter()
        .find(|service| service.public)
        .map(|service| service.health.clone().unwrap_or_else(|| "/".to_owned()));
    EnvSpec { uid, generation, hosts, probe, database, task }
}

/// A database's name tells which data it holds: a push that resets the data, and a reset asked for by hand,
/// lead to another name, so that the old version keeps its own data until the new one serves.
fn database_name(
    policy: &Policy,
    uid: &EnvUid,
    generation: Generation,
    database: &DatabaseConfig,
    commit: &CommitSha,
    resets: u32,
) -> String {
    let mut name = format!("{}{uid}_g{generation}", name_prefix(&policy.install, '_'));
    if database.on_push == OnPush::Reset {
        name.push('_');
        name.push_str(&commit.as_str()[..8]);
    }
    if resets > 0 {
        name.push_str("_r");
        name.push_str(&resets.to_string());
    }
    name
}
