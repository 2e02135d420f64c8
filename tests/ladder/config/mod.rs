//! Tests of the two configurations, through their public functions.

mod agreement;
mod hostile;
mod repository;
mod server;

use std::path::{Path, PathBuf};

use kagero::config::{ConfigErrors, RenderStyle, Server, Surroundings, parse_server};

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ladder/config")
}

/// A folder with the key file that the samples name.
fn folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    for name in ["key.pem", "github-app.pem"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    folder
}

fn variable(name: &str) -> Option<String> {
    match name {
        "HOOK" | "KAGERO_WEBHOOK_SECRET" => Some("hunter2-hook".to_owned()),
        "PG" => Some("postgres://root:hunter2@db.staging/postgres".to_owned()),
        "PG_TLS" => Some("postgres://root:hunter2@db.staging/postgres?sslmode=verify-full".to_owned()),
        "PG_ELSEWHERE" => Some("postgres://root:hunter2@db.staging/postgres?host=db.production".to_owned()),
        _ => None,
    }
}

fn read_server(text: &str) -> Result<Server, ConfigErrors> {
    read_server_in(folder().path(), text)
}

fn read_server_in(folder: &Path, text: &str) -> Result<Server, ConfigErrors> {
    parse_server("kagero.toml", text, Surroundings { folder, variable: &variable })
}

/// Both ways of showing findings, for what must hold in either.
fn shown(errors: &ConfigErrors) -> String {
    [errors.render(RenderStyle::Plain), errors.render(RenderStyle::Terminal), errors.to_json().to_string()].concat()
}

/// Every file of `broken/` has a snapshot of its diagnosis: the table of what people get wrong.
#[test]
fn every_broken_file_is_diagnosed_in_full() {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(here().join("broken")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 24, "samples are missing: {files:?}");
    let folder = folder();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let errors = match file.extension().unwrap().to_str().unwrap() {
            "toml" => read_server_in(folder.path(), &text).unwrap_err(),
            _ => kagero::config::repo::parse_repo(".kagero.yml", &text).unwrap_err(),
        };
        let text = errors.render(RenderStyle::Plain).replace(folder.path().to_str().unwrap(), "<folder>");
        insta::assert_snapshot!(name.replace('.', "-"), text);
        assert!(!shown(&errors).contains("hunter2"), "{name} shows a secret");
    }
}

#[test]
fn terminals_get_the_same_findings_in_colour() {
    let errors = read_server("repositories = [\"acme/*\"]\nnme = \"x\"\n").unwrap_err();
    insta::assert_snapshot!(errors.render(RenderStyle::Terminal).replace('\u{1b}', "␛"));
    insta::assert_json_snapshot!(errors.to_json());
}

#[test]
fn files_that_are_no_text_are_refused_at_the_first_wrong_byte() {
    let errors = kagero::config::decode("x.toml", b"name = \"a\"\nb = \"\xff\"\n".to_vec()).unwrap_err();
    assert_eq!(errors.position(&errors.problems()[0]), (2, 6));
    assert!(errors.render(RenderStyle::Plain).contains("not UTF-8"));
}

#[test]
fn a_file_that_is_not_there_is_named_with_the_cause() {
    let errors = kagero::config::load_server(Path::new("/nowhere/kagero.toml")).unwrap_err();
    let text = errors.render(RenderStyle::Plain);
    assert!(text.contains("/nowhere/kagero.toml cannot be read: No such file"), "{text}");
}

#[test]
fn files_that_are_too_large_are_refused() {
    let text = format!("# {}\n", "x".repeat(70_000));
    let errors = read_server(&text).unwrap_err();
    assert!(errors.render(RenderStyle::Plain).contains("more than the 64 KiB allowed"));
    assert!(kagero::config::repo::parse_repo(".kagero.yml", &text).is_err());
}
