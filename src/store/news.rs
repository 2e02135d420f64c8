//! News of what other replicas have changed.
//!
//! Guarantees: a change of facts or of an environment's record is announced by the transaction that makes it, so that
//! no crash comes between; whoever may have missed an announcement is told so. A store in a file has one controller:
//! there is no news.
//! Must not know: what is done about it.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgListener, PgPoolOptions};

use super::postgres::PATIENCE;
use super::{Db, Store};
use crate::domain::id::{EnvKey, PrNumber, RepoId};

/// Where announcements are made.
pub(super) const CHANNEL: &str = "kagero";

/// Between two looks while nothing can be heard, and between two tries of a line on which nothing is heard.
const PACE: Duration = Duration::from_secs(15);

/// What is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Another replica has changed something about this pull request.
    Of(EnvKey),
    /// Announcements may have been missed: anything may have changed.
    Missed,
}

/// Hears what other replicas announce.
pub struct Listener {
    server: Option<SecretString>,
    replica: Arc<str>,
    line: Option<PgListener>,
}

impl Store {
    /// A listener to the other replicas. Its first news is that it has missed what was before.
    pub fn listen(&self) -> Listener {
        let Db { server, replica, .. } = self.db();
        Listener { server: server.clone(), replica: Arc::clone(replica), line: None }
    }
}

impl Listener {
    /// The next news. While the server cannot be reached, it is every few seconds that something may have been missed.
    pub async fn next(&mut self) -> News {
        let Some(server) = &self.server else { return std::future::pending().await };
        loop {
            let Some(line) = &mut self.line else {
                match open(server).await {
                    Ok(line) => self.line = Some(line),
                    Err(error) => {
                        tracing::warn!(
                            error = %crate::telemetry::chain(&error),
                            "other replicas cannot be heard; looking every {} s instead",
                            PACE.as_secs()
                        );
                        tokio::time::sleep(PACE).await;
                    }
                }
                return News::Missed;
            };
            match tokio::time::timeout(PACE, line.try_recv()).await {
                Ok(Ok(Some(heard))) => {
                    if let Some(key) = read(heard.payload(), &self.replica) {
                        return News::Of(key);
                    }
                }
                Ok(Ok(None) | Err(_)) => self.line = None,
                // Silence is usual; a line that was cut without a word is silent too.
                Err(_) => {
                    let tried = tokio::time::timeout(PATIENCE, sqlx::query("SELECT 1").execute(line)).await;
                    if !matches!(tried, Ok(Ok(_))) {
                        self.line = None;
                    }
                }
            }
        }
    }
}

async fn open(server: &SecretString) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(PATIENCE)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect(server.expose_secret())
        .await?;
    let mut line = PgListener::connect_with(&pool).await?;
    line.ignore_pool_close_event(true);
    line.listen(CHANNEL).await?;
    Ok(line)
}

/// An announcement.
pub(super) fn write(replica: &str, key: EnvKey) -> String {
    format!("{replica} {} {}", key.repo.0, key.pr.0)
}

/// What an announcement of another replica's is about.
fn read(text: &str, own: &str) -> Option<EnvKey> {
    let mut words = text.split(' ');
    let replica = words.next()?;
    let repo = RepoId(words.next()?.parse().ok()?);
    let pr = PrNumber(words.next()?.parse().ok()?);
    (replica != own).then_some(EnvKey { repo, pr })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_heard_and_nothing_else() {
        let key = EnvKey { repo: RepoId(u64::MAX), pr: PrNumber(12) };
        assert_eq!(read(&write("them", key), "us"), Some(key));
        assert_eq!(read(&write("us", key), "us"), None);
        for noise in ["", "them", "them 1", "them one 2", "them -1 2"] {
            assert_eq!(read(noise, "us"), None, "{noise:?}");
        }
    }
}
