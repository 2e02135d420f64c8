//! Names of things: newtypes whose constructors can only make valid values.
//!
//! Every name that reaches a host name, a database name or a process is made here, from numbers and
//! digests, never from text that a pull request's author wrote.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// GitHub's numeric repository id. Survives renames and transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepoId(pub u64);

/// A pull request's number within its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrNumber(pub u64);

/// GitHub's id of an App installation: what an installation token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstallationId(pub u64);

/// What an environment belongs to: exactly one pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EnvKey {
    /// The repository.
    pub repo: RepoId,
    /// The pull request in it.
    pub pr: PrNumber,
}

impl EnvKey {
    /// No pull request: what sweeps take the lease of, so that there is one at a time. No repository is number 0.
    pub const SWEEP: Self = Self { repo: RepoId(0), pr: PrNumber(1) };
}

impl fmt::Display for EnvKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.repo.0, self.pr.0)
    }
}

/// Rises by one each time a closed pull request is reopened. Whatever was made for an older generation is
/// residue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

impl Generation {
    /// Before the first: nothing was ever made.
    pub const NONE: Self = Self(0);

    /// The generation of a pull request seen for the first time.
    pub const FIRST: Self = Self(1);

    /// The generation after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A name that could not be accepted: what it was for, what was given, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not valid: expected {expected}")]
pub struct InvalidName {
    /// The kind of name.
    pub what: &'static str,
    /// The text that was refused.
    pub given: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Accepts the text if it is valid.
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
                let given = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&given) {
                    Ok(Self(given))
                } else {
                    Err(InvalidName { what: $what, given, expected: $expected })
                }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_label(text: &str) -> bool {
    !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

text_id!(
    /// The name of this Kagero installation: two of them in one account must not share it.
    InstallId, "installation name", "2 to 20 lower-case letters, digits or hyphens, a letter first",
    |t| (2..=20).contains(&t.len()) && is_label(t) && t.starts_with(|c: char| c.is_ascii_lowercase())
);
text_id!(
    /// The identity that every resource of an environment is tagged with: 20 hexadecimal digits.
    EnvUid, "environment uid", "20 lower-case hexadecimal digits", |t| t.len() == 20 && is_hex(t)
);
text_id!(
    /// A commit: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
    CommitSha, "commit", "40 or 64 lower-case hexadecimal digits",
    |t| (t.len() == 40 || t.len() == 64) && is_hex(t)
);
text_id!(
    /// One label of a host name, without the domain.
    HostLabel, "host label", "1 to 63 lower-case letters, digits or hyphens",
    |t| (1..=63).contains(&t.len()) && is_label(t)
);
text_id!(
    /// A service of `.kagero.yml`, for example `web`.
    ServiceName, "service name", "1 to 20 lower-case letters, digits or hyphens, a letter first",
    |t| (1..=20).contains(&t.len()) && is_label(t) && t.starts_with(|c: char| c.is_ascii_lowercase())
);
text_id!(
    /// The name of a seed of `kagero.toml`, for example `golden`.
    SeedName, "seed name", "1 to 30 lower-case letters, digits, hyphens or underscores",
    |t| (1..=30).contains(&t.len())
        && t.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
);
text_id!(
    /// What a compute provider calls a machine. Opaque outside the provider.
    MachineId, "machine id", "1 to 200 printable ASCII characters",
    |t| (1..=200).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic())
);
text_id!(
    /// What a provider calls a slot: a security group. Opaque outside the provider.
    SlotId, "slot id", "1 to 100 printable ASCII characters",
    |t| (1..=100).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic())
);
text_id!(
    /// What a provider calls something of its that is neither machine nor database. Opaque outside the provider.
    ResidueId, "residue id", "1 to 200 printable ASCII characters",
    |t| (1..=200).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic())
);
text_id!(
    /// What a database provider calls a database. Opaque outside the provider.
    DatabaseId, "database id", "1 to 200 printable ASCII characters",
    |t| (1..=200).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic())
);

impl EnvUid {
    /// The uid of a pull request's environment in this installation. A pure function of both, so that a
    /// lost store cannot lead to a second identity for the same pull request.
    pub fn derive(install: &InstallId, key: EnvKey) -> Self {
        Self(digest(&["uid", install.as_str(), &key.repo.0.to_string(), &key.pr.0.to_string()], 20))
    }
}

impl CommitSha {
    /// The first seven digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

impl HostLabel {
    /// The label of an environment's service: `pr-<number>-<repository>[-<service>]`. Characters that a
    /// host name cannot carry become hyphens; what would not fit ends in a digest instead. The branch
    /// name never takes part.
    pub fn derive(repo_name: &str, key: EnvKey, service: Option<&ServiceName>) -> Self {
        let plain = Self::compose(repo_name, key, service);
        if plain.len() <= 63 {
            return Self(plain);
        }
        Self::derive_unique(repo_name, key, service)
    }

    /// As [`HostLabel::derive`], with a digest of the repository's id: for when the plain label is
    /// already another environment's (two owners with a repository of the same name).
    pub fn derive_unique(repo_name: &str, key: EnvKey, service: Option<&ServiceName>) -> Self {
        let service = service.map_or("", ServiceName::as_str);
        let tail = digest(&["host", &key.repo.0.to_string(), &key.pr.0.to_string(), service], 8);
        let mut head = Self::compose(repo_name, key, None);
        let room = 63 - tail.len() - 1 - if service.is_empty() { 0 } else { service.len() + 1 };
        head.truncate(room);
        let head = head.trim_end_matches('-');
        if service.is_empty() { Self(format!("{head}-{tail}")) } else { Self(format!("{head}-{service}-{tail}")) }
    }

    fn compose(repo_name: &str, key: EnvKey, service: Option<&ServiceName>) -> String {
        let mut label = format!("pr-{}-", key.pr.0);
        for c in repo_name.chars() {
            let c = c.to_ascii_lowercase();
            let c = if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
            if c != '-' || !label.ends_with('-') {
                label.push(c);
            }
        }
        let mut label = label.trim_end_matches('-').to_owned();
        if let Some(service) = service {
            label.push('-');
            label.push_str(service.as_str());
        }
        label
    }
}

/// A repository's name for people and for API paths. Names change: never a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RepoName {
    /// The user or organisation.
    pub owner: String,
    /// The repository within it.
    pub name: String,
}

impl RepoName {
    /// Splits `owner/name`. Both parts must consist of what GitHub allows in them.
    pub fn parse(full: &str) -> Result<Self, InvalidName> {
        let valid = |part: &str| {
            !part.is_empty()
                && part.len() <= 100
                && part != "."
                && part != ".."
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        match full.split_once('/') {
            Some((owner, name)) if valid(owner) && valid(name) => {
                Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
            }
            _ => Err(InvalidName {
                what: "repository name",
                given: full.to_owned(),
                expected: "owner/name, letters, digits, '.', '-' and '_'",
            }),
        }
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// The first `digits` hexadecimal digits of the SHA-256 of the parts, each prefixed by its length so that
/// no two lists of parts are read as the same text.
pub fn digest(parts: &[&str], digits: usize) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    let mut text = hex::encode(hasher.finalize());
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pr: u64) -> EnvKey {
        EnvKey { repo: RepoId(42), pr: PrNumber(pr) }
    }

    #[test]
    fn host_labels_carry_number_repository_and_service() {
        let web = ServiceName::parse("web").unwrap();
        assert_eq!(HostLabel::derive("shop", key(12), None).as_str(), "pr-12-shop");
        assert_eq!(HostLabel::derive("shop", key(12), Some(&web)).as_str(), "pr-12-shop-web");
        assert_eq!(HostLabel::derive("My_Shop.rb", key(7), None).as_str(), "pr-7-my-shop-rb");
    }

    #[test]
    fn host_labels_always_fit_and_stay_distinct() {
        let long = "a".repeat(100);
        let api = ServiceName::parse("api").unwrap();
        for name in [long.as_str(), "-", "ünï", "a-", &"-".repeat(90)] {
            let one = HostLabel::derive(name, key(1), Some(&api));
            let two = HostLabel::derive_unique(name, key(1), Some(&api));
            for label in [&one, &two] {
                assert!(HostLabel::parse(label.as_str()).is_ok(), "{label}");
            }
        }
        assert_ne!(
            HostLabel::derive(&long, key(1), None),
            HostLabel::derive(&long, EnvKey { repo: RepoId(43), pr: PrNumber(1) }, None)
        );
    }

    #[test]
    fn hostile_repository_names_are_refused() {
        for bad in ["shop", "a/b/c", "a/..", "/x", "a/b c", "a/b;rm", ""] {
            assert!(RepoName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(RepoName::parse("acme/shop").unwrap().to_string(), "acme/shop");
    }

    #[test]
    fn a_uid_depends_on_installation_and_key_only() {
        let a = InstallId::parse("alpha").unwrap();
        let b = InstallId::parse("beta").unwrap();
        assert_eq!(EnvUid::derive(&a, key(1)), EnvUid::derive(&a, key(1)));
        assert_ne!(EnvUid::derive(&a, key(1)), EnvUid::derive(&b, key(1)));
        assert_ne!(EnvUid::derive(&a, key(1)), EnvUid::derive(&a, key(2)));
    }
}
