//! Loads a seed into an empty database with psql or `pg_restore`, and says which statement failed.
//!
//! Guarantees: the session is the seed role's, which has no rights outside that database; a seed that
//! fails stops at its first error.
//! Must not know: what becomes of the database afterwards.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};

use secrecy::SecretString;

use super::golden::{Golden, SeedError, SeedFormat};
use super::tools::{PassFile, RunAs, Tools};
use crate::domain::server_address::Tls;

/// Where a seed goes, and with what.
pub struct Target {
    /// The programs.
    pub tools: Tools,
    /// Who runs psql, which obeys `\!` in a seed.
    pub run_as: Option<RunAs>,
    /// Host name, address or directory of the server's socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How connections are secured.
    pub tls: Tls,
    /// The empty database.
    pub database: String,
    /// The seed role.
    pub role: String,
    /// Its password.
    pub password: SecretString,
    /// For short-lived files.
    pub scratch: PathBuf,
}

impl Target {
    /// What PostgreSQL's programs are told of the server.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.role.clone()),
            ("PGSSLMODE", self.tls.mode.as_str().to_owned()),
        ];
        if let Some(path) = &self.tls.root_certificate {
            variables.push(("PGSSLROOTCERT", path.display().to_string()));
        }
        variables
    }
}

/// Whether SQL text is loaded as one transaction: that spares PostgreSQL most of the log, but some
/// statements cannot stand in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapping {
    /// One for all.
    OneTransaction,
    /// As the text says.
    AsWritten,
}

/// Loads it.
pub async fn load(golden: &Golden, format: SeedFormat, wrapping: Wrapping, target: &Target) -> Result<(), SeedError> {
    match format {
        SeedFormat::Plain => plain(golden, wrapping, target).await,
        SeedFormat::Custom | SeedFormat::Directory => archive(golden, target).await,
        SeedFormat::SqliteFile => Err(golden.not("is a SQLite file: give it to environments with `engine: sqlite`")),
    }
}

/// Whether a seed only failed because it was loaded as one transaction.
pub fn dislikes_transaction(error: &SeedError) -> bool {
    matches!(error, SeedError::Statement { message, .. } if message.contains("inside a transaction block"))
}

/// The file is given as standard input: psql may run as a user who could not open it.
async fn plain(golden: &Golden, wrapping: Wrapping, target: &Target) -> Result<(), SeedError> {
    let broken = |why: String| SeedError::Program { seed: golden.name.clone(), program: "psql", why };
    let seed = File::open(&golden.source).map_err(|error| broken(format!("got no seed: {error}")))?;
    let run_as = target.run_as.as_ref();
    let pass = PassFile::write(&target.scratch, &target.role, &target.password, run_as)
        .map_err(|error| broken(format!("got no password file: {error}")))?;
    let mut psql = target.tools.command("psql", run_as);
    psql.args(["--no-psqlrc", "--quiet", "--echo-errors", "--no-password", "--output=/dev/null", "--file=-"])
        .args(["--set=ON_ERROR_STOP=1", "--set=SHOW_CONTEXT=errors"]);
    if wrapping == Wrapping::OneTransaction {
        psql.arg("--single-transaction");
    }
    psql.env("PGPASSFILE", pass.path())
        .envs(target.variables())
        .env("PGDATABASE", &target.database)
        .env("PGCLIENTENCODING", "UTF8")
        .stdin(Stdio::from(seed));
    let output = psql.output().await.map_err(|error| broken(format!("could not be started: {error}")))?;
    judge(golden, "psql", &output)
}

/// Comments on extensions are left out: only an extension's owner may make them, and that is not the seed
/// role.
async fn archive(golden: &Golden, target: &Target) -> Result<(), SeedError> {
    let broken = |why: String| SeedError::Program { seed: golden.name.clone(), program: "pg_restore", why };
    let failed = |error: std::io::Error| broken(format!("could not be started: {error}"));
    let mut list = target.tools.command("pg_restore", None);
    let listed = list.arg("--list").arg(&golden.source).output().await.map_err(failed)?;
    judge(golden, "pg_restore", &listed)?;
    let mut contents = tempfile::NamedTempFile::new_in(&target.scratch).map_err(failed)?;
    for entry in String::from_utf8_lossy(&listed.stdout).lines().filter(|entry| !is_about_extension(entry)) {
        writeln!(contents, "{entry}").map_err(failed)?;
    }
    let pass = PassFile::write(&target.scratch, &target.role, &target.password, None).map_err(failed)?;
    let mut restore = target.tools.command("pg_restore", None);
    restore
        .args(["--exit-on-error", "--no-owner", "--no-privileges", "--no-password", "--jobs=2"])
        .arg(format!("--dbname={}", target.database))
        .arg("--use-list")
        .arg(contents.path())
        .arg(&golden.source)
        .env("PGPASSFILE", pass.path())
        .envs(target.variables());
    let output = restore.output().await.map_err(failed)?;
    judge(golden, "pg_restore", &output)
}

/// Lines of `pg_restore --list`: `3; 3079 16386 EXTENSION - plpgsql` and
/// `3401; 0 0 COMMENT - EXTENSION pgcrypto`.
fn is_about_extension(entry: &str) -> bool {
    entry.contains(" COMMENT - EXTENSION ") || entry.contains(" EXTENSION - plpgsql")
}

fn judge(golden: &Golden, program: &'static str, output: &Output) -> Result<(), SeedError> {
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let Some(failure) = Failure::read(&text) else {
        let said = tidy(text.trim(), 400);
        let why = if said.is_empty() { format!("ended with {}", output.status) } else { format!("failed: {said}") };
        return Err(SeedError::Program { seed: golden.name.clone(), program, why });
    };
    Err(SeedError::Statement {
        seed: golden.name.clone(),
        path: golden.source.clone(),
        next_step: next_step(&failure.message),
        at: failure.at.into(),
        message: failure.message.into(),
        statement: failure.statement.map_or_else(String::new, |text| format!(" (statement: {text})")).into(),
    })
}

/// What psql or `pg_restore` said.
#[derive(Debug, PartialEq, Eq)]
struct Failure {
    at: String,
    message: String,
    statement: Option<String>,
}

impl Failure {
    fn read(text: &str) -> Option<Self> {
        Self::of_psql(text).or_else(|| Self::of_restore(text))
    }

    /// `psql:<stdin>:12: ERROR:  …`, then `LINE 1:`, `CONTEXT:` and, because errors are echoed,
    /// `psql:<stdin>:12: STATEMENT:  …`.
    fn of_psql(text: &str) -> Option<Self> {
        let (line, message) = text.lines().find_map(|line| {
            let (number, rest) = line.strip_prefix("psql:<stdin>:")?.split_once(": ")?;
            let message = rest.strip_prefix("ERROR:").or_else(|| rest.strip_prefix("FATAL:"))?;
            Some((number, message.trim()))
        })?;
        let context = text.lines().find_map(|line| line.strip_prefix("CONTEXT:")).map(str::trim);
        let statement = text.split_once("STATEMENT:").map(|(_, rest)| tidy(rest.trim(), 300));
        let message = context.map_or_else(|| message.to_owned(), |context| format!("{message}, {context}"));
        Some(Self { at: format!("at line {line}"), message: tidy(&message, 400), statement })
    }

    /// `pg_restore: from TOC entry 203; 1259 16386 TABLE orders shop`, then
    /// `pg_restore: error: could not execute query: ERROR:  …` and `Command was: …`.
    fn of_restore(text: &str) -> Option<Self> {
        let message = text.lines().find_map(|line| line.strip_prefix("pg_restore: error: "))?;
        let entry = text.lines().find_map(|line| line.split_once("from TOC entry ")).map(|(_, entry)| entry);
        let at = entry.map_or_else(|| "as a whole".to_owned(), |entry| format!("at its entry {}", tidy(entry, 200)));
        let statement = text.split_once("Command was: ").map(|(_, rest)| tidy(rest.trim(), 300));
        Some(Self { at, message: tidy(message, 400), statement })
    }
}

/// Shortens, and takes out what could forge a line of a log or a page.
pub fn tidy(text: &str, longest: usize) -> String {
    let flat: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words = flat.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(longest) {
        Some((cut, _)) => format!("{}…", &words[..cut]),
        None => words,
    }
}

fn next_step(message: &str) -> &'static str {
    if message.contains("role \"") && message.contains("does not exist") {
        "Dump again with --no-owner --no-privileges"
    } else if message.contains("must be owner of extension") {
        "Dump again with --no-comments, or with --format=custom"
    } else if message.contains("permission denied to create extension") {
        "Name the extension under the seed's `extensions`, so that it is made before"
    } else if message.contains("permission denied to create database") {
        "Dump again without --create"
    } else if message.contains("No space left") || message.contains("could not extend file") {
        "Free space on the server's disk"
    } else if message.contains("unsupported version") {
        "The dump is newer than the server's programs: install a newer PostgreSQL, or dump with an older pg_dump"
    } else if message.contains("end of file") {
        "The dump is cut off: dump again, or copy the whole of it"
    } else {
        "Correct the seed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psql_errors_name_line_and_statement() {
        let text = "psql:<stdin>:3: NOTICE:  x\npsql:<stdin>:12: ERROR:  relation \"foo\" does not exist\n\
                    LINE 1: INSERT INTO foo VALUES (1);\n                    ^\n\
                    psql:<stdin>:12: STATEMENT:  INSERT INTO foo\n  VALUES (1);\n";
        let failure = Failure::read(text).unwrap();
        assert_eq!(failure.at, "at line 12");
        assert_eq!(failure.message, "relation \"foo\" does not exist");
        assert_eq!(failure.statement.as_deref(), Some("INSERT INTO foo VALUES (1);"));
    }

    #[test]
    fn restore_errors_name_entry_and_statement() {
        let text = "pg_restore: while PROCESSING TOC:\n\
                    pg_restore: from TOC entry 203; 1259 16386 TABLE orders shop\n\
                    pg_restore: error: could not execute query: ERROR:  type \"citext\" does not exist\n\
                    Command was: CREATE TABLE public.orders (\n    a public.citext\n);\n";
        let failure = Failure::read(text).unwrap();
        assert!(failure.at.contains("TABLE orders"), "{failure:?}");
        assert!(failure.message.contains("citext"));
        assert_eq!(failure.statement.as_deref(), Some("CREATE TABLE public.orders ( a public.citext );"));
    }

    #[test]
    fn what_a_seed_says_cannot_forge_lines() {
        assert_eq!(tidy("a\u{1b}[31m\nb\r\n  c", 100), "a [31m b c");
        assert_eq!(tidy(&"ä".repeat(9), 3), "äää…");
    }

    #[test]
    fn entries_about_extensions_are_recognised() {
        assert!(is_about_extension("3401; 0 0 COMMENT - EXTENSION pgcrypto "));
        assert!(!is_about_extension("2; 3079 16386 EXTENSION - pgcrypto "));
        assert!(!is_about_extension("203; 1259 16386 TABLE public extension_list shop"));
    }
}
