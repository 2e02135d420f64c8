//! The way to AWS: credentials, Region, time-outs.
//!
//! Guarantees: no call is repeated by the SDK, because whoever asks decides whether asking again is safe; none takes longer
//! than its limit.
//! Must not know: what is asked for.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};

/// A call takes no longer, connecting included.
const CALL: Duration = Duration::from_secs(15);
/// A connection is there within this time.
const CONNECT: Duration = Duration::from_secs(5);

/// Clients for all services that are used. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(super) region: String,
    pub(super) ec2: aws_sdk_ec2::Client,
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) iam: aws_sdk_iam::Client,
    pub(super) rds: aws_sdk_rds::Client,
    pub(super) secrets: aws_sdk_secretsmanager::Client,
}

impl Connection {
    /// Prepares calls to a Region with whatever credentials the surroundings have: variables, a profile, or the machine's
    /// role. Nothing is sent yet.
    pub async fn open(region: &str) -> Self {
        let time = TimeoutConfig::builder().operation_timeout(CALL).connect_timeout(CONNECT).build();
        let loader = aws_config::defaults(BehaviorVersion::latest());
        let loader = loader.region(Region::new(region.to_owned())).retry_config(RetryConfig::disabled());
        Self::with(&loader.timeout_config(time).load().await)
    }

    /// Calls as these settings have them; nothing is repeated, whatever they say.
    pub fn with(settings: &aws_config::SdkConfig) -> Self {
        let settings = settings.to_builder().retry_config(RetryConfig::disabled()).build();
        Self {
            region: settings.region().map(ToString::to_string).unwrap_or_default(),
            ec2: aws_sdk_ec2::Client::new(&settings),
            sts: aws_sdk_sts::Client::new(&settings),
            iam: aws_sdk_iam::Client::new(&settings),
            rds: aws_sdk_rds::Client::new(&settings),
            secrets: aws_sdk_secretsmanager::Client::new(&settings),
        }
    }
}
