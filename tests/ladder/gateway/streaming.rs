//! What passes piece by piece: WebSockets, event streams, uploads, half-closed connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use http::Response;
use http_body_util::BodyExt as _;
use kagero::report::view::Phase;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::stage::{DEADLINE, Stage, app, full, host, mirror, read_until, streamed, within};

async fn websocket_echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() || socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_websocket_passes_in_both_directions() {
    let stage = Stage::new();
    stage.route(1, Phase::Ready, Some(websocket_echo().await));
    let request = format!("ws://{}/cable", host(1)).into_client_request().unwrap();
    let (mut socket, answer) = within(tokio_tungstenite::client_async(request, stage.connect().await)).await.unwrap();
    assert_eq!(answer.headers()["x-robots-tag"], "noindex");
    for n in 0..50 {
        let sent = Message::text(format!("{n} {}", "x".repeat(n * 1_000)));
        socket.send(sent.clone()).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), sent);
    }
    // A shutdown does not wait for WebSockets.
    within(stage.gateway.shutdown()).await;
    assert!(!matches!(within(socket.next()).await, Some(Ok(message)) if !message.is_close()));
}

#[tokio::test]
async fn an_application_that_refuses_a_websocket_answers_as_usual() {
    let stage = Stage::new();
    stage.route(1, Phase::Ready, Some(mirror("one").await));
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let request = format!("GET /cable HTTP/1.1\r\nHost: {}\r\n{upgrade}\r\n", host(1));
    let mut stream = stage.connect().await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let read = read_until(&mut stream, "upgrade: websocket\n").await;
    assert!(read.starts_with("HTTP/1.1 200"), "{read}");
}

#[tokio::test]
async fn an_event_reaches_the_client_before_the_next_one_is_made() {
    let stage = Stage::new();
    let go_on = Arc::new(Notify::new());
    let wait = Arc::clone(&go_on);
    let upstream = app(move |_| {
        let wait = Arc::clone(&wait);
        async move {
            let events = async_stream::stream! {
                yield Bytes::from_static(b"data: first\n\n");
                wait.notified().await;
                yield Bytes::from_static(b"data: second\n\n");
            };
            Response::builder().header("content-type", "text/event-stream").body(streamed(events.boxed())).unwrap()
        }
    })
    .await;
    stage.route(1, Phase::Ready, Some(upstream));
    let mut stream = stage.connect().await;
    let ask = format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", host(1));
    stream.write_all(ask.as_bytes()).await.unwrap();
    let first = read_until(&mut stream, "data: first\n\n").await;
    assert!(!first.contains("second"));
    go_on.notify_one();
    read_until(&mut stream, "data: second\n\n").await;
}

#[tokio::test]
async fn a_large_upload_is_passed_on_as_fast_as_it_is_taken() {
    const SIZE: u64 = 100 * 1024 * 1024;
    let stage = Stage::new();
    let taken = Arc::new(AtomicU64::new(0));
    let go_on = Arc::new(Notify::new());
    let (count, wait) = (Arc::clone(&taken), Arc::clone(&go_on));
    let upstream = app(move |request| {
        let (count, wait) = (Arc::clone(&count), Arc::clone(&wait));
        async move {
            let mut body = request.into_body();
            wait.notified().await;
            while let Some(frame) = body.frame().await {
                let data = frame.unwrap().into_data().unwrap_or_default();
                count.fetch_add(data.len() as u64, Ordering::SeqCst);
            }
            Response::new(full(format!("took {}", count.load(Ordering::SeqCst))))
        }
    })
    .await;
    stage.route(1, Phase::Ready, Some(upstream));

    let (mut read, mut write) = stage.connect().await.into_split();
    let head = format!("POST /files HTTP/1.1\r\nHost: {}\r\nContent-Length: {SIZE}\r\n\r\n", host(1));
    write.write_all(head.as_bytes()).await.unwrap();
    let pushed = Arc::new(AtomicU64::new(0));
    let pushing = Arc::clone(&pushed);
    let upload = tokio::spawn(async move {
        let block = vec![b'x'; 64 * 1024];
        while pushing.load(Ordering::SeqCst) < SIZE {
            write.write_all(&block).await.unwrap();
            pushing.fetch_add(block.len() as u64, Ordering::SeqCst);
        }
        write
    });
    // The application takes nothing yet: pushing has to come to rest at what sockets and buffers hold.
    let mut before = u64::MAX;
    let mut calm = 0;
    within(async {
        while calm < 20 {
            let now = pushed.load(Ordering::SeqCst);
            calm = if now == before && now > 0 { calm + 1 } else { 0 };
            before = now;
            crate::wait::look_again().await;
        }
    })
    .await;
    assert!(before < SIZE / 4, "{before} bytes were taken for an application that reads nothing");
    assert_eq!(taken.load(Ordering::SeqCst), 0);
    go_on.notify_one();
    let mut answer = String::new();
    within(async {
        let mut buffer = [0; 4096];
        while !answer.contains(&format!("took {SIZE}")) {
            let n = read.read(&mut buffer).await.unwrap();
            assert!(n > 0, "{answer}");
            answer.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    })
    .await;
    upload.await.unwrap();
}

#[tokio::test]
async fn chunked_uploads_and_expectations_pass() {
    let stage = Stage::new();
    stage.route(1, Phase::Ready, Some(mirror("one").await));
    let one = host(1);
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: {one}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
    );
    let answer = stage.raw(&chunked).await;
    assert!(answer.body.contains("body: abcdefg\n"), "{answer:?}");

    // A body on GET is rare and must not be lost.
    let answer = stage.raw(&chunked.replace("POST", "GET")).await;
    assert!(answer.body.contains("body: abcdefg\n"), "{answer:?}");

    let mut stream = stage.connect().await;
    let expecting = format!("POST / HTTP/1.1\r\nHost: {one}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    stream.write_all(expecting.as_bytes()).await.unwrap();
    assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100 Continue"));
    stream.write_all(b"hello").await.unwrap();
    let read = read_until(&mut stream, "body: hello\n").await;
    assert!(read.starts_with("HTTP/1.1 200"), "{read}");
}

#[tokio::test]
async fn answers_without_a_body_stay_without_one() {
    let stage = Stage::one_thread();
    let upstream = app(|request| async move {
        match request.uri().path() {
            "/204" => Response::builder().status(204).body(full("")).unwrap(),
            "/304" => Response::builder().status(304).header("etag", "\"a\"").body(full("")).unwrap(),
            _ => Response::new(full("0123456789")),
        }
    })
    .await;
    stage.route(1, Phase::Ready, Some(upstream));
    let mut stream = stage.connect().await;
    // All on one connection: a body where none belongs would spoil the next answer.
    for (request, expected) in [
        ("GET /204", "HTTP/1.1 204"),
        ("HEAD /ten", "content-length: 10"),
        ("GET /304", "etag: \"a\""),
        ("GET /ten", "0123456789"),
    ] {
        let ask = format!("{request} HTTP/1.1\r\nHost: {}\r\n\r\n", host(1));
        stream.write_all(ask.as_bytes()).await.unwrap();
        let read = read_until(&mut stream, expected).await;
        assert!(read.starts_with("HTTP/1.1 "), "{request}: {read}");
        if !read.contains("\r\n\r\n") {
            read_until(&mut stream, "\r\n\r\n").await;
        }
    }
}

/// Whether the peer's kernel has taken our end-of-stream: the connection's state is then `FIN_WAIT2`.
fn half_closed(stream: &TcpStream) -> bool {
    let port = format!("0100007F:{:04X}", stream.local_addr().unwrap().port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(1) == Some(&port) && fields.nth(1) == Some("05")
    })
}

#[tokio::test]
async fn a_client_that_has_closed_its_direction_gets_its_answer() {
    let stage = Stage::new();
    let go_on = Arc::new(Notify::new());
    let wait = Arc::clone(&go_on);
    let upstream = app(move |_| {
        let wait = Arc::clone(&wait);
        async move {
            wait.notified().await;
            Response::new(full("late but here"))
        }
    })
    .await;
    stage.route(1, Phase::Ready, Some(upstream));
    let mut stream = stage.connect().await;
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(1));
    stream.write_all(ask.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    tokio::time::timeout(DEADLINE, async {
        while !half_closed(&stream) {
            crate::wait::look_again().await;
        }
    })
    .await
    .expect("the connection is half-closed");
    go_on.notify_one();
    let read = read_until(&mut stream, "late but here").await;
    assert!(read.starts_with("HTTP/1.1 200"), "{read}");
}
