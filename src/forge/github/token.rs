//! Tokens: one per installation for our calls, one per repository for git.
//!
//! Guarantees: a token is asked for once, however many wait for it, and whoever waited for an attempt that
//! failed gets that failure instead of asking again; tokens near their end are not given out. Nothing is
//! assumed of a token's form.
//! Must not know: how a token is asked for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::id::{InstallationId, RepoId};
use crate::domain::time::Timestamp;
use crate::forge::ForgeError;

/// A token with less than that left is replaced: a fetch by git can take that long.
const MARGIN: Duration = Duration::from_mins(10);

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// All that the installation may do.
    Calls(InstallationId),
    /// Reading one repository's contents.
    Git(InstallationId, RepoId),
}

/// A token and its end.
#[derive(Clone)]
pub(super) struct Token {
    pub secret: SecretString,
    pub expires_at: Timestamp,
}

#[derive(Default)]
pub(super) struct Tokens {
    slots: Mutex<HashMap<Purpose, Arc<Slot>>>,
}

#[derive(Default)]
struct Slot {
    /// Attempts that have ended, to tell whether one ended while we waited for the lock.
    attempts: AtomicU64,
    last: tokio::sync::Mutex<Option<Result<Token, ForgeError>>>,
}

impl Tokens {
    /// The token in store, or else a new one.
    pub(super) async fn get<F>(&self, purpose: Purpose, now: Timestamp, ask: F) -> Result<SecretString, ForgeError>
    where
        F: Future<Output = Result<Token, ForgeError>>,
    {
        let slot = self.slot(purpose);
        let attempts_before = slot.attempts.load(Ordering::Acquire);
        let mut last = slot.last.lock().await;
        match &*last {
            Some(Ok(token)) if token.expires_at.since(now) > MARGIN => return Ok(token.secret.clone()),
            Some(Err(error)) if slot.attempts.load(Ordering::Acquire) > attempts_before => return Err(error.clone()),
            _ => {}
        }
        let outcome = ask.await;
        slot.attempts.fetch_add(1, Ordering::Release);
        *last = Some(outcome.clone());
        outcome.map(|token| token.secret)
    }

    /// Drops a token that GitHub no longer takes, unless it has been replaced already.
    pub(super) async fn forget(&self, purpose: Purpose, refused: &SecretString) {
        let slot = self.slot(purpose);
        let mut last = slot.last.lock().await;
        if matches!(&*last, Some(Ok(token)) if token.secret.expose_secret() == refused.expose_secret()) {
            *last = None;
        }
    }

    fn slot(&self, purpose: Purpose) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(purpose).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forge::ForgeErrorKind;

    const CALLS: Purpose = Purpose::Calls(InstallationId(1));

    fn token(text: &str, expires_at: i64) -> Token {
        Token { secret: SecretString::from(text), expires_at: Timestamp(expires_at * 1000) }
    }

    async fn get(tokens: &Tokens, now: i64, fresh: &str) -> String {
        let found = tokens.get(CALLS, Timestamp(now * 1000), async { Ok(token(fresh, now + 3600)) }).await;
        found.unwrap().expose_secret().to_owned()
    }

    #[tokio::test]
    async fn a_token_is_kept_until_ten_minutes_before_its_end() {
        let tokens = Tokens::default();
        assert_eq!(get(&tokens, 0, "first").await, "first");
        assert_eq!(get(&tokens, 2999, "second").await, "first");
        assert_eq!(get(&tokens, 3000, "second").await, "second");
    }

    #[tokio::test]
    async fn only_the_refused_token_is_forgotten() {
        let tokens = Tokens::default();
        get(&tokens, 0, "first").await;
        tokens.forget(CALLS, &SecretString::from("older")).await;
        assert_eq!(get(&tokens, 0, "second").await, "first");
        tokens.forget(CALLS, &SecretString::from("first")).await;
        assert_eq!(get(&tokens, 0, "second").await, "second");
    }

    #[tokio::test]
    async fn those_who_waited_share_one_failure_and_later_ones_ask_again() {
        let tokens = Arc::new(Tokens::default());
        let (asked, release) = (Arc::new(AtomicU64::new(0)), Arc::new(tokio::sync::Notify::new()));
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let (tokens, asked, release) = (Arc::clone(&tokens), Arc::clone(&asked), Arc::clone(&release));
                tokio::spawn(async move {
                    let ask = async {
                        asked.fetch_add(1, Ordering::SeqCst);
                        release.notified().await;
                        let why = "down".to_owned();
                        Err(ForgeError { kind: ForgeErrorKind::Retry, what: "asking".to_owned(), why })
                    };
                    tokens.get(CALLS, Timestamp(0), ask).await.map(|_| ())
                })
            })
            .collect();
        // The test runs on one thread: after this, all ten have asked or wait for the one that did.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        release.notify_one();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap().unwrap_err().kind, ForgeErrorKind::Retry);
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(get(&tokens, 0, "later").await, "later");
    }
}
