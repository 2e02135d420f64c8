//! Statements that make and remove the roles of an environment and of goldens.
//!
//! Guarantees: no role that can log in is a superuser, creates databases or roles, replicates, bypasses
//! row security, or is a member of another role.
//! Must not know: databases.

use std::time::Duration;

use secrecy::SecretString;

use super::marker::Marker;
use super::name::RoleNames;
use super::scram;
use super::sql::{Sql, ident, literal};

/// What one session, and all sessions of one role, may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleLimits {
    /// Sessions of the application's role at once.
    pub application_sessions: u32,
    /// Sessions of the migration role at once.
    pub migration_sessions: u32,
    /// The longest statement of the application; migrations have no such limit, their command has.
    pub statement: Duration,
    /// The longest that a transaction may lie idle, in either role: it holds locks and dead rows.
    pub idle_in_transaction: Duration,
}

impl Default for RoleLimits {
    fn default() -> Self {
        Self {
            application_sessions: 30,
            migration_sessions: 5,
            statement: Duration::from_mins(2),
            idle_in_transaction: Duration::from_mins(10),
        }
    }
}

/// Whether a role has to be made or only brought up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is not there.
    Missing,
    /// It is there and is ours.
    There,
}

/// Makes the roles of an environment, or renews their passwords and limits. The order of `presence` is
/// that of [`RoleNames::all`].
pub fn make(
    names: &RoleNames,
    presence: [Presence; 3],
    marker: &Marker,
    secret: &SecretString,
    limits: RoleLimits,
) -> Sql {
    let [owner, application, migration] = presence;
    let mut all = no_login(&names.owner, owner, marker);
    all.extend(login(&names.application, application, marker, secret, limits.application_sessions));
    all.extend(login(&names.migration, migration, marker, secret, limits.migration_sessions));
    all.push(setting(&names.application, "statement_timeout", limits.statement));
    for role in [&names.application, &names.migration] {
        all.push(setting(role, "idle_in_transaction_session_timeout", limits.idle_in_transaction));
    }
    Sql::all(all)
}

/// Makes the two roles that an installation's goldens share.
pub fn make_for_goldens(
    golden: (&str, Presence),
    seed: (&str, Presence),
    marker: &Marker,
    secret: &SecretString,
) -> Sql {
    let mut all = no_login(golden.0, golden.1, marker);
    all.extend(login(seed.0, seed.1, marker, secret, 10));
    Sql::all(all)
}

/// Removes roles that own nothing any more.
pub fn drop_all<'a>(roles: impl IntoIterator<Item = &'a str>) -> Sql {
    Sql::all(roles.into_iter().map(|role| Sql::new(format!("DROP ROLE IF EXISTS {}", ident(role)))))
}

fn no_login(role: &str, presence: Presence, marker: &Marker) -> Vec<Sql> {
    match presence {
        Presence::There => Vec::new(),
        Presence::Missing => vec![
            Sql::new(format!(
                "CREATE ROLE {} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
                ident(role)
            )),
            comment(role, marker),
            lend(role),
        ],
    }
}

fn login(role: &str, presence: Presence, marker: &Marker, secret: &SecretString, sessions: u32) -> Vec<Sql> {
    let secret = literal(&scram::verifier(secret, role));
    let role_name = ident(role);
    match presence {
        // Attributes that only a superuser may name are left as they were made.
        Presence::There => vec![Sql::new(format!(
            "ALTER ROLE {role_name} LOGIN NOCREATEDB NOCREATEROLE CONNECTION LIMIT {sessions} PASSWORD {secret}"
        ))],
        Presence::Missing => vec![
            Sql::new(format!(
                "CREATE ROLE {role_name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS \
                 CONNECTION LIMIT {sessions} PASSWORD {secret}"
            )),
            comment(role, marker),
            lend(role),
        ],
    }
}

/// An administrator who is no superuser has to be a member to give ownership to the role and to end its
/// sessions. Never the other way round.
fn lend(role: &str) -> Sql {
    Sql::new(format!("GRANT {} TO CURRENT_USER", ident(role)))
}

fn comment(role: &str, marker: &Marker) -> Sql {
    Sql::new(format!("COMMENT ON ROLE {} IS {}", ident(role), literal(&marker.to_text())))
}

fn setting(role: &str, name: &'static str, value: Duration) -> Sql {
    Sql::new(format!("ALTER ROLE {} SET {name} = {}", ident(role), value.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::InstallId;
    use crate::seed::name::DatabaseName;

    #[test]
    fn passwords_are_not_in_the_statements() {
        let install = InstallId::parse("dev").unwrap();
        let names = DatabaseName::parse(&install, "kagero_dev_x_g1").unwrap().roles();
        let secret = SecretString::from("hunter2");
        let marker = Marker::Golden { install, seed: None };
        let text = make(&names, [Presence::Missing; 3], &marker, &secret, RoleLimits::default());
        for role in names.all() {
            use secrecy::ExposeSecret as _;
            assert!(text.text().contains(&ident(role)));
            assert!(!text.text().contains(scram::password(&secret, role).expose_secret()));
        }
        assert!(!text.text().contains("hunter2"));
        assert_eq!(text.text().matches("NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS").count(), 3);
    }
}
