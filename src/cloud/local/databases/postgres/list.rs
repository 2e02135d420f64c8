//! What a server holds of this installation.
//!
//! Guarantees: three short queries, whatever the number of databases; whatever cannot be read is an error;
//! roles without their database are listed too, as residue.
//! Must not know: tasks of this process.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;

use crate::cloud::CloudError;
use crate::cloud::postgres::roles;
use crate::domain::id::DatabaseId;
use crate::domain::observed::{Database, DatabaseState, Tags};
use crate::domain::owned::name_prefix;
use crate::seed::marker::{Marker, Sign, Stage};
use crate::seed::name::is_reserved;

use super::super::fault;
use super::lock::Busy;
use super::{ID_PREFIX, Inner};

/// A database as the server's catalogue shows it.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Its number: another database of the same name has another.
    pub oid: i64,
    /// Whether anybody may enter.
    pub allows_connections: bool,
    /// The comment on its owner.
    pub owner_comment: Option<String>,
    /// The comment on itself.
    pub comment: Option<String>,
}

impl Found {
    /// Whose it was born as.
    pub fn born(&self) -> Option<Marker> {
        self.owner_comment.as_deref().and_then(Marker::from_text)
    }

    /// How far it is, if its comment agrees with its birth.
    pub fn stage(&self) -> Option<Stage> {
        let sign = self.comment.as_deref().and_then(Sign::from_text)?;
        (Some(&sign.owner) == self.born().as_ref()).then_some(sign.stage)
    }

    /// The environment it belongs to.
    pub fn tags(&self) -> Option<Tags> {
        match self.born()? {
            Marker::Environment { tags, database } if database == self.name => Some(tags),
            _ => None,
        }
    }
}

const DATABASES: &str = "SELECT d.datname::text AS name, d.oid::bigint AS oid, \
     d.datallowconn AS allows_connections, \
     pg_catalog.shobj_description(d.datdba, 'pg_authid') AS owner_comment, \
     pg_catalog.shobj_description(d.oid, 'pg_database') AS comment \
     FROM pg_catalog.pg_database d";

/// One database, if it is there.
pub async fn find_one(connection: &mut PgConnection, what: &str, name: &str) -> Result<Option<Found>, CloudError> {
    let query = format!("{DATABASES} WHERE d.datname = $1");
    sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(name)
        .fetch_optional(connection)
        .await
        .map_err(|error| fault::sql(what, &error))
}

/// All databases whose name begins so.
pub async fn find_databases(connection: &mut PgConnection, what: &str, prefix: &str) -> Result<Vec<Found>, CloudError> {
    let query = format!("{DATABASES} WHERE pg_catalog.starts_with(d.datname::text, $1) ORDER BY d.oid");
    sqlx::query_as(sqlx::AssertSqlSafe(query))
        .bind(prefix)
        .fetch_all(connection)
        .await
        .map_err(|error| fault::sql(what, &error))
}

impl Inner {
    /// Databases of this installation, and what is left of dropped ones; goldens are not among them.
    pub(super) async fn find(&self) -> Result<Vec<Database>, CloudError> {
        let mut kept = self.reader.lock().await;
        // A session that a restart of the server has ended is not a failure of the server.
        if let Some(mut session) = kept.take()
            && let Ok(found) = self.find_in(&mut session).await
        {
            *kept = Some(session);
            return Ok(found);
        }
        let mut session = self.server.administer().await?;
        let found = self.find_in(&mut session).await?;
        *kept = Some(session);
        Ok(found)
    }

    async fn find_in(&self, connection: &mut PgConnection) -> Result<Vec<Database>, CloudError> {
        let what = "list the databases";
        let read_at = self.clock.now();
        let prefix = name_prefix(self.server.install(), '_');
        let busy = Busy::read(connection, what).await?;
        let found = find_databases(connection, what, &prefix).await?;
        let roles = roles::find(connection, what, &prefix).await?;
        let location = self.server.location();
        let mut residue = residue(&roles);
        let mut items = Vec::new();
        for database in found {
            residue.remove(&database.name);
            if is_reserved(self.server.install(), &database.name) {
                continue;
            }
            let (name, tags) = (database.name.clone(), database.tags());
            let state = state(&database, tags.as_ref(), busy.has(&name));
            items.push((name, tags, state));
        }
        for (name, (tags, roles)) in residue {
            let state = if busy.has(&name) {
                DatabaseState::Preparing
            } else {
                DatabaseState::Failed(format!("only roles are left ({}): drop it again", roles.join(", ")))
            };
            items.push((name, Some(tags), state));
        }
        let mut databases = Vec::with_capacity(items.len());
        for (name, tags, state) in items {
            // A name that cannot be an id was not made here; it has no tags and is nobody's to drop.
            let Ok(id) = DatabaseId::parse(format!("{ID_PREFIX}{name}")) else { continue };
            databases.push(Database {
                id,
                name,
                tags,
                location: location.clone(),
                state,
                can_stop: false,
                slot: None,
                read_at,
            });
        }
        Ok(databases)
    }
}

fn state(database: &Found, tags: Option<&Tags>, busy: bool) -> DatabaseState {
    match (database.stage(), tags) {
        // Not ours: its life is not ours to judge.
        (_, None) => DatabaseState::Ready,
        (Some(Stage::Ready), _) if database.allows_connections => DatabaseState::Ready,
        (Some(Stage::Dropping), _) if busy => DatabaseState::Dropping,
        (Some(Stage::Dropping), _) => DatabaseState::Failed("dropping it was broken off: drop it again".to_owned()),
        (_, _) if busy => DatabaseState::Preparing,
        (_, _) => DatabaseState::Failed("preparing it was broken off: prepare or drop it again".to_owned()),
    }
}

/// Environments' roles by their database.
fn residue(roles: &BTreeMap<String, Option<String>>) -> BTreeMap<String, (Tags, Vec<String>)> {
    let mut all: BTreeMap<String, (Tags, Vec<String>)> = BTreeMap::new();
    for (role, comment) in roles {
        if let Some(Marker::Environment { tags, database }) = comment.as_deref().and_then(Marker::from_text) {
            all.entry(database).or_insert_with(|| (tags, Vec::new())).1.push(role.clone());
        }
    }
    all
}
