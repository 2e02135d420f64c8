//! Statements about whole databases, sent from another database of the same server.
//!
//! Guarantees: a database is born closed, with its owner; nobody may enter it before PUBLIC's rights are
//! gone. The one DROP DATABASE of this program is built here.
//! Must not know: whether a database may be dropped; that is proven by whoever calls.

use super::marker::Sign;
use super::name::RoleNames;
use super::sql::{Sql, ident, literal};

/// How the server copies a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The server is older than the choice (before 15).
    Only,
    /// Block by block through the log: quick for small templates, and without checkpoints.
    Log,
    /// File by file between two checkpoints: quick for large ones.
    Files,
    /// As `Files`, sharing blocks where the file system can (from 18).
    CloneFiles,
}

/// Below this, a clone through the log beats the two checkpoints of a clone by files
/// (an estimate: it has not been measured).
pub const FILES_FROM: u64 = 48 * 1024 * 1024;

impl Strategy {
    /// The quickest for a template of that size on that server (major version).
    pub fn choose(version: u32, bytes: u64) -> Self {
        match version {
            ..15 => Self::Only,
            _ if bytes < FILES_FROM => Self::Log,
            15..18 => Self::Files,
            _ => Self::CloneFiles,
        }
    }
}

/// Sets how files are copied, for this session. A server built without it refuses.
pub fn clone_files() -> Sql {
    Sql::new("SET file_copy_method = 'clone'")
}

/// Clones a template into a database that nobody can enter yet.
pub fn create(name: &str, owner: &str, template: &str, strategy: Strategy) -> Sql {
    let strategy = match strategy {
        Strategy::Only => "",
        Strategy::Log => " STRATEGY WAL_LOG",
        Strategy::Files | Strategy::CloneFiles => " STRATEGY FILE_COPY",
    };
    Sql::new(format!(
        "CREATE DATABASE {} OWNER {} TEMPLATE {}{strategy} ALLOW_CONNECTIONS false",
        ident(name),
        ident(owner),
        ident(template)
    ))
}

/// Lets its owner in, and nobody else.
pub fn open(name: &str) -> Sql {
    Sql::all([shut_public(name), allow(name, "true")])
}

/// Takes away what PostgreSQL grants everybody on a new database.
pub fn shut_public(name: &str) -> Sql {
    Sql::new(format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", ident(name)))
}

/// Takes away everybody's right to enter a cluster's own databases. One session after the other: two that change one
/// database's rights at the same time fail with "tuple concurrently updated".
pub fn shut_own_databases() -> Sql {
    let alone = Sql::new("SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('kagero: own databases'))");
    Sql::all([alone, shut_public("postgres"), shut_public("template1")])
}

/// Keeps everybody out.
pub fn close(name: &str) -> Sql {
    allow(name, "false")
}

/// Ends every other session in the database.
pub fn evict(name: &str) -> Sql {
    Sql::new(format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
         WHERE datname = {} AND pid <> pg_catalog.pg_backend_pid()",
        literal(name)
    ))
}

/// Lets the roles of an environment in and says that all is done.
pub fn admit(name: &str, roles: &RoleNames, sign: &Sign) -> Sql {
    let database = ident(name);
    Sql::all([
        Sql::new(format!("GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {}", ident(&roles.application))),
        Sql::new(format!("GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {database} TO {}", ident(&roles.migration))),
        sign_with(name, sign),
    ])
}

/// Lets the role that loads seeds into a golden that is being made.
pub fn admit_seed(name: &str, seed_role: &str) -> Sql {
    Sql::new(format!("GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {} TO {}", ident(name), ident(seed_role)))
}

/// Makes a loaded golden complete: closed, a template, signed, under its final name; all or nothing.
pub fn complete_golden(loading: &str, complete: &str, seed_role: &str, sign: &Sign) -> Sql {
    let database = ident(loading);
    Sql::all([
        Sql::new(format!("REVOKE ALL ON DATABASE {database} FROM {}", ident(seed_role))),
        Sql::new(format!("ALTER DATABASE {database} IS_TEMPLATE true ALLOW_CONNECTIONS false")),
        sign_with(loading, sign),
        Sql::new(format!("ALTER DATABASE {database} RENAME TO {}", ident(complete))),
    ])
}

/// Keeps everybody out and says that it is going away.
pub fn begin_drop(name: &str, sign: &Sign) -> Sql {
    Sql::all([sign_with(name, sign), close(name)])
}

/// Makes a golden droppable.
pub fn no_template(name: &str) -> Sql {
    Sql::new(format!("ALTER DATABASE {} IS_TEMPLATE false", ident(name)))
}

/// Drops a database, ending what sessions are left.
pub fn drop(name: &str) -> Sql {
    Sql::new(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", ident(name)))
}

fn allow(name: &str, whether: &'static str) -> Sql {
    Sql::new(format!("ALTER DATABASE {} ALLOW_CONNECTIONS {whether}", ident(name)))
}

fn sign_with(name: &str, sign: &Sign) -> Sql {
    Sql::new(format!("COMMENT ON DATABASE {} IS {}", ident(name), literal(&sign.to_text())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strategy_follows_version_and_size() {
        let small = FILES_FROM - 1;
        for (version, bytes, want) in [
            (14, 1 << 30, Strategy::Only),
            (15, small, Strategy::Log),
            (15, FILES_FROM, Strategy::Files),
            (18, small, Strategy::Log),
            (18, 1 << 30, Strategy::CloneFiles),
        ] {
            assert_eq!(Strategy::choose(version, bytes), want, "{version} {bytes}");
        }
    }

    #[test]
    fn a_clone_is_born_closed_and_owned() {
        assert_eq!(
            create("a", "o", "t", Strategy::Files).text(),
            "CREATE DATABASE \"a\" OWNER \"o\" TEMPLATE \"t\" STRATEGY FILE_COPY ALLOW_CONNECTIONS false"
        );
    }
}
