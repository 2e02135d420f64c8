//! How a cluster is cloned: everything that `RestoreDBClusterToPointInTime`, `CreateDBInstance` and `ModifyDBCluster` are
//! given.
//!
//! A clone shares its source's pages until one of both writes to them (Aurora user guide, "Cloning a volume for an Amazon
//! Aurora DB cluster"), and takes over its password, which this call cannot change.
//!
//! Guarantees: every default that a clone would take over is named; names are natural keys.
//! Must not know: when a database is wanted.

use aws_sdk_rds::types::ServerlessV2ScalingConfiguration;

use super::Inner;
use super::server::Server;
use crate::cloud::CloudError;
use crate::cloud::aws::error::{Verb, code, told};
use crate::cloud::aws::pace::Bucket;
use crate::cloud::aws::pairs::to_rds;
use crate::cloud::aws::rules::golden::{Golden, major};
use crate::cloud::aws::rules::tags;
use crate::cloud::aws::survey::GoldenFound;
use crate::domain::id::SlotId;
use crate::domain::observed::Tags;

/// The engine of clusters that this lane clones.
const AURORA: &str = "aurora-postgresql";

/// The class of instances that take as much of a machine as they need.
const SERVERLESS: &str = "db.serverless";

/// What those may take, in Aurora capacity units of about 2 GiB: enough for a preview, and a bound to what it costs.
const CAPACITY: (f64, f64) = (0.5, 4.0);

/// The name of the instance in a cluster.
pub(super) fn member_of(identifier: &str) -> String {
    format!("{identifier}-writer")
}

impl Inner {
    /// Begins to clone a golden cluster: its own resource id, or what RDS said, with its code.
    pub(super) async fn clone_cluster(
        &self,
        what: &str,
        identifier: &str,
        golden: &Golden,
        found: &GoldenFound,
        (slot, pairs): (&SlotId, &[(&str, String)]),
    ) -> Result<Option<String>, (Option<String>, CloudError)> {
        let parameters = format!("{}-{}{}", self.settings.parameter_group, found.engine, major(&found.version));
        let (least, most) = CAPACITY;
        let capacity = ServerlessV2ScalingConfiguration::builder().min_capacity(least).max_capacity(most).build();
        let request = self
            .aws
            .make
            .rds
            .restore_db_cluster_to_point_in_time()
            .source_db_cluster_identifier(&found.id)
            .db_cluster_identifier(identifier)
            .restore_type("copy-on-write")
            // A clone cannot be of an earlier time.
            .use_latest_restorable_time(true)
            .db_subnet_group_name(&self.settings.subnet_group)
            .db_cluster_parameter_group_name(parameters)
            .vpc_security_group_ids(slot.as_str())
            .set_tags(Some(to_rds(pairs)))
            .copy_tags_to_snapshot(false)
            .deletion_protection(false)
            .enable_iam_database_authentication(false)
            // The least that Aurora allows.
            .backup_retention_period(1)
            .set_serverless_v2_scaling_configuration((golden.class == SERVERLESS).then_some(capacity));
        match request.send().await {
            Ok(made) => Ok(made.db_cluster.and_then(|cluster| cluster.db_cluster_resource_id)),
            Err(error) => Err((code(&error).map(str::to_owned), told(Verb::Make, what, &error))),
        }
    }

    /// Asks for the instance in a cluster.
    pub(super) async fn put_instance_into(
        &self,
        what: &str,
        cluster: &Server,
        golden: &Golden,
        owner: &Tags,
    ) -> Result<(), CloudError> {
        let member = member_of(&cluster.identifier);
        self.pace.take(Bucket::ChangeDatabases, what)?;
        let request = self
            .aws
            .make
            .rds
            .create_db_instance()
            .db_instance_identifier(&member)
            .db_cluster_identifier(&cluster.identifier)
            .db_instance_class(&golden.class)
            .engine(AURORA)
            .db_subnet_group_name(&self.settings.subnet_group)
            .set_tags(Some(to_rds(&tags::written(owner, &member))))
            .publicly_accessible(false)
            .copy_tags_to_snapshot(false)
            .auto_minor_version_upgrade(false);
        let done = request.send().await;
        done.map(drop).map_err(|error| told(Verb::Make, format!("{what}: put an instance into it"), &error))
    }

    /// Lets RDS make a password of its own in place of the source's.
    pub(super) async fn change_password(&self, what: &str, cluster: &Server) -> Result<(), CloudError> {
        self.pace.take(Bucket::ChangeDatabases, what)?;
        let request = self.aws.make.rds.modify_db_cluster().db_cluster_identifier(&cluster.identifier);
        let request = request
            .manage_master_user_password(true)
            .set_master_user_secret_kms_key_id(self.settings.key.clone())
            .apply_immediately(true);
        let done = request.send().await;
        done.map(drop).map_err(|error| told(Verb::Change, format!("{what}: change its password"), &error))
    }
}
