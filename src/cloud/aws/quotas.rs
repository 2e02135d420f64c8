//! Reads the account's quotas, and who uses how much of them.
//!
//! Guarantees: reads only; what others have is counted in the whole Region, because quotas are the account's.
//! Must not know: what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_ec2::types::{InstanceStateName, InstanceType, Reservation};

use super::connection::Connection;
use super::error::{Verb, code, refused, told};
use super::pairs::{of_ec2, of_rds};
use super::rules::golden::Source;
use super::rules::network::Network;
use super::rules::pages::Pages;
use super::rules::quota::{Counted, Quota, is_standard};
use super::rules::tags::{INSTALL, MANAGED, Pairs, SANITIZED};
use super::survey::{filter, snapshots, whole};
use crate::cloud::{CloudError, ErrorClass};
use crate::domain::id::InstallId;

/// Items of a page.
const PAGE: i32 = 500;

/// Instance types that can be asked for at once (`DescribeInstanceTypes`).
const TYPES: usize = 100;

/// The quotas that environments of an installation take some of, whose databases are made from those sources.
pub async fn survey_quotas(
    aws: &Connection,
    install: &InstallId,
    network: &Network,
    sources: &[Source],
) -> Result<Vec<Quota>, CloudError> {
    let (vcpus, interfaces, databases, clusters) = tokio::join!(
        Box::pin(vcpus(aws, install, network)),
        Box::pin(interfaces(aws, network, !sources.is_empty())),
        Box::pin(databases(aws, install, sources)),
        Box::pin(clusters(aws, install, sources))
    );
    Ok([vcpus?, interfaces?].into_iter().chain(databases?).chain(clusters?).collect())
}

/// What an account may have: what it was raised to, or else what AWS gives everybody.
async fn allowed(aws: &Connection, counted: Counted) -> Result<u64, CloudError> {
    let (service, code_of_quota) = counted.code();
    let what = || format!("read the quota {code_of_quota} of {service} ({counted})");
    let quotas = &aws.look.quotas;
    let own = quotas.get_service_quota().service_code(service).quota_code(code_of_quota).send().await;
    let found = match own {
        Ok(found) => found.quota.and_then(|quota| quota.value),
        Err(error) if code(&error) == Some("NoSuchResourceException") => {
            let usual = quotas.get_aws_default_service_quota().service_code(service).quota_code(code_of_quota);
            let usual = usual.send().await.map_err(|error| told(Verb::Read, what(), &error))?;
            usual.quota.and_then(|quota| quota.value)
        }
        Err(error) => return Err(told(Verb::Read, what(), &error)),
    };
    let number = found.filter(|value| (0.0..1e15).contains(value));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is between 0 and 10^15")]
    number
        .map(|value| value as u64)
        .ok_or_else(|| refused(ErrorClass::Retry, what(), "the answer has no number that could be one"))
}

fn is_ours(tags: &Pairs, install: &InstallId) -> bool {
    tags.get(INSTALL) == Some(install.as_str()) && tags.get(MANAGED) == Some("true")
}

async fn vcpus(aws: &Connection, install: &InstallId, network: &Network) -> Result<Quota, CloudError> {
    let (allowed, instances) = tokio::join!(allowed(aws, Counted::Vcpus), running(aws));
    let others: Vec<String> =
        instances?.into_iter().filter(|(_, tags)| !is_ours(tags, install)).map(|(kind, _)| kind).collect();
    let ours = network.placements.kinds.iter().filter(|kind| is_standard(kind));
    let vcpus = vcpus_of(aws, others.iter().chain(ours.clone()).collect()).await?;
    let of = |kind: &String| vcpus.get(kind).copied().unwrap_or_default();
    // Where there is no room for the first type, another one is taken.
    let each = ours.map(of).max().unwrap_or_default();
    Ok(Quota { counted: Counted::Vcpus, allowed: allowed?, others: others.iter().map(of).sum(), each })
}

/// How many vCPUs each type has.
async fn vcpus_of(aws: &Connection, kinds: BTreeSet<&String>) -> Result<BTreeMap<String, u64>, CloudError> {
    let what = "DescribeInstanceTypes";
    let kinds: Vec<&String> = kinds.into_iter().collect();
    let mut all = BTreeMap::new();
    for some in kinds.chunks(TYPES) {
        let named = some.iter().map(|kind| InstanceType::from(kind.as_str())).collect();
        let request = aws.look.ec2.describe_instance_types().set_instance_types(Some(named));
        let found = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
        all.extend(found.instance_types().iter().filter_map(|kind| {
            let vcpus = kind.v_cpu_info()?.default_v_cpus()?.try_into().ok()?;
            Some((kind.instance_type()?.as_str().to_owned(), vcpus))
        }));
    }
    match kinds.iter().find(|kind| !all.contains_key(kind.as_str())) {
        Some(kind) => Err(refused(ErrorClass::Retry, what, format!("the answer says not how many vCPUs {kind} has"))),
        None => Ok(all),
    }
}

/// The type of every instance that counts, with its tags.
async fn running(aws: &Connection) -> Result<Vec<(String, Pairs)>, CloudError> {
    let what = "DescribeInstances";
    let states = [InstanceStateName::Pending, InstanceStateName::Running].map(|state| state.as_str().to_owned());
    let mut pages = Pages::default();
    while let Some(token) = pages.wanted() {
        let request = aws.look.ec2.describe_instances().filters(filter("instance-state-name", states.clone()));
        let page = request.max_results(PAGE).set_next_token(token).send().await;
        let page = page.map_err(|error| told(Verb::Read, what, &error))?;
        let on_demand = page.reservations().iter().flat_map(Reservation::instances);
        let on_demand = on_demand.filter(|one| one.instance_lifecycle().is_none());
        let items = on_demand.filter_map(|one| Some((one.instance_type()?.as_str().to_owned(), of_ec2(one.tags()))));
        pages.add(items.filter(|(kind, _)| is_standard(kind)), page.next_token());
    }
    whole(what, pages.gathered())
}

/// One for the machine, and one for the database.
async fn interfaces(aws: &Connection, network: &Network, with_databases: bool) -> Result<Quota, CloudError> {
    let what = "DescribeNetworkInterfaces";
    let allowed = allowed(aws, Counted::Interfaces).await?;
    let mut pages = Pages::default();
    while let Some(token) = pages.wanted() {
        let request = aws.look.ec2.describe_network_interfaces().max_results(PAGE).set_next_token(token);
        let page = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
        let in_no_slot = page.network_interfaces().iter().filter(|interface| {
            network.slot_of(interface.groups().iter().filter_map(|group| group.group_id())).is_none()
        });
        pages.add(in_no_slot.map(drop), page.next_token());
    }
    let others = whole(what, pages.gathered())?.len() as u64;
    Ok(Quota { counted: Counted::Interfaces, allowed, others, each: 1 + u64::from(with_databases) })
}

/// An instance on RDS, as far as it counts.
struct Instance {
    id: String,
    is_ours: bool,
    /// GiB.
    storage: u64,
}

/// Instances, and their storage.
async fn databases(aws: &Connection, install: &InstallId, sources: &[Source]) -> Result<Vec<Quota>, CloudError> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let what = "DescribeDBInstances";
    let mut pages = Pages::default();
    while let Some(marker) = pages.wanted() {
        let request = aws.look.rds.describe_db_instances().max_records(100).set_marker(marker);
        let page = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
        let items = page.db_instances().iter().map(|one| Instance {
            id: one.db_instance_identifier().unwrap_or_default().to_owned(),
            is_ours: is_ours(&of_rds(one.tag_list()), install),
            // Instances of Aurora have none of their own, whatever they say.
            storage: if one.engine().is_some_and(|engine| engine.starts_with("aurora")) {
                0
            } else {
                one.allocated_storage().and_then(|gib| gib.try_into().ok()).unwrap_or_default()
            },
        });
        pages.add(items, page.marker());
    }
    let all = whole(what, pages.gathered())?;
    let others = || all.iter().filter(|one| !one.is_ours);
    let counted = Counted::Databases;
    let mut quotas =
        vec![Quota { counted, allowed: allowed(aws, counted).await?, others: others().count() as u64, each: 1 }];
    if let Some(each) = storage(aws, sources, &all).await? {
        let (counted, others) = (Counted::Storage, others().map(|one| one.storage).sum());
        quotas.push(Quota { counted, allowed: allowed(aws, counted).await?, others, each });
    }
    Ok(quotas)
}

/// GiB that one environment's database takes: as much as the largest that there is to restore. None where databases are
/// clusters.
async fn storage(aws: &Connection, sources: &[Source], all: &[Instance]) -> Result<Option<u64>, CloudError> {
    let is_snapshot = |source: &&Source| matches!(source, Source::Snapshots(_));
    let snapshots = if sources.iter().any(|source| is_snapshot(&source)) { snapshots(aws).await? } else { Vec::new() };
    let of = |source: &Source| match source {
        Source::Snapshots(prefix) => {
            let ours = snapshots
                .iter()
                .filter(|one| one.id.starts_with(prefix.as_str()) && one.tags.get(SANITIZED) == Some("true"));
            Some(ours.map(|one| one.storage).max().unwrap_or_default())
        }
        Source::Instance(name) => {
            Some(all.iter().find(|one| one.id == *name).map(|one| one.storage).unwrap_or_default())
        }
        Source::Cluster(_) => None,
    };
    Ok(sources.iter().filter_map(of).max())
}

async fn clusters(aws: &Connection, install: &InstallId, sources: &[Source]) -> Result<Option<Quota>, CloudError> {
    if !sources.iter().any(|source| matches!(source, Source::Cluster(_))) {
        return Ok(None);
    }
    let (what, counted) = ("DescribeDBClusters", Counted::Clusters);
    let allowed = allowed(aws, counted).await?;
    let mut pages = Pages::default();
    while let Some(marker) = pages.wanted() {
        let request = aws.look.rds.describe_db_clusters().max_records(100).set_marker(marker);
        let page = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
        let others = page.db_clusters().iter().filter(|one| !is_ours(&of_rds(one.tag_list()), install));
        pages.add(others.map(drop), page.marker());
    }
    let others = whole(what, pages.gathered())?.len() as u64;
    Ok(Some(Quota { counted, allowed, others, each: 1 }))
}
