//! What texts may be: one rule per kind of value, shared by both files.

use std::net::SocketAddr;

use url::Url;

use crate::domain::container::{CheckoutPath, ImageReference};
use crate::domain::id::{InstallId, RepoName, SeedName, ServiceName};

use super::secret;
use super::shape::{Exposure, Lines, TextRule, line};

/// An installation's name.
pub static INSTALL: TextRule = line(
    "a name of 2 to 20 lower-case letters, digits or hyphens, a letter first",
    Some("^[a-z][a-z0-9-]*[a-z0-9]$"),
    20,
    |text| InstallId::parse(text).is_ok(),
);
/// `address:port`.
pub static ADDRESS: TextRule = line("an address and a port such as 127.0.0.1:8080", Some(":[0-9]{1,5}$"), 60, |text| {
    text.parse::<SocketAddr>().is_ok()
});
/// A web address.
pub static WEB_URL: TextRule = line(
    "an address that begins with http:// or https://, without user, query or fragment",
    Some("^https?://"),
    300,
    |text| Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && is_plain(&url)),
);
/// Where git clones from.
pub static CLONE_URL: TextRule = line(
    "an address that begins with https://, http:// or file://, without user, query or fragment",
    Some("^(https?|file)://"),
    300,
    |text| Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https" | "file") && is_plain(&url)),
);
/// A domain.
pub static DOMAIN: TextRule = line(
    "a domain such as preview.example.com, in lower case, at most 180 characters",
    Some("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"),
    180,
    |text| {
        text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
    },
);
/// The store.
pub static STORE: TextRule = TextRule {
    expected: "sqlite:<path>, postgres://<user>@<host>/<database>, or a reference to a secret that holds such an \
               address: file:<path> or env:<NAME>",
    pattern: Some("^(sqlite|postgres|postgresql|file|env):."),
    accept: |text| {
        text.strip_prefix("sqlite:").is_some_and(|path| !path.trim_start_matches('/').is_empty() && !path.contains('?'))
            || ["postgres://", "postgresql://"]
                .iter()
                .any(|scheme| text.starts_with(scheme) && Url::parse(text).is_ok())
            || (text.starts_with("file:") || text.starts_with("env:")) && secret::Reference::parse(text).is_some()
    },
    longest: 1_000,
    lines: Lines::One,
    exposure: Exposure::Hidden,
};
/// A reference to a secret.
pub static SECRET: TextRule = TextRule {
    expected: "a reference to a secret, never the secret itself: file:<path> or env:<NAME>",
    pattern: Some("^(file|env):."),
    accept: |text| secret::Reference::parse(text).is_some(),
    longest: 1_000,
    lines: Lines::One,
    exposure: Exposure::Hidden,
};
/// A path.
pub static PATH: TextRule =
    line("a path, relative to the folder of this file or absolute", Some("^[^\\u0000]+$"), 1_000, |text| {
        !text.is_empty()
    });
/// A path that does not depend on where the file lies.
pub static ABSOLUTE_PATH: TextRule = line("an absolute path", Some("^/"), 1_000, |text| {
    text.starts_with('/') && !text.split('/').any(|part| part == "..")
});
/// An account of the operating system.
pub static USER: TextRule = line("the name of an account, such as postgres", Some("^[a-z_][a-z0-9_-]*$"), 32, |text| {
    text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
});
/// `host:port`.
pub static HOST_PORT: TextRule =
    line("a host and a port such as db.staging:5432", Some("^[^\\s/@]+:[0-9]{1,5}$"), 260, |text| {
        text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains(['/', '@', ' ', '*']) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    });
/// What PostgreSQL calls a database or an extension.
pub static IDENTIFIER: TextRule =
    line("a name as PostgreSQL has it, 1 to 63 characters", Some("^[A-Za-z0-9_][A-Za-z0-9_. -]*$"), 63, |text| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b' ' | b'-'))
    });
/// The name of a seed.
pub static SEED: TextRule = line(
    "a name of 1 to 30 lower-case letters, digits, hyphens or underscores",
    Some("^[a-z0-9_-]{1,30}$"),
    30,
    |text| SeedName::parse(text).is_ok(),
);
/// `owner/name` or `owner/*`.
pub static REPOSITORY: TextRule = line(
    "owner/name, or owner/* for all of an owner's",
    Some("^[A-Za-z0-9._-]+/(\\*|[A-Za-z0-9._-]+)$"),
    201,
    |text| {
        RepoName::parse(text).is_ok()
            || text.strip_suffix("/*").is_some_and(|owner| RepoName::parse(&format!("{owner}/x")).is_ok())
    },
);
/// A label on GitHub.
pub static LABEL: TextRule = line("the name of a label, 1 to 50 characters", Some("^\\S(.*\\S)?$"), 50, |text| {
    !text.is_empty() && text.trim() == text
});
/// An account of AWS.
pub static ACCOUNT: TextRule = line("the 12 digits of an AWS account", Some("^[0-9]{12}$"), 12, |text| {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
});
/// A Region of AWS.
pub static REGION: TextRule = line("a Region such as eu-central-1", Some("^[a-z]{2}(-[a-z]+)+-[0-9]$"), 30, |text| {
    text.split('-').count() >= 3
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && text.ends_with(|c: char| c.is_ascii_digit())
});
/// A network.
pub static VPC: TextRule =
    line("a network's id such as vpc-0a1b2c3d", Some("^vpc-[0-9a-f]+$"), 30, |text| is_id(text, "vpc-"));
/// An image.
pub static AMI: TextRule =
    line("an image's id such as ami-0a1b2c3d", Some("^ami-[0-9a-f]+$"), 30, |text| is_id(text, "ami-"));
/// An instance type.
pub static INSTANCE_TYPE: TextRule =
    line("an instance type such as t4g.small", Some("^[a-z0-9-]+\\.[a-z0-9-]+$"), 40, |text| {
        let part = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        text.split_once('.').is_some_and(|(family, size)| part(family) && part(size))
    });
/// What the names of golden snapshots begin with.
pub static SNAPSHOT: TextRule = line(
    "what golden snapshots' names begin with, such as kagero-golden-shop-",
    Some("^kagero-golden-[a-z0-9-]+$"),
    100,
    |text| {
        text.strip_prefix("kagero-golden-").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        })
    },
);
/// A golden instance.
pub static GOLDEN_STANDING: TextRule = line(
    "the name of a golden instance or cluster, such as kagero-golden-shop",
    Some("^kagero-golden-[a-z0-9]+(-[a-z0-9]+)*$"),
    63,
    |text| {
        let part = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        text.strip_prefix("kagero-golden-").is_some_and(|rest| rest.split('-').all(part))
    },
);
/// The class of a database instance.
pub static DATABASE_CLASS: TextRule = line(
    "the class of a database instance such as db.t4g.micro",
    Some("^db\\.([a-z0-9-]+\\.[a-z0-9-]+|serverless)$"),
    40,
    |text| {
        let part = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        text == "db.serverless"
            || text
                .strip_prefix("db.")
                .and_then(|rest| rest.split_once('.'))
                .is_some_and(|(kind, size)| part(kind) && part(size))
    },
);
/// A key of KMS.
pub static KMS_KEY: TextRule =
    line("the ARN of a key", Some("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$"), 200, |text| {
        let parts: Vec<&str> = text.split(':').collect();
        matches!(parts[..], ["arn", partition, "kms", region, account, key]
        if partition.starts_with("aws")
            && partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            && !region.is_empty()
            && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && account.len() == 12
            && account.bytes().all(|b| b.is_ascii_digit())
            && key.strip_prefix("key/").is_some_and(|id| {
                !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            }))
    });
/// The name of an instance profile.
pub static PROFILE: TextRule = line("the name of an instance profile", Some("^[A-Za-z0-9+=,.@_-]+$"), 128, |text| {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b))
});
/// An address that a program is fetched from: it stands in a script.
pub static PROGRAM_URL: TextRule =
    line("an https:// address of letters, digits and ._~/:%-", Some("^https://[A-Za-z0-9._~/:%-]+$"), 500, |text| {
        Url::parse(text).is_ok_and(|url| url.scheme() == "https" && is_plain(&url))
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~/:%-".contains(&b))
    });
/// A digest.
pub static SHA256: TextRule = line("the 64 hexadecimal digits of a SHA-256", Some("^[0-9a-f]{64}$"), 64, |text| {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
});
/// A word within a name.
pub static WORD: TextRule = line("a word of lower-case letters and digits", Some("^[a-z0-9]+$"), 40, |text| {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
});

fn is_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
}

/// The name of an environment variable that may be set.
pub static VARIABLE: TextRule = line(
    "a name of capital letters, digits and underscores; PORT, DATABASE_URL, PATH, KAGERO_… and LD_… are Kagero's to set",
    Some("^(?!(PORT|DATABASE_URL|PATH)$)(?!KAGERO_)(?!LD_)[A-Z_][A-Z0-9_]*$"),
    100,
    |text| {
        text.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            && !matches!(text, "PORT" | "DATABASE_URL" | "PATH")
            && !text.starts_with("KAGERO_")
            && !text.starts_with("LD_")
    },
);
/// What an environment variable is set to.
pub static VALUE: TextRule =
    TextRule { lines: Lines::Many, ..line("a text; numbers and true/false in quotes", None, 4_000, |_| true) };
/// A command.
pub static COMMAND: TextRule =
    TextRule { lines: Lines::Many, ..line("a shell command", Some("\\S"), 4_000, |text| !text.trim().is_empty()) };
/// An image.
pub static IMAGE: TextRule = line(
    "an image with a tag or a digest, such as ghcr.io/acme/shop:{sha}, where {sha} stands for the commit",
    Some("^[A-Za-z0-9][A-Za-z0-9._/:-]*(:[A-Za-z0-9_.{}-]+|@sha256:[0-9a-f]{64})$"),
    300,
    |text| ImageReference::parse(text).is_ok(),
);
/// A path within a repository.
pub static CHECKOUT_PATH: TextRule = line(
    "a path within the repository, without `..` and not beginning with `/`",
    Some("^(?!/)(?!(.*/)?\\.\\.(/|$))[^\\\\\\u0000]+$"),
    500,
    |text| CheckoutPath::parse(text).is_ok(),
);
/// A word of a command.
pub static ARGUMENT: TextRule = TextRule { lines: Lines::Many, ..line("a text", None, 4_000, |_| true) };
/// The name of a stage of a Dockerfile.
pub static BUILD_STAGE: TextRule =
    line("the name of a stage of the Dockerfile", Some("^[A-Za-z0-9][A-Za-z0-9_.-]*$"), 100, |text| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    });
/// A user within an image.
pub static CONTAINER_USER: TextRule = line(
    "a user or uid, with or without :group, such as 1000:1000",
    Some("^[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$"),
    100,
    is_container_user,
);
/// Where a container engine listens.
pub static ENGINE_SOCKET: TextRule =
    line("the address of a socket, such as unix:///run/podman/podman.sock", Some("^unix:///."), 120, |text| {
        text.strip_prefix("unix://").is_some_and(|path| path.starts_with('/') && path.len() > 1)
    });

/// Whether this names a user within an image.
pub(super) fn is_container_user(text: &str) -> bool {
    let name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
    };
    match text.split_once(':') {
        Some((user, group)) => name(user) && name(group),
        None => name(text),
    }
}

/// The name of a service.
pub static SERVICE: TextRule = line(
    "a name of 1 to 20 lower-case letters, digits or hyphens, a letter first",
    Some("^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$"),
    20,
    |text| ServiceName::parse(text).is_ok(),
);
/// A path that tells whether a service is ready.
pub static HEALTH: TextRule = line("a path such as /healthz", Some("^/[!-~]*$"), 200, |text| {
    text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('#')
});
/// A branch, with `*` and `**`.
pub static BRANCH: TextRule =
    line("the name of a branch, with * for any part and ** for any parts", Some("^[^\\s~^:?\\\\\\[]+$"), 250, |text| {
        !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "~^:?\\[".contains(c))
    });

fn is_plain(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
}
