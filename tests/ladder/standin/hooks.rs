//! Webhooks: signed, sent once, recorded; and what can go wrong with them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kagero::sim::github::{DeliveryFault, FileChange};
use reqwest::Method;
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::Mutex;

use super::client::Client;

/// A receiver that keeps what it gets and refuses what it is told to.
#[derive(Default)]
struct Receiver {
    got: Mutex<Vec<Got>>,
    refuse: Mutex<bool>,
}

#[derive(Debug, Clone)]
struct Got {
    event: String,
    guid: String,
    signature: String,
    body: Vec<u8>,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn action(&self) -> String {
        self.json()["action"].as_str().unwrap().to_owned()
    }
}

async fn receive(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: bytes::Bytes) -> StatusCode {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert!(text("user-agent").starts_with("GitHub-Hookshot/"));
    receiver.got.lock().await.push(Got {
        event: text("x-github-event"),
        guid: text("x-github-delivery"),
        signature: text("x-hub-signature-256"),
        body: body.to_vec(),
    });
    if *receiver.refuse.lock().await { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::ACCEPTED }
}

async fn listening(client: &Client) -> Arc<Receiver> {
    let receiver = Arc::new(Receiver::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/hook", post(receive)).with_state(Arc::clone(&receiver));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    client.standin.set_webhook_url(Some(format!("http://{addr}/hook")));
    receiver
}

fn signed(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn a_pull_requests_life_is_told_with_signatures() {
    let client = Client::start().await;
    let receiver = listening(&client).await;
    let repo = client.standin.repo();
    let number = client.open("a").await;
    client.standin.deliveries_settled().await;
    let before = repo.pull(number).await.unwrap().head_sha;
    let after = repo.push(number, "more", vec![FileChange::write("b", "b")]).await.unwrap();
    client.standin.deliveries_settled().await;
    repo.comment(number, "robin", "nice").await.unwrap();
    client.standin.deliveries_settled().await;
    repo.label(number, "mika", "preview").await.unwrap();
    client.standin.deliveries_settled().await;
    repo.set_draft(number, "mika", true).await.unwrap();
    client.standin.deliveries_settled().await;
    repo.set_draft(number, "mika", false).await.unwrap();
    client.standin.deliveries_settled().await;
    repo.close(number, "mika").await.unwrap();
    client.standin.deliveries_settled().await;
    repo.reopen(number, "mika").await.unwrap();
    client.standin.deliveries_settled().await;
    repo.merge(number, "mika").await.unwrap();
    client.standin.deliveries_settled().await;

    let got = receiver.got.lock().await.clone();
    let told: Vec<_> = got.iter().map(|one| format!("{} {}", one.event, one.action())).collect();
    assert_eq!(
        told,
        [
            "pull_request opened",
            "pull_request synchronize",
            "issue_comment created",
            "pull_request labeled",
            "pull_request converted_to_draft",
            "pull_request ready_for_review",
            "pull_request closed",
            "pull_request reopened",
            "pull_request closed",
        ]
    );
    for one in &got {
        assert_eq!(one.signature, signed(client.standin.webhook_secret(), &one.body));
        assert!(one.json()["installation"]["id"].is_u64());
    }
    let push = got[1].json();
    assert_eq!((push["before"].as_str(), push["after"].as_str()), (Some(before.as_str()), Some(after.as_str())));
    assert_eq!(got[6].json()["pull_request"]["merged"], false);
    assert_eq!(got[8].json()["pull_request"]["merged"], true);
    assert_eq!(repo.pull(number).await.unwrap().state, "merged");
}

#[tokio::test]
async fn a_failed_delivery_is_found_page_by_page_and_sent_again_under_its_id() {
    let client = Client::start().await;
    let receiver = listening(&client).await;
    *receiver.refuse.lock().await = true;
    for title in ["a", "b", "c"] {
        client.open(title).await;
        client.standin.deliveries_settled().await;
    }
    let mut found = Vec::new();
    let mut path = "/app/hook/deliveries?per_page=2".to_owned();
    loop {
        let answer = client.as_app(Method::GET, &path).send().await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        found.extend(answer.json::<Vec<Value>>().await.unwrap());
        let Some(link) = link else { break };
        let address = link.split(['<', '>']).nth(1).unwrap();
        path = address.strip_prefix(client.standin.api_url().as_str()).unwrap().to_owned();
    }
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|one| one["status_code"] == 500 && one["redelivery"] == false), "{found:?}");
    assert!(found[0]["id"].as_u64() > found[2]["id"].as_u64(), "newest first");

    *receiver.refuse.lock().await = false;
    let again = format!("/app/hook/deliveries/{}/attempts", found[1]["id"]);
    assert_eq!(client.as_app(Method::POST, &again).send().await.unwrap().status(), 202);
    client.standin.deliveries_settled().await;
    let got = receiver.got.lock().await.clone();
    assert_eq!(got.len(), 4);
    assert_eq!(got[3].guid, found[1]["guid"].as_str().unwrap());
    let newest = client.as_app(Method::GET, "/app/hook/deliveries?per_page=1").send().await.unwrap();
    let newest: Value = newest.json().await.unwrap();
    assert_eq!((newest[0]["status"].as_str(), newest[0]["redelivery"].as_bool()), (Some("OK"), Some(true)));
}

#[tokio::test]
async fn deliveries_are_lost_doubled_swapped_and_forged_on_demand() {
    let client = Client::start().await;
    let receiver = listening(&client).await;
    let faults = client.standin.faults();
    for fault in [
        DeliveryFault::Vanished,
        DeliveryFault::TimedOut,
        DeliveryFault::Doubled,
        DeliveryFault::DoubledUnderNewId,
        DeliveryFault::Forged,
    ] {
        faults.deliveries(fault, 1);
    }
    let mut counts = Vec::new();
    for title in ["vanished", "timed out", "doubled", "new id", "forged", "plain"] {
        client.open(title).await;
        client.standin.deliveries_settled().await;
        counts.push(std::mem::take(&mut *receiver.got.lock().await));
    }
    let lengths: Vec<_> = counts.iter().map(Vec::len).collect();
    assert_eq!(lengths, [0, 0, 2, 2, 1, 1]);
    assert_eq!(counts[2][0].guid, counts[2][1].guid);
    assert_ne!(counts[3][0].guid, counts[3][1].guid);
    let secret = client.standin.webhook_secret();
    assert_ne!(counts[4][0].signature, signed(secret, &counts[4][0].body));
    assert_eq!(counts[5][0].signature, signed(secret, &counts[5][0].body));

    faults.deliveries(DeliveryFault::Swapped, 1);
    client.open("first").await;
    client.open("second").await;
    client.standin.deliveries_settled().await;
    let titles: Vec<_> =
        receiver.got.lock().await.iter().map(|got| got.json()["pull_request"]["title"].clone()).collect();
    assert_eq!(titles, ["second", "first"]);
    let listed: Vec<Value> =
        client.as_app(Method::GET, "/app/hook/deliveries").send().await.unwrap().json().await.unwrap();
    assert_eq!(listed.iter().filter(|one| one["status"] == "timed out").count(), 1);
}
