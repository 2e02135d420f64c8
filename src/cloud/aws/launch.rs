//! How a machine is asked for: everything that `RunInstances` is given.
//!
//! Guarantees: tagged at birth, encrypted, without a public address, metadata by token only and one hop away, protection off
//! so that it can be taken away again; user data holds no secret.
//! Must not know: when a machine is wanted.

use std::path::PathBuf;

use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, HttpTokensState, IamInstanceProfileSpecification,
    InstanceMetadataEndpointState, InstanceMetadataOptionsRequest, InstanceMetadataTagsState,
    InstanceNetworkInterfaceSpecification, InstanceType, ResourceType, ShutdownBehavior, Tag, TagSpecification,
    VolumeType,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::{Environment, UndefinedBehavior, context};

use super::connection::Connection;
use super::error::refused;
use super::machines::AGENT_PORT;
use super::rules::golden::Source;
use super::rules::network::Network;
use super::rules::tags;
use crate::agent::protocol::ControllerKey;
use crate::cloud::{CloudError, ErrorClass, MachineBirth};
use crate::domain::id::{InstallId, SlotId};
use crate::domain::network::Placement;
use crate::domain::owned::machine_name;

const USER_DATA: &str = include_str!("../../../templates/user-data.sh");

/// The most that EC2 takes, before it is encoded ("Run commands when you launch an EC2 instance").
const USER_DATA_BYTES: usize = 16 << 10;

/// What machines are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSettings {
    /// This installation.
    pub install: InstallId,
    /// The account.
    pub account: String,
    /// The network.
    pub vpc: String,
    /// The image.
    pub ami: String,
    /// GiB of the root volume.
    pub volume: i32,
    /// The machine's role, if it has one: it should have no rights beyond its own log.
    pub profile: Option<String>,
    /// What environments' databases on RDS are made from; none: they have none there.
    pub databases: Vec<Source>,
    /// Whose requests agents accept.
    pub public_key: ControllerKey,
    /// Where a machine gets the agent from.
    pub agent: AgentSource,
    /// Files of the image that what a pull request runs may read: the authorities that databases are verified by. Agents
    /// older than this field do not start where there are any.
    pub readable: Vec<PathBuf>,
    /// Instances on a page of a listing.
    pub page: i32,
}

impl MachineSettings {
    /// As many as EC2 allows.
    pub const PAGE: i32 = 1_000;
}

/// Where a machine gets the agent from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSource {
    /// It is in the image.
    Image,
    /// It is fetched.
    Fetched {
        /// An address that machines reach.
        url: String,
        /// 64 hexadecimal digits.
        sha256: String,
    },
}

/// The script that a machine runs when it boots for the first time.
pub fn user_data(settings: &MachineSettings, birth: &MachineBirth<'_>) -> Result<String, CloudError> {
    let (url, sha256) = match &settings.agent {
        AgentSource::Image => (None, None),
        AgentSource::Fetched { url, sha256 } => (Some(url), Some(sha256)),
    };
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    let values = context! {
        uid => birth.tags.uid.as_str(),
        generation => birth.tags.generation.0,
        public_key => String::from(settings.public_key),
        port => AGENT_PORT,
        agent_url => url,
        agent_sha256 => sha256,
        readable => settings.readable.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
    };
    let text = templates.render_str(USER_DATA, values).map_err(|error| bug(birth, error.to_string()))?;
    if text.len() > USER_DATA_BYTES {
        return Err(bug(birth, format!("its user data has {} bytes, and EC2 takes {USER_DATA_BYTES}", text.len())));
    }
    Ok(text)
}

fn bug(birth: &MachineBirth<'_>, why: String) -> CloudError {
    refused(ErrorClass::Bug, format!("launch {}", machine_name(birth.tags, birth.attempt)), why)
}

/// The whole request.
pub fn request(
    aws: &Connection,
    settings: &MachineSettings,
    network: &Network,
    birth: &MachineBirth<'_>,
    (placement, slot): (&Placement, &SlotId),
) -> Result<RunInstancesFluentBuilder, CloudError> {
    let name = machine_name(birth.tags, birth.attempt);
    let Some(subnet) = network.subnets.get(&placement.zone) else {
        let why =
            format!("the network has no subnet for machines in {}; a later attempt goes elsewhere", placement.zone);
        return Err(refused(ErrorClass::NoRoom, format!("launch {name}"), why));
    };
    let interface = InstanceNetworkInterfaceSpecification::builder()
        .device_index(0)
        .subnet_id(&subnet.id)
        .groups(&network.app_group)
        .groups(slot.as_str())
        .associate_public_ip_address(false)
        .delete_on_termination(true)
        .build();
    let metadata = InstanceMetadataOptionsRequest::builder()
        .http_tokens(HttpTokensState::Required)
        .http_put_response_hop_limit(1)
        .http_endpoint(InstanceMetadataEndpointState::Enabled)
        .instance_metadata_tags(InstanceMetadataTagsState::Disabled)
        .build();
    let volume = EbsBlockDevice::builder()
        .encrypted(true)
        .volume_type(VolumeType::Gp3)
        .volume_size(settings.volume)
        .delete_on_termination(true)
        .build();
    let root = BlockDeviceMapping::builder().device_name(&network.root_device).ebs(volume).build();
    let pairs = tags::written(birth.tags, &name);
    let tagged = |kind: ResourceType| {
        let tags = pairs.iter().map(|(key, value)| Tag::builder().key(*key).value(value).build()).collect();
        TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
    };
    let profile = settings.profile.as_ref().map(|name| IamInstanceProfileSpecification::builder().name(name).build());
    Ok(aws
        .make
        .ec2
        .run_instances()
        .client_token(&birth.token.0)
        .min_count(1)
        .max_count(1)
        .image_id(&settings.ami)
        .instance_type(InstanceType::from(placement.kind.as_str()))
        .network_interfaces(interface)
        .metadata_options(metadata)
        .block_device_mappings(root)
        .tag_specifications(tagged(ResourceType::Instance))
        .tag_specifications(tagged(ResourceType::Volume))
        .tag_specifications(tagged(ResourceType::NetworkInterface))
        .set_iam_instance_profile(profile)
        .disable_api_termination(false)
        .disable_api_stop(false)
        .instance_initiated_shutdown_behavior(ShutdownBehavior::Stop)
        .user_data(STANDARD.encode(user_data(settings, birth)?)))
}
