//! The rules, one function each, and what they say about a place that breaks them.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::source::{self, Token, reads};
use crate::{MAP, STRANGERS, WRAPPED};

/// A place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: Rule,
    pub(crate) what: String,
}

/// A rule: its name, its reason, and what to do about a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    why: &'static str,
    instead: &'static str,
}

pub(crate) const IMPORTS: Rule = Rule {
    name: "imports point leftwards",
    why: "decisions stay pure and adapters replaceable only while the arrows have one direction",
    instead: "pass the value in from a module further right, or move the type to domain; MAP in tests/tidy.rs has the \
              directions",
};
pub(crate) const PLACED: Rule = Rule {
    name: "every module has a place",
    why: "a module that is not on the map may be used by anyone and use anything",
    instead: "move it into the room where it belongs, or give it a line in MAP in tests/tidy.rs",
};
pub(crate) const WRAPPERS: Rule = Rule {
    name: "a crate has one wrapper",
    why: "a dependency that is named everywhere can be neither replaced nor mistrusted",
    instead: "use the wrapper's own types, or extend the wrapper; WRAPPED in tests/tidy.rs has the places",
};
pub(crate) const UNSAFE: Rule = Rule {
    name: "unsafe lives in the sandbox",
    why: "one module can be read line by line, a program cannot",
    instead: "use a safe crate (nix, process-wrap), or put the call into src/agent/sandbox with its reason",
};
pub(crate) const PERMISSION: Rule = Rule {
    name: "permission is proven",
    why: "an Owned that was not built by a proof can destroy what is not ours (I1)",
    instead: "call prove_machine or prove_database in src/domain/owned.rs",
};
pub(crate) const NAMES: Rule = Rule {
    name: "names say what a module is for",
    why: "a drawer for everything is where nothing is found",
    instead: "name it after what it does, or put each item beside its caller",
};
pub(crate) const DOCS: Rule = Rule {
    name: "a module introduces itself",
    why: "a newcomer reads what it is for, what it guarantees and what it must not know before the code",
    instead: "begin the file with `//!`",
};
pub(crate) const LENGTH: Rule = Rule {
    name: "a file fits a head",
    why: "beyond 500 lines of code (600 in all) nobody reads a file to its end",
    instead: "split it by verb",
};
pub(crate) const FORKS: Rule = Rule {
    name: "tests run what production runs",
    why: "code that only exists in tests, or only outside them, is not tested by them",
    instead: "take the difference as a value (a clock, an address); `#[cfg(test)]` belongs on a test module only",
};
pub(crate) const FINISHED: Rule = Rule {
    name: "what is merged is finished",
    why: "a stub is a promise that a user finds out about",
    instead: "write it, or leave it out",
};
pub(crate) const SLEEPS: Rule = Rule {
    name: "tests wait for conditions",
    why: "a sleep is too short on a busy machine and too long on every other",
    instead: "use `eventually` of tests/ladder/wait.rs, a paused clock, or `std::future::pending` for what never ends",
};
pub(crate) const TEMPLATES: Rule = Rule {
    name: "every template is used",
    why: "a page that nothing shows, and a stack that nothing runs, rot unseen",
    instead: "name a page in the code that renders it, a stack in the test that runs it; or delete it",
};
pub(crate) const PRIVATE: Rule = Rule {
    name: "no path of a private machine",
    why: "it works on one machine and tells strangers about it",
    instead: "derive the path (env!(\"CARGO_MANIFEST_DIR\"), a temporary directory, the configuration)",
};

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, what } = self;
        write!(f, "{path}:{line}: {what}\n  rule: {}\n  why:  {}\n  do:   {}", rule.name, rule.why, rule.instead)
    }
}

/// A Rust file, read once for all rules.
struct File<'a> {
    path: &'a str,
    text: &'a str,
    tokens: Vec<Token>,
    /// Where its own code is in the crate; empty for the root and for files outside `src`.
    module: Vec<String>,
    /// Token ranges of its `#[cfg(test)]` modules.
    tests: Vec<std::ops::Range<usize>>,
}

/// Everything that is untidy below a directory.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    let mut files = Vec::new();
    read_below(root, "", &mut files);
    assert!(files.iter().any(|(path, _)| path == "src/lib.rs"), "{} is not Kagero's source", root.display());
    let mut findings: Vec<Finding> = files
        .iter()
        .filter(|(path, _)| !path.starts_with("tests/tidy"))
        .flat_map(|(path, text)| {
            let mut findings = check_words(path, text);
            if Path::new(path).extension().is_some_and(|extension| extension == "rs") {
                findings.extend(check_rust(path, text));
            }
            findings
        })
        .collect();
    findings.extend(check_templates(&files));
    findings
}

/// Everything that is untidy in one Rust file.
pub(crate) fn check_rust(path: &str, text: &str) -> Vec<Finding> {
    let tokens = source::tokens(text);
    let tests = test_modules(&tokens);
    let file = File { path, text, module: module_of(path), tests, tokens };
    let mut findings = Vec::new();
    let rules = [imports, wrappers, confined_unsafe, permission, names, docs, length, forks, finished, sleeps];
    for rule in rules {
        rule(&file, &mut findings);
    }
    findings
}

impl File<'_> {
    fn is_source(&self) -> bool {
        self.path.starts_with("src/")
    }

    fn finding(&self, line: usize, rule: Rule, what: impl Into<String>) -> Finding {
        Finding { path: self.path.to_owned(), line, rule, what: what.into() }
    }

    /// The lines where the tokens read like that.
    fn lines_reading(&self, like: &[&str]) -> Vec<usize> {
        (0..self.tokens.len()).filter(|at| reads(&self.tokens, *at, like)).map(|at| self.tokens[at].line).collect()
    }
}

fn imports(file: &File<'_>, findings: &mut Vec<Finding>) {
    let [top, ..] = file.module.as_slice() else { return };
    let on_map = |module: &str| MAP.iter().any(|(name, _)| *name == module);
    if !on_map(top) {
        findings.push(file.finding(1, PLACED, format!("MAP does not know the module {top}")));
        return;
    }
    let here = file.module.join("::");
    let lines_of_map = MAP.iter().filter(|(name, _)| is_within(&here, name));
    let allowed: Vec<&str> = lines_of_map.flat_map(|(_, allowed)| allowed.iter().copied()).collect();
    for named in source::named(&file.tokens, &file.module) {
        let path = named.path.join("::");
        let Some(other) = named.path.first().filter(|first| on_map(first)) else { continue };
        if other != top && !allowed.iter().any(|entry| is_within(&path, entry)) {
            findings.push(file.finding(named.line, IMPORTS, format!("{here} names crate::{path}")));
        }
        for (one, stranger) in STRANGERS {
            if is_within(&here, one) && is_within(&path, stranger) {
                findings.push(file.finding(named.line, IMPORTS, format!("{here} names crate::{path}")));
            }
        }
    }
}

fn wrappers(file: &File<'_>, findings: &mut Vec<Finding>) {
    if !file.is_source() {
        return;
    }
    for (at, token) in file.tokens.iter().enumerate() {
        let Some(word) = token.word() else { continue };
        let is_root = !(at > 0 && file.tokens[at - 1].is("::"))
            && (reads(&file.tokens, at + 1, &["::"]) || (at > 0 && file.tokens[at - 1].is("use")));
        for (name, places) in WRAPPED {
            if is_root && word.starts_with(name) && !places.iter().any(|place| file.path.starts_with(place)) {
                let places = places.join(", ");
                findings.push(file.finding(token.line, WRAPPERS, format!("{word} is named outside {places}")));
            }
        }
    }
}

fn confined_unsafe(file: &File<'_>, findings: &mut Vec<Finding>) {
    if !file.path.starts_with("src/agent/sandbox") {
        findings.extend(file.lines_reading(&["unsafe"]).into_iter().map(|line| file.finding(line, UNSAFE, "unsafe")));
    }
}

fn permission(file: &File<'_>, findings: &mut Vec<Finding>) {
    if file.path != "src/domain/owned.rs" {
        let built = file.lines_reading(&["Owned", "{"]);
        findings.extend(built.into_iter().map(|line| file.finding(line, PERMISSION, "builds an Owned by hand")));
        return;
    }
    for word in ["Deserialize", "Default"] {
        let lines = file.lines_reading(&[word]);
        findings.extend(
            lines
                .into_iter()
                .map(|line| file.finding(line, PERMISSION, format!("{word} would be a way around the proof"))),
        );
    }
    let Some(start) = (0..file.tokens.len()).find(|at| reads(&file.tokens, *at, &["struct", "Owned"])) else { return };
    let fields = file.tokens[start..].iter().take_while(|token| !token.is("}"));
    findings.extend(
        fields
            .filter(|token| token.is("pub"))
            .map(|token| file.finding(token.line, PERMISSION, "a public field of Owned")),
    );
}

fn names(file: &File<'_>, findings: &mut Vec<Finding>) {
    const DRAWERS: [&str; 9] =
        ["utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "shared"];
    let of_file = file.path.split('/').map(|part| (1, part.trim_end_matches(".rs")));
    let inline = file.tokens.windows(2).filter(|pair| pair[0].is("mod"));
    let inline = inline.filter_map(|pair| Some((pair[1].line, pair[1].word()?)));
    for (line, name) in of_file.chain(inline) {
        if DRAWERS.contains(&name) {
            findings.push(file.finding(line, NAMES, format!("a module called {name}")));
        }
    }
}

fn docs(file: &File<'_>, findings: &mut Vec<Finding>) {
    if !file.text.trim_start().starts_with("//!") {
        findings.push(file.finding(1, DOCS, "no module documentation"));
    }
}

fn length(file: &File<'_>, findings: &mut Vec<Finding>) {
    let all = file.text.lines().count();
    let mut lines: Vec<usize> = file.tokens.iter().map(|token| token.line).collect();
    lines.dedup();
    let code = lines.len();
    if file.is_source() && (code > 500 || all > 600) {
        findings.push(file.finding(all, LENGTH, format!("{code} lines of code, {all} in all")));
    }
}

fn forks(file: &File<'_>, findings: &mut Vec<Finding>) {
    if !file.is_source() {
        return;
    }
    for (at, token) in file.tokens.iter().enumerate() {
        let asks = reads(&file.tokens, at, &["cfg", "!", "(", "test", ")"])
            || reads(&file.tokens, at, &["cfg", "(", "not", "(", "test"])
            || reads(&file.tokens, at, &["cfg_attr", "(", "not", "(", "test"]);
        let alone = reads(&file.tokens, at, &["#", "[", "cfg", "(", "test", ")", "]"])
            && !file.tests.iter().any(|range| range.start == at);
        if asks || alone {
            findings.push(file.finding(token.line, FORKS, "code that differs between tests and production"));
        }
    }
}

fn finished(file: &File<'_>, findings: &mut Vec<Finding>) {
    for name in ["todo", "unimplemented", "dbg"] {
        let lines = file.lines_reading(&[name, "!"]);
        findings.extend(lines.into_iter().map(|line| file.finding(line, FINISHED, format!("{name}!"))));
    }
    let ignored = file.lines_reading(&["#", "[", "ignore"]);
    findings.extend(ignored.into_iter().map(|line| file.finding(line, FINISHED, "#[ignore]")));
    let dead = file.lines_reading(&["dead_code"]);
    findings.extend(dead.into_iter().map(|line| file.finding(line, FINISHED, "an excuse for dead_code")));
}

fn sleeps(file: &File<'_>, findings: &mut Vec<Finding>) {
    if file.path == "tests/ladder/wait.rs" {
        return;
    }
    for (at, token) in file.tokens.iter().enumerate() {
        let in_test = file.path.starts_with("tests/") || file.tests.iter().any(|range| range.contains(&at));
        let before = |sign| at > 0 && file.tokens[at - 1].is(sign);
        let called = reads(&file.tokens, at + 1, &["("]) && !before(".") && !before("fn");
        let sleep = matches!(token.word(), Some("sleep" | "sleep_ms" | "sleep_until"));
        if in_test && sleep && (called || before("::")) {
            findings.push(file.finding(token.line, SLEEPS, "a sleep in a test"));
        }
    }
}

pub(crate) fn check_words(path: &str, text: &str) -> Vec<Finding> {
    const HOMES: [&str; 2] = [concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for home in HOMES {
            let begins = |at: usize| {
                !line[..at]
                    .ends_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '}' | ')' | '*'))
            };
            if line.match_indices(home).any(|(at, _)| begins(at)) {
                let what = format!("a path below {home}");
                findings.push(Finding { path: path.to_owned(), line: number + 1, rule: PRIVATE, what });
            }
        }
    }
    findings
}

/// A template counts as used when the code or another template names it; a stack, which is for people to copy, when a
/// test does.
pub(crate) fn check_templates(files: &[(String, String)]) -> Vec<Finding> {
    let names_it = |template: &str, name: &str| {
        let users: &[&str] =
            if template.starts_with("templates/stacks/") { &["tests/ladder/"] } else { &["src/", "templates/"] };
        files
            .iter()
            .filter(|(path, _)| path != template && users.iter().any(|user| path.starts_with(user)))
            .any(|(_, text)| text.contains(name))
    };
    files
        .iter()
        .filter_map(|(path, _)| Some((path, path.strip_prefix("templates/")?)))
        .filter(|(path, below)| !names_it(path, below.rsplit('/').next().unwrap_or(below)))
        .map(|(path, _)| Finding { path: path.clone(), line: 1, rule: TEMPLATES, what: "nothing names it".to_owned() })
        .collect()
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`.
fn module_of(path: &str) -> Vec<String> {
    let Some(below) = path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")) else { return Vec::new() };
    if matches!(below, "lib" | "main") {
        return Vec::new();
    }
    let mut module: Vec<String> = below.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The token ranges of `#[cfg(test)] mod … { … }`, attributes included.
fn test_modules(tokens: &[Token]) -> Vec<std::ops::Range<usize>> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let starts = (0..tokens.len()).filter(|at| reads(tokens, *at, &MARK));
    starts
        .filter_map(|start| {
            let mut at = start + MARK.len();
            while reads(tokens, at, &["#", "["]) {
                at += tokens[at..].iter().position(|token| token.is("]"))? + 1;
            }
            if !reads(tokens, at, &["mod"]) {
                return None;
            }
            // `mod tests;` ends here, `mod tests { … }` with its last brace.
            let mut depth = 0_usize;
            for (offset, token) in tokens[at..].iter().enumerate() {
                if token.is("{") {
                    depth += 1;
                } else if token.is("}") {
                    depth = depth.saturating_sub(1);
                }
                if depth == 0 && (token.is("}") || token.is(";")) {
                    return Some(start..at + offset + 1);
                }
            }
            Some(start..tokens.len())
        })
        .collect()
}

/// Every text file below a directory that belongs to the project, with its path from the root.
fn read_below(root: &Path, below: &str, files: &mut Vec<(String, String)>) {
    const FOREIGN: [&str; 7] = ["target", ".git", "node_modules", ".kagero", ".tools", ".venv", ".venv-checkov"];
    let directory = root.join(below);
    let mut entries: Vec<_> = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok).collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        match entry.file_type() {
            _ if FOREIGN.contains(&name.as_str()) => {}
            Ok(kind) if kind.is_dir() => read_below(root, &path, files),
            // Pictures and the like are no text and no concern of these rules.
            Ok(kind) if kind.is_file() => files.extend(fs::read_to_string(entry.path()).ok().map(|text| (path, text))),
            _ => {}
        }
    }
}
