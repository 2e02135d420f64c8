//! The controller's listener over real sockets: slow, silent and many clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use kagero::http::listen::{Bounds, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::wait::eventually;

const PATIENCE: Duration = Duration::from_mins(1);

struct Site {
    address: SocketAddr,
    /// Lets the request to `/held` go on.
    gate: Arc<Notify>,
    /// How many such requests there have been at once.
    most: Arc<AtomicUsize>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

async fn site(bounds: Bounds) -> Site {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Arc::new(Notify::new());
    let (held, present, most) = (Arc::clone(&gate), AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let (present, seen) = (Arc::new(present), Arc::clone(&most));
    let app = Router::new().route("/", get(|| async { "well" })).route(
        "/held",
        get(|| async move {
            seen.fetch_max(present.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            held.notified().await;
            present.fetch_sub(1, Ordering::SeqCst);
            "held"
        }),
    );
    let stop = CancellationToken::new();
    let task = tokio::spawn(serve(listener, app, bounds, stop.clone()));
    Site { address, gate, most, stop, task }
}

async fn ask(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nhost: kagero\r\nconnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    rest(&mut socket).await
}

/// What comes until the server hangs up.
async fn rest(socket: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // Hanging up on a sender in the middle of its words may be a reset.
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut text)).await.expect("the server does not hang up");
    String::from_utf8(text).unwrap()
}

/// As slowloris: heads that never end, a byte at a time, on as many connections as there may be.
#[tokio::test(flavor = "multi_thread")]
async fn heads_that_do_not_end_are_cut_off_and_keep_nobody_out() {
    let bounds = Bounds { connections: 20, head: Duration::from_millis(700), ..Bounds::default() };
    let site = site(bounds).await;
    let mut slow = Vec::new();
    for _ in 0..bounds.connections {
        let mut socket = TcpStream::connect(site.address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nx-slow: ").await.unwrap();
        slow.push(tokio::spawn(async move {
            let (mut reading, mut writing) = socket.split();
            let trickle = async {
                while writing.write_all(b"x").await.is_ok() {
                    crate::wait::look_again().await;
                }
            };
            let hung_up = async {
                let mut text = Vec::new();
                let _ = reading.read_to_end(&mut text).await;
            };
            tokio::select! {
                () = trickle => {}
                () = hung_up => {}
            }
        }));
    }
    // Each of them has a seat: whoever comes now is answered once they are cut off.
    let answer = tokio::time::timeout(PATIENCE, ask(site.address, "/")).await.expect("kept out");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("well"), "{answer}");
    for slow in slow {
        tokio::time::timeout(PATIENCE, slow).await.expect("a slow client is still connected").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_idle_connections_are_closed() {
    let site = site(Bounds { head: Duration::from_millis(200), ..Bounds::default() }).await;
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    assert_eq!(rest(&mut silent).await, "");
    let mut idle = TcpStream::connect(site.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: kagero\r\n\r\n").await.unwrap();
    assert!(rest(&mut idle).await.ends_with("well"), "answered, then closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_than_allowed_are_served_at_once() {
    let site = site(Bounds { connections: 2, ..Bounds::default() }).await;
    let address = site.address;
    let requests: Vec<_> = (0..8).map(|_| tokio::spawn(async move { ask(address, "/held").await })).collect();
    for request in requests {
        eventually("the request to end", PATIENCE, async || {
            site.gate.notify_one();
            request.is_finished()
        })
        .await;
        assert!(request.await.unwrap().ends_with("held"));
    }
    assert_eq!(site.most.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_requests_end_and_closes_the_others() {
    let site = site(Bounds::default()).await;
    let address = site.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let request = tokio::spawn(async move { ask(address, "/held").await });
    eventually("the request is under way", PATIENCE, async || ask(address, "/").await.ends_with("well")).await;
    site.stop.cancel();
    assert_eq!(rest(&mut idle).await, "");
    site.gate.notify_one();
    assert!(request.await.unwrap().ends_with("held"));
    tokio::time::timeout(PATIENCE, site.task).await.expect("it does not stop").unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
