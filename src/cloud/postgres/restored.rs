//! What is done inside an instance that was restored from a snapshot, before anybody may use it.
//!
//! Guarantees: nobody but the administrator can log in until all of it is done; the administrator's password is RDS's own,
//! made at the restore, and goes nowhere. Done again, nothing changes.
//! Must not know: how instances are made.

use secrecy::SecretString;
use sqlx::postgres::PgConnection;

use super::{fault, session};
use crate::cloud::{CloudError, ErrorClass};
use crate::domain::observed::Tags;
use crate::domain::owned::name_prefix;
use crate::domain::server_address::{ServerAddress, Tls};
use crate::seed::marker::{Marker, Sign, Stage};
use crate::seed::name::DatabaseName;
use crate::seed::restored;
use crate::seed::role::{self, Presence, RoleLimits};
use crate::seed::sql::Sql;

/// Where an instance answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Whoever may do everything in an instance.
pub struct Administrator {
    /// Its name, which the snapshot has brought.
    pub user: String,
    /// Its password.
    pub password: SecretString,
}

/// What an instance is to become.
pub struct Wish<'a> {
    /// What its roles are called after.
    pub name: &'a DatabaseName,
    /// The database in it.
    pub database: &'a str,
    /// Whose it is.
    pub tags: &'a Tags,
    /// What roles' passwords are computed from.
    pub secret: &'a SecretString,
    /// What one environment may use up.
    pub limits: RoleLimits,
    /// How the connection is secured.
    pub tls: &'a Tls,
}

/// Settles an instance; at once if it was done before.
pub async fn settle(at: &Endpoint, admin: Administrator, wish: &Wish<'_>) -> Result<(), CloudError> {
    let what = format!("settle the restored database {}", wish.name);
    let address = ServerAddress {
        host: at.host.clone(),
        port: at.port,
        user: admin.user,
        password: Some(admin.password),
        database: wish.database.to_owned(),
        tls: wish.tls.clone(),
    };
    let connecting = session::open(session::options(&address, wish.database)).await;
    let mut inside = connecting.map_err(|error| match fault::sql(&what, &error) {
        // The password that was made at the restore comes into force some time after the server answers.
        refused if fault::has_code(&error, "28P01") || fault::has_code(&error, "28000") => {
            CloudError { class: ErrorClass::Retry, ..refused }
        }
        other => other,
    })?;
    session::run(&mut inside, &what, restored::lock()).await?;
    let marker = Marker::Environment { tags: wish.tags.clone(), database: wish.name.as_str().to_owned() };
    let sign = Sign { stage: Stage::Ready, owner: marker.clone() };
    if read_sign(&mut inside, &what, wish.database).await?.as_ref() == Some(&sign) {
        return Ok(());
    }
    let roles = wish.name.roles();
    let presence = presence(&mut inside, &what, &roles.all(), &marker, wish.tags).await?;
    let make = role::make(&roles, presence, &marker, wish.secret, wish.limits);
    let settle = restored::settle(wish.database, &address.user, &roles, &marker, &sign);
    session::run(&mut inside, &what, Sql::all([make, settle])).await?;
    sqlx::Connection::close(inside).await.map_err(|error| fault::sql(&what, &error))
}

async fn read_sign(inside: &mut PgConnection, what: &str, database: &str) -> Result<Option<Sign>, CloudError> {
    let text: Option<Option<String>> = sqlx::query_scalar(restored::read_sign(database).safe())
        .fetch_optional(inside)
        .await
        .map_err(|error| fault::sql(what, &error))?;
    Ok(text.flatten().as_deref().and_then(Sign::from_text))
}

/// Roles of ours may be there from a time when the sign was taken away by hand; anybody else's of that name are not.
async fn presence(
    inside: &mut PgConnection,
    what: &str,
    roles: &[&str; 3],
    marker: &Marker,
    tags: &Tags,
) -> Result<[Presence; 3], CloudError> {
    let rows: Vec<(String, Option<String>)> = sqlx::query_as(
        "SELECT rolname::text, pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles \
         WHERE pg_catalog.starts_with(rolname::text, $1)",
    )
    .bind(name_prefix(&tags.install, '_'))
    .fetch_all(inside)
    .await
    .map_err(|error| fault::sql(what, &error))?;
    let mut presence = [Presence::Missing; 3];
    for (role, presence) in roles.iter().zip(&mut presence) {
        match rows.iter().find(|(name, _)| name == role) {
            None => {}
            Some((_, comment)) if comment.as_deref().and_then(Marker::from_text).as_ref() == Some(marker) => {
                *presence = Presence::There;
            }
            Some(_) => {
                let why =
                    format!("the snapshot has a role {role} that is not this environment's; make another snapshot");
                return Err(fault::denied(what, why));
            }
        }
    }
    Ok(presence)
}
