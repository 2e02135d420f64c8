//! Keeps the architecture as it is drawn: what `ARCHITECTURE.md` says in words, as a test.
//!
//! Reads the source text and needs nothing but the standard library. Each finding names the place, the rule,
//! the reason and what to do. The checker is tested on bad code first, so that no rule can fall silent.

#[path = "tidy/bad_code.rs"]
mod bad_code;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::path::Path;

/// Who may name whom: a module and what it may use of the rest of the crate. Imports point leftwards only:
/// `domain` ← `plan, report` ← adapters ← `controller, gateway` ← `http, cli, sim` ← `main`.
/// A name with `::` means only that part of a module; a part may use what the whole may, and what its own line adds.
const MAP: &[(&str, &[&str])] = &[
    ("domain", &[]),
    // Pure: from facts to decisions, from facts to words.
    ("plan", &["domain"]),
    ("report", &["domain"]),
    // What everything may ask.
    ("clock", &["domain"]),
    ("telemetry", &["domain", "clock"]),
    // Adapters: they see the domain, never each other.
    ("config", &["domain"]),
    ("cloud", &["domain", "clock", "telemetry", AGENT_CLIENT, AGENT_PROTOCOL, AGENT_SIGNATURE]),
    // Who makes a database also fills it.
    ("cloud::local::databases", &["seed"]),
    ("cloud::postgres", &["seed"]),
    ("cloud::aws::databases", &["seed"]),
    ("forge", &["domain", "clock", "telemetry"]),
    ("seed", &["domain", "clock", "telemetry"]),
    ("store", &["domain", "clock", "telemetry"]),
    ("agent", &["domain", "clock", "telemetry"]),
    // A compose file is a part of a repository's configuration that only the checkout has.
    ("agent::container", &["config"]),
    // The two that act. The controller fills the gateway's route table and knows nothing else of it.
    (
        "controller",
        &[
            "domain",
            "plan",
            "report",
            "clock",
            "telemetry",
            "config",
            "cloud",
            "forge",
            "seed",
            "store",
            "gateway::route",
            AGENT_CLIENT,
            AGENT_PROTOCOL,
            AGENT_SIGNATURE,
        ],
    ),
    ("gateway", &["domain", "report", "clock", "telemetry"]),
    // The rims.
    ("http", INNER),
    ("sim", INNER),
    ("cli", RIM),
];

const AGENT_CLIENT: &str = "agent::client";
const AGENT_PROTOCOL: &str = "agent::protocol";
const AGENT_SIGNATURE: &str = "agent::signature";

/// Everything but the rims.
const INNER: &[&str] = &[
    "domain",
    "plan",
    "report",
    "clock",
    "telemetry",
    "config",
    "cloud",
    "forge",
    "seed",
    "store",
    "agent",
    "controller",
    "gateway",
];

/// Everything that a command may put together.
const RIM: &[&str] = &[
    "domain",
    "plan",
    "report",
    "clock",
    "telemetry",
    "config",
    "cloud",
    "forge",
    "seed",
    "store",
    "agent",
    "controller",
    "gateway",
    "http",
    "sim",
];

/// Providers that must not know each other, although they share a folder.
const STRANGERS: &[(&str, &str)] = &[("cloud::local", "cloud::aws"), ("cloud::aws", "cloud::local")];

/// Crates that only some files may name: the beginning of the crate's name, the beginnings of the paths.
const WRAPPED: &[(&str, &[&str])] = &[
    ("octocrab", &["src/forge/github"]),
    ("aws_config", &["src/cloud/aws"]),
    ("aws_sdk_", &["src/cloud/aws"]),
    ("aws_smithy_", &["src/cloud/aws"]),
    ("aws_types", &["src/cloud/aws"]),
    ("bollard", &["src/agent/container"]),
    ("sqlx", &["src/store", "src/seed", "src/cloud/local/databases", "src/cloud/postgres"]),
];

#[test]
fn the_source_is_tidy() {
    let findings = rules::check(Path::new("."));
    let count = findings.len();
    let report = findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n");
    assert!(findings.is_empty(), "{count} untidy places\n\n{report}\n");
}
