//! All that was read of one pull request, at once: what every pass begins with.
//!
//! Guarantees: one statement, whatever there is.
//! Must not know: what follows from the facts.

use sqlx::Row as _;

use super::error::{Doing as _, StoreError};
use super::{Store, json};
use crate::domain::id::{EnvKey, InstallationId, RepoName};
use crate::domain::pull::{ConfigFacts, Pins, PullFacts, RepoRef};

/// The newest readings of one pull request and of what belongs to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readings {
    /// The repository, if it was ever seen.
    pub repo: Option<RepoRef>,
    /// The pull request.
    pub pull: Option<PullFacts>,
    /// Its configuration.
    pub config: Option<ConfigFacts>,
    /// What people have said.
    pub pins: Pins,
}

impl Store {
    /// The newest readings of one pull request.
    pub async fn readings(&self, key: EnvKey) -> Result<Readings, StoreError> {
        let doing = "reading what is known of a pull request";
        let row = sqlx::query(
            "SELECT r.owner, r.name, r.installation, p.facts, c.facts, n.pins
             FROM (SELECT CAST($1 AS BIGINT) AS repo, CAST($2 AS BIGINT) AS pr) k
             LEFT JOIN repos r ON r.id = k.repo
             LEFT JOIN pulls p ON p.repo = k.repo AND p.pr = k.pr
             LEFT JOIN configs c ON c.repo = k.repo AND c.pr = k.pr
             LEFT JOIN pins n ON n.repo = k.repo AND n.pr = k.pr",
        )
        .bind(key.repo.0.cast_signed())
        .bind(key.pr.0.cast_signed())
        .fetch_one(&self.db().reader)
        .await
        .doing(doing)?;
        let text = |column: usize| row.try_get::<Option<String>, _>(column).doing(doing);
        let installation = row.try_get::<Option<i64>, _>(2).doing(doing)?;
        let repo = text(0)?.zip(text(1)?).zip(installation).map(|((owner, name), installation)| RepoRef {
            id: key.repo,
            name: RepoName { owner, name },
            installation: InstallationId(installation.cast_unsigned()),
        });
        Ok(Readings {
            repo,
            pull: text(3)?.map(|text| json::read("pulls", key, &text)).transpose()?,
            config: text(4)?.map(|text| json::read("configs", key, &text)).transpose()?,
            pins: text(5)?.map(|text| json::read("pins", key, &text)).transpose()?.unwrap_or_default(),
        })
    }
}
