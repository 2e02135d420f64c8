//! What stands for a database: an instance of RDS, or a cluster of Aurora with the instance in it.
//!
//! Guarantees: an instance that is part of a cluster is no database of its own. What RDS has not said yet is `None`, and
//! proves nothing.
//! Must not know: what is done with one.

use aws_sdk_rds::types::{DbCluster, DbInstance, Filter, MasterUserSecret};

use super::{Inner, RdsSettings};
use crate::cloud::CloudError;
use crate::cloud::aws::error::{Verb, code, told};
use crate::cloud::aws::pace::Bucket;
use crate::cloud::aws::pairs::of_rds;
use crate::cloud::aws::rules::pages::Pages;
use crate::cloud::aws::rules::status::Status;
use crate::cloud::aws::rules::tags::{INSTALL, MANAGED, Pairs};
use crate::cloud::postgres::restored::Endpoint;
use crate::domain::owned::name_prefix;

/// What the resource ids of clusters begin with, and those of instances do not (RDS API, `DbClusterResourceId`).
const CLUSTER_PREFIX: &str = "cluster-";

/// Which of the two it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// An instance.
    Instance,
    /// A cluster, with the identifiers of its instances.
    Cluster(Vec<String>),
}

/// The administrator's password, which RDS keeps in Secrets Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Password {
    /// RDS was not asked to make one.
    Inherited,
    /// It is being made.
    Making,
    /// It is kept under this ARN.
    Kept(String),
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub kind: Kind,
    /// Its name in RDS.
    pub identifier: String,
    /// Its own id, which another one of the same name does not have.
    pub resource: String,
    /// The account that it is in.
    pub account: String,
    pub status: Status,
    pub endpoint: Option<Endpoint>,
    pub tags: Pairs,
    /// Its security groups.
    pub groups: Vec<String>,
    /// The network that it is in.
    pub network: Option<String>,
    /// Who administers it.
    pub user: Option<String>,
    pub password: Password,
    /// Whether somebody has protected it.
    pub is_protected: bool,
}

fn password(secret: Option<&MasterUserSecret>) -> Password {
    match secret {
        None => Password::Inherited,
        Some(secret) => match secret.secret_arn().filter(|_| secret.secret_status() != Some("creating")) {
            Some(arn) => Password::Kept(arn.to_owned()),
            None => Password::Making,
        },
    }
}

/// The account in an ARN, such as `arn:aws:rds:<Region>:<account>:db:<identifier>`.
fn account_in(arn: Option<&str>) -> Option<String> {
    arn?.split(':').nth(4).map(str::to_owned)
}

/// The network that an instance is in.
pub(super) fn network_of(instance: &DbInstance) -> Option<String> {
    instance.db_subnet_group()?.vpc_id().map(str::to_owned)
}

impl Server {
    /// An instance; `None` if it lacks what every instance has.
    pub fn of_instance(instance: &DbInstance) -> Option<Self> {
        let groups = instance.vpc_security_groups().iter().filter_map(|group| group.vpc_security_group_id());
        Some(Self {
            kind: Kind::Instance,
            identifier: instance.db_instance_identifier()?.to_owned(),
            resource: instance.dbi_resource_id()?.to_owned(),
            account: account_in(instance.db_instance_arn())?,
            status: Status::of(instance.db_instance_status().unwrap_or_default()),
            endpoint: instance
                .endpoint()
                .and_then(|at| Some(Endpoint { host: at.address()?.to_owned(), port: at.port()?.try_into().ok()? })),
            tags: of_rds(instance.tag_list()),
            groups: groups.map(str::to_owned).collect(),
            network: network_of(instance),
            user: instance.master_username().map(str::to_owned),
            password: password(instance.master_user_secret()),
            is_protected: instance.deletion_protection() == Some(true),
        })
    }

    /// A cluster in that network; `None` if it lacks what every cluster has.
    fn of_cluster(cluster: &DbCluster, network: Option<String>) -> Option<Self> {
        let groups = cluster.vpc_security_groups().iter().filter_map(|group| group.vpc_security_group_id());
        let members = cluster.db_cluster_members().iter().filter_map(|member| member.db_instance_identifier());
        let at = cluster.endpoint().zip(cluster.port());
        Some(Self {
            kind: Kind::Cluster(members.map(str::to_owned).collect()),
            identifier: cluster.db_cluster_identifier()?.to_owned(),
            resource: cluster.db_cluster_resource_id()?.to_owned(),
            account: account_in(cluster.db_cluster_arn())?,
            status: Status::of(cluster.status().unwrap_or_default()),
            endpoint: at.and_then(|(host, port)| Some(Endpoint { host: host.to_owned(), port: port.try_into().ok()? })),
            tags: of_rds(cluster.tag_list()),
            groups: groups.map(str::to_owned).collect(),
            network,
            user: cluster.master_username().map(str::to_owned),
            password: password(cluster.master_user_secret()),
            is_protected: cluster.deletion_protection() == Some(true),
        })
    }

    /// Whether such a resource id is a cluster's.
    pub fn is_cluster(resource: &str) -> bool {
        resource.starts_with(CLUSTER_PREFIX)
    }
}

/// What was listed.
pub(super) struct Found {
    /// What stands for a database.
    pub servers: Vec<Server>,
    /// The instances in clusters of ours, with how far each is.
    pub members: Vec<(String, Status)>,
    /// Whether nothing is lacking.
    pub complete: bool,
}

impl Inner {
    fn is_ours(&self, identifier: Option<&str>, tags: &Pairs) -> bool {
        match tags.get(INSTALL) {
            Some(install) if install != self.settings.install.as_str() => false,
            Some(_) if tags.get(MANAGED).is_some() => true,
            _ => identifier.is_some_and(|known| known.starts_with(&name_prefix(&self.settings.install, '-'))),
        }
    }

    /// Everything of ours: the pages of the Region are read and judged here, because RDS cannot filter by tag.
    pub(super) async fn servers(&self) -> Result<Found, CloudError> {
        let (rds, page) = (&self.aws.look.rds, self.settings.page);
        let mut instances = Pages::default();
        while let Some(marker) = instances.wanted() {
            self.pace.wait(Bucket::LookAtDatabases).await;
            let request = rds.describe_db_instances().max_records(page).set_marker(marker);
            let page = request.send().await.map_err(|error| told(Verb::Read, "DescribeDBInstances", &error))?;
            let ours = page.db_instances.unwrap_or_default().into_iter();
            let ours = ours.filter(|one| self.is_ours(one.db_instance_identifier(), &of_rds(one.tag_list())));
            instances.add(ours, page.marker.as_deref());
        }
        let mut clusters = Pages::default();
        while let Some(marker) = clusters.wanted() {
            self.pace.wait(Bucket::LookAtDatabases).await;
            let request = rds.describe_db_clusters().max_records(page).set_marker(marker);
            let page = request.send().await.map_err(|error| told(Verb::Read, "DescribeDBClusters", &error))?;
            let ours = page.db_clusters.unwrap_or_default().into_iter();
            let ours = ours.filter(|one| self.is_ours(one.db_cluster_identifier(), &of_rds(one.tag_list())));
            clusters.add(ours, page.marker.as_deref());
        }
        let (instances, clusters) = (instances.gathered(), clusters.gathered());
        let (members, alone): (Vec<_>, Vec<_>) =
            instances.items.iter().partition(|instance| instance.db_cluster_identifier().is_some());
        let mut servers = Vec::with_capacity(alone.len() + clusters.items.len());
        let mut complete = instances.complete && clusters.complete;
        for instance in alone {
            servers.extend(Server::of_instance(instance).or_else(|| {
                complete = false;
                None
            }));
        }
        for cluster in &clusters.items {
            let inside = members.iter().find(|one| one.db_cluster_identifier() == cluster.db_cluster_identifier());
            let network = match inside.and_then(|one| network_of(one)) {
                Some(network) => Some(network),
                None => self.network_of_cluster(cluster).await?,
            };
            servers.extend(Server::of_cluster(cluster, network).or_else(|| {
                complete = false;
                None
            }));
        }
        let members = members.into_iter().filter_map(|one| {
            Some((one.db_instance_identifier()?.to_owned(), Status::of(one.db_instance_status().unwrap_or_default())))
        });
        Ok(Found { servers, members: members.collect(), complete })
    }

    /// A cluster does not say which network it is in; its subnet group does.
    async fn network_of_cluster(&self, cluster: &DbCluster) -> Result<Option<String>, CloudError> {
        let Some(group) = cluster.db_subnet_group() else { return Ok(None) };
        self.pace.wait(Bucket::LookAtDatabases).await;
        match self.aws.look.rds.describe_db_subnet_groups().db_subnet_group_name(group).send().await {
            Ok(found) => Ok(found.db_subnet_groups().first().and_then(|one| one.vpc_id()).map(str::to_owned)),
            Err(error) if code(&error).is_some_and(|code| code.starts_with("DBSubnetGroupNotFound")) => Ok(None),
            Err(error) => Err(told(Verb::Read, "DescribeDBSubnetGroups", &error)),
        }
    }

    /// What is there under that name, if anything is: an instance, or a cluster.
    pub(super) async fn find(&self, what: &str, identifier: &str) -> Result<Option<Server>, CloudError> {
        if let Some(found) = self.instance(what, identifier).await? {
            return Ok(Some(found));
        }
        self.pace.wait(Bucket::LookAtDatabases).await;
        self.look_at_cluster(what, identifier).await
    }

    /// The instance of that name.
    pub(super) async fn instance(&self, what: &str, identifier: &str) -> Result<Option<Server>, CloudError> {
        self.pace.take(Bucket::LookAtDatabases, what)?;
        Ok(self.raw_instance(what, identifier).await?.as_ref().and_then(Server::of_instance))
    }

    /// Those of these instances that are there, one page of them at most.
    pub(super) async fn instances(&self, what: &str, identifiers: Vec<String>) -> Result<Vec<Server>, CloudError> {
        if identifiers.is_empty() {
            return Ok(Vec::new());
        }
        self.pace.take(Bucket::LookAtDatabases, what)?;
        // Asked for by a filter, one that is not there any more does not fail the others.
        let names = Filter::builder().name("db-instance-id").set_values(Some(identifiers)).build();
        let asked = self.aws.look.rds.describe_db_instances().filters(names).max_records(RdsSettings::PAGE);
        let found = asked.send().await.map_err(|error| told(Verb::Read, what, &error))?;
        Ok(found.db_instances().iter().filter_map(Server::of_instance).collect())
    }

    /// The instance of that name, as RDS tells it. Whoever calls has a turn at looking.
    pub(super) async fn raw_instance(&self, what: &str, identifier: &str) -> Result<Option<DbInstance>, CloudError> {
        match self.aws.look.rds.describe_db_instances().db_instance_identifier(identifier).send().await {
            Ok(found) => Ok(found.db_instances.unwrap_or_default().into_iter().next()),
            Err(error) if code(&error).is_some_and(|code| code.starts_with("DBInstanceNotFound")) => Ok(None),
            Err(error) => Err(told(Verb::Read, what, &error)),
        }
    }

    /// The cluster of that name.
    pub(super) async fn cluster(&self, what: &str, identifier: &str) -> Result<Option<Server>, CloudError> {
        self.pace.take(Bucket::LookAtDatabases, what)?;
        self.look_at_cluster(what, identifier).await
    }

    async fn look_at_cluster(&self, what: &str, identifier: &str) -> Result<Option<Server>, CloudError> {
        let found = match self.aws.look.rds.describe_db_clusters().db_cluster_identifier(identifier).send().await {
            Ok(found) => found.db_clusters.unwrap_or_default().into_iter().next(),
            Err(error) if code(&error).is_some_and(|code| code.starts_with("DBClusterNotFound")) => None,
            Err(error) => return Err(told(Verb::Read, what, &error)),
        };
        let Some(found) = found else { return Ok(None) };
        let network = self.network_of_cluster(&found).await?;
        Ok(Server::of_cluster(&found, network))
    }
}
