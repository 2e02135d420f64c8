//! The way to AWS: credentials, roles, Region, time-outs.
//!
//! Guarantees: no call is repeated by the SDK, because whoever asks decides whether asking again is safe; none takes longer
//! than its limit. With roles of their own, whoever makes cannot remove, and whoever removes cannot make.
//! Must not know: what is asked for.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};

use crate::domain::id::InstallId;

/// A call takes no longer, connecting included.
const CALL: Duration = Duration::from_secs(15);
/// A connection is there within this time.
const CONNECT: Duration = Duration::from_secs(5);

/// Ways to AWS, one for each kind of call. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(super) region: String,
    /// For what only looks.
    pub(super) look: Clients,
    /// For what makes, starts and stops, and for the passwords of what was made.
    pub(super) make: Clients,
    /// For what removes.
    pub(super) remove: Clients,
}

/// Clients for all services that are used.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    pub ec2: aws_sdk_ec2::Client,
    pub sts: aws_sdk_sts::Client,
    pub iam: aws_sdk_iam::Client,
    pub rds: aws_sdk_rds::Client,
    pub secrets: aws_sdk_secretsmanager::Client,
    pub quotas: aws_sdk_servicequotas::Client,
}

/// Whose rights calls are made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roles {
    /// One role's for everything: the surroundings' own.
    Together,
    /// Those of `kagero-<install>-reader`, `-provisioner` and `-reaper` (infra/identity.yaml), which the surroundings' role
    /// may take on.
    Separate {
        /// The account that they are in.
        account: String,
        /// Whose they are.
        install: InstallId,
    },
}

impl Connection {
    /// Prepares calls to a Region with whatever credentials the surroundings have: variables, a profile, or the machine's
    /// role. Nothing is sent yet, unless roles are to be taken on.
    pub async fn open(region: &str, roles: &Roles) -> Self {
        let time = TimeoutConfig::builder().operation_timeout(CALL).connect_timeout(CONNECT).build();
        let loader = aws_config::defaults(BehaviorVersion::latest());
        let loader = loader.region(Region::new(region.to_owned())).retry_config(RetryConfig::disabled());
        Self::by(&loader.timeout_config(time).load().await, roles).await
    }

    /// Calls as these settings have them, with the rights of those roles.
    pub async fn by(own: &SdkConfig, roles: &Roles) -> Self {
        let Roles::Separate { account, install } = roles else { return Self::with(own) };
        let region = own.region().map(ToString::to_string).unwrap_or_default();
        let role = |name: &str| format!("arn:{}:iam::{account}:role/kagero-{install}-{name}", partition(&region));
        // Boxed: what the SDK does to take a role on is large.
        let (look, make, remove) = tokio::join!(
            Box::pin(taking_on(own, role("reader"))),
            Box::pin(taking_on(own, role("provisioner"))),
            Box::pin(taking_on(own, role("reaper")))
        );
        let (look, make, remove) = (Clients::with(&look), Clients::with(&make), Clients::with(&remove));
        Self { region, look, make, remove }
    }

    /// Calls as these settings have them; nothing is repeated, whatever they say.
    pub fn with(settings: &SdkConfig) -> Self {
        let clients = Clients::with(settings);
        let region = settings.region().map(ToString::to_string).unwrap_or_default();
        Self { region, look: clients.clone(), make: clients.clone(), remove: clients }
    }
}

impl Clients {
    fn with(settings: &SdkConfig) -> Self {
        let settings = settings.to_builder().retry_config(RetryConfig::disabled()).build();
        Self {
            ec2: aws_sdk_ec2::Client::new(&settings),
            sts: aws_sdk_sts::Client::new(&settings),
            iam: aws_sdk_iam::Client::new(&settings),
            rds: aws_sdk_rds::Client::new(&settings),
            secrets: aws_sdk_secretsmanager::Client::new(&settings),
            quotas: aws_sdk_servicequotas::Client::new(&settings),
        }
    }
}

/// The same settings with a role's credentials, which are renewed by themselves.
async fn taking_on(own: &SdkConfig, role: String) -> SdkConfig {
    let provider = AssumeRoleProvider::builder(role).session_name("kagero").configure(own).build().await;
    own.to_builder().credentials_provider(aws_sdk_sts::config::SharedCredentialsProvider::new(provider)).build()
}

/// The partition that a Region belongs to ("Amazon Resource Names", IAM user guide).
fn partition(region: &str) -> &'static str {
    match region.split('-').next() {
        Some("cn") => "aws-cn",
        Some("us") if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_in_its_regions_partition() {
        for (region, wanted) in
            [("eu-central-1", "aws"), ("us-east-1", "aws"), ("us-gov-west-1", "aws-us-gov"), ("cn-north-1", "aws-cn")]
        {
            assert_eq!(partition(region), wanted);
        }
    }
}
