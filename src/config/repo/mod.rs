//! `.kagero.yml`, valid: what a repository says of its previews, from two versions of the file.
//!
//! Whatever touches trust, money or data comes from the base branch; how to build and run comes from the
//! head. A pull request can therefore change how it is run, and cannot give itself a secret or other data.
//!
//! Guarantees: a diagnosis is complete, is plain text without control characters, and names the branch.

mod keys;
mod read;
mod runs;

use crate::domain::policy::{DatabaseConfig, RepoConfig, RepoSetting};

use super::problem::{ConfigErrors, Problem, Problems};
use super::render::RenderStyle;

pub use keys::REPO;
pub use read::{File, parse_repo};

/// What one pull request gets, with remarks for its author.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combined {
    /// What counts.
    pub setting: RepoSetting,
    /// What was written in the head and does not count before it is merged.
    pub notes: Vec<String>,
}

/// What a pull request gets, from the file's text on the base branch and at the head. The names are those
/// of the branches, for the diagnosis.
pub fn combine(base: Option<&str>, head: Option<&str>, base_name: &str, head_name: &str) -> RepoSetting {
    combine_with_notes(base, head, base_name, head_name).setting
}

/// As [`combine`], with the remarks.
pub fn combine_with_notes(base: Option<&str>, head: Option<&str>, base_name: &str, head_name: &str) -> Combined {
    let base_title = title("base branch", base_name);
    let head_title = title("pull request", head_name);
    // A branch that was cut before the file came to the base branch is run as the base branch is.
    let head = head.or(base);
    let Some(head_text) = head else {
        return Combined { setting: RepoSetting::Absent, notes: Vec::new() };
    };
    let read_base = base.map(|text| parse_repo(&base_title, text));
    let read_head = if base == head {
        read_base.clone().unwrap_or_else(|| parse_repo(&head_title, head_text))
    } else {
        parse_repo(&head_title, head_text)
    };
    match (read_base.transpose(), read_head) {
        (Ok(trusted), Ok(run)) => join(trusted, run, base_name, (&head_title, head_text)),
        (Err(one), Ok(_)) => broken(&[&one]),
        (Ok(_), Err(two)) => broken(&[&two]),
        (Err(one), Err(_)) if base == head => broken(&[&one]),
        (Err(one), Err(two)) => broken(&[&one, &two]),
    }
}

fn broken(errors: &[&ConfigErrors]) -> Combined {
    let texts: Vec<String> = errors.iter().map(|errors| errors.render(RenderStyle::Plain)).collect();
    Combined { setting: RepoSetting::Broken(texts.join("\n")), notes: Vec::new() }
}

fn join(base: Option<File>, head: File, base_name: &str, (head_title, head_text): (&str, &str)) -> Combined {
    let base_name = super::problem::printable(base_name, 100);
    let mut notes = Vec::new();
    let mut problems = Problems::default();
    let unmerged = base.is_none();
    let wants_database = head.config.database.is_some();
    let trusted = base.map_or_else(read::untrusted, |file| file.config);

    if wants_database && trusted.database.is_none() {
        let message = format!("the base branch {base_name} grants no database to pull requests");
        let help = format!(
            "a pull request cannot grant itself data: merge the `database` section into {base_name} first, or remove it here to get a preview without a database"
        );
        problems.push(Problem::new(head.places.database.clone(), message, "not granted").help(help));
    }
    for (name, span) in &head.places.env {
        if trusted.secrets.contains(name) {
            let message = format!("`env.{name}` is a secret that the base branch {base_name} asks for");
            problems.push(Problem::new(span.clone(), message, "set twice").help("remove it from `env`"));
        }
    }
    if let Err(errors) = problems.into_errors(head_title, head_text) {
        return broken(&[&errors]);
    }

    if unmerged {
        notes.push(format!(
            "{base_name} has no .kagero.yml yet: until this one is merged, `trigger` and `lifetime` are the defaults, and there are no secrets and no database"
        ));
    } else {
        for (key, differs) in [
            ("trigger", trusted.trigger != head.config.trigger),
            ("secrets", trusted.secrets != head.config.secrets),
            ("lifetime", trusted.lifetime != head.config.lifetime),
            ("database", granted(trusted.database.as_ref()) != granted(head.config.database.as_ref())),
        ] {
            if differs {
                notes.push(format!("`{key}` differs from {base_name} and counts once it is merged"));
            }
        }
    }
    let migrate = head.config.database.and_then(|database| database.migrate);
    let config = RepoConfig {
        trigger: trusted.trigger,
        services: head.config.services,
        build: head.config.build,
        database: trusted.database.map(|database| DatabaseConfig { migrate, ..database }),
        env: head.config.env,
        secrets: trusted.secrets,
        lifetime: trusted.lifetime,
    };
    Combined { setting: RepoSetting::Valid(Box::new(config)), notes }
}

/// The part of a database that only the base branch decides.
fn granted(database: Option<&DatabaseConfig>) -> Option<DatabaseConfig> {
    database.map(|database| DatabaseConfig { migrate: None, ..database.clone() })
}

fn title(side: &str, branch: &str) -> String {
    format!(".kagero.yml ({side} {})", super::problem::printable(branch, 100))
}
