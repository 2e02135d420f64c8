//! Bad code for every rule, and good code that looks bad: what the rules must find, and must leave alone.

use crate::rules::{
    self, DOCS, FINISHED, FORKS, Finding, IMPORTS, LENGTH, NAMES, PERMISSION, PLACED, PRIVATE, Rule, SLEEPS, TEMPLATES,
    UNSAFE, WRAPPERS,
};

/// The findings in a file of that path, as line and rule; the module documentation is put in front.
fn found(path: &str, code: &str) -> Vec<(usize, &'static str)> {
    let findings = rules::check_rust(path, &format!("//! Docs.\n{code}"));
    findings.iter().map(|Finding { line, rule, .. }| (line - 1, rule.name)).collect()
}

#[track_caller]
fn bad(path: &str, code: &str, rule: Rule) {
    assert_eq!(found(path, code), [(1, rule.name)], "in {path}: {code}");
}

#[track_caller]
fn good(path: &str, code: &str) {
    assert_eq!(found(path, code), [], "in {path}: {code}");
}

#[test]
fn imports_have_one_direction() {
    bad("src/plan/mod.rs", "use crate::store::Store;", IMPORTS);
    bad("src/plan/mod.rs", "fn f() { crate::store::open() }", IMPORTS);
    bad("src/plan/a/b.rs", "use super::super::super::store;", IMPORTS);
    bad("src/plan/mod.rs", "mod a { use super::super::store::Store; }", IMPORTS);
    bad("src/plan/mod.rs", "use crate::{domain::id::{EnvKey, EnvUid}, forge as g};", IMPORTS);
    bad("src/cloud/local/mod.rs", "use crate::agent::{client, server};", IMPORTS);
    bad("src/cloud/local/mod.rs", "use crate::agent;", IMPORTS);
    bad("src/cloud/local/mod.rs", "use super::aws::Fleet;", IMPORTS);
    bad("src/cloud/local/machines.rs", "use crate::seed::role;", IMPORTS);
    bad("src/gateway/page.rs", "use crate::controller::Queue;", IMPORTS);
    bad("src/domain/id.rs", "#[cfg(test)] mod tests { use crate::plan::plan; }", IMPORTS);
    assert_eq!(found("src/drawer.rs", ""), [(0, PLACED.name)]);

    good("src/plan/mod.rs", "use crate::domain::{id::EnvKey, step::{self, Plan}}; use super::domain::pull;");
    good("src/plan/a/b.rs", "use super::super::c; use crate::plan::d;");
    good("src/plan/mod.rs", "// use crate::store::Store;\n/* crate::store /* nested */ crate::store */");
    good("src/plan/mod.rs", r##"const A: &str = "crate::store"; const B: &str = r#"a " crate::store"#;"##);
    good("src/plan/mod.rs", "const A: char = '\"'; fn f<'a>(a: &'a str) -> char { '\\'' } // crate::store::A");
    good("src/cloud/local/mod.rs", "use crate::agent::client::Client; use crate::agent::{protocol, signature};");
    good("src/cloud/local/databases/list.rs", "use crate::seed::role; use crate::domain::id;");
    good("src/lib.rs", "pub mod store;");
}

#[test]
fn crates_have_one_wrapper() {
    bad("src/controller/mod.rs", "use octocrab::Octocrab;", WRAPPERS);
    bad("src/cloud/mod.rs", "fn f(c: aws_sdk_ec2::Client) {}", WRAPPERS);
    bad("src/controller/mod.rs", "use sqlx;", WRAPPERS);
    good("src/forge/github.rs", "use octocrab::Octocrab;");
    good("src/forge/github/client.rs", "use octocrab::Octocrab;");
    good("src/store/mod.rs", "use sqlx::AnyPool;");
    good("src/http/mod.rs", "let octocrab = 1;");
    good("src/sim/key.rs", "use aws_lc_rs::rsa;");
    good("tests/ladder/database.rs", "use sqlx::PgPool;");
}

#[test]
fn unsafe_is_confined() {
    bad("src/agent/mod.rs", "fn f() { unsafe { g() } }", UNSAFE);
    good("src/agent/sandbox.rs", "fn f() { unsafe { g() } }");
    good("src/agent/mod.rs", "#![deny(unsafe_code)]");
}

#[test]
fn permission_is_only_proven() {
    bad("src/sim/mod.rs", "fn f() { g(Owned { id, name }) }", PERMISSION);
    bad("src/domain/owned.rs", "pub struct Owned<T> { pub id: T }", PERMISSION);
    bad("src/domain/owned.rs", "#[derive(Deserialize)] struct Other;", PERMISSION);
    good("src/domain/owned.rs", "pub struct Owned<T> { id: T } pub fn prove() -> Owned<u8> { Owned { id: 1 } }");
    good("src/sim/mod.rs", "fn f() -> Owned<u8> { g() }");
}

#[test]
fn modules_have_names_docs_and_a_bearable_length() {
    assert_eq!(found("src/plan/utils.rs", ""), [(0, NAMES.name)]);
    assert_eq!(found("tests/ladder/helpers/a.rs", ""), [(0, NAMES.name)]);
    bad("src/plan/mod.rs", "mod misc {}", NAMES);
    assert_eq!(rules::check_rust("src/plan/mod.rs", "// no docs")[0].rule, DOCS);

    let lines = |count: usize, line: &str| format!("//! Docs.\n{}", line.repeat(count));
    assert_eq!(rules::check_rust("src/plan/mod.rs", &lines(501, "f();\n"))[0].rule, LENGTH);
    assert_eq!(rules::check_rust("src/plan/mod.rs", &lines(600, "// why\n"))[0].rule, LENGTH);
    assert_eq!(rules::check_rust("src/plan/mod.rs", &lines(500, "f();\n")), []);
    assert_eq!(rules::check_rust("src/plan/mod.rs", &lines(599, "// why\n")), []);
    assert_eq!(rules::check_rust("tests/ladder/cli.rs", &lines(700, "f();\n")), []);
}

#[test]
fn production_has_no_forks() {
    bad("src/clock.rs", "#[cfg(not(test))] fn now() {}", FORKS);
    bad("src/clock.rs", "#[cfg(test)] fn now() {}", FORKS);
    bad("src/clock.rs", "fn f() { if cfg!(test) { g() } }", FORKS);
    good("src/clock.rs", "#[cfg(test)] mod tests { fn f() {} }");
    good("src/clock.rs", "#[cfg(test)] #[allow(clippy::x, reason = \"]\")] mod tests;");
    good("src/cloud/mod.rs", "#[cfg(feature = \"aws\")] pub mod aws;");
}

#[test]
fn nothing_is_half_done() {
    bad("src/cli/mod.rs", "fn f() { todo!() }", FINISHED);
    bad("src/cli/mod.rs", "fn f() { unimplemented!(\"later\") }", FINISHED);
    bad("tests/ladder/cli.rs", "fn f() { dbg!(1); }", FINISHED);
    bad("tests/ladder/cli.rs", "#[test] #[ignore = \"slow\"] fn f() {}", FINISHED);
    bad("src/cli/mod.rs", "#![allow(dead_code)]", FINISHED);
    good("src/cli/mod.rs", "fn todo() {} // todo!()");
}

#[test]
fn tests_do_not_sleep() {
    bad("tests/ladder/cli.rs", "fn f() { std::thread::sleep(D) }", SLEEPS);
    bad("tests/ladder/cli.rs", "async fn f() { sleep(D).await }", SLEEPS);
    bad("tests/ladder/cli.rs", "use tokio::time::sleep as nap;", SLEEPS);
    bad("src/cli/mod.rs", "#[cfg(test)] mod tests { fn f() { tokio::time::sleep(D) } }", SLEEPS);
    good("src/cli/mod.rs", "fn f() { tokio::time::sleep(D) } #[cfg(test)] mod tests {}");
    good("tests/ladder/cli.rs", "fn f() { policy.sleep(); Phase::Sleep }");
    good("tests/ladder/wait.rs", "fn f() { tokio::time::sleep(D) }");
}

#[test]
fn templates_are_used() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = [
        file("templates/pages/base.html", "the frame"),
        file("templates/pages/boot.html", "{% extends \"pages/base.html\" %}"),
        file("templates/pages/lost.html", "lost.html"),
        file("src/report/page.rs", "render(\"pages/boot.html\")"),
        file("templates/stacks/go.yml", "version: 1"),
        file("templates/stacks/perl.yml", "version: 1"),
        file("src/cli/config.rs", "perl.yml"),
        file("tests/ladder/stacks.rs", "run(\"go.yml\")"),
    ];
    let findings = rules::check_templates(&files);
    let found: Vec<_> = findings.iter().map(|finding| (finding.path.as_str(), finding.rule)).collect();
    assert_eq!(found, [("templates/pages/lost.html", TEMPLATES), ("templates/stacks/perl.yml", TEMPLATES)]);
}

#[test]
fn private_paths_stay_private() {
    let line = |home: &str| format!("first\nlook into {home}me/notes\n");
    for home in [concat!("/ro", "ot/"), concat!("/Us", "ers/")] {
        let findings = rules::check_words("README.md", &line(home));
        assert_eq!(findings.iter().map(|it| (it.line, it.rule)).collect::<Vec<_>>(), [(2, PRIVATE)]);
    }
    assert_eq!(rules::check_words("README.md", "see docs/root/notes and $HOME/root/"), []);
}

#[test]
fn a_finding_tells_place_rule_reason_and_remedy() {
    let finding = rules::check_rust("src/plan/mod.rs", "//! Docs.\nuse crate::store::Store;").remove(0);
    let text = finding.to_string();
    for part in ["src/plan/mod.rs:2: plan names crate::store::Store", "rule: ", "why:  ", "do:   "] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}
