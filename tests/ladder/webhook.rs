//! GitHub's own example payloads, byte for byte as they are published, through signature and reading.
//! `payloads` is there for other tests that need real deliveries.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kagero::forge::webhook::{Event, PullAction, SignatureError, Touch, WhichSecret, sign, verify};
use secrecy::SecretString;
use serde_json::value::RawValue;

/// A file of the npm packages of `tests/data`.
pub fn test_data(path: &str) -> Vec<u8> {
    let full: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/data/node_modules", path].iter().collect();
    std::fs::read(&full).unwrap_or_else(|error| {
        panic!("{} could not be read ({error}): install the test data with `make setup`", full.display())
    })
}

/// One delivery as GitHub publishes it.
pub struct Payload {
    /// `api.github.com`, or the Enterprise Server version.
    pub edition: &'static str,
    /// The `X-GitHub-Event` header.
    pub event: String,
    /// The body, unmodified.
    pub body: Vec<u8>,
}

/// Every published payload of the wanted events.
pub fn payloads(wanted: impl Fn(&str) -> bool) -> Vec<Payload> {
    #[derive(serde::Deserialize)]
    struct Group {
        name: String,
        // Borrowed as written: parsing and printing again would test our printer.
        examples: Vec<Box<RawValue>>,
    }

    let mut found = Vec::new();
    for edition in ["api.github.com", "ghes-31", "ghes-32", "ghes-33", "ghes-34", "ghes-35"] {
        let file = test_data(&format!("@octokit/webhooks-examples/{edition}/index.json"));
        let groups: Vec<Group> = serde_json::from_slice(&file).unwrap();
        for group in groups.into_iter().filter(|group| wanted(&group.name)) {
            for example in group.examples {
                let body = example.get().as_bytes().to_vec();
                found.push(Payload { edition, event: group.name.clone(), body });
            }
        }
    }
    found
}

/// The events that a Kagero App subscribes to.
pub fn is_ours(event: &str) -> bool {
    matches!(event, "pull_request" | "issue_comment" | "repository" | "push" | "ping")
        || event.starts_with("installation")
}

#[test]
fn every_published_payload_is_verified_and_read() {
    let secrets = [SecretString::from("the new one"), SecretString::from("the old one")];
    let mut counts: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for payload in payloads(is_ours) {
        let header = sign(&secrets[1], &payload.body);
        assert_eq!(verify(&secrets, Some(header.as_bytes()), &payload.body), Ok(WhichSecret::Previous(1)));
        assert_eq!(verify(&secrets[..1], Some(header.as_bytes()), &payload.body), Err(SignatureError::Mismatch));

        let event = Event::read(&payload.event, &payload.body)
            .unwrap_or_else(|error| panic!("{} {}: {error:?}", payload.edition, payload.event));
        agrees(&payload, &event);
        *counts.entry((payload.event, payload.edition)).or_default() += 1;
    }
    let on = |edition| -> Vec<(&str, usize)> {
        counts.iter().filter(|((_, at), _)| *at == edition).map(|((name, _), n)| (name.as_str(), *n)).collect()
    };
    assert_eq!(
        on("api.github.com"),
        [
            ("installation", 7),
            ("installation_repositories", 3),
            ("issue_comment", 9),
            ("ping", 4),
            ("pull_request", 29),
            ("push", 7),
            ("repository", 13)
        ],
    );
    for enterprise in ["ghes-31", "ghes-32", "ghes-33", "ghes-34", "ghes-35"] {
        assert_eq!(on(enterprise).len(), 7, "{enterprise}");
    }
}

/// What was read is what a plain look at the JSON shows.
fn agrees(payload: &Payload, event: &Event) {
    let json: serde_json::Value = serde_json::from_slice(&payload.body).unwrap();
    let repo = json["repository"]["id"].as_u64();
    match (payload.event.as_str(), event, event.touches()) {
        ("pull_request", Event::PullRequest { action: PullAction::Other(action), .. }, Touch::Nothing) => {
            assert_eq!(action, json["action"].as_str().unwrap());
        }
        ("pull_request", Event::PullRequest { action, .. }, Touch::Pull(place, number)) => {
            assert!(!matches!(action, PullAction::Other(_)), "{action:?}");
            assert_eq!((Some(place.repo.0), Some(number.0)), (repo, json["number"].as_u64()));
            assert_eq!(place.installation.map(|id| id.0), json["installation"]["id"].as_u64());
            assert_eq!(*action, PullAction::from(json["action"].as_str().unwrap().to_owned()));
        }
        ("issue_comment", Event::IssueComment { comment, is_pull, author, .. }, touch) => {
            assert_eq!(Some(*comment), json["comment"]["id"].as_u64());
            assert_eq!(author.as_deref(), json["comment"]["user"]["login"].as_str());
            assert_eq!(*is_pull, json["issue"].get("pull_request").is_some());
            assert_eq!(*is_pull, matches!(touch, Touch::Pull(..)));
        }
        ("push", Event::Push { place, reference }, touch) => {
            assert_eq!(Some(place.repo.0), repo);
            let branch = match &touch {
                Touch::Branch(_, branch) => Some(branch.as_str()),
                _ => None,
            };
            assert_eq!(reference.strip_prefix("refs/heads/"), branch);
        }
        ("repository", Event::Repository { .. }, Touch::Repository(place)) => {
            assert_eq!(Some(place.repo.0), repo);
            assert_eq!(Some(place.name.to_string().as_str()), json["repository"]["full_name"].as_str());
        }
        ("ping", Event::Ping, Touch::Nothing) => {}
        (name, Event::Installation { installation, .. }, Touch::Installations) => {
            assert!(name.starts_with("installation"), "{name}");
            assert_eq!(installation.map(|id| id.0), json["installation"]["id"].as_u64());
        }
        (name, event, touch) => panic!("{name} was read as {event:?}, which touches {touch:?}"),
    }
}

#[test]
fn events_that_nobody_asked_for_touch_nothing() {
    let others = payloads(|event| !is_ours(event));
    assert!(others.len() > 200, "{}", others.len());
    for payload in others {
        let event = Event::read(&payload.event, &payload.body).unwrap();
        assert!(matches!(event.touches(), Touch::Nothing | Touch::Installations), "{} {event:?}", payload.event);
    }
}
