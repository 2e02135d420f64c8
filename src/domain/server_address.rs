//! The address of a PostgreSQL server that an operator names, taken apart.
//!
//! Guarantees: what a connection is made with is only what is named here. An address is never passed on as a text:
//! PostgreSQL's clients let its query name another server, user or password than the address itself, and whoever
//! checked the address has then checked nothing (I7).

use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use url::Url;

/// Where a server is, and as whom and how safely it is reached.
#[derive(Debug, Clone)]
pub struct ServerAddress {
    /// Name or IP address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The administrator.
    pub user: String,
    /// The administrator's password.
    pub password: Option<SecretString>,
    /// The database to administer from.
    pub database: String,
    /// How the connection is secured.
    pub tls: Tls,
}

/// How a connection is secured, in PostgreSQL's own terms.
/// Source: <https://www.postgresql.org/docs/current/libpq-ssl.html>.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// How much is asked of the server.
    pub mode: TlsMode,
    /// The authorities that may have signed the server's certificate: an absolute path.
    pub root_certificate: Option<PathBuf>,
}

/// How much is asked of the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain text.
    Disable,
    /// Encrypted if the server can.
    #[default]
    Prefer,
    /// Encrypted.
    Require,
    /// Encrypted, with a certificate by a known authority.
    VerifyCa,
    /// The same, made out to the host.
    VerifyFull,
}

/// What is wrong with an address. Never holds the address, which contains a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not an address.
    #[error("it is not an address: expected postgres://<user>:<password>@<host>:<port>/<database>")]
    Form,
    /// The query names something that it may not.
    #[error("its query names `{0}`; only sslmode and sslrootcert may stand there, user and server stand before it")]
    Key(String),
    /// A value that is none.
    #[error("`{key}` of its query is not valid: expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What would have been accepted.
        expected: &'static str,
    },
}

const DEFAULT_PORT: u16 = 5432;
const DEFAULT_DATABASE: &str = "postgres";

impl ServerAddress {
    /// Takes an address apart.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|_| AddressError::Form)?;
        let host = url.host_str().unwrap_or_default();
        let user = decoded(url.username()).ok_or(AddressError::Form)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") || host.is_empty() || user.is_empty() {
            return Err(AddressError::Form);
        }
        let password = match url.password() {
            Some(password) => Some(decoded(password).ok_or(AddressError::Form)?.into()),
            None => None,
        };
        let database = decoded(url.path().trim_start_matches('/')).ok_or(AddressError::Form)?;
        let tls = Tls::parse(url.query_pairs())?;
        Ok(Self {
            // The parser leaves a host of another scheme than the web's as it was written.
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: url.port().unwrap_or(DEFAULT_PORT),
            user,
            password,
            database: if database.is_empty() { DEFAULT_DATABASE.to_owned() } else { database },
            tls,
        })
    }

    /// `host:port`, as the operator names servers in the allow-list.
    pub fn authority(&self) -> String {
        format!("{}:{}", bracketed(&self.host), self.port)
    }
}

/// A host as it stands in an address.
pub fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

impl Tls {
    /// For a server on this host, reached by loopback.
    pub fn disabled() -> Self {
        Self { mode: TlsMode::Disable, root_certificate: None }
    }

    fn parse<'a>(
        query: impl Iterator<Item = (std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>)>,
    ) -> Result<Self, AddressError> {
        let mut tls = Self::default();
        for (key, value) in query {
            match key.as_ref() {
                "sslmode" => tls.mode = TlsMode::parse(&value)?,
                "sslrootcert" => tls.root_certificate = Some(certificate(&value)?),
                _ => return Err(AddressError::Key(key.chars().take(40).collect())),
            }
        }
        Ok(tls)
    }

    /// The same as the query of an address for others, without the question mark; nothing of the administrator's.
    pub fn query(&self) -> String {
        let mut query = format!("sslmode={}", self.mode.as_str());
        if let Some(path) = &self.root_certificate {
            query.push_str("&sslrootcert=");
            query.push_str(&path.display().to_string());
        }
        query
    }
}

fn certificate(text: &str) -> Result<PathBuf, AddressError> {
    // Only what needs no quoting in an address.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    if Path::new(text).is_absolute() && text.chars().all(plain) {
        return Ok(PathBuf::from(text));
    }
    let expected = "an absolute path of letters, digits, `.`, `-` and `_`";
    Err(AddressError::Value { key: "sslrootcert", expected })
}

impl TlsMode {
    fn parse(text: &str) -> Result<Self, AddressError> {
        let modes = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];
        let expected = "disable, prefer, require, verify-ca or verify-full";
        modes.into_iter().find(|mode| mode.as_str() == text).ok_or(AddressError::Value { key: "sslmode", expected })
    }

    /// PostgreSQL's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn an_address_is_taken_apart() {
        let full =
            "postgresql://ad%40min:p%3Aw@db.example:6432/main?sslmode=verify-full&sslrootcert=/etc/ssl/rds-ca.pem";
        let address = ServerAddress::parse(full).unwrap();
        assert_eq!((address.host.as_str(), address.port, address.user.as_str()), ("db.example", 6432, "ad@min"));
        assert_eq!(address.password.as_ref().unwrap().expose_secret(), "p:w");
        assert_eq!(address.database, "main");
        assert_eq!(address.authority(), "db.example:6432");
        assert_eq!(address.tls.query(), "sslmode=verify-full&sslrootcert=/etc/ssl/rds-ca.pem");
        assert!(!format!("{address:?}").contains("p:w"));

        let short = ServerAddress::parse("postgres://admin@[::1]").unwrap();
        assert_eq!((short.host.as_str(), short.authority().as_str()), ("::1", "[::1]:5432"));
        assert_eq!((short.database.as_str(), short.tls), ("postgres", Tls::default()));
    }

    #[test]
    fn a_query_cannot_name_another_server_or_user() {
        for key in ["host", "hostaddr", "port", "user", "password", "dbname", "options", "service", "sslkey", "x"] {
            let address = format!("postgres://admin:x@staging/postgres?sslmode=require&{key}=prod");
            assert_eq!(ServerAddress::parse(&address).unwrap_err(), AddressError::Key(key.to_owned()));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_quoted() {
        for bad in [
            "",
            "db.example",
            "mysql://admin:hunter2@db/postgres",
            "postgres:///postgres",
            "postgres://:hunter2@db/postgres",
            "postgres://admin:hunter2@db:99999/postgres",
            "postgres://admin:hunter2@db/postgres?sslmode=maybe",
            "postgres://admin:hunter2@db/postgres?sslrootcert=ca.pem",
            "postgres://admin:hunter2@db/postgres?sslrootcert=/a%26user=x",
        ] {
            let error = ServerAddress::parse(bad).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
