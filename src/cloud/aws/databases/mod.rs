//! The lanes `rds` and `rds-pitr`: an instance of its own for each environment, restored from a golden snapshot, or to the newest
//! point in time of a golden instance.
//!
//! Guarantees: see [`crate::cloud::Databases`]. Every default that a restore would take over from its source is overridden.
//! An instance is ready once it was settled inside ([`restored`]); its administrator's password is made by RDS at the restore
//! and is read only to settle it. Deleting skips the final snapshot, and touches no snapshot.
//! Must not know: plans, the store, GitHub.

mod restore;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_rds::types::DbInstance;
use secrecy::{ExposeSecret as _, SecretString};
use tokio_util::task::AbortOnDropHandle;

use super::connection::Connection;
use super::error::{Verb, code, refused, told};
use super::pace::{Bucket, Pace};
use super::pairs::of_rds;
use super::rules::golden::Golden;
use super::rules::network::Network;
use super::rules::pages::Pages;
use super::rules::status::Status;
use super::rules::tags::{INSTALL, MANAGED, SEED};
use crate::clock::Clock;
use crate::cloud::lanes::INSTANCE_PREFIX;
use crate::cloud::postgres::restored::{self, Administrator, Endpoint, Wish};
use crate::cloud::{CloudError, DatabaseAccess, DatabaseBirth, Databases, ErrorClass, nothing, unknown_residue};
use crate::domain::desired::DatabaseSpec;
use crate::domain::id::{DatabaseId, InstallId, SeedName};
use crate::domain::observed::{Database, DatabaseState, Listing, Location, Residue, Tags};
use crate::domain::owned::{Owned, OwnedResidue, name_prefix};
use crate::domain::server_address::{Tls, bracketed};
use crate::seed::name::DatabaseName;
use crate::seed::role::RoleLimits;
use crate::seed::scram;

/// Settling an instance takes no longer; then it is tried again.
const SETTLING: Duration = Duration::from_mins(10);

/// The settings of this lane.
#[derive(Debug, Clone)]
pub struct RdsSettings {
    /// This installation.
    pub install: InstallId,
    /// The network.
    pub vpc: String,
    /// The subnet group that instances are put into.
    pub subnet_group: String,
    /// What parameter groups are called, without the engine's name and major version.
    pub parameter_group: String,
    /// The seeds that are golden snapshots.
    pub goldens: BTreeMap<SeedName, Golden>,
    /// The key that administrators' passwords are encrypted with; `None`: the account's own.
    pub key: Option<String>,
    /// What roles' passwords are computed from.
    pub secret: SecretString,
    /// How connections are secured.
    pub tls: Tls,
    /// Instances on a page of a listing: 20 to 100.
    pub page: i32,
}

impl RdsSettings {
    /// As many as RDS allows.
    pub const PAGE: i32 = 100;
}

/// Databases on RDS. Cheap to clone.
#[derive(Clone)]
pub struct RdsDatabases {
    inner: Arc<Inner>,
}

struct Inner {
    aws: Connection,
    settings: RdsSettings,
    network: Network,
    pace: Pace,
    clock: Arc<dyn Clock>,
    /// By the instance's own id, which another one of the same name does not have.
    settled: Mutex<HashMap<String, Settling>>,
    /// By the database's name.
    endpoints: Mutex<HashMap<String, Endpoint>>,
}

/// How far an instance is inside.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Settling {
    GoesOn,
    Done,
    Failed(String),
}

/// The identifier of a database's instance: RDS allows hyphens and no underscores, PostgreSQL's names are the other way
/// round, and neither kind of ours has both.
fn identifier_of(name: &str) -> String {
    name.replace('_', "-")
}

fn name_of(identifier: &str) -> String {
    identifier.replace('-', "_")
}

impl RdsDatabases {
    /// Databases in that network. Whoever calls has seen that the ground is staging's.
    pub fn new(aws: Connection, settings: RdsSettings, network: Network, clock: Arc<dyn Clock>) -> Self {
        let (settled, endpoints) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { aws, settings, network, pace: Pace::default(), clock, settled, endpoints }) }
    }
}

impl Inner {
    fn is_ours(&self, instance: &DbInstance) -> bool {
        let prefix = name_prefix(&self.settings.install, '-');
        let tags = of_rds(instance.tag_list());
        match tags.get(INSTALL) {
            Some(install) if install != self.settings.install.as_str() => false,
            Some(_) if tags.get(MANAGED).is_some() => true,
            _ => instance.db_instance_identifier().is_some_and(|identifier| identifier.starts_with(&prefix)),
        }
    }

    /// Whether an instance is what its tags say, and where it may be: nothing else is entered.
    fn may_be_settled(&self, instance: &DbInstance, name: &str, tags: &Tags) -> bool {
        let begins = format!("{}{}_g{}", name_prefix(&self.settings.install, '_'), tags.uid, tags.generation);
        tags.install == self.settings.install
            && instance.db_subnet_group().and_then(|group| group.vpc_id()) == Some(&self.settings.vpc)
            && name.strip_prefix(&begins).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    }

    async fn instances(&self) -> Result<(Vec<DbInstance>, bool), CloudError> {
        let mut pages = Pages::default();
        while let Some(marker) = pages.wanted() {
            self.pace.wait(Bucket::LookAtDatabases).await;
            // RDS cannot filter by tag: the pages of the Region are read, and judged here.
            let request = self.aws.look.rds.describe_db_instances().max_records(self.settings.page).set_marker(marker);
            let page = request.send().await.map_err(|error| told(Verb::Read, "DescribeDBInstances", &error))?;
            let next = page.marker().map(str::to_owned);
            pages.add(
                page.db_instances.unwrap_or_default().into_iter().filter(|one| self.is_ours(one)),
                next.as_deref(),
            );
        }
        let all = pages.gathered();
        Ok((all.items, all.complete))
    }

    /// One instance, if it is there.
    async fn instance(&self, what: &str, identifier: &str) -> Result<Option<DbInstance>, CloudError> {
        self.pace.take(Bucket::LookAtDatabases, what)?;
        match self.aws.look.rds.describe_db_instances().db_instance_identifier(identifier).send().await {
            Ok(found) => Ok(found.db_instances.unwrap_or_default().into_iter().next()),
            Err(error) if code(&error).is_some_and(|code| code.starts_with("DBInstanceNotFound")) => Ok(None),
            Err(error) => Err(told(Verb::Read, what, &error)),
        }
    }

    /// The database that an instance is; `None` if it has no id, which no listing should show.
    fn described(self: &Arc<Self>, instance: &DbInstance) -> Option<Database> {
        let (identifier, resource) = (instance.db_instance_identifier()?, instance.dbi_resource_id()?);
        let name = name_of(identifier);
        let tags = of_rds(instance.tag_list()).owner();
        let groups = instance.vpc_security_groups().iter().filter_map(|group| group.vpc_security_group_id());
        if let Some(endpoint) = endpoint(instance) {
            lock(&self.endpoints).insert(name.clone(), endpoint);
        }
        Some(Database {
            id: id_of(resource).ok()?,
            state: self.state(instance, &name, resource, tags.as_ref()),
            name,
            tags,
            location: Location {
                // arn:aws:rds:<Region>:<account>:db:<identifier>
                account: instance.db_instance_arn()?.split(':').nth(4)?.to_owned(),
                region: self.aws.region.clone(),
                network: instance.db_subnet_group().and_then(|group| group.vpc_id()).unwrap_or_default().to_owned(),
            },
            can_stop: true,
            slot: self.network.slot_of(groups),
            read_at: self.clock.now(),
        })
    }

    fn state(
        self: &Arc<Self>,
        instance: &DbInstance,
        name: &str,
        resource: &str,
        tags: Option<&Tags>,
    ) -> DatabaseState {
        match Status::of(instance.db_instance_status().unwrap_or_default()) {
            Status::Going => DatabaseState::Dropping,
            Status::Busy => DatabaseState::Preparing,
            Status::Stopped => DatabaseState::Stopped,
            Status::Broken(why) => DatabaseState::Failed(format!("{}: {why}", identifier_of(name))),
            Status::Up => {
                let known = lock(&self.settled).get(resource).cloned();
                match known {
                    Some(Settling::Done) => DatabaseState::Ready,
                    Some(Settling::GoesOn) => DatabaseState::Preparing,
                    Some(Settling::Failed(why)) => DatabaseState::Failed(why),
                    None => {
                        if let Some(tags) = tags.filter(|tags| self.may_be_settled(instance, name, tags)) {
                            self.begin_to_settle(instance, name, resource, tags);
                        }
                        DatabaseState::Preparing
                    }
                }
            }
        }
    }

    fn begin_to_settle(self: &Arc<Self>, instance: &DbInstance, name: &str, resource: &str, tags: &Tags) {
        lock(&self.settled).insert(resource.to_owned(), Settling::GoesOn);
        let (inner, instance, tags) = (Arc::clone(self), instance.clone(), tags.clone());
        let (name, resource) = (name.to_owned(), resource.to_owned());
        tokio::spawn(async move {
            let settling = {
                let (inner, name) = (Arc::clone(&inner), name.clone());
                tokio::spawn(async move { Box::pin(inner.settle(&instance, &name, &tags)).await })
            };
            // In a task of its own, so that a panic is not taken for going on; and not beyond its time.
            let settling = AbortOnDropHandle::new(settling);
            let done = tokio::time::timeout(SETTLING, settling).await;
            let done = done
                .map_err(|_| "it has taken too long".to_owned())
                .and_then(|done| done.map_err(|error| error.to_string()));
            let done = done.unwrap_or_else(|why| Err(refused(ErrorClass::Retry, "settle a database", why)));
            let mut settled = lock(&inner.settled);
            match done {
                Ok(()) => drop(settled.insert(resource, Settling::Done)),
                // The next listing begins again.
                Err(error) if matches!(error.class, ErrorClass::Retry | ErrorClass::SlowDown(_)) => {
                    tracing::info!(database.name = name, error = %error, "a restored database cannot be settled yet");
                    settled.remove(&resource);
                }
                Err(error) => {
                    tracing::warn!(database.name = name, error = %error, "a restored database could not be settled");
                    settled.insert(resource, Settling::Failed(error.to_string()));
                }
            }
        });
    }

    async fn settle(&self, instance: &DbInstance, name: &str, tags: &Tags) -> Result<(), CloudError> {
        let what = format!("settle {}", identifier_of(name));
        let retry = |why: &str| refused(ErrorClass::Retry, &what, why);
        let at = endpoint(instance).ok_or_else(|| retry("it has no address yet"))?;
        let name = DatabaseName::parse(&self.settings.install, name)
            .map_err(|error| refused(ErrorClass::Bug, &what, error.to_string()))?;
        let seed = of_rds(instance.tag_list()).get(SEED).and_then(|seed| SeedName::parse(seed).ok());
        let seed = seed
            .ok_or_else(|| refused(ErrorClass::Denied, &what, format!("it has no tag {SEED}; look at it by hand")))?;
        let database = &self.golden(&what, &seed)?.database;
        let user = instance.master_username().ok_or_else(|| retry("it does not say who administers it"))?;
        let password = self.password(&what, instance).await?;
        let admin = Administrator { user: user.to_owned(), password };
        let wish = Wish {
            name: &name,
            database,
            tags,
            secret: &self.settings.secret,
            limits: RoleLimits::default(),
            tls: &self.settings.tls,
        };
        restored::settle(&at, admin, &wish).await
    }

    /// The administrator's password, which RDS keeps in Secrets Manager.
    async fn password(&self, what: &str, instance: &DbInstance) -> Result<SecretString, CloudError> {
        #[derive(serde::Deserialize)]
        struct Kept {
            password: SecretString,
        }
        let secret = instance.master_user_secret().filter(|secret| secret.secret_status() != Some("creating"));
        let Some(arn) = secret.and_then(|secret| secret.secret_arn()) else {
            return Err(refused(ErrorClass::Retry, what, "RDS has not made its administrator's password yet"));
        };
        let kept = self.aws.make.secrets.get_secret_value().secret_id(arn).send().await;
        let kept =
            kept.map_err(|error| told(Verb::Read, format!("{what}: read its administrator's password"), &error))?;
        let kept: Result<Kept, _> = serde_json::from_str(kept.secret_string().unwrap_or_default());
        // The text is a secret, and so is what an error would quote of it.
        kept.map(|kept| kept.password)
            .map_err(|_| refused(ErrorClass::Denied, what, "its secret is not as RDS writes it"))
    }

    /// The instance that was proven to be ours, looked at once more; nothing if it is gone or going.
    async fn check(&self, what: &str, database: &Owned<DatabaseId>) -> Result<Option<DbInstance>, CloudError> {
        if !database.is_fresh(self.clock.now()) {
            let why = "the evidence that it is ours is more than a minute old; list the databases again";
            return Err(refused(ErrorClass::Retry, what, why));
        }
        let Some(found) = self.instance(what, &identifier_of(database.name())).await? else { return Ok(None) };
        if Status::of(found.db_instance_status().unwrap_or_default()) == Status::Going {
            return Ok(None);
        }
        let is_it = found.dbi_resource_id().and_then(|resource| id_of(resource).ok()).as_ref() == Some(database.id());
        let vpc = found.db_subnet_group().and_then(|group| group.vpc_id());
        if !is_it
            || of_rds(found.tag_list()).owner().as_ref() != Some(database.tags())
            || vpc != Some(&self.settings.vpc)
        {
            let why =
                "it does not say what the proof says: its tags, its network or its id have changed; look at it by hand";
            return Err(refused(ErrorClass::Denied, what, why));
        }
        Ok(Some(found))
    }

    async fn stop(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        let identifier = identifier_of(database.name());
        let what = format!("stop {identifier}");
        let Some(found) = self.check(&what, database).await? else { return Ok(()) };
        if Status::of(found.db_instance_status().unwrap_or_default()) == Status::Stopped {
            return Ok(());
        }
        self.pace.take(Bucket::ChangeDatabases, &what)?;
        let done = self.aws.make.rds.stop_db_instance().db_instance_identifier(&identifier).send().await;
        done.map(drop).map_err(|error| told(Verb::Change, what, &error))
    }

    /// One that was stopped is started; one that is on its way is left alone. Whoever calls has a turn at changing.
    async fn bring_up(&self, what: &str, instance: &DbInstance) -> Result<(), CloudError> {
        if Status::of(instance.db_instance_status().unwrap_or_default()) != Status::Stopped {
            return Ok(());
        }
        let Some(identifier) = instance.db_instance_identifier() else { return Ok(()) };
        let done = self.aws.make.rds.start_db_instance().db_instance_identifier(identifier).send().await;
        done.map(drop).map_err(|error| told(Verb::Change, format!("{what}: start {identifier}"), &error))
    }

    async fn delete(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        let identifier = identifier_of(database.name());
        let what = format!("delete {identifier}");
        let Some(found) = self.check(&what, database).await? else { return Ok(()) };
        if found.deletion_protection() == Some(true) {
            let why = "somebody has switched deletion protection on: switch it off by hand, Kagero does not";
            return Err(refused(ErrorClass::Denied, what, why));
        }
        self.pace.take(Bucket::ChangeDatabases, &what)?;
        let request = self.aws.remove.rds.delete_db_instance().db_instance_identifier(&identifier);
        match request.skip_final_snapshot(true).delete_automated_backups(true).send().await {
            Ok(_) => Ok(()),
            Err(error) if code(&error).is_some_and(|code| code.starts_with("DBInstanceNotFound")) => Ok(()),
            Err(error) => Err(told(Verb::Remove, what, &error)),
        }
    }

    async fn access(&self, database: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        let what = format!("address database {}", database.name);
        let golden = self.golden(&what, &database.seed)?;
        let name = DatabaseName::parse(&self.settings.install, &database.name)
            .map_err(|error| refused(ErrorClass::Bug, &what, error.to_string()))?;
        let known = lock(&self.endpoints).get(&database.name).cloned();
        let at = if let Some(at) = known {
            at
        } else {
            let found = self.instance(&what, &identifier_of(&database.name)).await?;
            let at = found.as_ref().and_then(endpoint);
            at.ok_or_else(|| refused(ErrorClass::Retry, &what, "it has no address yet"))?
        };
        let url = |role: &str| {
            let password = scram::password(&self.settings.secret, role);
            let (host, database, query) = (bracketed(&at.host), &golden.database, self.settings.tls.query());
            format!("postgres://{role}:{}@{host}:{}/{database}?{query}", password.expose_secret(), at.port)
        };
        let roles = name.roles();
        let paths = Vec::new();
        Ok(DatabaseAccess { application_url: url(&roles.application), migration_url: url(&roles.migration), paths })
    }

    fn golden(&self, what: &str, seed: &SeedName) -> Result<&Golden, CloudError> {
        let missing = || format!("there is no seed {seed} with a snapshot in kagero.toml");
        self.settings.goldens.get(seed).ok_or_else(|| refused(ErrorClass::Denied, what, missing()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn id_of(resource: &str) -> Result<DatabaseId, CloudError> {
    DatabaseId::parse(format!("{INSTANCE_PREFIX}{resource}"))
        .map_err(|error| refused(ErrorClass::Bug, format!("name database {resource}"), error.to_string()))
}

fn endpoint(instance: &DbInstance) -> Option<Endpoint> {
    let endpoint = instance.endpoint()?;
    Some(Endpoint { host: endpoint.address()?.to_owned(), port: endpoint.port()?.try_into().ok()? })
}

#[async_trait]
impl Databases for RdsDatabases {
    async fn list(&self) -> Result<Listing<Database>, CloudError> {
        let at = self.inner.clock.now();
        let (instances, mut complete) = self.inner.instances().await?;
        let mut items = Vec::with_capacity(instances.len());
        for instance in &instances {
            match self.inner.described(instance) {
                Some(database) => items.push(database),
                None => complete = false,
            }
        }
        Ok(Listing { items, complete, at })
    }

    async fn prepare(&self, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        self.inner.restore(birth).await
    }

    async fn stop(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        self.inner.stop(database).await
    }

    async fn delete(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        self.inner.delete(database).await
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        Ok(nothing())
    }

    async fn clear_away(&self, golden: &OwnedResidue) -> Result<(), CloudError> {
        Err(unknown_residue(golden))
    }

    async fn access(&self, database: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        self.inner.access(database).await
    }
}
