//! Databases as RDS has them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::super::fate::{Call, Nerve};
use super::super::mischief::Mischief;
use super::region::{DatabaseParts, Life, Region, Resource};
use super::{Cloud, error, staging, trouble};
use crate::clock::Clock;
use crate::cloud::{CloudError, DatabaseAccess, DatabaseBirth, Databases, ErrorClass};
use crate::domain::desired::DatabaseSpec;
use crate::domain::id::{DatabaseId, InstallId, SlotId};
use crate::domain::observed::{Database, DatabaseState, Listing, Residue, Tags};
use crate::domain::owned::{Owned, OwnedResidue};
use crate::domain::time::Timestamp;

/// One controller's view of the databases.
#[derive(Clone)]
pub struct SimDatabases {
    pub(super) cloud: Cloud,
    pub(super) install: InstallId,
    pub(super) nerve: Nerve,
    pub(super) clock: Arc<dyn Clock>,
}

impl SimDatabases {
    /// For one controller.
    pub fn new(cloud: Cloud, install: InstallId, nerve: Nerve, clock: Arc<dyn Clock>) -> Self {
        Self { cloud, install, nerve, clock }
    }
}

fn id_of(name: &str) -> Result<DatabaseId, CloudError> {
    DatabaseId::parse(name).map_err(|why| error(ErrorClass::Bug, "name a database", &why.to_string()))
}

impl Region {
    fn restore(&mut self, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        let DatabaseBirth { tags, database: DatabaseSpec { name, .. }, slot } = birth;
        let what = "RestoreDBInstanceFromDBSnapshot";
        let now = self.now();
        // The identifier is the natural key: there is no client token.
        if let Some(known) = self.databases.get(name.as_str()).filter(|one| one.is_alive(now)) {
            if known.tags.as_ref() != Some(tags) {
                return Err(error(ErrorClass::Denied, what, "DBInstanceAlreadyExists, and its tags are not ours"));
            }
            return match known.life {
                Life::Ending(..) => Err(error(ErrorClass::Retry, what, "DBInstanceAlreadyExists: it is being deleted")),
                Life::Failed => self.restore_anew(tags, name, slot, now),
                Life::Up => id_of(name),
                Life::Stopped => self.start_database(name),
            };
        }
        if self.databases.values().filter(|one| one.decoy.is_none() && one.is_alive(now)).count()
            >= self.quotas.databases
        {
            self.met.note(Mischief::Quota);
            return Err(error(ErrorClass::Quota, what, "InstanceQuotaExceeded"));
        }
        self.restore_anew(tags, name, slot, now)
    }

    fn start_database(&mut self, name: &str) -> Result<DatabaseId, CloudError> {
        let (now, boot) = (self.now(), self.weather.boot);
        let ready_at = now.plus(self.chance.between(boot.0, boot.1));
        let Some(database) = self.databases.get_mut(name) else { return id_of(name) };
        if database.ready_at > now {
            return Err(error(ErrorClass::Retry, "StartDBInstance", "InvalidDBInstanceState"));
        }
        (database.life, database.ready_at) = (Life::Up, ready_at);
        let tags = database.tags.clone();
        self.note("start-database", name, tags);
        id_of(name)
    }

    fn stop_database(&mut self, name: &str) -> Result<(), CloudError> {
        let what = "StopDBInstance";
        let now = self.now();
        let down_at = now.plus(self.chance.between(Duration::from_secs(20), Duration::from_mins(3)));
        let Some(database) = self.databases.get_mut(name).filter(|one| one.is_alive(now)) else { return Ok(()) };
        if let Some(decoy) = database.decoy {
            self.breaches.push(format!("{what} of {name}, which is a decoy ({decoy:?})"));
            return Err(error(ErrorClass::Denied, what, "AccessDenied"));
        }
        match database.life {
            Life::Up if now < database.ready_at.max(database.own.backed_up_at) => {
                Err(error(ErrorClass::Retry, what, "InvalidDBInstanceState"))
            }
            Life::Up => {
                (database.life, database.ready_at) = (Life::Stopped, down_at);
                let tags = database.tags.clone();
                self.note("stop-database", name, tags);
                Ok(())
            }
            Life::Stopped => Ok(()),
            Life::Failed | Life::Ending(..) => Err(error(ErrorClass::Retry, what, "InvalidDBInstanceState")),
        }
    }

    fn restore_anew(
        &mut self,
        tags: &Tags,
        name: &str,
        slot: Option<&SlotId>,
        now: Timestamp,
    ) -> Result<DatabaseId, CloudError> {
        self.enter(slot, tags);
        let restore = self.weather.restore;
        let ready_at = now.plus(self.chance.between(restore.0, restore.1));
        let fails = self.chance.permille(self.weather.failing_permille);
        if fails {
            self.met.note(Mischief::NotMade);
        }
        // Tags that are given replace those of the snapshot, which are taken over where none are ("Tagging Amazon RDS
        // resources"); ours are always given, and a name that is known with others' is refused above.
        let database = Resource {
            name: name.to_owned(),
            tags: Some(tags.clone()),
            location: staging(),
            born_at: now,
            visible_at: self.visible_at(),
            ready_at,
            life: if fails { Life::Failed } else { Life::Up },
            protected: false,
            slot: slot.cloned(),
            decoy: None,
            lasting: false,
            own: DatabaseParts { backed_up_at: ready_at.plus(self.weather.backup) },
        };
        self.note("prepare", name, database.tags.clone());
        self.databases.insert(name.to_owned(), database);
        id_of(name)
    }

    fn delete(&mut self, name: &str) -> Result<(), CloudError> {
        let what = "DeleteDBInstance";
        let now = self.now();
        let ending = self.ending(30, 300);
        let Some(database) = self.databases.get_mut(name).filter(|one| one.is_alive(now)) else { return Ok(()) };
        let (decoy, protected) = (database.decoy, database.protected);
        // Asking for what is protected is refused by the cloud, and harms nothing ("Deleting a DB instance").
        if let Some(decoy) = decoy.filter(|_| !protected) {
            self.breaches.push(format!("{what} of {name}, which is a decoy ({decoy:?})"));
        }
        if decoy.is_some() || protected {
            if protected {
                self.met.note(Mischief::Protected);
            }
            return Err(error(ErrorClass::Denied, what, "InvalidParameterCombination: deletion protection"));
        }
        let Some(database) = self.databases.get_mut(name) else { return Ok(()) };
        if matches!(database.life, Life::Ending(..)) {
            return Ok(());
        }
        if database.life == Life::Stopped && database.ready_at > now {
            return Err(error(ErrorClass::Retry, what, "InvalidDBInstanceState"));
        }
        // "creating" and "backing-up" are no states to delete from, for hours at times (terraform-provider-aws#44104).
        if database.life == Life::Up && now < database.own.backed_up_at {
            self.met.note(Mischief::BackingUp);
            return Err(error(ErrorClass::Retry, what, "InvalidDBInstanceState"));
        }
        database.life = ending;
        let tags = database.tags.clone();
        self.note("delete", name, tags);
        Ok(())
    }
}

#[async_trait]
impl Databases for SimDatabases {
    async fn list(&self) -> Result<Listing<Database>, CloudError> {
        let what = "DescribeDBInstances";
        let at = self.clock.now();
        let found = self.nerve.call(Call::ListDatabases, || {
            let mut region = self.cloud.region();
            let (now, weather, mut chance) = (region.now(), region.weather, region.chance.clone());
            let (shown, complete) =
                Region::list(&mut chance, &region.met, weather, now, region.databases.values(), &self.install, '_');
            let items = shown.into_iter().map(|one| describe(one, now, at)).collect::<Result<Vec<_>, _>>()?;
            region.chance = chance;
            region.count_listing("list-databases", items.len());
            Ok(Listing { items, complete, at })
        });
        found.await.map_err(|kind| trouble(what, kind))?
    }

    async fn prepare(&self, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        let (name, tags) = (birth.database.name.as_str(), birth.tags);
        let restore = || {
            let mut region = self.cloud.region();
            let answer = region.restore(birth);
            region.answer("prepare", name, tags, answer)
        };
        let done = self.nerve.call(Call::Prepare, restore).await;
        done.map_err(|kind| trouble("RestoreDBInstanceFromDBSnapshot", kind))?
    }

    async fn stop(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        let what = "StopDBInstance";
        if !database.is_fresh(self.clock.now()) {
            return Err(error(ErrorClass::Retry, what, "it was read too long ago"));
        }
        self.cloud.region().note("ask-stop-database", database.name(), Some(database.tags().clone()));
        let stop = || {
            let mut region = self.cloud.region();
            let answer = region.stop_database(database.name());
            region.answer("stop-database", database.name(), database.tags(), answer)
        };
        let done = self.nerve.call(Call::StopDatabase, stop).await;
        done.map_err(|kind| trouble(what, kind))?
    }

    async fn delete(&self, database: &Owned<DatabaseId>) -> Result<(), CloudError> {
        let what = "DeleteDBInstance";
        if !database.is_fresh(self.clock.now()) {
            return Err(error(ErrorClass::Retry, what, "it was read too long ago"));
        }
        self.cloud.region().note("ask-delete", database.name(), Some(database.tags().clone()));
        let delete = || {
            let mut region = self.cloud.region();
            let answer = region.delete(database.name());
            region.answer("delete", database.name(), database.tags(), answer)
        };
        let done = self.nerve.call(Call::DeleteDatabase, delete).await;
        done.map_err(|kind| trouble(what, kind))?
    }

    async fn residue(&self) -> Result<Listing<Residue>, CloudError> {
        self.list_goldens().await
    }

    async fn clear_away(&self, golden: &OwnedResidue) -> Result<(), CloudError> {
        self.drop_golden(golden).await
    }

    async fn access(&self, database: &DatabaseSpec) -> Result<DatabaseAccess, CloudError> {
        let url = format!("postgres://simulated/{}", database.name);
        Ok(DatabaseAccess { application_url: url.clone(), migration_url: url, paths: Vec::new() })
    }
}

fn describe(one: &Resource<DatabaseParts>, now: Timestamp, read_at: Timestamp) -> Result<Database, CloudError> {
    let state = match one.life {
        Life::Ending(..) => DatabaseState::Dropping,
        _ if one.ready_at > now => DatabaseState::Preparing,
        Life::Failed => DatabaseState::Failed("the snapshot could not be restored".to_owned()),
        Life::Up => DatabaseState::Ready,
        Life::Stopped => DatabaseState::Stopped,
    };
    Ok(Database {
        id: id_of(&one.name)?,
        name: one.name.clone(),
        tags: one.tags.clone(),
        location: one.location.clone(),
        state,
        can_stop: true,
        slot: one.slot.clone(),
        read_at,
    })
}
