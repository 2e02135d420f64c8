//! Reader, schema, documentation and examples say the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use kagero::config::{reference, schema};
use kagero::domain::policy::RepoSetting;
use serde_json::Value;

use super::{here, read_server};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The committed file has to be what the tables make; `KAGERO_BLESS=1` writes it.
fn assert_current(path: &Path, wanted: &str) {
    if std::env::var_os("KAGERO_BLESS").is_some() {
        std::fs::write(path, wanted).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == wanted, "{} is not current: run the tests once with KAGERO_BLESS=1", path.display());
}

#[test]
fn the_committed_schemas_are_current() {
    for (name, schema) in [("kagero.toml.json", schema::server()), ("kagero.yml.json", schema::repo())] {
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        assert_current(&root().join("docs/schema").join(name), &text);
        jsonschema::draft7::meta::validate(&schema).unwrap();
    }
}

#[test]
fn the_committed_reference_is_current() {
    let path = root().join("docs/configuration.md");
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (file, keys) in [("kagero.toml", reference::server()), (".kagero.yml", reference::repo())] {
        let (begin, end) = (format!("<!-- begin: keys of {file} -->\n"), format!("<!-- end: keys of {file} -->"));
        let from = text.find(&begin).unwrap() + begin.len();
        let to = text.find(&end).unwrap();
        text.replace_range(from..to, &keys);
    }
    assert_current(&path, &text);
}

/// Paths of all properties; names of the author's as `<name>`.
fn paths(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        for (key, inner) in properties {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            paths(inner, &path, found);
            found.insert(path);
        }
    }
    if schema["additionalProperties"].is_object() {
        paths(&schema["additionalProperties"], &format!("{path}.<name>"), found);
    }
    for inner in schema["anyOf"].as_array().into_iter().flatten() {
        paths(inner, path, found);
    }
}

#[test]
fn every_documented_key_is_in_the_schema_and_the_other_way_round() {
    let docs = std::fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    for (file, schema) in [("kagero.toml", schema::server()), (".kagero.yml", schema::repo())] {
        let (_, section) = docs.split_once(&format!("<!-- begin: keys of {file} -->")).unwrap();
        let (section, _) = section.split_once("<!-- end").unwrap();
        let documented: BTreeSet<String> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(key, _)| key.to_owned()))
            .collect();
        let mut known = BTreeSet::new();
        paths(&schema, "", &mut known);
        // Tables are documented by their keys.
        let tables: BTreeSet<String> = known
            .iter()
            .filter(|key| !documented.contains(*key) && known.iter().any(|other| other.starts_with(&format!("{key}."))))
            .cloned()
            .collect();
        let known: BTreeSet<String> = known.difference(&tables).cloned().collect();
        assert!(documented.len() > 20, "{file}: {documented:?}");
        assert_eq!(documented, known, "{file}");
    }
}

fn yaml_block<'d>(docs: &'d str, language: &str) -> Vec<&'d str> {
    let fence = format!("```{language}\n");
    docs.split(&fence).skip(1).map(|rest| rest.split_once("```").unwrap().0).collect()
}

#[test]
fn examples_are_accepted_by_reader_and_schema() {
    let docs = ["docs/configuration.md", "docs/containers.md"];
    let docs = docs.map(|path| std::fs::read_to_string(root().join(path)).unwrap()).concat();
    let example = std::fs::read_to_string(root().join("kagero.example.toml")).unwrap();
    let example = example.replace("file:secrets/stripe-test-key", "env:HOOK");
    let (server, repo) = validators();
    let mut tried = 0;
    for text in yaml_block(&docs, "toml").into_iter().chain([example.as_str()]) {
        if let Err(errors) = read_server(text) {
            panic!("{}", errors.render(kagero::config::RenderStyle::Plain));
        }
        assert!(server.is_valid(&toml_value(text)), "{text}");
        tried += 1;
    }
    let stacks = std::fs::read_dir(root().join("templates/stacks")).unwrap();
    let stacks: Vec<String> = stacks.map(|stack| std::fs::read_to_string(stack.unwrap().path()).unwrap()).collect();
    for text in yaml_block(&docs, "yaml").into_iter().chain(stacks.iter().map(String::as_str)) {
        match kagero::config::combine(Some(text), Some(text), "main", "x") {
            RepoSetting::Valid(_) => {}
            other => panic!("{other:?}"),
        }
        assert!(repo.is_valid(&yaml_value(text)), "{text}");
        tried += 1;
    }
    assert_eq!(tried, 10);
}

fn validators() -> (jsonschema::Validator, jsonschema::Validator) {
    (jsonschema::draft7::new(&schema::server()).unwrap(), jsonschema::draft7::new(&schema::repo()).unwrap())
}

fn toml_value(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Value>(text).unwrap()).unwrap()
}

fn yaml_value(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// The samples in which only the schema's kind of error is made.
#[test]
fn schema_and_reader_refuse_the_same_files() {
    let (server, repo) = validators();
    for name in ["unknown-keys", "wrong-types", "not-supported-yet", "names", "nothing", "many"] {
        let text = std::fs::read_to_string(here().join(format!("broken/{name}.yml"))).unwrap();
        assert!(!repo.is_valid(&yaml_value(&text)), "{name}");
    }
    for name in ["missing", "misplaced", "wrong-values", "secrets"] {
        let text = std::fs::read_to_string(here().join(format!("broken/{name}.toml"))).unwrap();
        assert!(!server.is_valid(&toml_value(&text)), "{name}");
    }
}

/// One change at a time, so that each of them is what decides.
#[test]
fn schema_and_reader_agree_on_single_changes() {
    let (_, repo) = validators();
    let base = "services: {web: {run: x, public: true}}\n";
    for (line, accepted) in [
        ("", true),
        ("version: 1", true),
        ("version: 2", false),
        ("version: '1'", false),
        ("build: make", true),
        ("build: ''", false),
        ("build: {run: make}", true),
        ("build: {run: make, timeout: 5m}", true),
        ("build: {timeout: 5m}", false),
        ("build: {run: make, timeout: 5}", false),
        ("build: [make]", false),
        ("build:", false),
        ("database: none", true),
        ("database: nothing", false),
        ("database: {engine: postgres}", true),
        ("database: {engine: oracle}", false),
        ("database: {seed: golden}", false),
        ("database: {engine: postgres, lane: rds}", true),
        ("database: {engine: postgres, lane: instance}", false),
        ("database: {engine: postgres, seed: 'a b'}", false),
        ("env: {A_1: x}", true),
        ("env: {}", true),
        ("env: {a: x}", false),
        ("env: {PORT: x}", false),
        ("env: {PORTAL: x}", true),
        ("env: {PATH: x}", false),
        ("env: {LD_X: x}", false),
        ("env: {KAGERO_X: x}", false),
        ("env: {A: 1}", false),
        ("secrets: []", true),
        ("secrets: [A]", true),
        ("secrets: [DATABASE_URL]", false),
        ("secrets: A", false),
        ("trigger: {mode: on_label, draft: run, forks: never, bots: run, base_branches: [main, 'r/**']}", true),
        ("trigger: {base_branches: []}", false),
        ("trigger: {base_branches: ['a b']}", false),
        ("trigger: {mode: manual}", false),
        ("trigger: {}", true),
        ("lifetime: {max_age: 3d}", true),
        ("lifetime: {max_age: 3w}", false),
        ("checks: {}", false),
        ("compose: ''", false),
        ("compose: /etc/compose.yaml", false),
        ("compose: a/../../b.yaml", false),
    ] {
        let text = format!("{base}{line}\n");
        let read = kagero::config::repo::parse_repo(".kagero.yml", &text);
        assert_eq!(read.is_ok(), accepted, "reader: {line}: {read:?}");
        assert_eq!(repo.is_valid(&yaml_value(&text)), accepted, "schema: {line}");
    }
}

#[test]
fn schema_and_reader_agree_on_what_containers_are() {
    let (_, repo) = validators();
    let digest = "a1".repeat(32);
    for (service, accepted) in [
        ("image: 'ghcr.io/acme/shop:{sha}'".to_owned(), true),
        (format!("image: 'shop@sha256:{digest}'"), true),
        ("image: nginx".to_owned(), false),
        ("image: 'Shop Image:1'".to_owned(), false),
        ("image: 7".to_owned(), false),
        ("dockerfile: Dockerfile".to_owned(), true),
        ("dockerfile: docker/Dockerfile, context: app, target: release".to_owned(), true),
        ("dockerfile: ../Dockerfile".to_owned(), false),
        ("dockerfile: /Dockerfile".to_owned(), false),
        ("dockerfile: Dockerfile, context: a/..".to_owned(), false),
        ("dockerfile: Dockerfile, target: 'a b'".to_owned(), false),
        ("dockerfile: D, command: [bin/x, '-v'], port: 80, user: '1000:1000', read_only: true".to_owned(), true),
        ("dockerfile: D, command: bin/x".to_owned(), false),
        ("dockerfile: D, command: []".to_owned(), false),
        ("dockerfile: D, port: 0".to_owned(), false),
        ("dockerfile: D, port: '80'".to_owned(), false),
        ("dockerfile: D, user: 'a b'".to_owned(), false),
        ("dockerfile: D, volumes: ['/:/x']".to_owned(), false),
    ] {
        let text = format!("services: {{web: {{{service}, public: true}}}}\n");
        let read = kagero::config::repo::parse_repo(".kagero.yml", &text);
        assert_eq!(read.is_ok(), accepted, "reader: {service}: {read:?}");
        assert_eq!(repo.is_valid(&yaml_value(&text)), accepted, "schema: {service}");
    }
}

#[test]
fn schema_and_reader_agree_on_single_changes_of_the_operators_file() {
    let (server, _) = validators();
    let rest = "[github]\napp_id = 7\nprivate_key = \"file:key.pem\"\nwebhook_secrets = [\"env:HOOK\"]\n";
    for (line, accepted) in [
        (r#"repositories = ["acme/shop", "acme/*"]"#, true),
        (r#"repositories = ["*/*"]"#, false),
        (r#"repositories = ["acme"]"#, false),
        (r#"repositories = ["acme/web-*"]"#, false),
        ("repositories = []", false),
        (r#"repositories = "acme/*""#, false),
        ("", false),
    ] {
        assert_agreement(&server, &format!("{line}\n{rest}"), accepted);
    }
    for (line, accepted) in [
        (r#"name = "shop-1""#, true),
        (r#"name = "1shop""#, false),
        (r#"name = "shop-""#, false),
        (r#"public_url = "https://k.example.com""#, true),
        (r#"public_url = "k.example.com""#, false),
        (r#"listen = {http = "0.0.0.0:80", gateway = "[::1]:8081"}"#, true),
        (r#"listen = {https = "0.0.0.0:80"}"#, false),
        (r#"gateway = {domain = "p.example.com", scheme = "https", port = 8443}"#, true),
        (r#"gateway = {domain = "P.example.com"}"#, false),
        (r#"store = {url = "sqlite:k.db"}"#, true),
        (r#"store = {url = "mysql://x/y"}"#, false),
        (r#"compute = {sandbox = "best_effort", path = ["/opt/bin"], read_only_paths = []}"#, true),
        (r#"compute = {path = ["opt/bin"]}"#, false),
        (r#"compute = {container_engine = "unix:///run/podman/podman.sock"}"#, true),
        (r#"compute = {container_engine = "tcp://10.0.0.1:2375"}"#, false),
        (r#"compute = {kind = "mars"}"#, false),
        ("database = {postgres = {}}", true),
        (r#"database = {postgres = {server = "private", user = "postgres", bin_dir = "/usr/lib/pg/bin"}}"#, true),
        (r#"database = {postgres = {server = "public"}}"#, false),
        (r#"database = {postgres = {url = "postgres://db"}}"#, false),
        ("database = {mysql = {}}", false),
        (r#"seeds = {a_b = {engine = "sqlite", path = "x.db", format = "sqlite"}}"#, true),
        (r#"seeds = {a = {path = "x.db"}}"#, false),
        (r#"seeds = {a = {engine = "sqlite", path = "x.db", snapshot = "nightly"}}"#, false),
        (r#"database = {rds = {root_certificate = "/etc/rds.pem"}}"#, true),
        (r#"database = {rds = {key = "arn:aws:kms:eu-central-1:111111111111:key/0a1b-2c"}}"#, true),
        (r#"database = {rds = {key = "alias/x"}}"#, false),
        (r#"seeds = {A = {engine = "sqlite", path = "x"}}"#, false),
        ("limits = {environments = 1, per_repository = 1, attempts = 1, builds = 1}", true),
        ("limits = {builds = 0}", false),
        (r#"pace = {busy = "200ms", idle = "5s", comment = "0s", grace = "0s"}"#, true),
        (r#"pace = {busy = "200"}"#, false),
        ("pace = {busy = 1}", false),
        (r#"labels = {on = "pre view"}"#, true),
        (r#"labels = {on = " preview"}"#, false),
        (r#"secrets = {STRIPE = "env:HOOK"}"#, true),
        (r#"secrets = {stripe = "env:HOOK"}"#, false),
        (r#"secrets = {STRIPE = "sk_test"}"#, false),
        (r#"allow = {database_servers = ["db.staging:5432"]}"#, true),
        (r#"allow = {database_servers = ["db.staging"]}"#, false),
        ("allow = {database_servers = []}", false),
    ] {
        assert_agreement(&server, &format!("repositories = [\"a/b\"]\n{line}\n{rest}"), accepted);
    }
}

fn assert_agreement(schema: &jsonschema::Validator, text: &str, accepted: bool) {
    let read = read_server(text);
    assert_eq!(read.is_ok(), accepted, "reader: {text}: {read:?}");
    assert_eq!(schema.is_valid(&toml_value(text)), accepted, "schema: {text}");
}

#[test]
fn schema_and_reader_agree_on_what_names_a_place_on_aws() {
    let (server, _) = validators();
    let rest = "[github]\napp_id = 7\nprivate_key = \"file:key.pem\"\nwebhook_secrets = [\"env:HOOK\"]\n";
    let whole = r#"account = "111111111111", region = "eu-central-1", vpc = "vpc-0a1b", ami = "ami-0a1b", instance_types = ["t4g.small"]"#;
    let digest = "ab".repeat(32);
    let fetched = format!(r#"{whole}, agent_url = "https://x.test/kagero", agent_sha256 = "{digest}""#);
    for (keys, accepted) in [
        (whole.to_owned(), true),
        (fetched.clone(), true),
        (fetched.replace("https:", "http:"), false),
        (fetched.replace("/kagero", "/kagero'; rm -rf x"), false),
        (fetched.replace(&digest, "ab"), false),
        (format!(r#"{whole}, volume = 40, profile = "previews", production_words = ["prod"]"#), true),
        (format!("{whole}, volume = 4"), false),
        (format!(r#"{whole}, production_words = ["Prod"]"#), false),
        (whole.replace("111111111111", "11111111"), false),
        (whole.replace("eu-central-1", "Frankfurt"), false),
        (whole.replace("vpc-0a1b", "0a1b"), false),
        (whole.replace("ami-0a1b", "ami-$(x)"), false),
        (whole.replace(r#""t4g.small""#, ""), false),
        (whole.replace("t4g.small", "t4g"), false),
        (whole.replace(r#"account = "111111111111", "#, ""), false),
    ] {
        let text = format!("repositories = [\"a/b\"]\ncompute = {{kind = \"ec2\", ec2 = {{{keys}}}}}\n{rest}");
        assert_agreement(&server, &text, accepted);
    }
}

#[test]
fn every_default_is_a_value_that_could_have_been_written() {
    fn walk(schema: &Value, tried: &mut usize) {
        for property in schema["properties"].as_object().into_iter().flat_map(|properties| properties.values()) {
            if let Some(default) = property.get("default") {
                assert!(jsonschema::draft7::new(property).unwrap().is_valid(default), "{property}");
                *tried += 1;
            }
            walk(property, tried);
        }
        walk_inner(schema, tried);
    }
    fn walk_inner(schema: &Value, tried: &mut usize) {
        if schema["additionalProperties"].is_object() {
            walk(&schema["additionalProperties"], tried);
        }
        for inner in schema["anyOf"].as_array().into_iter().flatten() {
            walk(inner, tried);
        }
    }
    let mut tried = 0;
    walk(&schema::server(), &mut tried);
    walk(&schema::repo(), &mut tried);
    assert!(tried > 20, "{tried}");
}
