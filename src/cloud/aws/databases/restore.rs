//! How a database is asked for: everything that `RestoreDBInstanceFromDBSnapshot` and `RestoreDBInstanceToPointInTime` are
//! given; [`super::clone`] has the rest.
//!
//! A restore takes over what nobody names: its source's tags, default groups, backups, the password. So everything is named
//! (RDS user guide, "Restoring to a DB instance").
//!
//! Guarantees: the identifier is the natural key, since there is no client token: what is there already is ours only if its
//! tags say so.
//! Must not know: when a database is wanted.

use aws_sdk_rds::primitives::DateTime;
use aws_sdk_rds::types::DbInstance;

use super::server::Server;
use super::settling::Settling;
use super::{Inner, id_of, identifier_of, lock};
use crate::cloud::aws::error::{Verb, code, refused, told};
use crate::cloud::aws::pace::Bucket;
use crate::cloud::aws::pairs::to_rds;
use crate::cloud::aws::rules::golden::{Source, major};
use crate::cloud::aws::rules::tags;
use crate::cloud::aws::survey::survey_golden;
use crate::cloud::{CloudError, DatabaseBirth, ErrorClass};
use crate::domain::id::DatabaseId;
use crate::seed::name::DatabaseName;

/// What RDS answers where the name is taken.
const ALREADY_THERE: [&str; 2] = ["DBInstanceAlreadyExists", "DBClusterAlreadyExists"];

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
        // First of all, so that nobody whose turn it is not yet looks anything up; starting what is there takes it too.
        self.pace.take(Bucket::ChangeDatabases, &what)?;
        if let Some(found) = self.find(&what, &identifier).await? {
            return self.accept(&what, &found, birth).await;
        }
        let golden = self.golden(&what, &database.seed)?;
        self.pace.wait(Bucket::LookAtDatabases).await;
        let found = survey_golden(&self.aws, golden, &self.settings.install, self.clock.now()).await;
        // What was attempted is the restore, whatever it fails for.
        let found = found.map_err(|error| CloudError { what: what.clone(), ..error })?;
        let mut pairs = tags::written(owner, &identifier);
        pairs.push((tags::SEED, database.seed.to_string()));
        let parameters = format!("{}-{}{}", self.settings.parameter_group, found.engine, major(&found.version));
        // Both calls have the same dangerous defaults, and no type in common.
        macro_rules! restored {
            ($call:expr) => {{
                let request = $call
                    .db_instance_class(&golden.class)
                    .db_subnet_group_name(&self.settings.subnet_group)
                    .db_parameter_group_name(parameters)
                    .vpc_security_group_ids(slot.as_str())
                    .set_tags(Some(to_rds(&pairs)))
                    .backup_retention_period(0)
                    .copy_tags_to_snapshot(false)
                    .publicly_accessible(false)
                    .deletion_protection(false)
                    .auto_minor_version_upgrade(false)
                    .multi_az(false)
                    .enable_iam_database_authentication(false)
                    .manage_master_user_password(true)
                    .set_master_user_secret_kms_key_id(self.settings.key.clone());
                let told = |error| (code(&error).map(str::to_owned), told(Verb::Make, &what, &error));
                let made = request.send().await.map(|made| made.db_instance).map_err(told);
                made.map(|made| made.as_ref().and_then(DbInstance::dbi_resource_id).map(str::to_owned))
            }};
        }
        let rds = &self.aws.make.rds;
        let made = match golden.source {
            Source::Snapshots(_) => {
                let call = rds.restore_db_instance_from_db_snapshot().db_snapshot_identifier(&found.id);
                restored!(call.db_instance_identifier(&identifier))
            }
            Source::Instance(_) => {
                let call = rds.restore_db_instance_to_point_in_time().source_db_instance_identifier(&found.id);
                // Not "the latest", which may be another one by now.
                let time = found.data_of.map(|at| DateTime::from_millis(at.0));
                restored!(call.target_db_instance_identifier(&identifier).set_restore_time(time))
            }
            Source::Cluster(_) => self.clone_cluster(&what, &identifier, golden, &found, (slot, &pairs)).await,
        };
        match made {
            Ok(made) => id_of(
                &made.ok_or_else(|| refused(ErrorClass::Ambiguous, &what, "the answer names nothing that was made"))?,
            ),
            Err((Some(code), _)) if ALREADY_THERE.iter().any(|known| code.starts_with(known)) => {
                match self.find(&what, &identifier).await? {
                    Some(found) => self.accept(&what, &found, birth).await,
                    None => Err(refused(ErrorClass::Ambiguous, &what, "it is there, but not visible yet")),
                }
            }
            Err((_, error)) => Err(error),
        }
    }

    /// What is there under the name, if it is this environment's.
    async fn accept(&self, what: &str, found: &Server, birth: DatabaseBirth<'_>) -> Result<DatabaseId, CloudError> {
        if found.tags.owner().as_ref() != Some(birth.tags) {
            let why = "something of that name is there, and its tags are not this environment's; look at it by hand";
            return Err(refused(ErrorClass::Denied, what, why));
        }
        // Asked for again: what failed inside is tried again.
        {
            let mut settled = lock(&self.settled);
            if matches!(settled.get(&found.resource), Some(Settling::Failed(_))) {
                settled.remove(&found.resource);
            }
        }
        self.bring_up(what, found).await?;
        id_of(&found.resource)
    }
}
