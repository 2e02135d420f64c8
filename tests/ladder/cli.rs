//! The command line as a person and a script meet it: the real program, its output streams and exit codes.

mod infra;

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use kagero::sim::github::{FileChange, OpenPull};
use serde_json::Value;

use crate::standin::whole::{PATIENCE, Whole};
use crate::wait::eventually;

fn kagero(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kagero"));
    command.env_remove("KAGERO_CONFIG").env_remove("KAGERO_LOG").env("NO_COLOR", "1").timeout(PATIENCE);
    command.args(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The output of a call that ends with this code and writes data only where data belongs.
#[track_caller]
fn ends(code: i32, arguments: &[&str]) -> Output {
    let output = kagero(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{}", out(&output), err(&output));
    for text in [out(&output), err(&output)] {
        assert!(!text.contains('\u{1b}'), "{arguments:?} colours although NO_COLOR is set: {text}");
    }
    output
}

/// The same while a Kagero of this process answers.
async fn ends_beside(whole: &Whole, code: i32, arguments: &[&str]) -> Output {
    let config = whole.config().display().to_string();
    let all: Vec<String> = ["-c", &config].into_iter().chain(arguments.iter().copied()).map(str::to_owned).collect();
    tokio::task::spawn_blocking(move || ends(code, &all.iter().map(String::as_str).collect::<Vec<_>>())).await.unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", out(output)))
}

const GOOD: &str = "version: 1\nservices:\n  web: {run: exec ./web, public: true}\n";
const BAD: &str = "version: 1\nservices:\n  web: {run: exec ./web, public: perhaps}\nbuidl: make\n";

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn help_and_completions_are_data() {
    let help = ends(0, &["--help"]);
    for command in ["serve", "demo", "env", "audit", "adopt", "config", "doctor", "infra", "completions"] {
        assert!(out(&help).contains(command), "{}", out(&help));
    }
    assert!(!out(&help).contains("agent's agent") && err(&help).is_empty());
    let script = ends(0, &["completions", "bash"]);
    assert!(out(&script).contains("complete -F _kagero") && err(&script).is_empty());
}

#[test]
fn a_wrong_call_ends_with_2() {
    for call in [&["env"][..], &["no-such-command"], &["env", "show"], &["env", "show", "1", "--timeout", "3"]] {
        let output = ends(2, call);
        assert!(out(&output).is_empty() && err(&output).contains("Usage"), "{call:?}: {}", err(&output));
    }
}

#[test]
fn a_configuration_is_validated_in_one_go_with_places() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good.yml", GOOD);
    let fine = ends(0, &["config", "validate", &good]);
    assert!(out(&fine).contains("valid") && err(&fine).is_empty());
    let fine = json(&ends(0, &["config", "validate", &good, "--json"]));
    assert_eq!((&fine["count"], &fine["errors"]), (&0.into(), &Value::Array(Vec::new())));

    let bad = file(folder.path(), "bad.yml", BAD);
    let refused = ends(6, &["config", "validate", &bad]);
    assert!(out(&refused).is_empty(), "{}", out(&refused));
    for part in ["unknown key `buidl`", "did you mean `build`?", "`services.web.public`", "bad.yml:3:34"] {
        assert!(err(&refused).contains(part), "{part} is missing in {}", err(&refused));
    }
    let refused = json(&ends(6, &["config", "validate", &bad, "--json"]));
    let errors = refused["errors"].as_array().unwrap();
    let places: Vec<_> = errors.iter().map(|error| (error["line"].as_u64(), error["column"].as_u64())).collect();
    assert_eq!(places, [(Some(3), Some(34)), (Some(4), Some(1))], "{refused}");

    let missing = ends(6, &["config", "validate", "no-such.yml"]);
    assert!(err(&missing).contains("no-such.yml"), "{}", err(&missing));
}

#[test]
fn the_stacks_for_people_to_copy_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/stacks");
    for stack in std::fs::read_dir(folder).unwrap() {
        let path = stack.unwrap().path().display().to_string();
        assert_eq!(out(&ends(0, &["config", "validate", &path])).trim(), format!("{path}: valid"));
    }
}

#[test]
fn schemas_and_explanations_are_printed() {
    for which in ["server", "repo"] {
        assert!(json(&ends(0, &["config", "schema", which]))["$schema"].is_string());
    }
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good.yml", GOOD);
    let table = out(&ends(0, &["config", "explain", &good]));
    let line = table.lines().find(|line| line.starts_with("services.web.run ")).unwrap_or_default();
    assert!(line.contains("exec ./web") && line.contains("good.yml"), "{table}");
    assert!(table.contains("default"), "{table}");
    let rows = json(&ends(0, &["config", "explain", &good, "--json"]));
    assert!(rows.as_array().unwrap().len() > 5, "{rows}");
    let bad = file(folder.path(), "bad.yml", BAD);
    assert!(out(&ends(6, &["config", "explain", &bad])).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_are_listed_shown_and_taken_away() {
    let whole = Whole::start().await;
    let repo = whole.github.repo();
    let empty = ends_beside(&whole, 0, &["env", "list", "--json"]).await;
    assert_eq!(json(&empty), Value::Array(Vec::new()));

    let one = repo.open_pull(OpenPull::new("one", vec![FileChange::write("a.txt", "a\n")])).await.unwrap();
    let broken = FileChange::write("build.sh", "echo it is broken\nexit 7\n");
    let two = repo.open_pull(OpenPull::new("two", vec![broken])).await.unwrap();
    let (one, two) = (one.to_string(), two.to_string());
    eventually("both pull requests are listed", PATIENCE, async || {
        let list = ends_beside(&whole, 0, &["env", "list", "--json"]).await;
        json(&list).as_array().unwrap().len() == 2
    })
    .await;
    ends_beside(&whole, 8, &["env", "show", &one]).await;
    whole.open_gate();
    let failed = ends_beside(&whole, 5, &["env", "show", &two, "--wait", "--timeout", "100"]).await;
    assert!(out(&failed).contains("kumo/shop#2  failed") && out(&failed).contains("it is broken"), "{}", out(&failed));
    let ready = ends_beside(&whole, 0, &["env", "show", "kumo/shop#1", "--wait", "--timeout", "100"]).await;
    assert!(out(&ready).starts_with("kumo/shop#1  ready"), "{}", out(&ready));
    assert!(out(&ready).contains(&whole.preview(1, "/")), "{}", out(&ready));
    let shown = json(&ends_beside(&whole, 0, &["env", "show", "shop#1", "--json"]).await);
    assert_eq!(shown["view"]["key"]["pr"], 1, "{shown}");

    let list = out(&ends_beside(&whole, 0, &["env", "list"]).await);
    let words: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words.len(), 3, "{list}");
    assert_eq!(words[1][..2], ["kumo/shop#1", "ready"]);
    assert_eq!(words[2][..2], ["kumo/shop#2", "failed"]);

    let plan = out(&ends_beside(&whole, 0, &["env", "plan", &one]).await);
    assert!(plan.starts_with("wanted") && plan.contains("launch-machine"), "{plan}");
    let plan = json(&ends_beside(&whole, 0, &["env", "plan", &one, "--json"]).await);
    assert!(plan["explanation"].is_object() && plan["journal"].is_array(), "{plan}");
    let logs = out(&ends_beside(&whole, 0, &["env", "logs", &one]).await);
    assert!(logs.contains("waiting at the gate") && logs.contains("through"), "{logs}");

    let unknown = ends_beside(&whole, 7, &["env", "show", "99"]).await;
    assert!(err(&unknown).contains("kagero env list") && out(&unknown).is_empty(), "{}", err(&unknown));
    let unasked = ends_beside(&whole, 2, &["env", "destroy", &one]).await;
    assert!(err(&unasked).contains("--yes"), "{}", err(&unasked));
    let lines = out(&ends_beside(&whole, 0, &["env", "logs", &one, "--json"]).await);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let through = lines.iter().find(|line| line["text"] == "through").unwrap();
    assert_eq!((&through["kind"], &through["source"]), (&"build".into(), &"build".into()), "{through}");
    let dry = json(&ends_beside(&whole, 0, &["env", "destroy", &one, "--dry-run", "--json"]).await);
    assert_eq!((&dry["pull_request"], &dry["dry_run"]), (&"kumo/shop#1".into(), &true.into()), "{dry}");
    let dry = ends_beside(&whole, 0, &["env", "destroy", &one, "--dry-run"]).await;
    assert!(out(&dry).contains("would take away kumo/shop#1"), "{}", out(&dry));
    ends_beside(&whole, 0, &["env", "show", &one]).await;

    let gone = ends_beside(&whole, 0, &["env", "destroy", &one, "--yes", "--wait", "--timeout", "100"]).await;
    assert!(out(&gone).is_empty() && err(&gone).contains("taken away"), "{}", err(&gone));
    let list = ends_beside(&whole, 0, &["env", "list"]).await;
    assert!(!out(&list).contains("kumo/shop#1") && err(&list).contains("1 more hold nothing"), "{}", err(&list));
    assert_eq!(json(&ends_beside(&whole, 0, &["env", "list", "--json"]).await).as_array().unwrap().len(), 1);
    let list = out(&ends_beside(&whole, 0, &["env", "list", "--all"]).await);
    assert!(list.contains("kumo/shop#1") && list.contains("destroyed"), "{list}");
    let late = ends_beside(&whole, 3, &["env", "destroy", &two, "--yes", "--wait", "--timeout", "0"]).await;
    assert!(err(&late).contains("is still") && err(&late).contains("kagero env plan"), "{}", err(&late));
    let gone = json(&ends_beside(&whole, 0, &["env", "destroy", &two, "--yes", "--wait", "--json"]).await);
    assert_eq!((&gone["state"], &gone["dry_run"]), (&"destroyed".into(), &false.into()), "{gone}");
    let unreleased = whole.running.desk.world().store.unreleased().await.unwrap();
    assert!(unreleased.iter().all(|ledger| ledger.key.pr.0 != 1), "{unreleased:?}");

    let checks = json(&ends_beside(&whole, 0, &["doctor", "--json"]).await);
    let checks = checks.as_array().unwrap();
    assert!(checks.iter().all(|check| check["ok"] == true), "{checks:?}");
    let names: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["configuration", "git", "sandbox", "state directory", "github"]);
    whole.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_controller_each_command_says_what_to_do() {
    let whole = Whole::start().await;
    let config = std::fs::read_to_string(whole.config()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = std::fs::read(whole.config().with_file_name("app.pem")).unwrap();
    whole.end().await;

    let config = file(folder.path(), "kagero.toml", &config);
    for name in ["app.pem", "webhook-secret"] {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.path().join(name);
        std::fs::write(&path, &key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let never = ends(10, &["-c", &config, "env", "list"]);
    assert!(out(&never).is_empty() && err(&never).contains("kagero serve"), "{}", err(&never));
    std::fs::create_dir(folder.path().join("state")).unwrap();
    std::fs::write(folder.path().join("state/api-token"), "a token").unwrap();
    let silent = ends(10, &["-c", &config, "env", "list"]);
    assert!(err(&silent).contains("does not answer; is `kagero serve` running?"), "{}", err(&silent));

    let wrong = ends(6, &["-c", "no-such.toml", "env", "list"]);
    assert!(err(&wrong).contains("no-such.toml"), "{}", err(&wrong));
    let checks = ends(1, &["-c", &config, "doctor"]);
    for part in ["configuration", "git", "sandbox", "state directory", "github", "FAILED", "check github.app_id"] {
        assert!(out(&checks).contains(part), "{part} is missing in {}", out(&checks));
    }
    let checks = json(&ends(1, &["-c", &config, "doctor", "--json"]));
    let bad: Vec<_> = checks.as_array().unwrap().iter().filter(|check| check["ok"] == false).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    assert_eq!(bad[0]["name"], "github");
    let nothing = ends(1, &["-c", "no-such.toml", "doctor"]);
    assert!(out(&nothing).contains("no-such.toml"), "{}", out(&nothing));
}
