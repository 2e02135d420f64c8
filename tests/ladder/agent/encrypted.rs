//! Connections to agents that others could listen to: encrypted, and under one key for as long as a machine lives.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use kagero::agent::pins;
use kagero::agent::tls::TlsListener;
use kagero::domain::id::EnvUid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::site::uid;

const PATIENCE: Duration = Duration::from_secs(10);

struct Agent {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    serving: tokio::task::JoinHandle<()>,
}

impl Agent {
    /// Serves with the key of that directory.
    async fn begin(dir: &Path, at: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        let router = Router::new().fallback(move || {
            count.fetch_add(1, Ordering::Relaxed);
            async { "here" }
        });
        let listener = TlsListener::begin(listener, dir).unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, asked, serving }
    }

    async fn end(self) -> SocketAddr {
        self.serving.abort();
        let _ = self.serving.await;
        self.address
    }
}

async fn ask(client: &reqwest::Client, address: SocketAddr, uid: &EnvUid) -> Result<String, reqwest::Error> {
    client.get(format!("{}/status", pins::encrypted(address, uid))).send().await?.text().await
}

fn anywhere() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[tokio::test]
async fn what_is_said_to_an_agent_is_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::begin(dir.path(), anywhere()).await;
    assert_eq!(ask(&pins::client(PATIENCE).unwrap(), agent.address, &uid()).await.unwrap(), "here");
    // In the clear nobody gets an answer.
    let plain = reqwest::Client::new().get(format!("http://{}/status", agent.address)).send().await;
    assert!(plain.is_err(), "{plain:?}");
    assert_eq!(agent.asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_agent_has_the_same_key_after_a_restart_and_another_one_is_not_told_anything() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let client = pins::client(PATIENCE).unwrap();
    let agent = Agent::begin(first.path(), anywhere()).await;
    ask(&client, agent.address, &uid()).await.unwrap();
    let address = agent.end().await;
    let agent = Agent::begin(first.path(), address).await;
    ask(&client, agent.address, &uid()).await.unwrap();
    agent.end().await;

    let stranger = Agent::begin(second.path(), address).await;
    let refused = ask(&client, address, &uid()).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(stranger.asked.load(Ordering::Relaxed), 0, "it was told something");
    // The same address for another environment is another machine.
    let other = EnvUid::parse("ffffffffffffffffffff").unwrap();
    ask(&client, address, &other).await.unwrap();
    // Whoever starts anew has seen none.
    ask(&pins::client(PATIENCE).unwrap(), address, &uid()).await.unwrap();
}

#[tokio::test]
async fn whoever_says_nothing_or_nonsense_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let agent = Agent::begin(dir.path(), anywhere()).await;
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(TcpStream::connect(agent.address).await.unwrap());
    }
    let mut nonsense = TcpStream::connect(agent.address).await.unwrap();
    nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = nonsense.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    assert_eq!(ask(&pins::client(PATIENCE).unwrap(), agent.address, &uid()).await.unwrap(), "here");
}
