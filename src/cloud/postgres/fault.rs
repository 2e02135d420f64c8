//! Errors of servers, files and programs, sorted by what the caller should do.
//!
//! Guarantees: the server's message is kept, without its details, which may quote data.
//! Must not know: what was attempted; that is given in.

use std::time::Duration;

use crate::cloud::{CloudError, ErrorClass};
use crate::seed::golden::SeedError;
use crate::seed::tools::ToolsError;

/// An error of the database driver.
pub fn sql(what: impl Into<String>, error: &sqlx::Error) -> CloudError {
    let what = what.into();
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default().into_owned();
            let (class, next_step) = sort(&code, error.message());
            CloudError { class, what, why: format!("{} (SQLSTATE {code}){next_step}", error.message()) }
        }
        // What the other side sends in a handshake and cannot be accepted: its certificate, above all.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            denied(what, format!("no secure connection: {error}. Check the server's certificate and `sslrootcert`"))
        }
        sqlx::Error::Io(error) => retry(what, format!("the database server cannot be reached: {error}")),
        sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed | sqlx::Error::PoolTimedOut => {
            retry(what, format!("the connection to the database server broke: {error}"))
        }
        sqlx::Error::Configuration(error) => denied(what, format!("{error}. Correct the server's address")),
        sqlx::Error::Tls(error) => {
            denied(what, format!("no secure connection: {error}. Check the server's certificate"))
        }
        other => bug(what, other.to_string()),
    }
}

/// SQLSTATE to class, with what to do where a person can do something.
fn sort(code: &str, message: &str) -> (ErrorClass, &'static str) {
    match code {
        "53100" | "58030" => (ErrorClass::Quota, ". Free space on the database server's disk"),
        "53300" => (ErrorClass::SlowDown(Duration::from_secs(5)), ". Raise max_connections if it stays"),
        "53200" => (ErrorClass::Retry, ". Raise max_locks_per_transaction: the seed has very many tables"),
        "28P01" | "28000" => (
            ErrorClass::Denied,
            ". Check the server's user and password; a private cluster needs the secret it was made with",
        ),
        "42501" => (ErrorClass::Denied, ". Grant the administrator CREATEDB and CREATEROLE"),
        // Starting, shutting down, broken off, locked, in use, serialisation.
        "57P01" | "57P02" | "57P03" | "57014" | "55P03" | "55006" | "40001" | "40P01" => (ErrorClass::Retry, ""),
        code if code.starts_with("08") || code.starts_with("53") => (ErrorClass::Retry, ""),
        "XX000" if message.contains("concurrently updated") => (ErrorClass::Retry, ""),
        _ => (ErrorClass::Bug, ""),
    }
}

/// An error of the file system.
pub fn io(what: impl Into<String>, error: &std::io::Error) -> CloudError {
    let class = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorClass::Quota,
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => ErrorClass::Denied,
        std::io::ErrorKind::Interrupted | std::io::ErrorKind::TimedOut => ErrorClass::Retry,
        _ => ErrorClass::Bug,
    };
    CloudError { class, what: what.into(), why: error.to_string() }
}

/// A seed that cannot be loaded: a person has to act.
pub fn seed(what: impl Into<String>, error: &SeedError) -> CloudError {
    denied(what, error.to_string())
}

/// Programs that are not there: a person has to act.
pub fn tools(what: impl Into<String>, error: &ToolsError) -> CloudError {
    denied(what, error.to_string())
}

/// Try again soon.
pub fn retry(what: impl Into<String>, why: impl Into<String>) -> CloudError {
    CloudError { class: ErrorClass::Retry, what: what.into(), why: why.into() }
}

/// A person has to act.
pub fn denied(what: impl Into<String>, why: impl Into<String>) -> CloudError {
    CloudError { class: ErrorClass::Denied, what: what.into(), why: why.into() }
}

/// A request that can never succeed.
pub fn bug(what: impl Into<String>, why: impl Into<String>) -> CloudError {
    CloudError { class: ErrorClass::Bug, what: what.into(), why: why.into() }
}

/// Whether the server has the answer of a statement with that SQLSTATE.
pub fn has_code(error: &sqlx::Error, code: &str) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_sorted_by_what_to_do() {
        for (code, class) in [
            ("57P03", ErrorClass::Retry),
            ("08006", ErrorClass::Retry),
            ("55006", ErrorClass::Retry),
            ("53100", ErrorClass::Quota),
            ("53300", ErrorClass::SlowDown(Duration::from_secs(5))),
            ("28P01", ErrorClass::Denied),
            ("42501", ErrorClass::Denied),
            ("42601", ErrorClass::Bug),
        ] {
            assert_eq!(sort(code, "").0, class, "{code}");
        }
        assert_eq!(sort("XX000", "tuple concurrently updated").0, ErrorClass::Retry);
    }

    #[test]
    fn an_unreachable_server_is_to_be_tried_again() {
        let refused = sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        assert_eq!(sql("list databases", &refused).class, ErrorClass::Retry);
    }
}
