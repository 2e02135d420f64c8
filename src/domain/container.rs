//! What a service runs in, if it is a container: an image that is pulled or built, and what is started in it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::{CommitSha, ServiceName};

/// Stands in an image's name for the commit.
pub const COMMIT_PLACEHOLDER: &str = "{sha}";
/// As long as engines allow names to be.
const LONGEST_REFERENCE: usize = 255;
/// Far beyond every path that somebody has written.
const LONGEST_PATH: usize = 500;

/// What a service runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Where its files come from.
    pub image: Image,
    /// The program, in place of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The arguments, in place of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The port that it listens on, inside; `None`: the only one that the image exposes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The user inside, in place of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether its files cannot be changed; `/tmp` can.
    #[serde(default)]
    pub read_only: bool,
    /// Variables of its own, below those of the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Services that have to be healthy before it is started.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ServiceName>,
}

impl Container {
    /// What an image starts by itself.
    pub fn of(image: Image) -> Self {
        Self {
            image,
            entrypoint: None,
            command: None,
            port: None,
            user: None,
            read_only: false,
            env: BTreeMap::new(),
            depends_on: Vec::new(),
        }
    }
}

/// Where a container's files come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// From a registry, asked for anew each time.
    Pulled(ImageReference),
    /// From the checkout.
    Built(ImageBuild),
}

/// How an image is built from the checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageBuild {
    /// The folder that the build sees.
    pub context: CheckoutPath,
    /// The Dockerfile, relative to the context.
    pub dockerfile: CheckoutPath,
    /// The stage to stop at; `None`: the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Arguments of the build.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
}

/// The name of an image in a registry, with a tag or a digest: `ghcr.io/acme/shop:{sha}`, where `{sha}` stands for the
/// commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference(String);

/// Why a text names no image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It has neither tag nor digest.
    #[error("it names neither a tag nor a digest")]
    Unpinned,
    /// It is no name.
    #[error("it is not an image's name")]
    Malformed,
}

impl ImageReference {
    /// Reads a name; one without tag and digest is refused, since what it means changes by itself.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let plain = text.replace(COMMIT_PLACEHOLDER, "0");
        if plain.len() > LONGEST_REFERENCE {
            return Err(ReferenceError::Malformed);
        }
        let (named, digest) = match plain.split_once('@') {
            Some((named, digest)) => (named, Some(digest)),
            None => (plain.as_str(), None),
        };
        let last = named.rfind('/').map_or(0, |at| at + 1);
        let (path, tag) = match named[last..].split_once(':') {
            Some((name, tag)) => (&named[..last + name.len()], Some(tag)),
            None => (named, None),
        };
        let valid = is_path(path) && tag.is_none_or(is_tag) && digest.is_none_or(is_digest);
        match (valid, tag, digest) {
            (false, ..) => Err(ReferenceError::Malformed),
            (true, None, None) => Err(ReferenceError::Unpinned),
            (true, ..) => Ok(Self(text.to_owned())),
        }
    }

    /// The name for a commit.
    pub fn of(&self, commit: &CommitSha) -> String {
        self.0.replace(COMMIT_PLACEHOLDER, commit.as_str())
    }
}

fn is_path(path: &str) -> bool {
    let mut parts = path.split('/');
    let Some(first) = parts.next() else { return false };
    let rest: Vec<&str> = parts.collect();
    // Only where something follows can the first part be a registry, whose name may have capitals and a port.
    let (host, port) = first.split_once(':').map_or((first, None), |(host, port)| (host, Some(port)));
    let is_registry = !rest.is_empty()
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host.ends_with(|c: char| c.is_ascii_alphanumeric())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
        && port.is_none_or(|port| port.parse::<u16>().is_ok());
    (is_component(first) || is_registry) && rest.iter().all(|part| is_component(part))
}

fn is_component(part: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    edge(part.bytes().next())
        && edge(part.bytes().last())
        && part
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-'))
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn is_digest(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

impl TryFrom<String> for ImageReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.0
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A path within the checkout, `.` for the checkout itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckoutPath(String);

/// Why a text is no path within a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a path within the repository, without `..` and not beginning with `/`")]
pub struct PathError;

impl CheckoutPath {
    /// Reads a path: relative, and never upwards.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let trimmed = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
        let trimmed = if trimmed.is_empty() && !text.is_empty() && text != "/" { "." } else { trimmed };
        let valid = !trimmed.is_empty()
            && !text.starts_with('/')
            && text.len() <= LONGEST_PATH
            && !text.contains(['\0', '\\'])
            && trimmed.split('/').all(|part| !part.is_empty() && part != "..");
        if valid { Ok(Self(trimmed.to_owned())) } else { Err(PathError) }
    }

    /// The checkout itself.
    pub fn root() -> Self {
        Self(".".to_owned())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CheckoutPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<CheckoutPath> for String {
    fn from(path: CheckoutPath) -> Self {
        path.0
    }
}

impl fmt::Display for CheckoutPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_with_a_tag_or_a_digest() {
        let digest = format!("sha256:{}", "a1".repeat(32));
        for (text, wanted) in [
            ("nginx:1.27", None),
            ("ghcr.io/acme/shop:{sha}", None),
            ("ghcr.io/acme/shop:pr-{sha}", None),
            ("localhost:5000/a/b_c:x", None),
            (&format!("127.0.0.1:5000/shop@{digest}"), None),
            (&format!("shop:1@{digest}"), None),
            ("nginx", Some(ReferenceError::Unpinned)),
            ("localhost:5000/shop", Some(ReferenceError::Unpinned)),
            ("", Some(ReferenceError::Malformed)),
            ("Shop:1", Some(ReferenceError::Malformed)),
            ("a b:1", Some(ReferenceError::Malformed)),
            ("shop:", Some(ReferenceError::Malformed)),
            ("/shop:1", Some(ReferenceError::Malformed)),
            ("http://x/shop:1", Some(ReferenceError::Malformed)),
            ("../shop:1", Some(ReferenceError::Malformed)),
            ("shop@sha256:12", Some(ReferenceError::Malformed)),
            ("shop:1&fromSrc=x", Some(ReferenceError::Malformed)),
            ("${IMAGE}:1", Some(ReferenceError::Malformed)),
        ] {
            assert_eq!(ImageReference::parse(text).err(), wanted, "{text}");
        }
        let commit = CommitSha::parse("ab".repeat(20)).unwrap();
        let named = ImageReference::parse("ghcr.io/acme/shop:{sha}").unwrap();
        assert_eq!(named.of(&commit), format!("ghcr.io/acme/shop:{commit}"));
    }

    #[test]
    fn paths_stay_within_the_checkout() {
        for (text, wanted) in [
            (".", Some(".")),
            ("./", Some(".")),
            ("Dockerfile", Some("Dockerfile")),
            ("./docker/web/", Some("docker/web")),
            ("a/..b", Some("a/..b")),
            ("", None),
            ("/", None),
            ("/etc", None),
            ("..", None),
            ("a/../../b", None),
            ("a//b", None),
            ("a\\b", None),
        ] {
            assert_eq!(CheckoutPath::parse(text).ok().as_ref().map(CheckoutPath::as_str), wanted, "{text}");
        }
    }
}
