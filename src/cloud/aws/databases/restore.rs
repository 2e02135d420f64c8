//! How an instance is asked for: everything that `RestoreDBInstanceFromDBSnapshot` is given.
//!
//! A restore takes over what nobody names: its source's tags, default groups, backups, the password. So everything is named
//! (RDS user guide, "Restoring to a DB instance").
//!
//! Guarantees: the identifier is the natural key, since there is no client token: what is there already is ours only if its
//! tags say so.
//! Must not know: when a database is wanted.

use aws_sdk_rds::types::{DbInstance, Tag};

use super::{Inner, Settling, id_of, identifier_of, lock};
use crate::cloud::aws::error::{Verb, code, refused, told};
use crate::cloud::aws::pace::Bucket;
use crate::cloud::aws::pairs::of_rds;
use crate::cloud::aws::rules::snapshot::choose;
use crate::cloud::aws::rules::tags;
use crate::cloud::aws::survey::survey_snapshots;
use crate::cloud::{CloudError, DatabaseBirth, ErrorClass};
use crate::domain::id::DatabaseId;
use crate::seed::name::DatabaseName;

impl Inner {
    /// Begins to restore a database, or accepts the one that is there.
    pub(super) async fn restore(&self, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        let DatabaseBirth { tags: owner, database, slot } = birth;
        let identifier = identifier_of(&database.name);
        let what = format!("restore {identifier}");
        let bug = |why: String| refused(ErrorClass::Bug, &what, why);
        DatabaseName::parse(&self.settings.install, &database.name).map_err(|error| bug(error.to_string()))?;
        if owner.install != self.settings.install {
            return Err(bug(format!("its tags name installation {}, not ours", owner.install)));
        }
        let Some(slot) = slot.filter(|slot| self.network.slots.contains(slot)) else {
            let why = "its record names no slot of this network: close the pull request, and reopen it when its preview \
                       was destroyed";
            return Err(refused(ErrorClass::Denied, what, why));
        };
        if let Some(found) = self.instance(&what, &identifier).await? {
            return self.accept(&what, &found, birth).await;
        }
        let golden = self.golden(&what, &database.seed)?;
        self.pace.wait(Bucket::LookAtDatabases).await;
        let snapshots = survey_snapshots(&self.aws).await?;
        let chosen = choose(&snapshots, golden, &self.settings.install, self.clock.now());
        let snapshot = chosen.map_err(|why| refused(ErrorClass::Denied, &what, why))?;
        let mut pairs = tags::written(owner, &identifier);
        pairs.push((tags::SEED, database.seed.to_string()));
        let all = pairs.iter().map(|(key, value)| Tag::builder().key(*key).value(value).build()).collect();
        self.pace.take(Bucket::ChangeDatabases, &what)?;
        let request = self
            .aws
            .make
            .rds
            .restore_db_instance_from_db_snapshot()
            .db_instance_identifier(&identifier)
            .db_snapshot_identifier(&snapshot.id)
            .db_instance_class(&golden.class)
            .db_subnet_group_name(&self.settings.subnet_group)
            .db_parameter_group_name(format!(
                "{}-{}{}",
                self.settings.parameter_group,
                snapshot.engine,
                snapshot.major()
            ))
            .vpc_security_group_ids(slot.as_str())
            .set_tags(Some(all))
            .backup_retention_period(0)
            .copy_tags_to_snapshot(false)
            .publicly_accessible(false)
            .deletion_protection(false)
            .auto_minor_version_upgrade(false)
            .multi_az(false)
            .enable_iam_database_authentication(false)
            .manage_master_user_password(true)
            .set_master_user_secret_kms_key_id(self.settings.key.clone());
        match request.send().await {
            Ok(made) => {
                let resource = made.db_instance().and_then(|instance| instance.dbi_resource_id());
                id_of(resource.ok_or_else(|| refused(ErrorClass::Ambiguous, &what, "the answer names no instance"))?)
            }
            Err(error) if code(&error).is_some_and(|code| code.starts_with("DBInstanceAlreadyExists")) => {
                match self.instance(&what, &identifier).await? {
                    Some(found) => self.accept(&what, &found, birth).await,
                    None => Err(refused(ErrorClass::Ambiguous, &what, "it is there, but not visible yet")),
                }
            }
            Err(error) => Err(told(Verb::Make, what, &error)),
        }
    }

    /// What is there under the name, if it is this environment's.
    async fn accept(&self, what: &str, found: &DbInstance, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        if of_rds(found.tag_list()).owner().as_ref() != Some(birth.tags) {
            let why = "an instance of that name is there, and its tags are not this environment's; look at it by hand";
            return Err(refused(ErrorClass::Denied, what, why));
        }
        let Some(resource) = found.dbi_resource_id() else {
            return Err(refused(ErrorClass::Ambiguous, what, "the answer names no instance"));
        };
        // Asked for again: what failed inside is tried again.
        {
            let mut settled = lock(&self.settled);
            if matches!(settled.get(resource), Some(Settling::Failed(_))) {
                settled.remove(resource);
            }
        }
        self.bring_up(what, found).await?;
        id_of(resource)
    }
}
