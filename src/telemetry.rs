//! Logs: how they are set up and how errors are written.
//!
//! Guarantees: one line per event, readable alone and with dotted fields; no secret in a log.
//! Must not know: what is logged.

use std::error::Error;
use std::fmt::{self, Display};
use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStyle {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends logs to standard error, coloured on a terminal only and never with `NO_COLOR`. `KAGERO_LOG` takes a filter such as `info,kagero::controller=debug`.
pub fn init(style: LogStyle) {
    let filter = EnvFilter::try_from_env("KAGERO_LOG").unwrap_or_else(|_| EnvFilter::new("info,hyper=warn,sqlx=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(colours);
    // A second initialisation, in one process, keeps the first.
    let _ = match style {
        LogStyle::Text => registry.with(layer).try_init(),
        LogStyle::Json => registry.with(layer.json()).try_init(),
    };
}

/// An error with all its causes on one line.
pub fn chain(error: &dyn Error) -> impl Display + '_ {
    Chain(error)
}

struct Chain<'a>(&'a dyn Error);

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
