//! Statements inside a server that was restored from a snapshot, before anybody of the environment may enter.
//!
//! A snapshot brings everything that its source had: logins with their passwords, rights of PUBLIC, owners. All of it is
//! settled in one transaction, so that a crash leaves either nothing of it or all.
//!
//! Guarantees: afterwards nobody can log in but the administrator, the service's own roles and the environment's two; what
//! the snapshot holds belongs to the migration role, the databases to nobody who can log in; only the environment's roles
//! may enter, and only its database.
//! Must not know: how the server came to be.

use super::claim;
use super::database;
use super::marker::{Marker, Sign};
use super::name::RoleNames;
use super::sql::{Sql, ident, literal};

/// Roles of RDS's own, which cannot be changed. A closed list: a role that is merely called like them is not spared.
const SERVICE: &str = "'rdsadmin', 'rds_superuser', 'rds_replication', 'rds_password', 'rds_iam', 'rds_ad', 'rds_extension', \
                       'rds_reserved', 'rdsrepladmin', 'rdstopmgr', 'rdsproxyadmin', 'rdswriteforwarduser'";

/// Held by whoever settles a server, so that it is done once.
pub fn lock() -> Sql {
    let patience = Sql::new("SET lock_timeout = '30s'");
    Sql::all([patience, Sql::new("SELECT pg_catalog.pg_advisory_lock(pg_catalog.hashtext('kagero: restored'))")])
}

/// The comment on a database.
pub fn read_sign(database: &str) -> Sql {
    Sql::new(format!(
        "SELECT pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database WHERE datname = {}",
        literal(database)
    ))
}

/// Everything after the roles were made: takes over what the snapshot brought and lets the environment in.
pub fn settle(database: &str, admin: &str, roles: &RoleNames, marker: &Marker, sign: &Sign) -> Sql {
    Sql::all([
        lock_out(admin, roles),
        shut_public(),
        join_owner(database),
        Sql::new(format!("ALTER SCHEMA public OWNER TO {}", ident(&roles.migration))),
        Sql::new("REVOKE CREATE ON SCHEMA public FROM PUBLIC"),
        Sql::new(format!("ALTER DATABASE {} OWNER TO {}", ident(database), ident(&roles.owner))),
        // Only who may make a publication can own one, and a copy needs none. A superuser's are left with it.
        drop_publications(),
        take_over(admin, roles),
        claim::rights(roles),
        mark(marker),
        database::admit(database, roles, sign),
    ])
}

/// Only a member of a database's owner may give it, and its schema `public`, to another.
fn join_owner(database: &str) -> Sql {
    let database = literal(database);
    Sql::new(format!(
        "DO $kagero$
DECLARE
  name CONSTANT text := (SELECT r.rolname FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
    WHERE d.datname = {database});
BEGIN
  IF NOT pg_catalog.pg_has_role(name, 'USAGE') THEN
    EXECUTE pg_catalog.format('GRANT %I TO CURRENT_USER', name);
  END IF;
END
$kagero$"
    ))
}

/// The marker, also where an earlier one was left.
fn mark(marker: &Marker) -> Sql {
    Sql::all([
        Sql::new("CREATE SCHEMA IF NOT EXISTS kagero"),
        Sql::new("ALTER SCHEMA kagero OWNER TO CURRENT_USER"),
        // With a key: rows of a table that is published can be deleted only by one.
        Sql::new("CREATE TABLE IF NOT EXISTS kagero.owner (marker text PRIMARY KEY)"),
        Sql::new("ALTER TABLE kagero.owner OWNER TO CURRENT_USER"),
        Sql::new("REVOKE ALL ON kagero.owner FROM PUBLIC"),
        Sql::new("DELETE FROM kagero.owner"),
        Sql::new(format!("INSERT INTO kagero.owner VALUES ({})", literal(&marker.to_text()))),
        Sql::new("GRANT USAGE ON SCHEMA kagero TO PUBLIC"),
        Sql::new("GRANT SELECT ON kagero.owner TO PUBLIC"),
    ])
}

fn drop_publications() -> Sql {
    Sql::new(
        "DO $kagero$
DECLARE
  name text;
  owner text;
BEGIN
  FOR name, owner IN SELECT p.pubname, r.rolname FROM pg_catalog.pg_publication p
    JOIN pg_catalog.pg_roles r ON r.oid = p.pubowner WHERE NOT r.rolsuper
  LOOP
    IF NOT pg_catalog.pg_has_role(owner, 'USAGE') THEN
      EXECUTE pg_catalog.format('GRANT %I TO CURRENT_USER', owner);
    END IF;
    EXECUTE pg_catalog.format('DROP PUBLICATION %I', name);
  END LOOP;
END
$kagero$",
    )
}

/// Nobody whom the snapshot knew gets in any more: their passwords are the source's.
fn lock_out(admin: &str, roles: &RoleNames) -> Sql {
    let (admin, ours) = (literal(admin), roles.all().map(literal).join(", "));
    Sql::new(format!(
        "DO $kagero$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT rolname FROM pg_catalog.pg_roles
    WHERE rolcanlogin AND rolname <> {admin} AND rolname NOT IN ({ours})
      AND rolname NOT IN ({SERVICE}) AND rolname !~ '^pg_' AND NOT rolsuper
  LOOP EXECUTE pg_catalog.format('ALTER ROLE %I NOLOGIN PASSWORD NULL', name); END LOOP;
END
$kagero$"
    ))
}

/// PUBLIC may enter no database that can be changed.
fn shut_public() -> Sql {
    Sql::new(
        "DO $kagero$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT d.datname FROM pg_catalog.pg_database d
    WHERE d.datallowconn AND pg_catalog.pg_has_role(d.datdba, 'USAGE')
  LOOP EXECUTE pg_catalog.format('REVOKE ALL ON DATABASE %I FROM PUBLIC', name); END LOOP;
END
$kagero$",
    )
}

/// Whatever roles own something here, the migration role owns it then: schemas first, because what is in them may be given
/// only to a role that may make things there. REASSIGN takes databases too, so these are given back to the role that nobody
/// can log in as.
fn take_over(admin: &str, roles: &RoleNames) -> Sql {
    let (admin, mig, owner) = (literal(admin), literal(&roles.migration), literal(&roles.owner));
    Sql::new(format!(
        "DO $kagero$
DECLARE
  name text;
  owners CONSTANT text[] := ARRAY(SELECT DISTINCT r.rolname::text FROM pg_catalog.pg_roles r
    JOIN pg_catalog.pg_shdepend s ON s.refobjid = r.oid AND s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass
    WHERE s.deptype = 'o' AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND r.rolname <> {mig} AND r.rolname <> {owner} AND r.rolname NOT IN ({SERVICE}) AND r.rolname !~ '^pg_'
      AND NOT r.rolsuper);
BEGIN
  FOREACH name IN ARRAY owners
  LOOP
    IF name <> {admin} THEN EXECUTE pg_catalog.format('GRANT %I TO CURRENT_USER', name); END IF;
  END LOOP;
  FOR name IN SELECT n.nspname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner
    WHERE r.rolname = ANY (owners)
  LOOP EXECUTE pg_catalog.format('ALTER SCHEMA %I OWNER TO %I', name, {mig}); END LOOP;
  FOREACH name IN ARRAY owners
  LOOP EXECUTE pg_catalog.format('REASSIGN OWNED BY %I TO %I', name, {mig}); END LOOP;
  FOR name IN SELECT d.datname FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
    WHERE r.rolname = {mig}
  LOOP EXECUTE pg_catalog.format('ALTER DATABASE %I OWNER TO %I', name, {owner}); END LOOP;
END
$kagero$"
    ))
}
