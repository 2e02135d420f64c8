//! The newest reading of every pull request and of its configuration, and what people said about it.
//!
//! Guarantees: an older reading never overwrites a newer one, whatever the order of arrival (I12), nor does one that
//! shows an older state. One from further ahead than is believed was made by a wrong clock, and is overwritten.
//! Must not know: what follows from the facts.

use sqlx::Row as _;

use super::error::{Doing as _, StoreError};
use super::transaction::Transaction;
use super::{Store, json};
use crate::clock::BELIEVED;
use crate::domain::id::{EnvKey, PrNumber, RepoId};
use crate::domain::pull::{ConfigFacts, Pins, PullFacts, PullState};
use crate::domain::time::Timestamp;

impl Store {
    /// Keeps a reading, unless a newer one is known. Whether anything but the time of reading changed.
    pub async fn put_pull(&self, facts: &PullFacts) -> Result<bool, StoreError> {
        Ok(!self.put_pulls(std::slice::from_ref(facts)).await?.is_empty())
    }

    /// As [`Store::put_pull`], for a whole listing in one commit. The keys of those that changed.
    pub async fn put_pulls(&self, readings: &[PullFacts]) -> Result<Vec<EnvKey>, StoreError> {
        let doing = "keeping readings of pull requests";
        let mut changed = Vec::new();
        // In one order for all: two listings that are kept at the same time wait for each other, not both for both.
        let mut readings: Vec<&PullFacts> = readings.iter().collect();
        readings.sort_by_key(|facts| facts.key);
        let mut transaction = Transaction::write(self.db(), doing).await?;
        for facts in readings {
            let key = facts.key;
            let known = sqlx::query("SELECT facts, read_at FROM pulls WHERE repo = $1 AND pr = $2")
                .bind(key.repo.0.cast_signed())
                .bind(key.pr.0.cast_signed())
                .fetch_optional(transaction.connection())
                .await
                .doing(doing)?;
            if let Some(row) = known {
                let ahead = Timestamp(row.try_get(1).doing(doing)?).since(facts.read_at);
                if !ahead.is_zero() && ahead <= BELIEVED {
                    continue;
                }
                // A row that cannot be read is replaced by this newer reading.
                let before = json::read::<PullFacts>("pulls", key, &row.try_get::<String, _>(0).doing(doing)?);
                if before.as_ref().is_ok_and(|before| facts.is_behind(before)) {
                    continue;
                }
                if !before.is_ok_and(|before| facts.says_the_same(&before)) {
                    changed.push(key);
                }
            } else {
                changed.push(key);
            }
            sqlx::query(
                "INSERT INTO pulls (repo, pr, state, facts, read_at) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (repo, pr) DO UPDATE
                 SET state = excluded.state, facts = excluded.facts, read_at = excluded.read_at
                 WHERE excluded.read_at >= pulls.read_at OR excluded.read_at < pulls.read_at - $6",
            )
            .bind(key.repo.0.cast_signed())
            .bind(key.pr.0.cast_signed())
            .bind(state_text(facts.state))
            .bind(json::write(doing, facts)?)
            .bind(facts.read_at.0)
            .bind(believed())
            .execute(transaction.connection())
            .await
            .doing(doing)?;
        }
        for key in &changed {
            transaction.announce(*key, doing).await?;
        }
        transaction.commit(doing).await?;
        Ok(changed)
    }

    /// The newest reading of a pull request.
    pub async fn pull(&self, key: EnvKey) -> Result<Option<PullFacts>, StoreError> {
        let sql = "SELECT facts FROM pulls WHERE repo = $1 AND pr = $2";
        match self.text(sql, key, "reading a pull request").await? {
            Some(text) => Ok(Some(json::read("pulls", key, &text)?)),
            None => Ok(None),
        }
    }

    /// The pull requests of a repository that were open when last read.
    pub async fn open_pulls(&self, repo: RepoId) -> Result<Vec<EnvKey>, StoreError> {
        let doing = "listing open pull requests";
        let rows = sqlx::query("SELECT pr FROM pulls WHERE repo = $1 AND state = 'open' ORDER BY pr")
            .bind(repo.0.cast_signed())
            .fetch_all(&self.db().reader)
            .await
            .doing(doing)?;
        rows.iter()
            .map(|row| {
                let pr = PrNumber(row.try_get::<i64, _>(0).doing(doing)?.cast_unsigned());
                Ok(EnvKey { repo, pr })
            })
            .collect()
    }

    /// The newest readings of all pull requests that were open when last read.
    pub async fn all_pulls(&self) -> Result<Vec<PullFacts>, StoreError> {
        let doing = "reading all open pull requests";
        let rows = sqlx::query("SELECT repo, pr, facts FROM pulls WHERE state = 'open' ORDER BY repo, pr")
            .fetch_all(&self.db().reader)
            .await
            .doing(doing)?;
        rows.iter()
            .map(|row| json::read("pulls", json::key(doing, row)?, &row.try_get::<String, _>(2).doing(doing)?))
            .collect()
    }

    /// Keeps a reading of the configuration, unless a newer one is known.
    pub async fn put_config(&self, key: EnvKey, facts: &ConfigFacts) -> Result<(), StoreError> {
        let doing = "keeping a configuration";
        let mut transaction = Transaction::write(self.db(), doing).await?;
        sqlx::query(
            "INSERT INTO configs (repo, pr, facts, read_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (repo, pr) DO UPDATE SET facts = excluded.facts, read_at = excluded.read_at
             WHERE excluded.read_at >= configs.read_at OR excluded.read_at < configs.read_at - $5",
        )
        .bind(key.repo.0.cast_signed())
        .bind(key.pr.0.cast_signed())
        .bind(json::write(doing, facts)?)
        .bind(facts.read_at.0)
        .bind(believed())
        .execute(transaction.connection())
        .await
        .doing(doing)?;
        transaction.announce(key, doing).await?;
        transaction.commit(doing).await
    }

    /// The newest reading of the configuration.
    pub async fn config(&self, key: EnvKey) -> Result<Option<ConfigFacts>, StoreError> {
        let sql = "SELECT facts FROM configs WHERE repo = $1 AND pr = $2";
        match self.text(sql, key, "reading a configuration").await? {
            Some(text) => Ok(Some(json::read("configs", key, &text)?)),
            None => Ok(None),
        }
    }

    /// What people have said about an environment; nothing, if nobody has.
    pub async fn pins(&self, key: EnvKey) -> Result<Pins, StoreError> {
        let sql = "SELECT pins FROM pins WHERE repo = $1 AND pr = $2";
        match self.text(sql, key, "reading pins").await? {
            Some(text) => json::read("pins", key, &text),
            None => Ok(Pins::default()),
        }
    }

    /// Replaces what people have said about an environment.
    pub async fn put_pins(&self, key: EnvKey, pins: &Pins) -> Result<(), StoreError> {
        let doing = "keeping pins";
        let mut transaction = Transaction::write(self.db(), doing).await?;
        sqlx::query(
            "INSERT INTO pins (repo, pr, pins) VALUES ($1, $2, $3)
             ON CONFLICT (repo, pr) DO UPDATE SET pins = excluded.pins",
        )
        .bind(key.repo.0.cast_signed())
        .bind(key.pr.0.cast_signed())
        .bind(json::write(doing, pins)?)
        .execute(transaction.connection())
        .await
        .doing(doing)?;
        transaction.announce(key, doing).await?;
        transaction.commit(doing).await
    }

    async fn text(&self, sql: &'static str, key: EnvKey, doing: &'static str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query(sql)
            .bind(key.repo.0.cast_signed())
            .bind(key.pr.0.cast_signed())
            .fetch_optional(&self.db().reader)
            .await
            .doing(doing)?;
        row.map(|row| row.try_get(0).doing(doing)).transpose()
    }
}

fn state_text(state: PullState) -> &'static str {
    match state {
        PullState::Open => "open",
        PullState::Closed => "closed",
        PullState::Merged => "merged",
    }
}

/// In milliseconds.
fn believed() -> i64 {
    i64::try_from(BELIEVED.as_millis()).unwrap_or(i64::MAX)
}
