//! What time it is for the store, and how late it was when it was last written.
//!
//! Must not know: what the times are for.

use sqlx::Row as _;

use super::Store;
use super::error::{Doing as _, StoreError};
use crate::domain::time::Timestamp;

impl Store {
    /// The time of the server that all replicas share; `None`: the store is a file of this machine.
    pub async fn server_time(&self) -> Result<Option<Timestamp>, StoreError> {
        let doing = "asking the store's server for the time";
        let Some(sql) = self.db().dialect.time() else { return Ok(None) };
        let row = sqlx::query(sql).fetch_one(&self.db().reader).await.doing(doing)?;
        Ok(Some(Timestamp(row.try_get(0).doing(doing)?)))
    }

    /// When something was last noted, by the clock of whoever noted it: a call, or the reading of a pull request.
    pub async fn written_at(&self) -> Result<Option<Timestamp>, StoreError> {
        let doing = "reading when the store was last written";
        let mut last = None;
        for sql in ["SELECT at FROM journal ORDER BY seq DESC LIMIT 1", "SELECT MAX(read_at) FROM pulls"] {
            let row = sqlx::query(sql).fetch_optional(&self.db().reader).await.doing(doing)?;
            let at: Option<Option<i64>> = row.map(|row| row.try_get(0).doing(doing)).transpose()?;
            last = last.max(at.flatten().map(Timestamp));
        }
        Ok(last)
    }
}
