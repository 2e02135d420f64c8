//! Tags as the SDKs show them.
//!
//! Guarantees: none is left out.
//! Must not know: what tags mean.

use super::rules::tags::Pairs;

/// EC2's tags.
pub fn of_ec2(tags: &[aws_sdk_ec2::types::Tag]) -> Pairs {
    tags.iter().map(|tag| (tag.key(), tag.value())).collect()
}

/// Pairs as RDS's tags.
pub fn to_rds(pairs: &[(&str, String)]) -> Vec<aws_sdk_rds::types::Tag> {
    pairs.iter().map(|(key, value)| aws_sdk_rds::types::Tag::builder().key(*key).value(value).build()).collect()
}

/// RDS's tags.
pub fn of_rds(tags: &[aws_sdk_rds::types::Tag]) -> Pairs {
    tags.iter().map(|tag| (tag.key(), tag.value())).collect()
}
