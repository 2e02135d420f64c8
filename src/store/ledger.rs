//! The ledger: what we have asked for, written before every call. `records.rs` reads it.
//!
//! Guarantees: every write here takes a [`Lease`] and checks its fence in the same transaction; host labels
//! are unique over all environments, for ever; a generation begins only after the one before was released,
//! so that no unanswered intent is forgotten; a released row stays released.
//! Must not know: what the intents ask for.

use sqlx::Row as _;

use super::error::{Doing as _, StoreError};
use super::leases::Lease;
use super::transaction::{Line, Transaction};
use super::{Store, json};
use crate::domain::id::{EnvKey, HostLabel, ServiceName, SlotId};
use crate::domain::ledger::{Answer, Host, Intent, Ledger, Proof, Said, Standing, Token};
use crate::domain::policy::Limits;
use crate::domain::time::Timestamp;

impl Store {
    /// Which of the labels belong to an environment already, and to which.
    pub async fn hosts_taken(&self, labels: &[HostLabel]) -> Result<Vec<(HostLabel, EnvKey)>, StoreError> {
        let doing = "looking host labels up";
        let mut taken = Vec::new();
        let mut transaction = Transaction::read(self.db(), doing).await?;
        for label in labels {
            let row = sqlx::query("SELECT repo, pr FROM hosts WHERE label = $1")
                .bind(label.as_str())
                .fetch_optional(transaction.connection())
                .await
                .doing(doing)?;
            if let Some(row) = row {
                taken.push((label.clone(), json::key(doing, &row)?));
            }
        }
        transaction.commit(doing).await?;
        Ok(taken)
    }

    /// Writes the environment's row before anything else exists: a first one, or the next generation of a
    /// released one. Enrolling the present generation again changes its host names only.
    pub async fn enroll(&self, lease: &Lease, ledger: &Ledger) -> Result<(), StoreError> {
        self.write_row(lease, ledger, None).await
    }

    /// As [`Store::enroll`], but a generation begins only while there are fewer environments that may hold resources
    /// than are allowed. Counting them and adding one is one act, whichever replicas do it at the same time.
    /// Where there are slots, it gets one that no other has (I17).
    pub async fn admit(
        &self,
        lease: &Lease,
        ledger: &Ledger,
        limits: &Limits,
        slots: &[SlotId],
    ) -> Result<(), StoreError> {
        self.write_row(lease, ledger, Some((limits, slots))).await
    }

    async fn write_row(
        &self,
        lease: &Lease,
        ledger: &Ledger,
        room: Option<(&Limits, &[SlotId])>,
    ) -> Result<(), StoreError> {
        let doing = "enrolling an environment";
        let key = lease.key;
        if ledger.key != key {
            return Err(bug(doing, format!("the lease is for {key}, the ledger for {}", ledger.key)));
        }
        let mut transaction = Transaction::fenced(self.db(), lease, doing).await?;
        let known = sqlx::query("SELECT generation, standing FROM ledgers WHERE repo = $1 AND pr = $2")
            .bind(key.repo.0.cast_signed())
            .bind(key.pr.0.cast_signed())
            .fetch_optional(transaction.connection())
            .await
            .doing(doing)?;
        if let Some(row) = known {
            let generation: i64 = row.try_get(0).doing(doing)?;
            let standing: String = row.try_get(1).doing(doing)?;
            let wanted = i64::from(ledger.generation.0);
            if generation == wanted {
                replace_hosts(&mut transaction, key, &ledger.hosts, doing).await?;
                transaction.announce(key, doing).await?;
                return transaction.commit(doing).await;
            }
            if generation > wanted {
                transaction.rollback(doing).await?;
                return Err(lease.lost());
            }
            if standing != "released" {
                transaction.rollback(doing).await?;
                let why = format!("environment {key}: generation {wanted} cannot begin, {generation} is {standing}");
                return Err(bug(doing, why));
            }
        }
        let mut slot = ledger.slot.clone();
        if let Some((limits, slots)) = room {
            let has_room = has_room(&mut transaction, key, limits, doing).await?;
            if has_room && !slots.is_empty() {
                slot = free_slot(&mut transaction, slots, doing).await?;
            }
            let error = match (has_room, &slot) {
                (false, _) => Some(StoreError::NoSeat { key }),
                (true, None) if !slots.is_empty() => Some(StoreError::NoSlot { key }),
                (true, _) => None,
            };
            if let Some(error) = error {
                transaction.rollback(doing).await?;
                return Err(error);
            }
        }
        let (standing, standing_at) = standing_columns(ledger.standing);
        sqlx::query(
            "INSERT INTO ledgers (repo, pr, uid, generation, enrolled_at, standing, standing_at, proven, said, left_for,
                                  slot)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (repo, pr) DO UPDATE
             SET uid = excluded.uid, generation = excluded.generation, enrolled_at = excluded.enrolled_at,
                 standing = excluded.standing, standing_at = excluded.standing_at, proven = excluded.proven,
                 said = excluded.said, left_for = excluded.left_for, slot = excluded.slot",
        )
        .bind(key.repo.0.cast_signed())
        .bind(key.pr.0.cast_signed())
        .bind(ledger.uid.as_str())
        .bind(i64::from(ledger.generation.0))
        .bind(ledger.enrolled_at.0)
        .bind(standing)
        .bind(standing_at)
        .bind(ledger.proven.as_ref().map(|proven| json::write(doing, proven)).transpose()?)
        .bind(json::write(doing, &ledger.said)?)
        .bind(ledger.left.as_ref().map(|left| json::write(doing, left)).transpose()?)
        .bind(slot.as_ref().map(SlotId::as_str))
        .execute(transaction.connection())
        .await
        .doing(doing)?;
        delete_of(&mut transaction, key, "DELETE FROM intents WHERE repo = $1 AND pr = $2", doing).await?;
        replace_hosts(&mut transaction, key, &ledger.hosts, doing).await?;
        for intent in &ledger.intents {
            upsert_intent(&mut transaction, key, i64::from(ledger.generation.0), intent, doing).await?;
        }
        transaction.announce(key, doing).await?;
        transaction.commit(doing).await
    }

    /// Writes down what is about to be asked for. Asking again under the same token replaces the answer too:
    /// while a call is in flight its outcome is not known.
    pub async fn record_intent(&self, lease: &Lease, intent: &Intent) -> Result<(), StoreError> {
        let doing = "recording an intent";
        let mut transaction = Transaction::fenced(self.db(), lease, doing).await?;
        let row = sqlx::query("SELECT generation FROM ledgers WHERE repo = $1 AND pr = $2")
            .bind(lease.key.repo.0.cast_signed())
            .bind(lease.key.pr.0.cast_signed())
            .fetch_optional(transaction.connection())
            .await
            .doing(doing)?;
        let Some(row) = row else {
            transaction.rollback(doing).await?;
            return Err(not_enrolled(doing, lease.key));
        };
        let generation = row.try_get(0).doing(doing)?;
        upsert_intent(&mut transaction, lease.key, generation, intent, doing).await?;
        transaction.commit(doing).await
    }

    /// Writes down what came back.
    pub async fn answer(&self, lease: &Lease, token: &Token, answer: &Answer) -> Result<(), StoreError> {
        let doing = "recording an answer";
        let mut transaction = Transaction::fenced(self.db(), lease, doing).await?;
        let done = sqlx::query("UPDATE intents SET answer = $1 WHERE token = $2 AND repo = $3 AND pr = $4")
            .bind(json::write(doing, answer)?)
            .bind(token.0.as_str())
            .bind(lease.key.repo.0.cast_signed())
            .bind(lease.key.pr.0.cast_signed())
            .execute(transaction.connection())
            .await
            .doing(doing)?;
        if done.rows_affected() == 0 {
            transaction.rollback(doing).await?;
            return Err(bug(doing, format!("environment {}: no intent has token {}", lease.key, token.0)));
        }
        transaction.commit(doing).await
    }

    /// Closes the row: nothing was left at that time. The first time counts.
    pub async fn release(&self, lease: &Lease, at: Timestamp) -> Result<(), StoreError> {
        self.change_row(
            lease,
            "UPDATE ledgers
             SET standing_at = CASE WHEN standing <> 'released' THEN $1 ELSE standing_at END,
                 standing = 'released'
             WHERE repo = $2 AND pr = $3",
            at.0,
            "releasing an environment",
        )
        .await
    }

    /// Notes that the right environment answered through the gateway.
    pub async fn prove(&self, lease: &Lease, proof: &Proof) -> Result<(), StoreError> {
        let doing = "noting a proof";
        let sql = "UPDATE ledgers SET proven = $1 WHERE repo = $2 AND pr = $3";
        self.change_row(lease, sql, json::write(doing, proof)?, doing).await
    }

    /// Notes what was said on the pull request.
    pub async fn put_said(&self, lease: &Lease, said: &Said) -> Result<(), StoreError> {
        let doing = "noting what was said";
        let sql = "UPDATE ledgers SET said = $1 WHERE repo = $2 AND pr = $3";
        self.change_row(lease, sql, json::write(doing, said)?, doing).await
    }

    async fn change_row<'v, V>(
        &self,
        lease: &Lease,
        sql: &'static str,
        value: V,
        doing: &'static str,
    ) -> Result<(), StoreError>
    where
        V: sqlx::Encode<'v, sqlx::Any> + sqlx::Type<sqlx::Any>,
    {
        let mut transaction = Transaction::fenced(self.db(), lease, doing).await?;
        let done = sqlx::query(sql)
            .bind(value)
            .bind(lease.key.repo.0.cast_signed())
            .bind(lease.key.pr.0.cast_signed())
            .execute(transaction.connection())
            .await
            .doing(doing)?;
        if done.rows_affected() == 0 {
            transaction.rollback(doing).await?;
            return Err(not_enrolled(doing, lease.key));
        }
        transaction.announce(lease.key, doing).await?;
        transaction.commit(doing).await
    }
}

/// Whether another environment may hold resources; until the transaction ends, nobody else finds out.
async fn has_room(
    transaction: &mut Transaction,
    key: EnvKey,
    limits: &Limits,
    doing: &'static str,
) -> Result<bool, StoreError> {
    transaction.line_up(Line::Seats, doing).await?;
    let row = sqlx::query(
        "SELECT COUNT(*), COUNT(CASE WHEN repo = $1 THEN 1 END) FROM ledgers
         WHERE standing <> 'released' AND NOT (repo = $1 AND pr = $2)",
    )
    .bind(key.repo.0.cast_signed())
    .bind(key.pr.0.cast_signed())
    .fetch_one(transaction.connection())
    .await
    .doing(doing)?;
    let (all, of_repository): (i64, i64) = (row.try_get(0).doing(doing)?, row.try_get(1).doing(doing)?);
    Ok(all < i64::from(limits.environments) && of_repository < i64::from(limits.per_repository))
}

/// The first slot that no environment has which may hold resources; until the transaction ends, nobody else takes one.
async fn free_slot(
    transaction: &mut Transaction,
    slots: &[SlotId],
    doing: &'static str,
) -> Result<Option<SlotId>, StoreError> {
    let taken: Vec<String> =
        sqlx::query_scalar("SELECT slot FROM ledgers WHERE slot IS NOT NULL AND standing <> 'released'")
            .fetch_all(transaction.connection())
            .await
            .doing(doing)?;
    Ok(slots.iter().find(|slot| !taken.iter().any(|taken| taken == slot.as_str())).cloned())
}

/// Who has the label, if it is not this environment.
async fn insert_host(
    transaction: &mut Transaction,
    key: EnvKey,
    position: i64,
    host: &Host,
    doing: &'static str,
) -> Result<Option<EnvKey>, StoreError> {
    let done = sqlx::query(
        "INSERT INTO hosts (label, repo, pr, position, service) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (label) DO NOTHING",
    )
    .bind(host.label.as_str())
    .bind(key.repo.0.cast_signed())
    .bind(key.pr.0.cast_signed())
    .bind(position)
    .bind(host.service.as_ref().map(ServiceName::as_str))
    .execute(transaction.connection())
    .await
    .doing(doing)?;
    if done.rows_affected() == 1 {
        return Ok(None);
    }
    let row = sqlx::query("SELECT repo, pr FROM hosts WHERE label = $1")
        .bind(host.label.as_str())
        .fetch_one(transaction.connection())
        .await
        .doing(doing)?;
    Ok(Some(json::key(doing, &row)?))
}

async fn upsert_intent(
    transaction: &mut Transaction,
    key: EnvKey,
    generation: i64,
    intent: &Intent,
    doing: &'static str,
) -> Result<(), StoreError> {
    let done = sqlx::query(
        "INSERT INTO intents (token, repo, pr, generation, role, attempt, asked_at, answer, placement)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (token) DO UPDATE
         SET role = excluded.role, attempt = excluded.attempt, asked_at = excluded.asked_at, answer = excluded.answer,
             placement = excluded.placement
         WHERE intents.repo = excluded.repo AND intents.pr = excluded.pr
           AND intents.generation = excluded.generation",
    )
    .bind(intent.token.0.as_str())
    .bind(key.repo.0.cast_signed())
    .bind(key.pr.0.cast_signed())
    .bind(generation)
    .bind(json::write(doing, &intent.role)?)
    .bind(i64::from(intent.attempt))
    .bind(intent.asked_at.0)
    .bind(intent.answer.as_ref().map(|answer| json::write(doing, answer)).transpose()?)
    .bind(intent.placement.as_ref().map(|placement| json::write(doing, placement)).transpose()?)
    .execute(transaction.connection())
    .await
    .doing(doing)?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(bug(doing, format!("environment {key}: token {} is another environment's", intent.token.0)))
    }
}

/// A label that another environment has is an error; the transaction is then dropped with all it did.
async fn replace_hosts(
    transaction: &mut Transaction,
    key: EnvKey,
    hosts: &[Host],
    doing: &'static str,
) -> Result<(), StoreError> {
    delete_of(transaction, key, "DELETE FROM hosts WHERE repo = $1 AND pr = $2", doing).await?;
    for (position, host) in (0_i64..).zip(hosts) {
        if let Some(by) = insert_host(transaction, key, position, host, doing).await? {
            return Err(StoreError::HostTaken { label: host.label.clone(), by });
        }
    }
    Ok(())
}

async fn delete_of(
    transaction: &mut Transaction,
    key: EnvKey,
    sql: &'static str,
    doing: &'static str,
) -> Result<(), StoreError> {
    sqlx::query(sql)
        .bind(key.repo.0.cast_signed())
        .bind(key.pr.0.cast_signed())
        .execute(transaction.connection())
        .await
        .doing(doing)?;
    Ok(())
}

fn standing_columns(standing: Standing) -> (&'static str, Option<i64>) {
    match standing {
        Standing::Live => ("live", None),
        Standing::Leaving(at) => ("leaving", Some(at.0)),
        Standing::Released(at) => ("released", Some(at.0)),
    }
}

fn bug(doing: &'static str, why: String) -> StoreError {
    StoreError::Bug { doing, why }
}

pub(super) fn not_enrolled(doing: &'static str, key: EnvKey) -> StoreError {
    bug(doing, format!("environment {key} is not enrolled"))
}
