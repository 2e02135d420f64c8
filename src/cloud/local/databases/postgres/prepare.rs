//! Makes an environment's database: clone, hand over, admit.
//!
//! The order is what makes a crash harmless. Roles first: the owner role's comment attributes the database
//! from its birth. The database is born closed; it is opened to its owner only after PUBLIC's rights are
//! gone; the environment's roles are admitted last, together with the sign that it is ready. Every step
//! may be done again.
//!
//! Guarantees: a database that is somebody else's is never touched; ready means that the roles were
//! checked to enter no other database.
//! Must not know: who asked.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::cloud::{CloudError, ErrorClass};
use crate::domain::id::InstallId;
use crate::domain::observed::Tags;
use crate::seed::claim;
use crate::seed::database::{self, Strategy};
use crate::seed::golden::Golden;
use crate::seed::marker::{Marker, Sign, Stage};
use crate::seed::name::{DatabaseName, seed_role};
use crate::seed::role;

use super::super::fault;
use super::golden::GoldenDatabase;
use super::list::{Found, find_one};
use super::{Inner, lock};
use crate::cloud::postgres::{roles, session};

/// Pauses before another try, where the server was down, busy or the template in use.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
    Duration::from_secs(20),
];

impl Inner {
    /// Prepares a database; short troubles of the server are waited out.
    pub(super) async fn prepare(
        &self,
        name: &DatabaseName,
        tags: &Tags,
        golden: &Golden,
        overtaken: &CancellationToken,
    ) -> Result<(), CloudError> {
        let what = format!("prepare database {name}");
        let mut pauses = PAUSES.into_iter();
        loop {
            let seat = self.seats.acquire().await.map_err(|error| fault::bug(&what, error.to_string()))?;
            let outcome = self.prepare_once(&what, name, tags, golden, overtaken).await;
            drop(seat);
            let pause = match &outcome {
                Err(error) if error.class == ErrorClass::Retry => pauses.next(),
                Err(CloudError { class: ErrorClass::SlowDown(pause), .. }) => {
                    pauses.next().map(|least| least.max(*pause))
                }
                _ => None,
            };
            let Some(pause) = pause else { return outcome };
            tokio::select! {
                () = overtaken.cancelled() => return outcome,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn prepare_once(
        &self,
        what: &str,
        name: &DatabaseName,
        tags: &Tags,
        golden: &Golden,
        overtaken: &CancellationToken,
    ) -> Result<(), CloudError> {
        let mut admin = self.server.administer().await?;
        lock::take(&mut admin, what, name.as_str()).await?;
        let mine = Marker::Environment { tags: tags.clone(), database: name.as_str().to_owned() };
        let found = find_one(&mut admin, what, name.as_str()).await?;
        if let Some(found) = &found
            && found.born().as_ref() != Some(&mine)
        {
            return Err(fault::denied(
                what,
                "a database of that name belongs to someone else: rename or remove it by hand",
            ));
        }
        if overtaken.is_cancelled() {
            return Err(fault::retry(what, "it is to be dropped"));
        }
        let stage = found.as_ref().and_then(Found::stage);
        let roles = self.make_roles(&mut admin, what, name, &mine).await?;
        if stage == Some(Stage::Ready) && found.as_ref().is_some_and(|found| found.allows_connections) {
            return self.check_isolation(&mut admin, what, name).await;
        }
        if found.is_none() {
            let golden = self.ensure_golden(&mut admin, golden).await?;
            self.clone_golden(&mut admin, what, &roles.owner, name, &golden).await?;
        }
        session::run(&mut admin, what, database::open(name.as_str())).await?;
        let mut inside = self.server.enter(name.as_str()).await?;
        let marker = read_inner_marker(&mut inside, what).await?;
        if !may_be_claimed(marker.as_ref(), &mine, self.server.install()) {
            return Err(fault::denied(what, "the marker inside is someone else's: remove the database by hand"));
        }
        let seed_role = seed_role(self.server.install());
        session::run(&mut inside, what, claim::hand_over(&mine, &seed_role, &roles)).await?;
        sqlx::Connection::close(inside).await.map_err(|error| fault::sql(what, &error))?;
        self.check_isolation(&mut admin, what, name).await?;
        let sign = Sign { stage: Stage::Ready, owner: mine };
        session::run(&mut admin, what, database::admit(name.as_str(), &roles, &sign)).await
    }

    async fn make_roles(
        &self,
        admin: &mut PgConnection,
        what: &str,
        name: &DatabaseName,
        mine: &Marker,
    ) -> Result<crate::seed::name::RoleNames, CloudError> {
        let roles = name.roles();
        let presence = roles::presence(admin, what, self.server.install(), roles.all(), mine).await?;
        let make = role::make(&roles, presence, mine, self.server.secret(), self.limits);
        session::run(admin, what, make).await?;
        Ok(roles)
    }

    /// A session on the template keeps it from being cloned: such sessions are ended, and it is tried again
    /// a few times.
    async fn clone_golden(
        &self,
        admin: &mut PgConnection,
        what: &str,
        owner: &str,
        name: &DatabaseName,
        golden: &GoldenDatabase,
    ) -> Result<(), CloudError> {
        let mut strategy = Strategy::choose(golden.server_version, golden.bytes);
        for _ in 0..5 {
            if strategy == Strategy::CloneFiles
                && sqlx::raw_sql(database::clone_files().safe()).execute(&mut *admin).await.is_err()
            {
                strategy = Strategy::Files;
            }
            let create = database::create(name.as_str(), owner, &golden.name, strategy);
            match sqlx::raw_sql(create.safe()).execute(&mut *admin).await {
                Ok(_) => return Ok(()),
                Err(error) if fault::has_code(&error, "55006") => {
                    session::run(admin, what, database::evict(&golden.name)).await?;
                }
                Err(error) => return Err(fault::sql(what, &error)),
            }
        }
        Err(fault::retry(what, format!("sessions keep entering its template {}", golden.name)))
    }

    /// Asks the server itself which other databases the roles could enter.
    async fn check_isolation(
        &self,
        admin: &mut PgConnection,
        what: &str,
        name: &DatabaseName,
    ) -> Result<(), CloudError> {
        let roles = name.roles();
        let enterable: Vec<String> = sqlx::query_scalar(
            "SELECT d.datname::text FROM pg_catalog.pg_database d WHERE d.datallowconn AND d.datname <> $1 \
             AND d.datname <> ALL ($4) AND (pg_catalog.has_database_privilege($2, d.oid, 'CONNECT') \
             OR pg_catalog.has_database_privilege($3, d.oid, 'CONNECT')) ORDER BY 1",
        )
        .bind(name.as_str())
        .bind(&roles.application)
        .bind(&roles.migration)
        .bind(self.server.open_databases())
        .fetch_all(admin)
        .await
        .map_err(|error| fault::sql(what, &error))?;
        if enterable.is_empty() {
            return Ok(());
        }
        let why = format!(
            "its roles could enter other databases ({}): run `REVOKE CONNECT, TEMPORARY ON DATABASE … FROM PUBLIC` \
             for each, or accept them as `open_databases`",
            enterable.join(", ")
        );
        Err(fault::denied(what, why))
    }
}

/// The marker inside a database, if there is one.
pub(super) async fn read_inner_marker(inside: &mut PgConnection, what: &str) -> Result<Option<Marker>, CloudError> {
    let failed = |error: sqlx::Error| fault::sql(format!("{what}: read the marker inside"), &error);
    let there: bool = sqlx::query_scalar(claim::has_marker().safe()).fetch_one(&mut *inside).await.map_err(failed)?;
    if !there {
        return Ok(None);
    }
    let texts: Vec<String> = sqlx::query_scalar(claim::read_marker().safe()).fetch_all(inside).await.map_err(failed)?;
    match &texts[..] {
        [only] => Ok(Marker::from_text(only)),
        _ => Ok(None),
    }
}

/// Whether a database is the environment's by the marker inside: its own, or that of a clone which was
/// not claimed yet.
pub(super) fn may_be_claimed(inside: Option<&Marker>, mine: &Marker, ours: &InstallId) -> bool {
    match inside {
        Some(Marker::Golden { install, .. }) => install == ours,
        Some(marker) => marker == mine,
        None => false,
    }
}
