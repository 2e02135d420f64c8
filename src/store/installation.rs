//! Whose records these are.
//!
//! Guarantees: a store that was once used with one installation's secret is not used with another: agents and
//! databases answer only to the first, and a controller that sees none of them would take them for gone.
//! Must not know: the secret.

use sqlx::Row as _;

use super::Store;
use super::error::{Doing as _, StoreError};
use super::transaction::Transaction;

impl Store {
    /// Notes whose secret the store goes with, the first time; later it has to be the same.
    pub async fn belong_to(&self, secret_digest: &str) -> Result<(), StoreError> {
        let doing = "reading whose store it is";
        let mut transaction = Transaction::write(self.db(), doing).await?;
        sqlx::query("INSERT INTO installation (one, secret) VALUES (1, $1) ON CONFLICT (one) DO NOTHING")
            .bind(secret_digest)
            .execute(transaction.connection())
            .await
            .doing(doing)?;
        let row = sqlx::query("SELECT secret FROM installation WHERE one = 1")
            .fetch_one(transaction.connection())
            .await
            .doing(doing)?;
        let known: String = row.try_get(0).doing(doing)?;
        transaction.commit(doing).await?;
        if known == secret_digest { Ok(()) } else { Err(StoreError::Foreign) }
    }
}
