//! Goldens on a server: loaded once from their seed, then only cloned.
//!
//! A golden is loaded under another name and gets its own in the same transaction that closes it and signs
//! it: under its final name it is complete. A changed seed makes a new golden beside the old one.
//!
//! Guarantees: a seed that fails leaves nothing half-made; nobody can enter a complete golden.
//! Must not know: environments.

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use crate::cloud::CloudError;
use crate::seed::claim;
use crate::seed::database::{self, Strategy};
use crate::seed::golden::{Golden, SeedFormat};
use crate::seed::load::{self, Target, Wrapping};
use crate::seed::marker::{Marker, Sign, Stage};
use crate::seed::name::{GoldenName, golden_role, seed_role};
use crate::seed::role;
use crate::seed::scram;

use super::super::fault;
use super::list::find_one;
use super::{Inner, lock};
use crate::cloud::postgres::{roles, session};

/// A complete golden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenDatabase {
    /// Its database.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// The server's major version.
    pub server_version: u32,
}

impl Inner {
    /// The golden of a seed, loaded if it is not there yet.
    pub(super) async fn ensure_golden(
        &self,
        admin: &mut PgConnection,
        golden: &Golden,
    ) -> Result<GoldenDatabase, CloudError> {
        let what = format!("load seed {}", golden.name);
        let digest = self.digests.of(golden).await.map_err(|error| fault::seed(&what, &error))?;
        let name = GoldenName::derive(self.server.install(), &golden.name, &digest);
        if let Some(ready) = self.find_golden(admin, &what, &name).await? {
            return Ok(ready);
        }
        lock::take(admin, &what, &name.complete).await?;
        let outcome = match self.find_golden(admin, &what, &name).await {
            Ok(Some(ready)) => Ok(ready),
            Ok(None) => self.make_golden(admin, &what, golden, &name).await,
            Err(error) => Err(error),
        };
        lock::release(admin, &what, &name.complete).await?;
        outcome
    }

    async fn find_golden(
        &self,
        admin: &mut PgConnection,
        what: &str,
        name: &GoldenName,
    ) -> Result<Option<GoldenDatabase>, CloudError> {
        let Some(found) = find_one(admin, what, &name.complete).await? else { return Ok(None) };
        if found.born() != Some(self.birth_marker()) {
            let why = format!("a database {} belongs to someone else: rename or remove it by hand", name.complete);
            return Err(fault::denied(what, why));
        }
        let (bytes, version): (i64, i32) = sqlx::query_as(
            "SELECT pg_catalog.pg_database_size($1::text::name), \
             pg_catalog.current_setting('server_version_num')::int / 10000",
        )
        .bind(&name.complete)
        .fetch_one(admin)
        .await
        .map_err(|error| fault::sql(what, &error))?;
        Ok(Some(GoldenDatabase {
            name: name.complete.clone(),
            bytes: u64::try_from(bytes).unwrap_or(0),
            server_version: u32::try_from(version).unwrap_or(0),
        }))
    }

    async fn make_golden(
        &self,
        admin: &mut PgConnection,
        what: &str,
        golden: &Golden,
        name: &GoldenName,
    ) -> Result<GoldenDatabase, CloudError> {
        let format = golden.detect().map_err(|error| fault::seed(what, &error))?;
        self.make_golden_roles(admin, what).await?;
        self.drop_half_made(admin, what, &name.loading).await?;
        let mut outcome = self.fill(admin, what, golden, format, name, Wrapping::OneTransaction).await;
        if matches!(outcome, Err(Filling::DislikesTransaction)) {
            self.drop_half_made(admin, what, &name.loading).await?;
            outcome = self.fill(admin, what, golden, format, name, Wrapping::AsWritten).await;
        }
        match outcome {
            Ok(()) => {}
            Err(filling) => {
                self.drop_half_made(admin, what, &name.loading).await?;
                return Err(match filling {
                    Filling::Failed(error) => error,
                    Filling::DislikesTransaction => {
                        fault::denied(what, "a statement needs a transaction and none at once")
                    }
                });
            }
        }
        let found = self.find_golden(admin, what, name).await?;
        found.ok_or_else(|| fault::retry(what, format!("{} is gone again", name.complete)))
    }

    /// Makes the database, fills it, and gives it its final name.
    async fn fill(
        &self,
        admin: &mut PgConnection,
        what: &str,
        golden: &Golden,
        format: SeedFormat,
        name: &GoldenName,
        wrapping: Wrapping,
    ) -> Result<(), Filling> {
        let install = self.server.install();
        let (owner, seed) = (golden_role(install), seed_role(install));
        let loading = name.loading.as_str();
        session::run(admin, what, database::create(loading, &owner, "template0", Strategy::Only)).await?;
        session::run(admin, what, database::open(loading)).await?;
        session::run(admin, what, database::admit_seed(loading, &seed)).await?;
        let mut inside = self.server.enter(loading).await?;
        session::run(&mut inside, what, claim::welcome_seed(&seed, &golden.extensions)).await?;
        let endpoint = self.server.endpoint().await?;
        let (tools, run_as) = self.server.loaders().await?;
        let target = Target {
            tools,
            run_as,
            host: endpoint.host,
            port: endpoint.port,
            tls: endpoint.tls,
            database: loading.to_owned(),
            password: scram::password(self.server.secret(), &seed),
            role: seed.clone(),
            scratch: self.server.scratch(),
        };
        load::load(golden, format, wrapping, &target).await.map_err(|error| {
            if wrapping == Wrapping::OneTransaction && load::dislikes_transaction(&error) {
                Filling::DislikesTransaction
            } else {
                Filling::Failed(fault::seed(what, &error))
            }
        })?;
        if self.has_own_schema(&mut inside, what).await? {
            let error = golden.not("has a schema named kagero, which is reserved: dump with --exclude-schema=kagero");
            return Err(Filling::Failed(fault::seed(what, &error)));
        }
        let marker = Marker::Golden { install: install.clone(), seed: Some(golden.name.clone()) };
        session::run(&mut inside, what, claim::mark(&marker)).await?;
        session::run(&mut inside, what, claim::settle()).await?;
        inside.close().await.map_err(|error| fault::sql(what, &error))?;
        session::run(admin, what, database::close(loading)).await?;
        session::run(admin, what, database::evict(loading)).await?;
        let sign = Sign { stage: Stage::Ready, owner: self.birth_marker() };
        let complete = database::complete_golden(loading, &name.complete, &seed, &sign);
        // A session that was told to end may take a moment to do so.
        let mut tries = 0;
        loop {
            match sqlx::raw_sql(complete.clone().safe()).execute(&mut *admin).await {
                Ok(_) => return Ok(()),
                Err(error) if fault::has_code(&error, "55006") && tries < 5 => tries += 1,
                Err(error) => return Err(Filling::Failed(fault::sql(what, &error))),
            }
        }
    }

    async fn has_own_schema(&self, inside: &mut PgConnection, what: &str) -> Result<bool, CloudError> {
        sqlx::query_scalar("SELECT pg_catalog.to_regnamespace($1) IS NOT NULL")
            .bind(claim::SCHEMA)
            .fetch_one(inside)
            .await
            .map_err(|error| fault::sql(what, &error))
    }

    async fn make_golden_roles(&self, admin: &mut PgConnection, what: &str) -> Result<(), CloudError> {
        let install = self.server.install();
        // Several seeds may be loaded at once, and they share these roles.
        let shared = golden_role(install);
        lock::take(admin, what, &shared).await?;
        let made = self.make_golden_roles_alone(admin, what).await;
        lock::release(admin, what, &shared).await?;
        made
    }

    async fn make_golden_roles_alone(&self, admin: &mut PgConnection, what: &str) -> Result<(), CloudError> {
        let install = self.server.install();
        let marker = self.birth_marker();
        let (golden, seed) = (golden_role(install), seed_role(install));
        let [golden_there, seed_there] = roles::presence(admin, what, install, [&golden, &seed], &marker).await?;
        let make = role::make_for_goldens((&golden, golden_there), (&seed, seed_there), &marker, self.server.secret());
        session::run(admin, what, make).await
    }

    /// Drops what an earlier loading left; it was born as a golden of ours, or it is not touched.
    async fn drop_half_made(&self, admin: &mut PgConnection, what: &str, loading: &str) -> Result<(), CloudError> {
        let Some(found) = find_one(admin, what, loading).await? else { return Ok(()) };
        if found.born() != Some(self.birth_marker()) {
            return Err(fault::denied(
                what,
                format!("a database {loading} belongs to someone else: rename or remove it by hand"),
            ));
        }
        self.allowed(what)?;
        session::run(admin, what, database::close(loading)).await?;
        session::run(admin, what, database::drop(loading)).await
    }

    /// What the role says that owns all goldens.
    pub(super) fn birth_marker(&self) -> Marker {
        Marker::Golden { install: self.server.install().clone(), seed: None }
    }
}

/// Why filling a golden ended.
enum Filling {
    /// For good.
    Failed(CloudError),
    /// Another try without the surrounding transaction may do.
    DislikesTransaction,
}

impl From<CloudError> for Filling {
    fn from(error: CloudError) -> Self {
        Self::Failed(error)
    }
}
