//! Reads what has to be known before the first call that changes something: whose ground it is, and what the network has.
//!
//! Guarantees: reads only; what could not be read is told as such.
//! Must not know: what follows from it.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_ec2::types::{Filter, LocationType, Reservation};
use aws_sdk_rds::types::{DbCluster, DbInstance};
use aws_sdk_sts::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_sts::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sts::error::BoxError;
use aws_sdk_sts::primitives::{DateTime, DateTimeFormat as Format};

use super::connection::Connection;
use super::error::{Verb, code, refused, told};
use super::pairs::{of_ec2, of_rds};
use super::rules::golden::{Golden, Snapshot, Source, Standing, choose, may_restore};
use super::rules::ground::{Facts, Resident};
use super::rules::network::{Found, Group, Image, Subnet};
use super::rules::pages::{Gathered, Pages};
use crate::cloud::{CloudError, ErrorClass};
use crate::domain::id::InstallId;
use crate::domain::network::Placement;
use crate::domain::time::Timestamp;

/// Items of a page, where a service lets one choose.
const PAGE: i32 = 500;

/// What the configuration names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The network.
    pub vpc: String,
    /// The image.
    pub ami: String,
    /// The instance types.
    pub kinds: Vec<String>,
}

pub(super) fn filter(name: &str, values: impl IntoIterator<Item = impl Into<String>>) -> Filter {
    let values = values.into_iter().map(Into::into).collect();
    Filter::builder().name(name).set_values(Some(values)).build()
}

/// Whose ground it is.
pub async fn survey_ground(aws: &Connection, vpc: &str) -> Facts {
    let words = |error: CloudError| error.why;
    // Boxed: calls of the SDK are large.
    let (account, aliases, network, residents) = tokio::join!(
        Box::pin(account(aws)),
        Box::pin(aliases(aws)),
        Box::pin(vpc_tags(aws, vpc)),
        Box::pin(residents(aws, vpc))
    );
    Facts {
        account: account.map_err(words),
        aliases: aliases.map_err(words),
        vpc: network.map_err(words),
        residents: residents.map_err(words),
    }
}

async fn account(aws: &Connection) -> Result<String, CloudError> {
    let what = "GetCallerIdentity";
    let told = |error| told(Verb::Read, what, &error);
    let identity = aws.look.sts.get_caller_identity().send().await.map_err(told)?;
    identity.account.ok_or_else(|| refused(ErrorClass::Retry, what, "the answer names no account"))
}

async fn aliases(aws: &Connection) -> Result<Vec<String>, CloudError> {
    let all = aws.look.iam.list_account_aliases().send().await;
    Ok(all.map_err(|error| told(Verb::Read, "ListAccountAliases", &error))?.account_aliases)
}

async fn vpc_tags(aws: &Connection, vpc: &str) -> Result<Option<super::rules::tags::Pairs>, CloudError> {
    let found = match aws.look.ec2.describe_vpcs().vpc_ids(vpc).send().await {
        Ok(found) => found,
        Err(error) if code(&error) == Some("InvalidVpcID.NotFound") => return Ok(None),
        Err(error) => return Err(told(Verb::Read, "DescribeVpcs", &error)),
    };
    Ok(found.vpcs().iter().find(|found| found.vpc_id() == Some(vpc)).map(|found| of_ec2(found.tags())))
}

/// All of it, or an error: what a listing lacks may be production's.
pub(super) fn whole<T>(what: &str, gathered: Gathered<T>) -> Result<Vec<T>, CloudError> {
    if gathered.complete {
        Ok(gathered.items)
    } else {
        Err(refused(ErrorClass::Retry, what, "the listing did not come to its end"))
    }
}

async fn residents(aws: &Connection, vpc: &str) -> Result<Vec<Resident>, CloudError> {
    let (machines, databases) = tokio::join!(machines(aws, vpc), databases(aws, vpc));
    Ok(machines?.into_iter().chain(databases?).collect())
}

async fn machines(aws: &Connection, vpc: &str) -> Result<Vec<Resident>, CloudError> {
    let what = "DescribeInstances";
    let mut pages = Pages::default();
    while let Some(token) = pages.wanted() {
        let request = aws.look.ec2.describe_instances().filters(filter("vpc-id", [vpc])).max_results(PAGE);
        let page = request.set_next_token(token).send().await.map_err(|error| told(Verb::Read, what, &error))?;
        let machines = page.reservations().iter().flat_map(Reservation::instances);
        let items = machines.map(|machine| Resident {
            id: machine.instance_id().unwrap_or("an instance").to_owned(),
            tags: of_ec2(machine.tags()),
        });
        pages.add(items, page.next_token());
    }
    whole(what, pages.gathered())
}

async fn databases(aws: &Connection, vpc: &str) -> Result<Vec<Resident>, CloudError> {
    let what = "DescribeDBInstances";
    let mut pages = Pages::default();
    while let Some(token) = pages.wanted() {
        let request = aws.look.rds.describe_db_instances().max_records(100).set_marker(token);
        let page = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
        let here = page.db_instances().iter().filter(|database| {
            database.db_subnet_group().and_then(|group| group.vpc_id()).is_none_or(|found| found == vpc)
        });
        let items = here.map(|database| Resident {
            id: database.db_instance_identifier().unwrap_or("a database").to_owned(),
            tags: of_rds(database.tag_list()),
        });
        pages.add(items, page.marker());
    }
    whole(what, pages.gathered())
}

/// What the network has.
pub async fn survey_network(aws: &Connection, wanted: &Wanted) -> Result<Found, CloudError> {
    let (subnets, groups, image, offered) = tokio::join!(
        Box::pin(subnets(aws, &wanted.vpc)),
        Box::pin(groups(aws, &wanted.vpc)),
        Box::pin(image(aws, &wanted.ami)),
        Box::pin(offered(aws, &wanted.kinds))
    );
    Ok(Found { subnets: subnets?, groups: groups?, image: image?, offered: offered? })
}

async fn subnets(aws: &Connection, vpc: &str) -> Result<Vec<Subnet>, CloudError> {
    let what = "DescribeSubnets";
    let mut pages = Pages::default();
    while let Some(token) = pages.wanted() {
        let request = aws.look.ec2.describe_subnets().filters(filter("vpc-id", [vpc])).set_next_token(token);
        let page = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
        let items = page.subnets().iter().filter_map(|subnet| {
            Some(Subnet {
                id: subnet.subnet_id()?.to_owned(),
                zone: subnet.availability_zone()?.to_owned(),
                free: subnet.available_ip_address_count().and_then(|free| free.try_into().ok()).unwrap_or_default(),
                tags: of_ec2(subnet.tags()),
            })
        });
        pages.add(items, page.next_token());
    }
    whole(what, pages.gathered())
}

async fn groups(aws: &Connection, vpc: &str) -> Result<Vec<Group>, CloudError> {
    let what = "DescribeSecurityGroups";
    let mut pages = Pages::default();
    while let Some(token) = pages.wanted() {
        let request = aws.look.ec2.describe_security_groups().filters(filter("vpc-id", [vpc])).max_results(PAGE);
        let page = request.set_next_token(token).send().await.map_err(|error| told(Verb::Read, what, &error))?;
        let groups = page.security_groups().iter();
        let items =
            groups.filter_map(|group| Some(Group { id: group.group_id()?.to_owned(), tags: of_ec2(group.tags()) }));
        pages.add(items, page.next_token());
    }
    whole(what, pages.gathered())
}

async fn image(aws: &Connection, ami: &str) -> Result<Option<Image>, CloudError> {
    let found = match aws.look.ec2.describe_images().image_ids(ami).send().await {
        Ok(found) => found,
        Err(error) if code(&error).is_some_and(|code| code.starts_with("InvalidAMIID")) => return Ok(None),
        Err(error) => return Err(told(Verb::Read, "DescribeImages", &error)),
    };
    Ok(found.images().first().map(|image| Image {
        root_device: image.root_device_name().unwrap_or("/dev/xvda").to_owned(),
        is_available: image.state().is_none_or(|state| state.as_str() == "available"),
    }))
}

async fn offered(aws: &Connection, kinds: &[String]) -> Result<Vec<Placement>, CloudError> {
    let what = "DescribeInstanceTypeOfferings";
    let mut pages = Pages::default();
    while let Some(token) = pages.wanted() {
        let request = aws
            .look
            .ec2
            .describe_instance_type_offerings()
            .location_type(LocationType::AvailabilityZone)
            .filters(filter("instance-type", kinds))
            .set_next_token(token);
        let page = request.send().await.map_err(|error| told(Verb::Read, what, &error))?;
        let items = page.instance_type_offerings().iter().filter_map(|offer| {
            Some(Placement { zone: offer.location()?.to_owned(), kind: offer.instance_type()?.as_str().to_owned() })
        });
        pages.add(items, page.next_token());
    }
    whole(what, pages.gathered())
}

/// What a database may be restored from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenFound {
    /// Its name.
    pub id: String,
    /// `postgres` and the like.
    pub engine: String,
    /// The engine's version.
    pub version: String,
    /// When its data was so.
    pub data_of: Option<Timestamp>,
}

/// What may be restored for a seed, now, or why nothing may.
pub async fn survey_golden(
    aws: &Connection,
    golden: &Golden,
    install: &InstallId,
    now: Timestamp,
) -> Result<GoldenFound, CloudError> {
    let denied = |why: String| refused(ErrorClass::Denied, "look for golden data", why);
    match &golden.source {
        Source::Snapshots(prefix) => {
            let all = snapshots(aws).await?;
            let Snapshot { id, engine, version, made_at, .. } =
                choose(&all, prefix, golden, install, now).map_err(denied)?.clone();
            Ok(GoldenFound { id, engine, version, data_of: made_at })
        }
        Source::Instance(name) => judged(standing_instance(aws, name).await?, "instance", name, golden, install, now),
        Source::Cluster(name) => judged(standing_cluster(aws, name).await?, "cluster", name, golden, install, now),
    }
}

fn judged(
    standing: Option<Standing>,
    kind: &str,
    name: &str,
    golden: &Golden,
    install: &InstallId,
    now: Timestamp,
) -> Result<GoldenFound, CloudError> {
    let denied = |why: String| refused(ErrorClass::Denied, "look for golden data", why);
    let missing = || denied(format!("there is no {kind} {name}: correct seeds.<name>.{kind} in kagero.toml"));
    let standing = standing.ok_or_else(missing)?;
    may_restore(&standing, golden, install, now).map_err(denied)?;
    let Standing { id, engine, version, until, .. } = standing;
    Ok(GoldenFound { id, engine, version, data_of: until })
}

/// What stands of that kind. The SDK's types for both have these in common, and no trait.
macro_rules! standing {
    ($kind:literal, $name:ident, $found:expr, $is_it:expr) => {
        $found.iter().find($is_it).map(|one| Standing {
            kind: $kind,
            id: $name.to_owned(),
            until: one.latest_restorable_time().and_then(|time| time.to_millis().ok()).map(Timestamp),
            is_encrypted: one.storage_encrypted() == Some(true),
            engine: one.engine().unwrap_or_default().to_owned(),
            version: one.engine_version().unwrap_or_default().to_owned(),
            tags: of_rds(one.tag_list()),
        })
    };
}

/// The instance of that name.
async fn standing_instance(aws: &Connection, name: &str) -> Result<Option<Standing>, CloudError> {
    match aws.look.rds.describe_db_instances().db_instance_identifier(name).send().await {
        Ok(found) => {
            let is_it = |one: &&DbInstance| one.db_instance_identifier() == Some(name);
            Ok(standing!("instance", name, found.db_instances(), is_it))
        }
        Err(error) if code(&error).is_some_and(|code| code.starts_with("DBInstanceNotFound")) => Ok(None),
        Err(error) => Err(told(Verb::Read, format!("look at {name}"), &error)),
    }
}

/// The cluster of that name.
async fn standing_cluster(aws: &Connection, name: &str) -> Result<Option<Standing>, CloudError> {
    match aws.look.rds.describe_db_clusters().db_cluster_identifier(name).send().await {
        Ok(found) => {
            let is_it = |one: &&DbCluster| one.db_cluster_identifier() == Some(name);
            Ok(standing!("cluster", name, found.db_clusters(), is_it))
        }
        Err(error) if code(&error).is_some_and(|code| code.starts_with("DBClusterNotFound")) => Ok(None),
        Err(error) => Err(told(Verb::Read, format!("look at {name}"), &error)),
    }
}

/// The snapshots that people and golden.yaml have made.
pub(super) async fn snapshots(aws: &Connection) -> Result<Vec<Snapshot>, CloudError> {
    let what = "DescribeDBSnapshots";
    let mut pages = Pages::default();
    while let Some(marker) = pages.wanted() {
        let request = aws.look.rds.describe_db_snapshots().snapshot_type("manual").max_records(100);
        let page = request.set_marker(marker).send().await.map_err(|error| told(Verb::Read, what, &error))?;
        let items = page.db_snapshots().iter().filter_map(|one| {
            Some(Snapshot {
                id: one.db_snapshot_identifier()?.to_owned(),
                made_at: one.snapshot_create_time().and_then(|time| time.to_millis().ok()).map(Timestamp),
                is_available: one.status() == Some("available"),
                is_encrypted: one.encrypted() == Some(true),
                engine: one.engine().unwrap_or_default().to_owned(),
                version: one.engine_version().unwrap_or_default().to_owned(),
                storage: one.allocated_storage().and_then(|gib| gib.try_into().ok()).unwrap_or_default(),
                tags: of_rds(one.tag_list()),
            })
        });
        pages.add(items, page.marker());
    }
    // What is lacking may be the newest.
    whole(what, pages.gathered())
}

/// What AWS's clock says, when it is asked.
pub async fn survey_clock(aws: &Connection) -> Result<Timestamp, CloudError> {
    let (what, heard) = ("GetCallerIdentity", DateHeard::default());
    let asked = aws.look.sts.get_caller_identity().customize().interceptor(heard.clone()).send().await;
    let date = heard.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    // A clock that is too wrong is refused, and the refusal tells the time.
    match (date, asked) {
        (Some(date), _) => Ok(date),
        (None, Err(error)) => Err(told(Verb::Read, what, &error)),
        (None, Ok(_)) => Err(refused(ErrorClass::Retry, what, "the answer has no date")),
    }
}

/// Keeps the date of an answer.
#[derive(Debug, Clone, Default)]
struct DateHeard(Arc<Mutex<Option<Timestamp>>>);

impl Intercept for DateHeard {
    fn name(&self) -> &'static str {
        "DateHeard"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok()?.to_millis().ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.map(Timestamp);
        Ok(())
    }
}
