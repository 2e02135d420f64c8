//! Brings a database up to the files in `migrations/`, each once, in order of their names.
//!
//! `0001_x.sql` is for every engine, `0001_x.postgres.sql` and `0001_x.sqlite.sql` for one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Row as _};

use crate::database::{Database, Engine, now};

/// Applies what has not been applied. A file that fails leaves the database as it was before that file.
pub async fn run(database: &Database, folder: &Path) -> anyhow::Result<()> {
    let files = read(folder, database.engine)?;
    sqlx::query("CREATE TABLE IF NOT EXISTS shop_migrations (name TEXT PRIMARY KEY, applied_at BIGINT NOT NULL)")
        .execute(&database.pool)
        .await
        .context("the table shop_migrations cannot be made")?;
    let rows = sqlx::query("SELECT name FROM shop_migrations").fetch_all(&database.pool).await?;
    let applied: BTreeSet<String> = rows.iter().map(|row| row.try_get("name")).collect::<Result<_, _>>()?;
    let due: Vec<_> = files.iter().filter(|(name, _)| !applied.contains(*name)).collect();
    for (name, sql) in &due {
        let mut transaction = database.pool.begin().await?;
        sqlx::raw_sql(AssertSqlSafe(sql.as_str()))
            .execute(&mut *transaction)
            .await
            .with_context(|| format!("migration {name} failed; nothing of it was kept"))?;
        sqlx::query("INSERT INTO shop_migrations (name, applied_at) VALUES ($1, $2)")
            .bind(name.as_str())
            .bind(now())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        tracing::info!("applied {name}");
    }
    tracing::info!("{} of {} migrations were due", due.len(), files.len());
    Ok(())
}

/// The migrations for an engine, by name without endings.
fn read(folder: &Path, engine: Engine) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let entries = std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(stem) = file.strip_suffix(".sql") else { continue };
        let name = match stem.rsplit_once('.') {
            Some((name, only)) if only == engine.as_str() => name,
            Some(_) => continue,
            None => stem,
        };
        let sql = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        files.insert(name.to_owned(), sql);
    }
    anyhow::ensure!(!files.is_empty(), "{} holds no migration for {}", folder.display(), engine.as_str());
    Ok(files)
}
