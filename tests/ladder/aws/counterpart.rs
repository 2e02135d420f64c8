//! A moto server with a staging network in it, as `infra/network.yaml` makes one.
//!
//! Guarantees: on loopback, of this test only; it ends with the value.
//! Must not know: what a test wants to see.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::config::Credentials;
use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use ed25519_dalek::SigningKey;
use kagero::agent::signature::ControllerKey;
use kagero::clock::{Clock, SystemClock};
use kagero::cloud::MachineBirth;
use kagero::cloud::aws::{
    AgentSource, Connection, Ec2Machines, MachineSettings, Network, Roles, Source, Wanted, survey_network,
};
use kagero::domain::id::{EnvKey, EnvUid, Generation, InstallId, PrNumber, RepoId, SlotId};
use kagero::domain::ledger::{Role, Token};
use kagero::domain::network::Placement;
use kagero::domain::observed::Tags;
use kagero::domain::time::Timestamp;
use tokio::process::{Child, Command};

use super::strict::Strict;
use crate::wait::eventually;

pub const REGION: &str = "eu-central-1";
/// The account that moto puts everything into.
pub const ACCOUNT: &str = "123456789012";
pub const KIND: &str = "t3.small";

const PATIENCE: Duration = Duration::from_mins(1);

/// moto's server.
pub struct Moto {
    pub url: String,
    _process: Child,
}

pub fn venv() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/infra/.venv/bin")
}

impl Moto {
    pub async fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = venv().join("moto_server");
        let process = Command::new(&program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; install it with: tests/infra/install", program.display()));
        let url = format!("http://127.0.0.1:{port}");
        let moto = Self { url, _process: process };
        let client = reqwest::Client::new();
        eventually("moto answers", PATIENCE, async || {
            client.get(format!("{}/moto-api/", moto.url)).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        moto
    }
}

/// The way there with keys that moto takes.
pub async fn settings(url: &str) -> aws_config::SdkConfig {
    aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new(REGION))
        .endpoint_url(url)
        .credentials_provider(Credentials::new("AKIATEST", "secret", None, None, "test"))
        .load()
        .await
}

pub fn install() -> InstallId {
    InstallId::parse("dev").unwrap()
}

pub fn tagged(kind: ResourceType, pairs: &[(&str, &str)]) -> TagSpecification {
    let pairs = pairs.iter().chain(&[("kagero:install", "dev")]);
    let tags = pairs.map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect();
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags)).build()
}

/// An account with a network, seen through the strict layer.
pub struct Staging {
    pub ec2: aws_sdk_ec2::Client,
    pub iam: aws_sdk_iam::Client,
    pub vpc: String,
    pub ami: String,
    pub strict: Strict,
    pub aws: Connection,
    pub moto: Moto,
}

impl Staging {
    pub async fn start() -> Self {
        let moto = Moto::start().await;
        // As a person has them, past the strict layer.
        let by_hand = settings(&moto.url).await;
        let (ec2, iam) = (aws_sdk_ec2::Client::new(&by_hand), aws_sdk_iam::Client::new(&by_hand));
        let vpc = ec2
            .create_vpc()
            .cidr_block("10.64.0.0/16")
            .tag_specifications(tagged(ResourceType::Vpc, &[]))
            .send()
            .await
            .unwrap();
        let vpc = vpc.vpc().unwrap().vpc_id().unwrap().to_owned();
        for (number, zone) in ["a", "b"].into_iter().enumerate() {
            for (role, third) in [("app", 64 + number * 32), ("db", number * 16)] {
                ec2.create_subnet()
                    .vpc_id(&vpc)
                    .availability_zone(format!("{REGION}{zone}"))
                    .cidr_block(format!("10.64.{third}.0/{}", if role == "app" { 19 } else { 20 }))
                    .tag_specifications(tagged(ResourceType::Subnet, &[("kagero:role", role)]))
                    .send()
                    .await
                    .unwrap();
            }
        }
        group(&ec2, &vpc, "app", &[("kagero:role", "app")]).await;
        for slot in ["01", "02", "03"] {
            group(&ec2, &vpc, &format!("slot-{slot}"), &[("kagero:slot", slot)]).await;
        }
        let images = ec2.describe_images().send().await.unwrap();
        let ami = images.images().iter().find(|image| image.root_device_name().is_some()).unwrap();
        let ami = ami.image_id().unwrap().to_owned();
        iam.create_account_alias().account_alias("acme-staging").send().await.unwrap();
        let strict = Strict::before(&moto.url).await;
        let aws = Connection::with(&settings(&strict.url).await);
        Self { ec2, iam, vpc, ami, strict, aws, moto }
    }

    /// What machines are made from.
    pub fn settings(&self) -> MachineSettings {
        MachineSettings {
            install: install(),
            account: ACCOUNT.to_owned(),
            vpc: self.vpc.clone(),
            ami: self.ami.clone(),
            volume: 20,
            profile: None,
            databases: vec![Source::Snapshots("kagero-golden-".to_owned())],
            public_key: ControllerKey::from(&SigningKey::from_bytes(&[7; 32])),
            agent: AgentSource::Image,
            readable: Vec::new(),
            page: 5,
        }
    }

    pub async fn network(&self) -> Network {
        let kinds = [KIND.to_owned(), "t3.medium".to_owned()];
        let wanted = Wanted { vpc: self.vpc.clone(), ami: self.ami.clone(), kinds: kinds.to_vec() };
        let found = survey_network(&self.aws, &wanted).await.unwrap();
        Network::assemble(&found, &install(), &self.ami, &kinds).unwrap()
    }

    pub async fn machines(&self) -> Ec2Machines {
        self.machines_of(self.settings()).await
    }

    /// The same, seen that much later.
    pub async fn machines_later(&self, by: Duration) -> Ec2Machines {
        Ec2Machines::new(self.aws.clone(), self.settings(), self.network().await, Arc::new(Later(by)))
    }

    /// The same, with the rights of those roles.
    pub async fn machines_by(&self, roles: &Roles) -> Ec2Machines {
        let aws = Connection::by(&settings(&self.strict.url).await, roles).await;
        Ec2Machines::new(aws, self.settings(), self.network().await, Arc::new(SystemClock))
    }

    pub async fn machines_of(&self, settings: MachineSettings) -> Ec2Machines {
        Ec2Machines::new(self.aws.clone(), settings, self.network().await, Arc::new(SystemClock))
    }
}

/// A clock that is ahead.
struct Later(Duration);

impl Clock for Later {
    fn now(&self) -> Timestamp {
        SystemClock.now().plus(self.0)
    }

    fn uptime(&self) -> Duration {
        SystemClock.uptime()
    }
}

async fn group(ec2: &aws_sdk_ec2::Client, vpc: &str, name: &str, pairs: &[(&str, &str)]) {
    ec2.create_security_group()
        .vpc_id(vpc)
        .group_name(name)
        .description(name)
        .tag_specifications(tagged(ResourceType::SecurityGroup, pairs))
        .send()
        .await
        .unwrap();
}

/// One environment's machine, as it would be asked for.
pub struct Wish {
    pub tags: Tags,
    pub token: Token,
    pub attempt: u32,
    pub placement: Placement,
    pub slot: SlotId,
}

impl Wish {
    pub fn of(pr: u64, network: &Network) -> Self {
        Self::attempt(pr, 1, network)
    }

    pub fn attempt(pr: u64, attempt: u32, network: &Network) -> Self {
        let key = EnvKey { repo: RepoId(1), pr: PrNumber(pr) };
        let uid = EnvUid::derive(&install(), key);
        let placement = network.placements.of(&uid, attempt).unwrap();
        let token = Token::derive(&uid, Generation::FIRST, &Role::Machine, attempt, Some(&placement));
        let tags = Tags { install: install(), uid, key, generation: Generation::FIRST };
        let slot = network.slots[usize::try_from(pr).unwrap() % network.slots.len()].clone();
        Self { tags, token, attempt, placement, slot }
    }

    pub fn birth(&self) -> MachineBirth<'_> {
        MachineBirth {
            token: &self.token,
            attempt: self.attempt,
            tags: &self.tags,
            placement: Some(&self.placement),
            slot: Some(&self.slot),
        }
    }
}
