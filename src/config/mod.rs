//! The two configurations, each as two things: what was written and what is valid.
//!
//! - `kagero.toml` ([`server`]): the operator's. It always wins.
//! - `.kagero.yml` ([`repo`]): a repository's, read from the base branch for what touches trust, money or
//!   data, and from the head for how to build and run.
//!
//! What was written is a small tree with places ([`tree`]), the same for both languages. The keys stand in
//! one table per file ([`shape`]); the tree is held against it ([`check`]), and the same table makes the
//! JSON Schema ([`schema`]), the documentation ([`reference`]) and `config explain` ([`explain`]). A key
//! is added in the table and in the `read` module beside it.
//!
//! Guarantees: nothing that is accepted is ignored; what is wrong is reported all at once, with file, line,
//! column and a way out; no text, however hostile, panics or breaks a terminal; secrets are references and
//! their values are never shown.
//! Must not know: any adapter, the controller, the store.

pub mod check;
pub mod compose;
pub mod explain;
pub mod problem;
pub mod reference;
pub mod render;
pub mod repo;
pub mod rules;
pub mod schema;
pub mod secret;
pub mod server;
pub mod shape;
pub mod tree;
pub mod view;

use std::io::Read as _;
use std::path::Path;

pub use problem::{ConfigErrors, Problem};
pub use render::RenderStyle;
pub use repo::combine;
pub use secret::{Secret, Surroundings};
pub use server::{Server, parse_server};

/// Where a repository keeps its configuration.
pub const REPO_FILE: &str = ".kagero.yml";

/// Reads and validates `kagero.toml`, secrets included. Relative paths begin at its folder.
pub fn load_server(path: &Path) -> Result<Server, ConfigErrors> {
    let name = path.display().to_string();
    let text = read_text(path)?;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    parse_server(&name, &text, Surroundings { folder, variable: &|name| std::env::var(name).ok() })
}

/// Reads a configuration file as text, however large or broken it is.
pub fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let limit = tree::MAX_BYTES as u64 + 1;
    let read = std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_) => decode(&name, bytes),
        Err(error) => Err(ConfigErrors::unreadable(
            &name,
            format!("{name} cannot be read: {error}"),
            "give the path with --config, and check that the account of Kagero may read it",
        )),
    }
}

/// Text from bytes; what is not UTF-8 is reported at its place.
pub fn decode(name: &str, bytes: Vec<u8>) -> Result<String, ConfigErrors> {
    String::from_utf8(bytes).or_else(|error| {
        let at = error.utf8_error().valid_up_to();
        let shown = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let mut problems = problem::Problems::default();
        let end = at + char::REPLACEMENT_CHARACTER.len_utf8();
        problems.push(Problem::new(at..end, "the file is not UTF-8 text", "not UTF-8").help("save it as UTF-8"));
        problems.into_errors(name, &shown).map(|()| shown)
    })
}
