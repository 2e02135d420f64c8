//! `.kagero.yml`, valid: who decides what.

use std::time::Duration;

use kagero::config::explain;
use kagero::config::repo::{combine, combine_with_notes};
use kagero::domain::container::Image;
use kagero::domain::policy::{BotRule, Engine, ForkRule, OnPush, RepoConfig, RepoSetting, Runs, Service, TriggerMode};

const BASE: &str = r"
version: 1
services: {web: {run: old, public: true}}
database: {engine: postgres, seed: big, migrate: old-migrate, on_push: reset}
secrets: [STRIPE]
trigger: {mode: on_label, forks: never, base_branches: [main, 'release/*']}
lifetime: {max_age: 2d}
env: {MODE: old}
build: old-build
";

const GREEDY: &str = r#"
services:
  web: {run: "new -p $PORT", public: true, health: /up, start_timeout: 30s}
  worker: {run: work}
database: {engine: sqlite, seed: customers, migrate: {run: new-migrate, timeout: 3m}}
secrets: [STRIPE, ROOT_PASSWORD]
trigger: {mode: automatic, forks: approve}
lifetime: {max_age: 90d}
env: {MODE: new, WORKERS: "2"}
build: {run: new-build, timeout: 1m}
"#;

const PLAIN: &str = "services: {web: {run: serve, public: true}}\n";

fn valid(setting: RepoSetting) -> RepoConfig {
    match setting {
        RepoSetting::Valid(config) => *config,
        other => panic!("not valid: {other:?}"),
    }
}

fn broken(setting: RepoSetting) -> String {
    match setting {
        RepoSetting::Broken(text) => {
            assert!(!text.contains('\u{1b}'), "{text}");
            text
        }
        other => panic!("not broken: {other:?}"),
    }
}

#[test]
fn trust_money_and_data_come_from_the_base_branch() {
    let combined = combine_with_notes(Some(BASE), Some(GREEDY), "main", "feature");
    let config = valid(combined.setting);
    assert_eq!(config.secrets, ["STRIPE"]);
    assert_eq!(config.trigger.mode, TriggerMode::OnLabel);
    assert_eq!(config.trigger.forks, ForkRule::Never);
    assert_eq!(config.lifetime.max_age, Duration::from_hours(48));
    let database = config.database.unwrap();
    assert_eq!((database.engine, database.seed.as_str(), database.on_push), (Engine::Postgres, "big", OnPush::Reset));

    assert_eq!(database.migrate.as_ref().unwrap().run, "new-migrate");
    assert_eq!(database.migrate.unwrap().timeout, Duration::from_mins(3));
    assert_eq!(config.build.unwrap().run, "new-build");
    assert_eq!(config.env["MODE"], "new");
    let [web, worker] = config.services.as_slice() else { panic!("{:?}", config.services) };
    assert!(web.public && web.overlap && !worker.public && !worker.overlap);
    assert_eq!((web.health.as_deref(), web.start_timeout), (Some("/up"), Duration::from_secs(30)));

    let keys: Vec<&str> = combined.notes.iter().filter_map(|note| note.split('`').nth(1)).collect();
    assert_eq!(keys, ["trigger", "secrets", "lifetime", "database"]);
}

#[test]
fn what_a_service_is_made_of_comes_from_the_head() {
    let head = "compose: compose.yaml\nservices: {web: {public: true, port: 3000}}\n";
    let config = valid(combine(Some(BASE), Some(head), "main", "x"));
    assert_eq!(config.secrets, ["STRIPE"]);
    let Runs::Compose(compose) = &config.services[0].runs else { panic!("{config:?}") };
    assert_eq!((compose.file.as_str(), compose.port), ("compose.yaml", Some(3000)));

    let head = "services: {web: {dockerfile: Dockerfile, public: true}, api: {image: 'a:{sha}', command: [x]}}\n";
    let config = valid(combine(Some(BASE), Some(head), "main", "x"));
    let [web, api] = &config.services[..] else { panic!("{config:?}") };
    let (Runs::Container(web), Runs::Container(api)) = (&web.runs, &api.runs) else { panic!("{config:?}") };
    assert!(matches!(&web.image, Image::Built(build) if build.context.as_str() == "."));
    assert!(matches!(&api.image, Image::Pulled(image) if image.to_string() == "a:{sha}"));

    // What was written before there were containers is read, and makes the same task.
    let old = r#"{"name":"web","run":"serve","health":null,"start_timeout":{"secs":1,"nanos":0},"public":true,"overlap":true}"#;
    let read: Service = serde_json::from_str(old).unwrap();
    assert_eq!(read.runs, Runs::Process("serve".to_owned()));
    assert_eq!(serde_json::to_string(&read).unwrap(), old);
    for service in config.services {
        let text = serde_json::to_string(&service).unwrap();
        assert_eq!(serde_json::from_str::<Service>(&text).unwrap(), service, "{text}");
    }
}

#[test]
fn a_head_without_migration_has_none_and_keeps_the_database() {
    let config = valid(combine(Some(BASE), Some(PLAIN), "main", "x"));
    assert_eq!(config.database.unwrap().migrate, None);
    let config = valid(combine(Some(BASE), Some(&format!("{PLAIN}database: none\n")), "main", "x"));
    assert!(config.database.is_some());
}

#[test]
fn without_a_file_on_the_base_branch_nothing_is_granted() {
    let combined =
        combine_with_notes(None, Some(&format!("{PLAIN}secrets: [STRIPE]\nlifetime: {{max_age: 90d}}\n")), "main", "x");
    let config = valid(combined.setting);
    assert!(config.secrets.is_empty() && config.database.is_none());
    assert_eq!(config.trigger.bots, BotRule::OnLabel);
    assert_eq!(config.lifetime.max_age, Duration::from_hours(14 * 24));
    assert!(combined.notes[0].contains("main has no .kagero.yml yet"));

    insta::assert_snapshot!(broken(combine(None, Some(GREEDY), "main", "feature")));
}

#[test]
fn a_database_that_the_base_branch_does_not_grant_is_refused() {
    let text = broken(combine(Some(PLAIN), Some(GREEDY), "main", "feature"));
    assert!(text.contains("the base branch main grants no database"), "{text}");
}

#[test]
fn a_secret_of_the_base_branch_cannot_be_overridden_by_the_head() {
    let text = broken(combine(Some(BASE), Some(&format!("{PLAIN}env: {{STRIPE: mine}}\n")), "main", "feature"));
    assert!(text.contains("`env.STRIPE` is a secret"), "{text}");
}

#[test]
fn no_file_at_all_is_absent_and_a_branch_older_than_the_file_uses_the_base() {
    assert_eq!(combine(None, None, "main", "x"), RepoSetting::Absent);
    assert_eq!(valid(combine(Some(BASE), None, "main", "x")), valid(combine(Some(BASE), Some(BASE), "main", "x")));
}

#[test]
fn errors_of_both_sides_are_reported_at_once_and_once() {
    let both = broken(combine(Some("services: 1"), Some("sevices: {}"), "main", "feature"));
    assert!(both.contains(".kagero.yml (base branch main):1:11"), "{both}");
    assert!(both.contains(".kagero.yml (pull request feature):1:1"), "{both}");
    let same = broken(combine(Some("services: 1"), Some("services: 1"), "main", "feature"));
    assert_eq!(same.matches("error:").count(), 1, "{same}");
    assert!(broken(combine(Some("services: 1"), Some(PLAIN), "main", "x")).contains("base branch main"));
    assert!(broken(combine(Some(PLAIN), Some("services: 1"), "main", "x")).contains("pull request x"));
}

#[test]
fn hostile_branch_names_do_not_reach_the_diagnosis_unchanged() {
    let text = broken(combine(Some("x: 1"), None, "main\u{1b}[31m\u{202e}\n# heading", "x"));
    assert!(!text.contains(['\u{1b}', '\u{202e}']) && !text.contains("\n# heading"), "{text}");
}

#[test]
fn the_worst_diagnosis_fits_into_a_comment() {
    let bad = |name: char| {
        let lines = (0..200).map(|at| format!("{}{at}: {}\n", name.to_string().repeat(150), "é".repeat(50)));
        lines.collect::<String>()
    };
    let text = broken(combine(Some(&bad('a')), Some(&bad('b')), &"m".repeat(300), &"h".repeat(300)));
    assert!(text.contains("and 181 more errors"), "{text}");
    assert!(text.chars().count() < 50_000, "{}", text.chars().count());
}

#[test]
fn explain_names_the_side_that_decides() {
    let rows = explain::repo(Some(BASE), Some(GREEDY), "main", "feature").unwrap();
    let lines: Vec<String> = rows.iter().map(|row| format!("{} = {} [{}]", row.key, row.value, row.source)).collect();
    insta::assert_snapshot!(lines.join("\n"));
}
