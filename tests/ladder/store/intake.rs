//! The webhook endpoint over real sockets, with a real store behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use kagero::clock::SystemClock;
use kagero::http::webhook::{Intake, Limits, Reading, Verdict, router};
use kagero::store::{Inbox, InboxCounts, Store};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Place;

const CURRENT: &str = "current-secret";
const PREVIOUS: &str = "previous-secret";

fn sign(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

fn verify(secrets: &[SecretString], header: Option<&str>, body: &[u8]) -> Verdict {
    let Some(header) = header else { return Verdict::Missing };
    match secrets.iter().position(|secret| sign(secret.expose_secret(), body) == header) {
        Some(secret) => Verdict::Genuine { secret },
        None => Verdict::Forged,
    }
}

/// As the forge reads: `pull_request` with a known action matters, other events do not.
fn read(event: &str, body: &[u8]) -> Reading {
    if event != "pull_request" {
        return Reading::Ignored;
    }
    match serde_json::from_slice::<serde_json::Value>(body) {
        Err(error) => Reading::Malformed(error.to_string()),
        Ok(value) if value["action"] == "opened" => Reading::Relevant,
        Ok(_) => Reading::Ignored,
    }
}

struct Server {
    address: SocketAddr,
    store: Store,
    task: tokio::task::JoinHandle<()>,
    _place: Place,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(limits: Limits) -> Server {
    let place = Place::sqlite();
    let store = place.open().await;
    let secrets = vec![SecretString::from(CURRENT), SecretString::from(PREVIOUS)];
    let intake = Intake::new(store.inbox().clone(), secrets, Arc::new(SystemClock), verify, read, limits);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        axum::serve(listener, router(Arc::new(intake))).await.unwrap();
    });
    Server { address, store, task, _place: place }
}

impl Server {
    fn inbox(&self) -> &Inbox {
        self.store.inbox()
    }

    /// A delivery as GitHub sends it; the headers given replace the usual ones, an empty value removes one.
    async fn post(&self, body: impl Into<reqwest::Body> + AsRef<[u8]>, headers: &[(&str, &str)]) -> (u16, String) {
        let mut all = vec![
            ("content-type", "application/json".to_owned()),
            ("x-github-event", "pull_request".to_owned()),
            ("x-github-delivery", "guid-1".to_owned()),
            ("x-hub-signature-256", sign(CURRENT, body.as_ref())),
        ];
        for (name, value) in headers {
            all.retain(|(usual, _)| usual != name);
            if !value.is_empty() {
                all.push((name, (*value).to_owned()));
            }
        }
        let mut request = reqwest::Client::new().post(format!("http://{}/webhook/github", self.address));
        for (name, value) in all {
            request = request.header(name, value);
        }
        let answer = request.body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    async fn stored(&self) -> u64 {
        self.inbox().counts().await.unwrap().pending
    }
}

const OPENED: &str = r#"{"action":"opened","number":7}"#;

#[tokio::test]
async fn a_genuine_delivery_is_stored_as_it_came() {
    let server = serve(Limits::default()).await;
    assert_eq!(server.post(OPENED, &[]).await.0, 202);
    let stored = server.inbox().pending(10).await.unwrap();
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].guid.as_str(), stored[0].event.as_str()), ("guid-1", "pull_request"));
    assert_eq!(stored[0].body, OPENED);
    // GitHub's redelivery carries the same guid.
    assert_eq!(server.post(OPENED, &[]).await.0, 202);
    assert_eq!(server.stored().await, 1);
}

#[tokio::test]
async fn only_what_a_secret_has_signed_has_an_effect() {
    let server = serve(Limits::default()).await;
    let wrong = sign("guessed", OPENED.as_bytes());
    let other = sign(CURRENT, b"{}");
    for signature in ["", "sha256=", "nonsense", &wrong, &other] {
        assert_eq!(server.post(OPENED, &[("x-hub-signature-256", signature)]).await.0, 401, "{signature:?}");
    }
    assert_eq!(server.stored().await, 0);
    let previous = sign(PREVIOUS, OPENED.as_bytes());
    assert_eq!(server.post(OPENED, &[("x-hub-signature-256", &previous)]).await.0, 202, "the previous secret");
    assert_eq!(server.stored().await, 1);
}

#[tokio::test]
async fn what_nobody_acts_on_is_acknowledged_and_not_kept() {
    let server = serve(Limits::default()).await;
    for (event, body) in [
        ("ping", r#"{"zen":"Keep it logically awesome."}"#),
        ("an_event_of_tomorrow", "{}"),
        ("pull_request", r#"{"action":"an_action_of_tomorrow"}"#),
    ] {
        assert_eq!(server.post(body, &[("x-github-event", event)]).await.0, 202, "{event}");
    }
    assert_eq!(server.stored().await, 0);
}

#[tokio::test]
async fn what_is_malformed_is_refused_with_a_hint() {
    let server = serve(Limits::default()).await;
    let long = "x".repeat(101);
    for (headers, body, status, hint) in [
        (vec![], "{\"action\":", 400, "not valid"),
        (vec![("x-github-event", "ping")], "{\"zen\": nope}", 400, "not valid"),
        (vec![("x-github-event", "ping")], "", 400, "not valid"),
        (vec![("x-github-event", "")], OPENED, 400, "x-github-event"),
        (vec![("x-github-delivery", "")], OPENED, 400, "x-github-delivery"),
        (vec![("x-github-delivery", "with blank")], OPENED, 400, "x-github-delivery"),
        (vec![("x-github-delivery", long.as_str())], OPENED, 400, "x-github-delivery"),
        (
            vec![("content-type", "application/x-www-form-urlencoded")],
            "payload=%7B%7D",
            400,
            "is \"application/x-www-form-urlencoded\", expected application/json",
        ),
        (vec![("content-type", "")], OPENED, 400, "is \"\", expected application/json"),
    ] {
        let (given, words) = server.post(body, &headers).await;
        assert_eq!(given, status, "{headers:?} {body}: {words}");
        assert!(words.contains(hint), "{headers:?} {body}: {words}");
    }
    assert_eq!(server.post(OPENED, &[("content-type", "application/json; charset=utf-8")]).await.0, 202);
    assert_eq!(server.stored().await, 1);
    let get = reqwest::get(format!("http://{}/webhook/github", server.address)).await.unwrap();
    assert_eq!(get.status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_up_to_25_mb_are_taken_and_larger_ones_are_not_read() {
    let server = serve(Limits::default()).await;
    let most = Limits::default().body;
    let mut body = br#"{"action":"opened","title":""#.to_vec();
    body.resize(most - 2, b'x');
    body.extend_from_slice(b"\"}");
    assert_eq!(body.len(), 25 * 1024 * 1024);
    let kept = body.clone();
    assert_eq!(server.post(body, &[]).await.0, 202);
    let stored = server.inbox().pending(1).await.unwrap();
    assert!(stored[0].body == kept, "25 MB came back changed");

    // Answered on the announcement alone: not one byte of the body is sent.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(head("guid-2", 26 * 1024 * 1024).as_bytes()).await.unwrap();
    assert!(answer(&mut socket).await.starts_with("HTTP/1.1 413"));

    // Without an announcement it is cut off once it is too long.
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let chunked = head("guid-3", 0).replace("content-length: 0", "transfer-encoding: chunked");
    socket.write_all(chunked.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = socket.into_split();
    let sending = tokio::spawn(async move {
        let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 0x10_0000], b"\r\n"].concat();
        for _ in 0..26 {
            // The server may hang up on us, which is what we are here for.
            if writing.write_all(&chunk).await.is_err() {
                break;
            }
        }
    });
    let mut given = vec![0; 12];
    tokio::time::timeout(Duration::from_mins(1), reading.read_exact(&mut given)).await.unwrap().unwrap();
    assert_eq!(given, b"HTTP/1.1 413");
    sending.abort();
    assert_eq!(server.stored().await, 1);
}

fn head(guid: &str, length: usize) -> String {
    format!(
        "POST /webhook/github HTTP/1.1\r\nhost: kagero\r\ncontent-type: application/json\r\n\
         x-github-event: pull_request\r\nx-github-delivery: {guid}\r\ncontent-length: {length}\r\n\r\n"
    )
}

async fn answer(socket: &mut TcpStream) -> String {
    let mut text = String::new();
    let reading = socket.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_mins(1), reading).await.expect("no answer, or no hanging up").unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_senders_are_cut_off_and_keep_nobody_waiting() {
    let patience = Duration::from_secs(2);
    let server = serve(Limits { patience, ..Limits::default() }).await;
    let mut slow = Vec::new();
    for number in 0..100 {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(head(&format!("slow-{number}"), 20_000_000).as_bytes()).await.unwrap();
        socket.write_all(b"{").await.unwrap();
        slow.push(socket);
    }
    assert_eq!(server.post(OPENED, &[]).await.0, 202, "kept waiting by slow senders");
    for mut socket in slow {
        assert!(answer(&mut socket).await.starts_with("HTTP/1.1 408"));
    }
    assert_eq!(server.stored().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_transit_are_bounded_together() {
    let server = serve(Limits { memory: 1024 * 1024, ..Limits::default() }).await;
    let mut hoarder = TcpStream::connect(server.address).await.unwrap();
    hoarder.write_all(head("hoarder", 20_000_000).as_bytes()).await.unwrap();
    let filled = hoarder.write_all(&vec![b' '; 2 * 1024 * 1024]).await;
    if filled.is_ok() {
        let mut given = vec![0; 12];
        let reading = hoarder.read_exact(&mut given);
        tokio::time::timeout(Duration::from_mins(1), reading).await.unwrap().unwrap();
        assert_eq!(given, b"HTTP/1.1 503");
    }
    drop(hoarder);
    assert_eq!(server.post(OPENED, &[]).await.0, 202, "memory was not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_at_the_same_time_are_all_acknowledged_and_stored_once() {
    let server = Arc::new(serve(Limits::default()).await);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { server.post(OPENED, &[]).await.0 })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), 202);
    }
    let counts = server.inbox().counts().await.unwrap();
    assert_eq!(
        InboxCounts { oldest_pending: None, ..counts },
        InboxCounts { pending: 1, processed: 0, oldest_pending: None }
    );
}

#[tokio::test]
async fn a_store_that_cannot_write_makes_github_record_a_failure() {
    let server = serve(Limits::default()).await;
    server.store.close().await;
    let (status, words) = server.post(OPENED, &[]).await;
    assert_eq!(status, 503, "{words}");
    assert!(words.contains("asked for again"), "{words}");
}
