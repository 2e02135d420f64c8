//! Tags as the SDKs show them.
//!
//! Guarantees: none is left out.
//! Must not know: what tags mean.

use super::rules::tags::Pairs;

/// EC2's tags.
pub fn of_ec2(tags: &[aws_sdk_ec2::types::Tag]) -> Pairs {
    tags.iter().map(|tag| (tag.key(), tag.value())).collect()
}

/// RDS's tags.
pub fn of_rds(tags: &[aws_sdk_rds::types::Tag]) -> Pairs {
    tags.iter().map(|tag| (tag.key(), tag.value())).collect()
}
