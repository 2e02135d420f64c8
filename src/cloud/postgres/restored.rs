//! What is done inside an instance that was restored from a snapshot, before anybody may use it.
//!
//! Guarantees: nobody but the administrator can log in until all of it is done; the administrator's password is RDS's own,
//! made at the restore, and goes nowhere. Done again, nothing changes.
//! Must not know: how instances are made.

use secrecy::SecretString;
use sqlx::postgres::PgConnection;

use super::roles::presence;
use super::{fault, session};
use crate::cloud::{CloudError, ErrorClass};
use crate::domain::observed::Tags;
use crate::domain::server_address::{ServerAddress, Tls};
use crate::seed::marker::{Marker, Sign, Stage};
use crate::seed::name::DatabaseName;
use crate::seed::restored;
use crate::seed::role::{self, RoleLimits};
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
    // Some may be there from a time when the sign was taken away by hand.
    let presence = presence(&mut inside, &what, &wish.tags.install, roles.all(), &marker).await?;
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
