//! Sessions on a PostgreSQL server, of an administrator.
//!
//! Guarantees: a session is made from the parts of an address, never from its text; statements are not logged, because
//! verifiers of passwords stand in them; connecting takes no longer than its limit.
//! Must not know: whose server it is, what is done there.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};

use super::fault;
use crate::cloud::CloudError;
use crate::domain::server_address::{ServerAddress, TlsMode};
use crate::seed::sql::Sql;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// From the parts of an address only; nothing of it is passed on as text.
pub fn options(address: &ServerAddress, database: &str) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&address.host)
        .port(address.port)
        .username(&address.user)
        .database(database)
        .ssl_mode(match address.tls.mode {
            TlsMode::Disable => PgSslMode::Disable,
            TlsMode::Prefer => PgSslMode::Prefer,
            TlsMode::Require => PgSslMode::Require,
            TlsMode::VerifyCa => PgSslMode::VerifyCa,
            TlsMode::VerifyFull => PgSslMode::VerifyFull,
        });
    if let Some(password) = &address.password {
        options = options.password(password.expose_secret());
    }
    if let Some(certificate) = &address.tls.root_certificate {
        options = options.ssl_root_cert(certificate);
    }
    options
}

/// Opens a session.
pub async fn open(options: PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let options = options.application_name("kagero").disable_statement_logging();
    let connecting = PgConnection::connect_with(&options);
    tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut))))
}

/// Runs a statement for its effect.
pub async fn run(connection: &mut PgConnection, what: &str, sql: Sql) -> Result<(), CloudError> {
    match sqlx::raw_sql(sql.safe()).execute(connection).await {
        Ok(_) => Ok(()),
        Err(error) => Err(fault::sql(what, &error)),
    }
}
