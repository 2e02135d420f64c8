//! Statements inside a database: its owner marker, and the hand-over of a clone to its environment.
//!
//! Everything in a golden belongs to the seed role; in a clone it is handed to the environment's migration
//! role, so that not even an accidental right to connect would let one environment touch another's tables.
//!
//! Guarantees: the marker's schema is out of the environment's reach; the application gets rows, never
//! definitions; rights are only given on what the migration role owns, never on what an extension brought.
//! Must not know: the server around the database.

use super::marker::Marker;
use super::name::RoleNames;
use super::sql::{Sql, ident, literal};

/// The schema of the marker. A seed must not bring one of that name.
pub const SCHEMA: &str = "kagero";

/// Reads the marker; no row, no table or no schema mean that there is none.
pub fn read_marker() -> Sql {
    Sql::new("SELECT marker FROM kagero.owner")
}

/// Whether the marker's table is there.
pub fn has_marker() -> Sql {
    Sql::new("SELECT pg_catalog.to_regclass('kagero.owner') IS NOT NULL")
}

/// Prepares an empty database for a seed: the seed role owns `public`, and nobody else may make things
/// there.
pub fn welcome_seed(seed_role: &str, extensions: &[String]) -> Sql {
    let mut all = vec![
        Sql::new(format!("ALTER SCHEMA public OWNER TO {}", ident(seed_role))),
        Sql::new("REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
    ];
    all.extend(
        extensions
            .iter()
            .map(|name| Sql::new(format!("CREATE EXTENSION IF NOT EXISTS {} WITH SCHEMA public CASCADE", ident(name)))),
    );
    Sql::all(all)
}

/// Writes a marker where there is none. Readable by everybody, so that a dump made by the application's role works.
pub fn mark(marker: &Marker) -> Sql {
    Sql::all([
        Sql::new("CREATE SCHEMA kagero"),
        Sql::new("CREATE TABLE kagero.owner (marker text NOT NULL)"),
        Sql::new(format!("INSERT INTO kagero.owner VALUES ({})", literal(&marker.to_text()))),
        Sql::new("GRANT USAGE ON SCHEMA kagero TO PUBLIC"),
        Sql::new("GRANT SELECT ON kagero.owner TO PUBLIC"),
    ])
}

/// Gathers statistics and freezes, so that no clone has that work left and autovacuum no reason to enter.
pub fn settle() -> Sql {
    Sql::new("VACUUM (FREEZE, ANALYZE)")
}

/// Makes a clone the environment's: marker, ownership, rights on what is there and on what migrations will
/// add. Doing it again changes nothing.
pub fn hand_over(marker: &Marker, seed_role: &str, roles: &RoleNames) -> Sql {
    let mig = ident(&roles.migration);
    Sql::all([
        Sql::new(format!("UPDATE kagero.owner SET marker = {}", literal(&marker.to_text()))),
        Sql::new(hand_over_schemas(seed_role, roles)),
        Sql::new(format!("REASSIGN OWNED BY {} TO {mig}", ident(seed_role))),
        rights(roles),
    ])
}

/// The application's rights on what the migration role owns, and will own.
pub fn rights(roles: &RoleNames) -> Sql {
    let (app, mig) = (ident(&roles.application), ident(&roles.migration));
    let future = |rights: &str, kind: &str| {
        Sql::new(format!("ALTER DEFAULT PRIVILEGES FOR ROLE {mig} GRANT {rights} ON {kind} TO {app}"))
    };
    Sql::all([
        Sql::new(grant_existing(roles)),
        future("USAGE", "SCHEMAS"),
        future("SELECT, INSERT, UPDATE, DELETE", "TABLES"),
        future("USAGE, SELECT, UPDATE", "SEQUENCES"),
        future("EXECUTE", "ROUTINES"),
        future("USAGE", "TYPES"),
    ])
}

/// Before what is in them: an administrator who is no superuser may give a table only to a role that may
/// make tables in its schema.
fn hand_over_schemas(seed_role: &str, roles: &RoleNames) -> String {
    let (seed, mig) = (literal(seed_role), literal(&roles.migration));
    format!(
        "DO $kagero$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT n.nspname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
    WHERE r.rolname = {seed}
  LOOP EXECUTE pg_catalog.format('ALTER SCHEMA %I OWNER TO %I', name, {mig}); END LOOP;
END
$kagero$"
    )
}

/// One GRANT for each kind of thing: for thousands of tables, one statement costs far less than a loop.
fn grant_existing(roles: &RoleNames) -> String {
    let (app, mig) = (literal(&roles.application), literal(&roles.migration));
    format!(
        "DO $kagero$
DECLARE
  app CONSTANT text := {app};
  mig CONSTANT oid := (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {mig});
  names text;
BEGIN
  SELECT pg_catalog.string_agg(pg_catalog.format('%I', nspname), ', ') INTO names
    FROM pg_catalog.pg_namespace WHERE nspowner = mig;
  IF names IS NOT NULL THEN EXECUTE pg_catalog.format('GRANT USAGE ON SCHEMA %s TO %I', names, app); END IF;
  SELECT pg_catalog.string_agg(pg_catalog.format('%I.%I', n.nspname, c.relname), ', ') INTO names
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relowner = mig AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_';
  IF names IS NOT NULL THEN
    EXECUTE pg_catalog.format('GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE %s TO %I', names, app);
  END IF;
  SELECT pg_catalog.string_agg(pg_catalog.format('%I.%I', n.nspname, c.relname), ', ') INTO names
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relowner = mig AND c.relkind = 'S' AND n.nspname !~ '^pg_';
  IF names IS NOT NULL THEN
    EXECUTE pg_catalog.format('GRANT USAGE, SELECT, UPDATE ON SEQUENCE %s TO %I', names, app);
  END IF;
  SELECT pg_catalog.string_agg(oid::pg_catalog.regprocedure::text, ', ') INTO names
    FROM pg_catalog.pg_proc WHERE proowner = mig AND proacl IS NOT NULL;
  IF names IS NOT NULL THEN EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO %I', names, app); END IF;
END
$kagero$"
    )
}
