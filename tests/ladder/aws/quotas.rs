//! How many environments the account's quotas leave room for, beside what others use.

use aws_sdk_ec2::types::InstanceType;
use kagero::cloud::aws::rules::quota::{Counted, Quota};
use kagero::cloud::aws::{Source, survey_quotas};
use kagero::cloud::{Machines as _, Room};

use super::counterpart::{Staging, Wish, install};
use super::databases::Rds;

async fn quota(staging: &Staging, counted: Counted) -> Option<Quota> {
    quota_of(staging, counted, &staging.settings().databases).await
}

async fn quota_of(staging: &Staging, counted: Counted, sources: &[Source]) -> Option<Quota> {
    let all = survey_quotas(&staging.aws, &install(), &staging.network().await, sources).await.unwrap();
    all.into_iter().find(|quota| quota.counted == counted)
}

async fn room(staging: &Staging, with_databases: bool) -> Room {
    let mut settings = staging.settings();
    settings.databases.retain(|_| with_databases);
    staging.machines_of(settings).await.room().await.unwrap().unwrap()
}

#[tokio::test]
async fn what_an_account_may_have_less_what_others_have_bounds_the_environments() {
    let staging = Staging::start().await;
    // An account that nobody has ever asked anything for: five vCPUs, and each machine may have two.
    let none = quota(&staging, Counted::Vcpus).await.unwrap();
    assert_eq!((none.allowed, none.others, none.each), (5, 0, 2));
    assert_eq!(room(&staging, true).await, Room { environments: 2, limit: Counted::Vcpus.to_string() });

    staging.strict.raise("L-1216C47A", 200.0);
    assert_eq!(room(&staging, true).await, Room { environments: 36, limit: Counted::Databases.to_string() });
    assert_eq!(room(&staging, false).await, Room { environments: 90, limit: Counted::Vcpus.to_string() });

    // Ours are what the room is for; what others run is gone from it, wherever in the Region it stands.
    let network = staging.network().await;
    staging.machines().await.launch(Wish::of(1, &network).birth()).await.unwrap();
    assert_eq!(quota(&staging, Counted::Vcpus).await.unwrap().others, 0);
    let others = staging.ec2.run_instances().image_id(&staging.ami).min_count(3).max_count(3);
    others.instance_type(InstanceType::T3Medium).send().await.unwrap();
    assert_eq!(quota(&staging, Counted::Vcpus).await.unwrap().others, 6);
    assert_eq!(room(&staging, false).await.environments, 87);
    assert_eq!(quota(&staging, Counted::Interfaces).await.unwrap().others, 3);

    staging.strict.raise("L-DF5E4CA3", 10.0);
    assert_eq!(room(&staging, true).await, Room { environments: 3, limit: Counted::Interfaces.to_string() });
}

#[tokio::test]
async fn storage_and_clusters_of_databases_count_where_they_are_used() {
    let rds = Rds::start().await;
    let staging = &rds.staging;
    // Production's instance beside it, of 20 GiB, and the golden snapshot of it.
    let storage = quota(staging, Counted::Storage).await.unwrap();
    assert_eq!((storage.allowed, storage.others, storage.each), (100_000, 20, 20));
    assert_eq!(quota(staging, Counted::Databases).await.unwrap().others, 1);
    assert_eq!(quota(staging, Counted::Clusters).await, None, "no seed is a cluster");
    let standing = [Source::Instance("production".to_owned())];
    assert_eq!(quota_of(staging, Counted::Storage, &standing).await.unwrap().each, 20);

    let cluster = rds.raw.create_db_cluster().db_cluster_identifier("others").engine("aurora-postgresql");
    let cluster = cluster.master_username("somebody").master_user_password("a password of others");
    cluster.send().await.unwrap();
    let clusters = [Source::Cluster("kagero-golden".to_owned())];
    let found = quota_of(staging, Counted::Clusters, &clusters).await.unwrap();
    assert_eq!((found.allowed, found.others, found.each), (40, 1, 1));
    assert_eq!(quota_of(staging, Counted::Storage, &clusters).await, None, "a cluster's storage is not counted");
    staging.strict.raise("L-952B80B9", 10.0);
    let mut settings = staging.settings();
    settings.databases.extend(clusters);
    staging.strict.raise("L-1216C47A", 1_000.0);
    let room = staging.machines_of(settings).await.room().await.unwrap().unwrap();
    assert_eq!(room, Room { environments: 8, limit: Counted::Clusters.to_string() });
}

#[tokio::test]
async fn what_cannot_be_read_is_no_room_that_anybody_relies_on() {
    let staging = Staging::start().await;
    let machines = staging.machines().await;
    staging.strict.next("DescribeInstances", super::strict::Fault::Refused("UnauthorizedOperation", 403));
    let refused = machines.room().await.unwrap_err();
    assert!(refused.what.contains("DescribeInstances"), "{refused}");
}
