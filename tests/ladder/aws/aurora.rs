//! Clones of a golden cluster: they get an instance and a password of their own before anything is done inside, and go with
//! both.

use std::collections::BTreeMap;

use aws_sdk_rds::types::{DbCluster, Tag};
use kagero::cloud::aws::{RdsDatabases, Source};
use kagero::cloud::{Databases as _, ErrorClass};
use kagero::domain::observed::{Database, DatabaseState};
use sqlx::{Connection as _, PgConnection};

use super::databases::{ADMIN, Asked, PATIENCE, Rds, found, in_turn, prove, refused_in_turn, tag};
use super::strict::Fault;
use crate::wait::eventually;

const GOLDEN: &str = "kagero-golden-shop";

async fn rds_with(sanitized: &str) -> (Rds, RdsDatabases) {
    let rds = Rds::start().await;
    let parameters = rds.raw.create_db_cluster_parameter_group();
    let parameters = parameters.db_cluster_parameter_group_name("kagero-dev-aurora-postgresql16");
    parameters.db_parameter_group_family("aurora-postgresql16").description("x").send().await.unwrap();
    golden(&rds, sanitized).await;
    let lane = rds.lane_from(Source::Cluster(GOLDEN.to_owned())).await;
    (rds, lane)
}

async fn golden(rds: &Rds, sanitized: &str) {
    rds.raw
        .create_db_cluster()
        .db_cluster_identifier(GOLDEN)
        .engine("aurora-postgresql")
        .engine_version("16.4")
        .database_name("shop")
        .master_username(ADMIN)
        .master_user_password("the password of the golden one")
        .db_subnet_group_name("kagero-dev")
        .storage_encrypted(true)
        .backup_retention_period(7)
        .deletion_protection(true)
        .tags(tag("kagero:sanitized", sanitized))
        .tags(tag("kagero:install", "dev"))
        .tags(tag("kagero:sanitized-at", "2026-11-01T00:00:00Z"))
        .send()
        .await
        .unwrap();
}

async fn cluster(rds: &Rds, name: &str) -> Option<DbCluster> {
    let found = rds.raw.describe_db_clusters().db_cluster_identifier(name.replace('_', "-")).send().await;
    found.ok()?.db_clusters?.into_iter().next()
}

/// Looks again and again, as a controller does, and does what RDS does by itself.
async fn ready(rds: &Rds, lane: &RdsDatabases, asked: &Asked) -> Database {
    eventually("it is ready", PATIENCE, async || {
        let listed = found(lane, asked).await;
        if let Some(secret) = cluster(rds, &asked.spec.name).await.as_ref().and_then(DbCluster::master_user_secret) {
            rds.let_in(secret).await;
        }
        listed.filter(|database| database.state == DatabaseState::Ready).ok_or("it is not")
    })
    .await
}

fn value<'a>(said: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    said.get(key).map(String::as_str)
}

#[tokio::test]
async fn a_golden_cluster_is_cloned_and_its_clone_goes_without_a_rest() {
    let (rds, lane) = rds_with("false").await;
    let asked = Asked::of(1, &rds).await;
    let refused = refused_in_turn(async || lane.prepare(asked.birth()).await).await;
    assert!(refused.class == ErrorClass::Denied && refused.why.contains("kagero:sanitized=true"), "{refused}");
    assert_eq!(rds.staging.strict.count("RestoreDBClusterToPointInTime"), 0);
    let arn = cluster(&rds, GOLDEN).await.unwrap().db_cluster_arn.unwrap();
    rds.raw.add_tags_to_resource().resource_name(arn).tags(tag("kagero:sanitized", "true")).send().await.unwrap();

    rds.staging.strict.next("RestoreDBClusterToPointInTime", Fault::Lost);
    let lost = refused_in_turn(async || lane.prepare(asked.birth()).await).await;
    assert_eq!(lost.class, ErrorClass::Ambiguous, "{lost}");
    let id = in_turn(async || lane.prepare(asked.birth()).await).await;
    assert!(id.as_str().starts_with("rds:cluster-"), "{id}");
    assert_eq!(rds.staging.strict.count("RestoreDBClusterToPointInTime"), 1, "asked for again, it is found");
    let said = rds.staging.strict.last("RestoreDBClusterToPointInTime");
    for (key, wanted) in [
        ("RestoreType", "copy-on-write"),
        ("UseLatestRestorableTime", "true"),
        ("DeletionProtection", "false"),
        ("CopyTagsToSnapshot", "false"),
        ("EnableIAMDatabaseAuthentication", "false"),
        ("BackupRetentionPeriod", "1"),
        ("DBSubnetGroupName", "kagero-dev"),
        ("DBClusterParameterGroupName", "kagero-dev-aurora-postgresql16"),
        ("VpcSecurityGroupIds.VpcSecurityGroupId.1", asked.slot.as_str()),
    ] {
        assert_eq!(value(&said, key), Some(wanted), "{key} in {said:?}");
    }

    let database = ready(&rds, &lane, &asked).await;
    assert_eq!(
        (&database.id, database.tags.as_ref(), database.slot.as_ref()),
        (&id, Some(&asked.tags), Some(&asked.slot))
    );
    let said = rds.staging.strict.last("CreateDBInstance");
    assert_eq!(
        (value(&said, "PubliclyAccessible"), value(&said, "DBInstanceClass")),
        (Some("false"), Some("db.t4g.micro"))
    );
    assert_eq!(rds.staging.strict.count("CreateDBInstance"), 1);
    assert_eq!(rds.staging.strict.count("ModifyDBCluster"), 1, "a password of its own");
    let listed = lane.list().await.unwrap();
    assert_eq!(listed.items.len(), 1, "the instance in it is no database of its own: {listed:?}");
    let access = lane.access(&asked.spec).await.unwrap();
    let mut app = PgConnection::connect(&access.application_url).await.unwrap();
    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut app).await.unwrap();
    assert_eq!(orders, 2);

    let owned = prove(&rds, &found(&lane, &asked).await.unwrap());
    in_turn(async || lane.delete(&owned).await).await;
    assert_eq!(found(&lane, &asked).await, None);
    assert!(cluster(&rds, &asked.spec.name).await.is_none());
    let left = rds.raw.describe_db_instances().send().await.unwrap();
    let left: Vec<&str> = left.db_instances().iter().filter_map(|one| one.db_instance_identifier()).collect();
    assert_eq!(left, ["production"]);
    assert!(cluster(&rds, GOLDEN).await.is_some(), "the golden one stands");
    in_turn(async || lane.delete(&owned).await).await;
}

#[tokio::test]
async fn a_clone_that_is_stopped_is_started_when_it_is_asked_for_again() {
    let (rds, lane) = rds_with("true").await;
    let asked = Asked::of(1, &rds).await;
    in_turn(async || lane.prepare(asked.birth()).await).await;
    let database = ready(&rds, &lane, &asked).await;
    let owned = prove(&rds, &found(&lane, &asked).await.unwrap());
    in_turn(async || lane.stop(&owned).await).await;
    assert_eq!(found(&lane, &asked).await.unwrap().state, DatabaseState::Stopped);
    assert_eq!(in_turn(async || lane.prepare(asked.birth()).await).await, database.id);
    assert_eq!(ready(&rds, &lane, &asked).await.id, database.id);
    let counts = ["StopDBCluster", "StartDBCluster", "StopDBInstance", "RestoreDBClusterToPointInTime"];
    assert_eq!(counts.map(|action| rds.staging.strict.count(action)), [1, 1, 0, 1]);
}

#[tokio::test]
async fn an_instance_that_somebody_has_put_into_a_clone_keeps_it_and_is_not_touched() {
    let (rds, lane) = rds_with("true").await;
    let asked = Asked::of(1, &rds).await;
    in_turn(async || lane.prepare(asked.birth()).await).await;
    ready(&rds, &lane, &asked).await;
    let identifier = asked.spec.name.replace('_', "-");
    let foreign = |tags: Vec<Tag>| {
        rds.raw
            .create_db_instance()
            .db_instance_identifier("reports")
            .db_cluster_identifier(&identifier)
            .db_instance_class("db.t4g.medium")
            .engine("aurora-postgresql")
            .set_tags(Some(tags))
            .send()
    };
    foreign(vec![tag("team", "reports")]).await.unwrap();
    let owned = prove(&rds, &found(&lane, &asked).await.unwrap());
    let refused = refused_in_turn(async || lane.delete(&owned).await).await;
    assert_eq!(refused.class, ErrorClass::Denied, "{refused}");
    assert!(refused.why.contains("the instance reports in it does not carry this environment's tags"), "{refused}");
    assert!(rds.instance("reports").await.is_some());
    assert!(cluster(&rds, &asked.spec.name).await.is_some());
    assert_eq!(rds.staging.strict.count("DeleteDBCluster"), 0);
}
