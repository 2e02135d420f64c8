//! Everything that GitHub publishes as an example, through the real endpoint: socket, signature, reading and
//! store.

use std::collections::BTreeSet;
use std::sync::Arc;

use kagero::clock::SystemClock;
use kagero::forge::webhook::sign;
use kagero::http::intake;
use kagero::http::webhook::{Intake, Limits, router};
use kagero::store::Store;
use secrecy::SecretString;

use crate::webhook::{Payload, is_ours, payloads};

struct Endpoint {
    url: String,
    store: Store,
    client: reqwest::Client,
    _directory: tempfile::TempDir,
}

fn secret() -> SecretString {
    SecretString::from("the webhook's secret")
}

impl Endpoint {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", directory.path().join("kagero.db").display())).await.unwrap();
        let clock = Arc::new(SystemClock);
        let inbox = store.inbox().clone();
        let intake = Intake::new(inbox, vec![secret()], clock, intake::check, intake::read, Limits::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/webhook/github", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router(Arc::new(intake))).await });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { url, store, client, _directory: directory }
    }

    async fn deliver(&self, guid: &str, payload: &Payload, signature: Option<String>) -> (u16, String) {
        let mut request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("x-github-delivery", guid)
            .header("x-github-event", &payload.event);
        if let Some(signature) = signature {
            request = request.header("x-hub-signature-256", signature);
        }
        let answer = request.body(payload.body.clone()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

/// What can happen to a pull request that changes what its preview should be.
const TELLING: [&str; 9] = [
    "opened",
    "closed",
    "reopened",
    "synchronize",
    "edited",
    "labeled",
    "unlabeled",
    "ready_for_review",
    "converted_to_draft",
];

#[tokio::test]
async fn every_published_payload_is_acknowledged_once_it_is_durable() {
    let endpoint = Endpoint::start().await;
    let payloads = payloads(is_ours);
    assert!(payloads.len() > 70, "{}", payloads.len());
    let mut stored = Vec::new();
    let mut events = BTreeSet::new();
    for (number, payload) in payloads.iter().enumerate() {
        let guid = format!("guid-{number}");
        let what = format!("{} {} number {number}", payload.edition, payload.event);
        let (status, words) = endpoint.deliver(&guid, payload, Some(sign(&secret(), &payload.body))).await;
        assert_eq!(status, 202, "{what}: {words}");
        let pending = endpoint.store.inbox().counts().await.unwrap().pending;
        match words.as_str() {
            "stored\n" => {
                stored.push((guid, payload));
                events.insert(payload.event.as_str());
            }
            "not acted on\n" if payload.event == "pull_request" => {
                let json: serde_json::Value = serde_json::from_slice(&payload.body).unwrap();
                let action = json["action"].as_str().unwrap();
                assert!(!TELLING.contains(&action), "{what}: {action}");
            }
            "not acted on\n" => {}
            other => panic!("{what}: {other}"),
        }
        assert_eq!(pending, stored.len() as u64, "{what}");
    }
    // All of the published comments are on issues.
    let acted_on = ["installation", "installation_repositories", "pull_request", "push", "repository"];
    assert_eq!(events, acted_on.into_iter().collect());

    let kept = endpoint.store.inbox().pending(10_000).await.unwrap();
    assert_eq!(kept.len(), stored.len());
    for (kept, (guid, payload)) in kept.iter().zip(&stored) {
        assert_eq!((&kept.guid, &kept.event), (guid, &payload.event));
        assert!(kept.body == payload.body, "{guid} is not stored byte for byte");
    }
    let (guid, again) = &stored[0];
    let answer = endpoint.deliver(guid, again, Some(sign(&secret(), &again.body))).await;
    assert_eq!(answer, (202, "known already\n".to_owned()));
    assert_eq!(endpoint.store.inbox().counts().await.unwrap().pending, stored.len() as u64);
}

#[tokio::test]
async fn what_the_secret_has_not_signed_leaves_no_trace() {
    let endpoint = Endpoint::start().await;
    for (number, payload) in payloads(|event| event == "pull_request").iter().enumerate() {
        let guid = format!("guid-{number}");
        let others = sign(&SecretString::from("another secret"), &payload.body);
        let cut = sign(&secret(), &payload.body[1..]);
        for signature in [None, Some(others), Some(cut), Some("sha256=".to_owned()), Some("nonsense".to_owned())] {
            let (status, words) = endpoint.deliver(&guid, payload, signature.clone()).await;
            assert_eq!(status, 401, "{signature:?}: {words}");
        }
    }
    let counts = endpoint.store.inbox().counts().await.unwrap();
    assert_eq!((counts.pending, counts.processed), (0, 0));
}
