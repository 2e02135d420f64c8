//! Connections to a PostgreSQL server.
//!
//! Guarantees: a session that hangs in the middle of a transaction, because its replica was paused or cut off, is ended
//! by the server before long, so that it holds up no other replica; a standby is not used; broken connections are
//! replaced without anyone asking.
//! Must not know: tables.

use std::str::FromStr as _;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _, Row as _};

use super::error::StoreError;
use crate::domain::server_address::{ServerAddress, bracketed};

/// Connections of one replica; one more listens.
const CONNECTIONS: u32 = 16;

/// How long a caller waits for a connection before the store counts as unavailable.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A session that waits inside a transaction is given up by the server: what it holds, others wait for. None of ours
/// does anything slow there. The rest keeps a statement, a lock or a vanished client from lasting for ever.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '5s'; SET lock_timeout = '10s'; \
                       SET statement_timeout = '30s'; SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; \
                       SET tcp_keepalives_count = 3";

/// The address as the driver takes it: only what [`ServerAddress`] has found in the given one.
pub(super) fn address(given: &str) -> Result<SecretString, StoreError> {
    let address = ServerAddress::parse(given)
        .map_err(|error| StoreError::Address { given: "postgres:…".to_owned(), why: error.to_string() })?;
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let password = address.password.as_ref().map(|word| format!(":{}", encoded(word.expose_secret())));
    Ok(format!(
        "postgres://{}{}@{}:{}/{}?host={}&application_name=kagero&{}",
        encoded(&address.user),
        password.unwrap_or_default(),
        bracketed(&address.host),
        address.port,
        encoded(&address.database),
        // The driver would take an address in brackets for a name.
        encoded(&address.host),
        address.tls.query()
    )
    .into())
}

/// What single connections are made with.
pub(super) fn options(address: &SecretString) -> Result<AnyConnectOptions, sqlx::Error> {
    Ok(AnyConnectOptions::from_str(address.expose_secret())?.disable_statement_logging())
}

/// The connections of one replica, made when they are needed.
pub(super) fn pool(options: AnyConnectOptions) -> AnyPool {
    AnyPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .after_connect(|connection, _| Box::pin(set_up(connection)))
        .connect_lazy_with(options)
}

/// Connections that write nothing.
pub(super) fn reading_pool(options: AnyConnectOptions) -> AnyPool {
    AnyPoolOptions::new()
        .max_connections(2)
        .acquire_timeout(PATIENCE)
        .after_connect(|connection, _| {
            Box::pin(async {
                set_up(connection).await?;
                sqlx::raw_sql("SET default_transaction_read_only = on").execute(connection).await.map(drop)
            })
        })
        .connect_lazy_with(options)
}

/// Prepares a session, or refuses a server that cannot be written to.
pub(super) async fn set_up(connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let standby: bool = sqlx::query("SELECT pg_is_in_recovery()").fetch_one(&mut *connection).await?.try_get(0)?;
    if standby {
        return Err(sqlx::Error::Io(std::io::Error::other("the server is a standby: it takes no writes")));
    }
    sqlx::raw_sql(SESSION).execute(&mut *connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_understood_is_passed_on() {
        let given = "postgres://ad%40min:p%3Aw@[::1]:6432/ma%2Fin?sslmode=verify-full&sslrootcert=/etc/ca.pem";
        let made = address(given).unwrap();
        assert_eq!(
            made.expose_secret(),
            "postgres://ad%40min:p%3Aw@[::1]:6432/ma%2Fin?host=%3A%3A1&application_name=kagero&\
             sslmode=verify-full&sslrootcert=/etc/ca.pem"
        );
        for bad in ["postgres://u:hunter2@db/x?host=elsewhere", "postgres://db/x", "postgres://u:hunter2@/x"] {
            let error = address(bad).unwrap_err();
            assert!(matches!(error, StoreError::Address { .. }), "{bad}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "a password in an error");
        }
    }
}
