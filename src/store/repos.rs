//! Repositories that we have access to.
//!
//! Guarantees: keyed by GitHub's numeric id, so a rename changes a row and makes none; an older sighting
//! never overwrites a newer one.
//! Must not know: pull requests.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::Store;
use super::error::{Doing as _, StoreError};
use crate::domain::id::{InstallationId, RepoId, RepoName};
use crate::domain::pull::RepoRef;
use crate::domain::time::Timestamp;

impl Store {
    /// Notes a repository as it was seen at that time.
    pub async fn put_repo(&self, repo: &RepoRef, seen_at: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO repos (id, owner, name, installation, seen_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (id) DO UPDATE
             SET owner = excluded.owner, name = excluded.name, installation = excluded.installation,
                 seen_at = excluded.seen_at
             WHERE excluded.seen_at >= repos.seen_at",
        )
        .bind(repo.id.0.cast_signed())
        .bind(repo.name.owner.as_str())
        .bind(repo.name.name.as_str())
        .bind(repo.installation.0.cast_signed())
        .bind(seen_at.0)
        .execute(&self.db().writer)
        .await
        .doing("noting a repository")?;
        Ok(())
    }

    /// One repository, if it was ever seen.
    pub async fn repo(&self, id: RepoId) -> Result<Option<RepoRef>, StoreError> {
        let doing = "reading a repository";
        let row = sqlx::query("SELECT id, owner, name, installation FROM repos WHERE id = $1")
            .bind(id.0.cast_signed())
            .fetch_optional(&self.db().reader)
            .await
            .doing(doing)?;
        row.map(|row| read(&row).doing(doing)).transpose()
    }

    /// Every repository that was ever seen, by id.
    pub async fn repos(&self) -> Result<Vec<RepoRef>, StoreError> {
        let doing = "reading the repositories";
        let rows = sqlx::query("SELECT id, owner, name, installation FROM repos ORDER BY id")
            .fetch_all(&self.db().reader)
            .await
            .doing(doing)?;
        rows.iter().map(|row| read(row).doing(doing)).collect()
    }
}

fn read(row: &AnyRow) -> Result<RepoRef, sqlx::Error> {
    Ok(RepoRef {
        id: RepoId(row.try_get::<i64, _>(0)?.cast_unsigned()),
        name: RepoName { owner: row.try_get(1)?, name: row.try_get(2)? },
        installation: InstallationId(row.try_get::<i64, _>(3)?.cast_unsigned()),
    })
}
