//! From one version of the file to what it says.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::check::check;
use crate::config::problem::{ConfigErrors, Problem, Problems, Span};
use crate::config::shape::Table;
use crate::config::tree::{Extent, Kind, Language, parse};
use crate::config::view::{View, text_of};
use crate::domain::id::SeedName;
use crate::domain::policy::{
    BotRule, Command, DatabaseConfig, DraftRule, Engine, ForkRule, Lane, Lifetime, OnPush, RepoConfig, Trigger,
    TriggerMode,
};

use super::keys::{self, REPO};
use super::runs;

/// One version of the file, valid in itself.
#[derive(Debug, Clone)]
pub struct File {
    /// What it says, all of it.
    pub config: RepoConfig,
    pub(super) places: Places,
}

/// Where things stand that the other version may forbid.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) database: Span,
    pub(super) env: Vec<(String, Span)>,
}

/// Reads one version of the file. `title` is how messages call it.
pub fn parse_repo(title: &str, text: &str) -> Result<File, ConfigErrors> {
    let mut problems = Problems::default();
    let (node, extent) = parse(Language::Yaml, text, &mut problems);
    check(&node, &REPO, Language::Yaml, extent, &mut problems);
    let view = View::new(&node, &REPO);
    if extent == Extent::Whole {
        forbid_contradictions(view, &mut problems);
    }
    let file = file(view);
    match file {
        Some(file) if problems.is_empty() => Ok(file),
        _ => {
            if problems.is_empty() {
                problems.push(Problem::new(
                    0..0,
                    "a value was accepted that cannot be used; this is a mistake in Kagero",
                    "",
                ));
            }
            problems.into_errors(title, text).and(Err(ConfigErrors::unreadable(title, "unusable".to_owned(), "")))
        }
    }
}

/// The part on trust, money and data, where the base branch says nothing.
pub(super) fn untrusted() -> RepoConfig {
    RepoConfig {
        trigger: Trigger {
            mode: TriggerMode::Automatic,
            draft: DraftRule::Skip,
            forks: ForkRule::Approve,
            bots: BotRule::OnLabel,
            base_branches: Vec::new(),
        },
        services: Vec::new(),
        build: None,
        database: None,
        env: BTreeMap::new(),
        secrets: Vec::new(),
        lifetime: Lifetime { max_age: Duration::from_hours(14 * 24) },
    }
}

fn forbid_contradictions(view: View<'_>, problems: &mut Problems) {
    if let Some(services) = view.written("services")
        && let Kind::Map(entries) = &services.value.kind
    {
        let is_public = |node| View::new(node, &keys::SERVICE).flag("public") != Some(false);
        if entries.is_empty() {
            let problem = Problem::new(services.key_span.clone(), "`services` is empty", "nothing would run");
            problems.push(problem.help("name at least one service"));
        } else if !entries.iter().any(|entry| is_public(&entry.value)) {
            let problem = Problem::new(services.key_span.clone(), "no service is public", "nothing to visit");
            problems.push(problem.help("add `public: true` to the service that visitors see"));
        }
    }
    runs::forbid_contradictions(view, problems);
    let database = view.table("database", &keys::DATABASE);
    let says = |key, word| database.text(key).is_some_and(|written| written.text == word);
    if says("engine", "sqlite") && ["template", "rds", "rds-pitr", "aurora"].iter().any(|lane| says("lane", lane)) {
        let lane = database.text("lane").map_or("", |lane| lane.text);
        let message = format!("`database.lane: {lane}` needs a server, which sqlite does not have");
        problems.push(Problem::new(database.span("lane"), message, "").help("use `lane: auto`"));
    }
    let secrets = view.list("secrets");
    for (at, secret) in secrets.iter().enumerate() {
        if secrets[..at].iter().any(|earlier| earlier.text == secret.text) {
            let message = format!("the secret `{}` is named twice", secret.text);
            problems.push(Problem::new(secret.span.clone(), message, "the second one").help("remove one of the two"));
        }
        if let Some(entry) = view.named("env").iter().find(|entry| entry.key == secret.text) {
            let message = format!("`{}` is in `secrets` and in `env`", secret.text);
            problems.push(Problem::new(entry.key_span.clone(), message, "set twice").help("remove one of the two"));
        }
    }
}

fn file(view: View<'_>) -> Option<File> {
    let compose = runs::compose_file(view)?;
    let services = view
        .named("services")
        .iter()
        .map(|entry| runs::service(&entry.key, View::new(&entry.value, &keys::SERVICE), compose.as_ref()));
    let env = view.named("env");
    let config = RepoConfig {
        trigger: trigger(view.table("trigger", &keys::TRIGGER))?,
        services: services.collect::<Option<Vec<_>>>()?,
        build: command(view, "build", &keys::BUILD)?,
        database: database(view)?,
        env: env
            .iter()
            .map(|entry| Some((entry.key.clone(), text_of(&entry.value)?.text.to_owned())))
            .collect::<Option<_>>()?,
        secrets: view.list("secrets").iter().map(|secret| secret.text.to_owned()).collect(),
        lifetime: Lifetime { max_age: view.table("lifetime", &keys::LIFETIME).lasting("max_age")? },
    };
    let database = view.written("database").map_or(0..0, |entry| entry.key_span.clone());
    let env = env.iter().map(|entry| (entry.key.clone(), entry.key_span.clone())).collect();
    Some(File { config, places: Places { database, env } })
}

/// The outer `Option` is `None` where what was written is refused.
#[expect(clippy::option_option, reason = "absent and refused are different answers")]
fn command(view: View<'_>, key: &str, table: &'static Table) -> Option<Option<Command>> {
    let Some(entry) = view.written(key) else { return Some(None) };
    let long = match &entry.value.kind {
        Kind::Text(_) => View::new(&entry.value, table),
        _ => view.table(key, table),
    };
    let run = match text_of(&entry.value) {
        Some(written) => written.text,
        None => long.text("run")?.text,
    };
    Some(Some(Command { run: run.to_owned(), timeout: long.lasting("timeout")? }))
}

#[expect(clippy::option_option, reason = "absent and refused are different answers")]
fn database(view: View<'_>) -> Option<Option<DatabaseConfig>> {
    match view.written("database") {
        None => return Some(None),
        Some(entry) if text_of(&entry.value).is_some() => return Some(None),
        Some(_) => {}
    }
    let view = view.table("database", &keys::DATABASE);
    Some(Some(DatabaseConfig {
        engine: match view.text("engine")?.text {
            "postgres" => Engine::Postgres,
            "sqlite" => Engine::Sqlite,
            _ => return None,
        },
        lane: match view.text("lane")?.text {
            "auto" => Lane::Auto,
            "template" => Lane::Template,
            "rds" => Lane::Rds,
            "rds-pitr" => Lane::RdsPitr,
            "aurora" => Lane::Aurora,
            _ => return None,
        },
        seed: SeedName::parse(view.text("seed")?.text).ok()?,
        migrate: command(view, "migrate", &keys::MIGRATE)?,
        on_push: match view.text("on_push")?.text {
            "keep" => OnPush::Keep,
            "reset" => OnPush::Reset,
            _ => return None,
        },
    }))
}

fn trigger(view: View<'_>) -> Option<Trigger> {
    Some(Trigger {
        mode: match view.text("mode")?.text {
            "automatic" => TriggerMode::Automatic,
            "on_label" => TriggerMode::OnLabel,
            _ => return None,
        },
        draft: match view.text("draft")?.text {
            "skip" => DraftRule::Skip,
            "run" => DraftRule::Run,
            _ => return None,
        },
        forks: match view.text("forks")?.text {
            "approve" => ForkRule::Approve,
            "never" => ForkRule::Never,
            _ => return None,
        },
        bots: match view.text("bots")?.text {
            "run" => BotRule::Run,
            "on_label" => BotRule::OnLabel,
            "never" => BotRule::Never,
            _ => return None,
        },
        base_branches: view.list("base_branches").iter().map(|branch| branch.text.to_owned()).collect(),
    })
}
