//! What an error of AWS means, by its code: the only place that knows.
//!
//! Sources: "Error codes for the Amazon EC2 API" (EC2 API reference), "Common errors" (RDS API reference) and the error
//! shapes of both service models.
//!
//! Guarantees: a code that no table knows is never taken for "nothing happened" if the service itself failed.
//! Must not know: which call it was, but for what it was meant to do.

use std::time::Duration;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};

use crate::cloud::{CloudError, ErrorClass};

/// What a call was to do: the same code may mean different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Look at something.
    Read,
    /// Make something.
    Make,
    /// Change something that is there.
    Change,
    /// Take something away.
    Remove,
}

/// How long to leave a service alone that is asked too often, if it does not say.
const BREATHER: Duration = Duration::from_secs(2);

/// The most of a service's own words that is shown.
const WORDS: usize = 400;

/// A code, what it means, and what a person can do about it.
pub type Row = (&'static str, ErrorClass, &'static str);

const RIGHTS: &str = "give the role the right that docs/aws.md names for it";
const KEYS: &str = "give the process credentials of the staging account (docs/aws.md)";
const WAITS: &str = "it is asked again by itself";
const RAISE: &str = "it goes on when others are gone; `kagero doctor --aws` names the quota to raise";
const ELSEWHERE: &str = "another zone or instance type is tried";
const SETTING: &str = "correct it in kagero.toml; `kagero doctor --aws` shows what there is";

/// What each code means that AWS refuses with.
pub const MEANINGS: &[Row] = &[
    // Asked too often.
    ("RequestLimitExceeded", ErrorClass::SlowDown(BREATHER), WAITS),
    ("Throttling", ErrorClass::SlowDown(BREATHER), WAITS),
    ("ThrottlingException", ErrorClass::SlowDown(BREATHER), WAITS),
    ("ThrottledException", ErrorClass::SlowDown(BREATHER), WAITS),
    ("TooManyRequestsException", ErrorClass::SlowDown(BREATHER), WAITS),
    ("EC2ThrottledException", ErrorClass::SlowDown(BREATHER), WAITS),
    ("PriorRequestNotComplete", ErrorClass::SlowDown(BREATHER), WAITS),
    // Limits of the account.
    ("InstanceLimitExceeded", ErrorClass::Quota, RAISE),
    ("VcpuLimitExceeded", ErrorClass::Quota, RAISE),
    ("VolumeLimitExceeded", ErrorClass::Quota, RAISE),
    ("MaxIOPSLimitExceeded", ErrorClass::Quota, RAISE),
    ("NetworkInterfaceLimitExceeded", ErrorClass::Quota, RAISE),
    ("PrivateIpAddressLimitExceeded", ErrorClass::Quota, RAISE),
    ("ResourceLimitExceeded", ErrorClass::Quota, RAISE),
    ("ConcurrentSnapshotLimitExceeded", ErrorClass::Quota, RAISE),
    ("InstanceQuotaExceeded", ErrorClass::Quota, RAISE),
    ("InstanceQuotaExceededFault", ErrorClass::Quota, RAISE),
    ("StorageQuotaExceeded", ErrorClass::Quota, RAISE),
    ("StorageQuotaExceededFault", ErrorClass::Quota, RAISE),
    ("DBClusterQuotaExceededFault", ErrorClass::Quota, RAISE),
    ("SnapshotQuotaExceeded", ErrorClass::Quota, RAISE),
    ("PendingVerification", ErrorClass::Quota, "AWS is still checking the account; it goes on by itself"),
    // A database has no other place to go to: it waits.
    ("InsufficientDBInstanceCapacity", ErrorClass::Quota, WAITS),
    ("InsufficientDBInstanceCapacityFault", ErrorClass::Quota, WAITS),
    ("InsufficientDBClusterCapacityFault", ErrorClass::Quota, WAITS),
    ("InsufficientStorageClusterCapacity", ErrorClass::Quota, WAITS),
    // No room where it was asked for.
    ("InsufficientInstanceCapacity", ErrorClass::NoRoom, ELSEWHERE),
    ("InsufficientHostCapacity", ErrorClass::NoRoom, ELSEWHERE),
    ("InsufficientCapacity", ErrorClass::NoRoom, ELSEWHERE),
    ("InsufficientReservedInstanceCapacity", ErrorClass::NoRoom, ELSEWHERE),
    ("InsufficientFreeAddressesInSubnet", ErrorClass::NoRoom, ELSEWHERE),
    ("Unsupported", ErrorClass::NoRoom, ELSEWHERE),
    ("UnsupportedOperation", ErrorClass::Denied, SETTING),
    // Passes by itself.
    ("IncorrectInstanceState", ErrorClass::Retry, WAITS),
    ("IncorrectState", ErrorClass::Retry, WAITS),
    ("InvalidDBInstanceState", ErrorClass::Retry, WAITS),
    ("InvalidDBInstanceStateFault", ErrorClass::Retry, WAITS),
    ("InvalidDBClusterStateFault", ErrorClass::Retry, WAITS),
    ("InvalidDBSnapshotState", ErrorClass::Retry, WAITS),
    ("DependencyViolation", ErrorClass::Retry, WAITS),
    ("OperationAborted", ErrorClass::Retry, WAITS),
    ("ResourceInUse", ErrorClass::Retry, WAITS),
    ("ConcurrentTagAccess", ErrorClass::Retry, WAITS),
    ("RequestExpired", ErrorClass::Retry, "set this computer's clock, or renew the credentials"),
    ("ExpiredToken", ErrorClass::Retry, "the credentials have expired: renew them"),
    ("ExpiredTokenException", ErrorClass::Retry, "the credentials have expired: renew them"),
    // Not allowed.
    ("UnauthorizedOperation", ErrorClass::Denied, RIGHTS),
    ("AccessDenied", ErrorClass::Denied, RIGHTS),
    ("AccessDeniedException", ErrorClass::Denied, RIGHTS),
    ("AuthFailure", ErrorClass::Denied, KEYS),
    ("InvalidClientTokenId", ErrorClass::Denied, KEYS),
    ("UnrecognizedClientException", ErrorClass::Denied, KEYS),
    ("SignatureDoesNotMatch", ErrorClass::Denied, "set this computer's clock, or correct the secret access key"),
    ("MissingAuthenticationToken", ErrorClass::Denied, KEYS),
    ("OptInRequired", ErrorClass::Denied, "enable the Region for the account"),
    ("Blocked", ErrorClass::Denied, "the account is blocked: ask AWS"),
    ("OperationNotPermitted", ErrorClass::Denied, "somebody has switched protection on: switch it off by hand"),
    // Something that the configuration names is not there.
    ("InvalidAMIID.NotFound", ErrorClass::Denied, SETTING),
    ("InvalidAMIID.Unavailable", ErrorClass::Denied, SETTING),
    ("InvalidAMIID.Malformed", ErrorClass::Denied, SETTING),
    ("InvalidSubnetID.NotFound", ErrorClass::Denied, SETTING),
    ("InvalidGroup.NotFound", ErrorClass::Denied, SETTING),
    ("InvalidVpcID.NotFound", ErrorClass::Denied, SETTING),
    ("InvalidInstanceType", ErrorClass::Denied, SETTING),
    ("DBSnapshotNotFound", ErrorClass::Denied, SETTING),
    ("DBSnapshotNotFoundFault", ErrorClass::Denied, SETTING),
    ("DBSubnetGroupNotFoundFault", ErrorClass::Denied, "deploy infra/network.yaml again"),
    ("DBParameterGroupNotFound", ErrorClass::Denied, "deploy infra/network.yaml again"),
    ("DBClusterParameterGroupNotFound", ErrorClass::Denied, "deploy infra/network.yaml again"),
    ("DBClusterNotFoundFault", ErrorClass::Denied, SETTING),
    ("InvalidVPCNetworkStateFault", ErrorClass::Denied, "deploy infra/network.yaml again"),
    ("InvalidSubnet", ErrorClass::Denied, "deploy infra/network.yaml again"),
    ("KMSKeyNotAccessibleFault", ErrorClass::Denied, "let the role use the key that the snapshot is encrypted with"),
    ("KMSKeyNotAccessible", ErrorClass::Denied, "let the role use the key that the snapshot is encrypted with"),
    ("Client.InvalidKMSKey.InvalidState", ErrorClass::Denied, "enable the key that volumes are encrypted with"),
    // The same token once more, which was another question before: what came of that one has to be looked at.
    ("IdempotentParameterMismatch", ErrorClass::Ambiguous, "what was made before is looked for"),
    // What came of it is gone for good.
    ("IdempotentInstanceTerminated", ErrorClass::Denied, "another one is made"),
    ("DBInstanceAlreadyExists", ErrorClass::Ambiguous, "what was made before is looked for"),
    ("DBInstanceAlreadyExistsFault", ErrorClass::Ambiguous, "what was made before is looked for"),
    ("DBClusterAlreadyExistsFault", ErrorClass::Ambiguous, "what was made before is looked for"),
    // The service itself failed: it may have done something.
    ("InternalError", ErrorClass::Ambiguous, WAITS),
    ("InternalFailure", ErrorClass::Ambiguous, WAITS),
    ("ServiceUnavailable", ErrorClass::Ambiguous, WAITS),
    ("Unavailable", ErrorClass::Ambiguous, WAITS),
];

/// What an answer with that code and status means.
pub fn classify(verb: Verb, code: Option<&str>, status: u16) -> (ErrorClass, &'static str) {
    let row = code.and_then(|code| MEANINGS.iter().find(|(known, ..)| *known == code));
    let (class, next) = match row {
        Some((_, class, next)) => (*class, *next),
        None if status == 429 => (ErrorClass::SlowDown(BREATHER), WAITS),
        None if status >= 500 => (ErrorClass::Ambiguous, WAITS),
        None => {
            (ErrorClass::Denied, "look the code up in the API reference; if it is a mistake of Kagero's, report it")
        }
    };
    match (verb, class) {
        // Reading changes nothing, and asking again what is not there yet or not any more is harmless.
        (Verb::Read | Verb::Remove, ErrorClass::Ambiguous) => (ErrorClass::Retry, next),
        _ => (class, next),
    }
}

/// The code of a service's refusal, if there was one.
pub fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// An error of the SDK in the words that callers sort by.
pub fn told<E>(verb: Verb, what: impl Into<String>, error: &SdkError<E, HttpResponse>) -> CloudError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let what = what.into();
    let unanswered = match verb {
        Verb::Make | Verb::Change => ErrorClass::Ambiguous,
        Verb::Read | Verb::Remove => ErrorClass::Retry,
    };
    let (class, why) = match error {
        SdkError::ServiceError(context) => {
            let (code, words) = (context.err().code(), context.err().message().unwrap_or_default());
            let (class, next) = classify(verb, code, context.raw().status().as_u16());
            let words: String = words.chars().take(WORDS).collect();
            let words = words.trim_end_matches('.');
            (class, format!("{}: {words}; {next}", code.unwrap_or("no code")))
        }
        SdkError::ConstructionFailure(_) => (ErrorClass::Bug, innermost(error)),
        SdkError::TimeoutError(_) => (unanswered, "AWS did not answer in time".to_owned()),
        SdkError::DispatchFailure(failure) => {
            let why = innermost(error);
            // Credentials are looked for before anything is sent.
            if failure.as_connector_error().is_none_or(aws_sdk_ec2::error::ConnectorError::is_user) || lacks_keys(error)
            {
                (ErrorClass::Retry, format!("there are no credentials: {why}; {KEYS}"))
            } else {
                (unanswered, format!("AWS cannot be reached: {why}"))
            }
        }
        _ => (unanswered, format!("AWS sent no usable answer: {}", innermost(error))),
    };
    CloudError { class, what, why }
}

/// Whether it is about credentials, at any depth: what is wrong with them is told further in.
fn lacks_keys(error: &dyn std::error::Error) -> bool {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).any(|why| ["credentials", "identity"].iter().any(|word| why.contains(word)))
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// An error of ours.
pub fn refused(class: ErrorClass, what: impl Into<String>, why: impl Into<String>) -> CloudError {
    CloudError { class, what: what.into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_stands_there_once() {
        let codes: BTreeSet<&str> = MEANINGS.iter().map(|(code, ..)| *code).collect();
        assert_eq!(codes.len(), MEANINGS.len());
    }

    #[test]
    fn only_what_was_surely_not_done_counts_as_not_done() {
        let make = |code, status| classify(Verb::Make, code, status).0;
        assert_eq!(make(None, 500), ErrorClass::Ambiguous);
        assert_eq!(make(Some("NeverHeardOf"), 503), ErrorClass::Ambiguous);
        assert_eq!(make(Some("NeverHeardOf"), 400), ErrorClass::Denied);
        assert_eq!(make(Some("InsufficientInstanceCapacity"), 500), ErrorClass::NoRoom);
        assert_eq!(make(Some("RequestLimitExceeded"), 503), ErrorClass::SlowDown(BREATHER));
        assert_eq!(make(None, 429), ErrorClass::SlowDown(BREATHER));
        assert_eq!(make(Some("InternalError"), 500), ErrorClass::Ambiguous);
        assert_eq!(classify(Verb::Read, Some("InternalError"), 500).0, ErrorClass::Retry);
        assert_eq!(classify(Verb::Remove, None, 502).0, ErrorClass::Retry);
        assert_eq!(classify(Verb::Remove, Some("OperationNotPermitted"), 400).0, ErrorClass::Denied);
    }
}
