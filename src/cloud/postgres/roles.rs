//! Roles on a server, and whose they are.
//!
//! Guarantees: a role is an environment's only if the comment on it says so.
//! Must not know: how roles are made.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnection;

use super::fault;
use crate::cloud::CloudError;
use crate::domain::id::InstallId;
use crate::domain::owned::name_prefix;
use crate::seed::marker::Marker;
use crate::seed::role::Presence;

const ROLES: &str = "SELECT rolname::text, pg_catalog.shobj_description(oid, 'pg_authid') \
     FROM pg_catalog.pg_roles WHERE pg_catalog.starts_with(rolname::text, $1)";

/// Roles whose name begins so, with their comments.
pub async fn find(
    connection: &mut PgConnection,
    what: &str,
    prefix: &str,
) -> Result<BTreeMap<String, Option<String>>, CloudError> {
    let rows: Vec<(String, Option<String>)> =
        sqlx::query_as(ROLES).bind(prefix).fetch_all(connection).await.map_err(|error| fault::sql(what, &error))?;
    Ok(rows.into_iter().collect())
}

/// Which of these roles are there, in their order. One of that name that is somebody else's is refused.
pub async fn presence<const N: usize>(
    connection: &mut PgConnection,
    what: &str,
    install: &InstallId,
    roles: [&str; N],
    mine: &Marker,
) -> Result<[Presence; N], CloudError> {
    let there = find(connection, what, &name_prefix(install, '_')).await?;
    let mut presence = [Presence::Missing; N];
    for (role, presence) in roles.into_iter().zip(&mut presence) {
        match there.get(role) {
            None => {}
            Some(comment) if comment.as_deref().and_then(Marker::from_text).as_ref() == Some(mine) => {
                *presence = Presence::There;
            }
            Some(_) => {
                return Err(fault::denied(
                    what,
                    format!("role {role} belongs to someone else: rename or remove it by hand"),
                ));
            }
        }
    }
    Ok(presence)
}
