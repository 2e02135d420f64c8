//! Environments' records as they are read: the rows of several tables by one statement.
//!
//! Every row of the answer says in its third column which part it is. So a record is read at one instant without a
//! transaction, and by asking once, however far away the database is.
//! Guarantees: what cannot be read is an error that names table and row.
//! Must not know: what follows from the facts.

use futures::TryStreamExt as _;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::error::{Doing as _, StoreError};
use super::{Store, json};
use crate::domain::brake::Brake;
use crate::domain::id::{EnvKey, EnvUid, Generation, HostLabel, InstallationId, RepoName, ServiceName, SlotId};
use crate::domain::ledger::{Host, Intent, Ledger, Standing, Token};
use crate::domain::pull::{ConfigFacts, Pins, PullFacts, RepoRef};
use crate::domain::time::Timestamp;

/// The newest readings of one pull request, and all else that a pass over it begins with.
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
    /// Its environment's record.
    pub ledger: Option<Ledger>,
    /// Brakes that are on and concern it, by kind.
    pub brakes: Vec<Brake>,
}

/// Of whom.
const ONE: &str = "WHERE l.repo = $1 AND l.pr = $2";
const UNRELEASED: &str = "WHERE l.standing <> 'released'";
const ALL: &str = "";

/// Parts of an answer. A record's own row comes before those of its hosts and intents.
const LEDGER: i64 = 0;
const HOST: i64 = 1;
const INTENT: i64 = 2;
const FACTS: i64 = 3;
const BRAKE: i64 = 4;

/// Columns: repo, pr, part, three numbers, six texts.
fn records(condition: &str) -> String {
    format!(
        "SELECT l.repo AS repo, l.pr AS pr, CAST({LEDGER} AS BIGINT) AS part,
                l.generation AS n0, l.enrolled_at AS n1, l.standing_at AS n2,
                l.uid AS t0, l.standing AS t1, l.proven AS t2, l.said AS t3, l.left_for AS t4, l.slot AS t5
         FROM ledgers l {condition}
         UNION ALL
         SELECT l.repo, l.pr, CAST({HOST} AS BIGINT), h.position, NULL, NULL, h.label, h.service, NULL, NULL, NULL, NULL
         FROM ledgers l JOIN hosts h ON h.repo = l.repo AND h.pr = l.pr {condition}
         UNION ALL
         SELECT l.repo, l.pr, CAST({INTENT} AS BIGINT), i.seq, i.attempt, i.asked_at, i.token, i.role, i.answer, i.placement, NULL, NULL
         FROM ledgers l JOIN intents i ON i.repo = l.repo AND i.pr = l.pr AND i.generation = l.generation {condition}"
    )
}

const IN_ORDER: &str = "ORDER BY repo, pr, part, n0, t0";

impl Store {
    /// The newest readings of one pull request and what belongs to it. Brakes are those that are on at `now`.
    pub async fn readings(&self, key: EnvKey, now: Timestamp) -> Result<Readings, StoreError> {
        let doing = "reading what is known of a pull request";
        let sql = format!(
            "{}
             UNION ALL
             SELECT k.repo, k.pr, CAST({FACTS} AS BIGINT), r.installation, NULL, NULL, r.owner, r.name, p.facts, c.facts, n.pins, NULL
             FROM (SELECT CAST($1 AS BIGINT) AS repo, CAST($2 AS BIGINT) AS pr) k
             LEFT JOIN repos r ON r.id = k.repo
             LEFT JOIN pulls p ON p.repo = k.repo AND p.pr = k.pr
             LEFT JOIN configs c ON c.repo = k.repo AND c.pr = k.pr
             LEFT JOIN pins n ON n.repo = k.repo AND n.pr = k.pr
             UNION ALL
             SELECT b.repo, b.pr, CAST({BRAKE} AS BIGINT), NULL, NULL, NULL, b.kind, b.brake, NULL, NULL, NULL, NULL
             FROM brakes b WHERE b.until_at > $3 AND ((b.repo = 0 AND b.pr = 0) OR (b.repo = $1 AND b.pr = $2))
             {IN_ORDER}",
            records(ONE)
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(key.repo.0.cast_signed())
            .bind(key.pr.0.cast_signed())
            .bind(now.0)
            .fetch_all(&self.db().reader)
            .await
            .doing(doing)?;
        let mut readings = Readings::default();
        let mut ledgers = Vec::new();
        for row in rows {
            let row = Part { row, doing };
            match row.number(2)? {
                FACTS => row.read_facts(key, &mut readings)?,
                BRAKE => readings.brakes.push(row.json::<Brake>("brakes", row.key()?, 7)?),
                part => row.add_to(part, &mut ledgers)?,
            }
        }
        readings.ledger = ledgers.pop();
        readings.brakes.sort_by_key(|brake| brake.kind.word());
        Ok(readings)
    }

    /// One environment's record.
    pub async fn ledger(&self, key: EnvKey) -> Result<Option<Ledger>, StoreError> {
        Ok(self.read_ledgers(ONE, Some(key)).await?.pop())
    }

    /// Every record, released ones included, by key.
    pub async fn ledgers(&self) -> Result<Vec<Ledger>, StoreError> {
        self.read_ledgers(ALL, None).await
    }

    /// Records of environments that may hold resources, by key.
    pub async fn unreleased(&self) -> Result<Vec<Ledger>, StoreError> {
        self.read_ledgers(UNRELEASED, None).await
    }

    async fn read_ledgers(&self, condition: &str, of: Option<EnvKey>) -> Result<Vec<Ledger>, StoreError> {
        let doing = "reading ledgers";
        let mut query = sqlx::query(AssertSqlSafe(format!("{} {IN_ORDER}", records(condition))));
        if let Some(key) = of {
            query = query.bind(key.repo.0.cast_signed()).bind(key.pr.0.cast_signed());
        }
        // One by one: all of them as rows would be many times as large as what is made of them.
        let mut rows = query.fetch(&self.db().reader);
        let mut ledgers = Vec::new();
        while let Some(row) = rows.try_next().await.doing(doing)? {
            let row = Part { row, doing };
            row.add_to(row.number(2)?, &mut ledgers)?;
        }
        Ok(ledgers)
    }
}

/// One row of such an answer.
struct Part {
    row: AnyRow,
    doing: &'static str,
}

impl Part {
    fn key(&self) -> Result<EnvKey, StoreError> {
        json::key(self.doing, &self.row)
    }

    fn number(&self, column: usize) -> Result<i64, StoreError> {
        self.row.try_get(column).doing(self.doing)
    }

    fn text(&self, column: usize) -> Result<String, StoreError> {
        self.row.try_get(column).doing(self.doing)
    }

    fn any_text(&self, column: usize) -> Result<Option<String>, StoreError> {
        self.row.try_get(column).doing(self.doing)
    }

    fn json<T: serde::de::DeserializeOwned>(
        &self,
        table: &'static str,
        row: impl std::fmt::Display,
        column: usize,
    ) -> Result<T, StoreError> {
        json::read(table, row, &self.text(column)?)
    }

    fn any_json<T: serde::de::DeserializeOwned>(
        &self,
        table: &'static str,
        row: impl std::fmt::Display,
        column: usize,
    ) -> Result<Option<T>, StoreError> {
        self.any_text(column)?.map(|text| json::read(table, row, &text)).transpose()
    }

    /// A part of a record goes to the record before it, which is its own: the rows come in that order.
    fn add_to(&self, part: i64, ledgers: &mut Vec<Ledger>) -> Result<(), StoreError> {
        if part == LEDGER {
            ledgers.push(self.read_ledger()?);
            return Ok(());
        }
        let key = self.key()?;
        let Some(ledger) = ledgers.last_mut().filter(|ledger| ledger.key == key) else {
            let why = format!("a row of {key} came before its record");
            return Err(StoreError::Bug { doing: self.doing, why });
        };
        match part {
            HOST => ledger.hosts.push(self.read_host(key)?),
            INTENT => ledger.intents.push(self.read_intent(key)?),
            other => return Err(StoreError::Bug { doing: self.doing, why: format!("there is no part {other}") }),
        }
        Ok(())
    }

    fn read_ledger(&self) -> Result<Ledger, StoreError> {
        let table = "ledgers";
        let key = self.key()?;
        let standing_at: Option<i64> = self.row.try_get(5).doing(self.doing)?;
        Ok(Ledger {
            key,
            uid: EnvUid::parse(self.text(6)?).map_err(|why| corrupt(table, key, &why))?,
            generation: Generation(u32::try_from(self.number(3)?).map_err(|why| corrupt(table, key, &why))?),
            hosts: Vec::new(),
            enrolled_at: Timestamp(self.number(4)?),
            standing: match (self.text(7)?.as_str(), standing_at) {
                ("live", None) => Standing::Live,
                ("leaving", Some(at)) => Standing::Leaving(Timestamp(at)),
                ("released", Some(at)) => Standing::Released(Timestamp(at)),
                (other, at) => return Err(corrupt(table, key, &format!("standing {other:?} at {at:?}"))),
            },
            slot: self.any_text(11)?.map(SlotId::parse).transpose().map_err(|why| corrupt(table, key, &why))?,
            left: self.any_json(table, key, 10)?,
            intents: Vec::new(),
            proven: self.any_json(table, key, 8)?,
            said: self.json(table, key, 9)?,
        })
    }

    fn read_host(&self, key: EnvKey) -> Result<Host, StoreError> {
        let service = self.any_text(7)?.map(ServiceName::parse).transpose();
        Ok(Host {
            label: HostLabel::parse(self.text(6)?).map_err(|why| corrupt("hosts", key, &why))?,
            service: service.map_err(|why| corrupt("hosts", key, &why))?,
        })
    }

    fn read_intent(&self, key: EnvKey) -> Result<Intent, StoreError> {
        let table = "intents";
        let token = self.text(6)?;
        let place = || format!("{key} token {token}");
        Ok(Intent {
            role: self.json(table, place(), 7)?,
            attempt: u32::try_from(self.number(4)?).map_err(|why| corrupt(table, place(), &why))?,
            asked_at: Timestamp(self.number(5)?),
            placement: self.any_json(table, place(), 9)?,
            answer: self.any_json(table, place(), 8)?,
            token: Token(token),
        })
    }

    fn read_facts(&self, key: EnvKey, readings: &mut Readings) -> Result<(), StoreError> {
        let installation: Option<i64> = self.row.try_get(3).doing(self.doing)?;
        let name = self.any_text(6)?.zip(self.any_text(7)?);
        readings.repo = name.zip(installation).map(|((owner, name), installation)| RepoRef {
            id: key.repo,
            name: RepoName { owner, name },
            installation: InstallationId(installation.cast_unsigned()),
        });
        readings.pull = self.any_json("pulls", key, 8)?;
        readings.config = self.any_json("configs", key, 9)?;
        readings.pins = self.any_json("pins", key, 10)?.unwrap_or_default();
        Ok(())
    }
}

fn corrupt(table: &'static str, row: impl std::fmt::Display, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt { table, row: row.to_string(), why: why.to_string() }
}
