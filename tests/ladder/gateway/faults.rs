//! Applications that break, clients that misbehave, and the gateway's own end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Response;
use kagero::report::view::Phase;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::stage::{Stage, app, full, host, mirror, read_until, scripted, uid, within};

async fn take_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn an_application_that_does_not_listen_is_a_502_of_its_own_environment() {
    let stage = Stage::new();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    stage.route(1, Phase::Ready, Some(gone));
    let answer = stage.get(1, "/", "Accept: text/html\r\n").await;
    assert_eq!((answer.status, answer.header("x-kagero-page")), (502, Some("unreachable")));
    assert_eq!(answer.header("x-kagero-environment"), Some(uid(1).as_str()));
    assert_eq!(answer.header("retry-after"), Some("3"));
    assert!(answer.body.contains("acme&#x2f;shop"), "{answer:?}");
}

#[tokio::test]
async fn an_application_that_does_not_answer_is_a_504() {
    let stage = Stage::with(|config| config.timeouts.answer = Duration::from_millis(100));
    let upstream = scripted(|_, mut stream| async move {
        let _ = take_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    stage.route(1, Phase::Ready, Some(upstream));
    let answer = stage.get(1, "/", "").await;
    assert_eq!((answer.status, answer.header("x-kagero-page")), (504, Some("unreachable")));
}

#[tokio::test]
async fn garbage_from_an_application_is_a_502() {
    let stage = Stage::new();
    for garbage in [
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    ] {
        let upstream = scripted(move |_, mut stream| async move {
            let _ = take_head(&mut stream).await;
            let _ = stream.write_all(garbage.as_bytes()).await;
        })
        .await;
        stage.route(1, Phase::Ready, Some(upstream));
        assert_eq!(stage.get(1, "/", "").await.status, 502, "{garbage:?}");
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_passed_on_as_whole() {
    let stage = Stage::new();
    for part in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
    ] {
        let upstream = scripted(move |_, mut stream| async move {
            let _ = take_head(&mut stream).await;
            let _ = stream.write_all(part.as_bytes()).await;
        })
        .await;
        stage.route(1, Phase::Ready, Some(upstream));
        let answer = stage.get(1, "/", "").await;
        assert_eq!(answer.status, 200);
        assert!(!answer.body.ends_with("0\r\n\r\n"), "{answer:?}");
        assert!(answer.body.len() < 100, "{answer:?}");
    }
}

/// An application that answers the first request of a connection and drops the connection, unanswered, at
/// the second: what a connection looks like that is closed at the moment it is used.
async fn closing_at_the_second_request(seen: Arc<AtomicUsize>) -> std::net::SocketAddr {
    scripted(move |_, mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            if take_head(&mut stream).await.is_some() {
                seen.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            }
            if take_head(&mut stream).await.is_some() {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_request_that_may_be_repeated_survives_a_stale_connection() {
    let stage = Stage::one_thread();
    let seen = Arc::new(AtomicUsize::new(0));
    stage.route(1, Phase::Ready, Some(closing_at_the_second_request(Arc::clone(&seen)).await));
    for _ in 0..3 {
        let answer = stage.get(1, "/", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    }
    assert_eq!(seen.load(Ordering::SeqCst), 5, "three answered, two sent in vain");
}

#[tokio::test]
async fn a_request_that_may_not_be_repeated_is_sent_once() {
    let stage = Stage::one_thread();
    let seen = Arc::new(AtomicUsize::new(0));
    stage.route(1, Phase::Ready, Some(closing_at_the_second_request(Arc::clone(&seen)).await));
    assert_eq!(stage.get(1, "/", "").await.status, 200);
    let post = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", host(1));
    assert_eq!(stage.raw(&post).await.status, 502);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    let stage = Stage::one_thread();
    let closed = Arc::new(Notify::new());
    let tell = Arc::clone(&closed);
    let upstream = scripted(move |_, mut stream| {
        let tell = Arc::clone(&tell);
        async move {
            let post = take_head(&mut stream).await.unwrap().starts_with("POST");
            let mut body = [0; 2];
            if post {
                stream.read_exact(&mut body).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            stream.shutdown().await.unwrap();
            // The gateway closes its side once it has seen ours: then it cannot use the connection any more.
            let _ = stream.read(&mut body).await;
            tell.notify_one();
        }
    })
    .await;
    stage.route(1, Phase::Ready, Some(upstream));
    for _ in 0..5 {
        let post = format!("POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", host(1));
        assert_eq!(stage.raw(&post).await.status, 200);
        within(closed.notified()).await;
    }
}

#[tokio::test]
async fn what_frames_a_message_twice_reaches_the_application_once() {
    let stage = Stage::new();
    stage.route(1, Phase::Ready, Some(mirror("one").await));
    let one = host(1);
    // The length would end the message early and smuggle the rest in as a second request.
    let both = format!(
        "POST /first HTTP/1.1\r\nHost: {one}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
         1e\r\nGET /smuggled HTTP/1.1\r\nx: y\r\n\r\n0\r\n\r\n"
    );
    let answer = stage.raw(&both).await;
    assert!(answer.status == 400 || !answer.body.contains("content-length"), "{answer:?}");
    assert_eq!(answer.head.matches("HTTP/1.1").count() + answer.body.matches("app one").count(), 2, "{answer:?}");

    for (what, lines) in [
        ("two lengths", "Content-Length: 3\r\nContent-Length: 4\r\n"),
        ("a signed length", "Content-Length: +3\r\n"),
        ("chunked not last", "Transfer-Encoding: chunked, identity\r\n"),
        ("a folded header", "X-A: b\r\n Transfer-Encoding: chunked\r\n"),
        ("a space before the colon", "Transfer-Encoding : chunked\r\n"),
    ] {
        let answer = stage.raw(&format!("POST / HTTP/1.1\r\nHost: {one}\r\n{lines}Connection: close\r\n\r\nabc")).await;
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
    }
    let coded = format!(
        "POST / HTTP/1.1\r\nHost: {one}\r\nTransfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"
    );
    assert_eq!(stage.raw(&coded).await.status, 501);
}

#[tokio::test]
async fn headers_that_never_end_are_cut_off() {
    let stage = Stage::with(|config| config.timeouts.request_headers = Duration::from_millis(200));
    let mut stream = stage.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a").await.unwrap();
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest)).await.unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("200 OK"));
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let stage = Stage::with(|config| config.limits.header_bytes = 8 * 1024);
    stage.route(1, Phase::Ready, Some(mirror("one").await));
    let large = format!("X-Large: {}\r\n", "x".repeat(9 * 1024));
    assert_eq!(stage.get(1, "/", &large).await.status, 431);
}

#[tokio::test]
async fn no_more_connections_are_served_than_allowed() {
    let stage = Stage::with(|config| {
        config.limits.connections = 2;
        config.threads = std::num::NonZeroUsize::MIN;
    });
    stage.route(1, Phase::Ready, Some(mirror("one").await));
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(1));
    let mut first = stage.connect().await;
    let mut second = stage.connect().await;
    for stream in [&mut first, &mut second] {
        stream.write_all(ask.as_bytes()).await.unwrap();
        read_until(stream, "app one").await;
    }
    let mut third = stage.connect().await;
    third.write_all(ask.as_bytes()).await.unwrap();
    let mut byte = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(200), third.read(&mut byte)).await;
    assert!(early.is_err(), "a third connection was served");
    drop(first);
    read_until(&mut third, "app one").await;
}

#[tokio::test]
async fn more_connections_to_an_application_than_allowed_are_a_503() {
    let stage = Stage::with(|config| {
        config.limits.upstream_connections = 1;
        config.threads = std::num::NonZeroUsize::MIN;
    });
    let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&arrived), Arc::clone(&go_on));
    let upstream = app(move |_| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            Response::new(full("done"))
        }
    })
    .await;
    stage.route(1, Phase::Ready, Some(upstream));
    let mut busy = stage.connect().await;
    busy.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(1)).as_bytes()).await.unwrap();
    within(arrived.notified()).await;
    let answer = stage.get(1, "/", "").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("3")));
    go_on.notify_one();
    read_until(&mut busy, "done").await;
}

#[tokio::test]
async fn a_shutdown_lets_requests_end_and_accepts_no_more() {
    let stage = Stage::new();
    let (arrived, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&arrived), Arc::clone(&go_on));
    let upstream = app(move |_| {
        let (tell, wait) = (Arc::clone(&tell), Arc::clone(&wait));
        async move {
            tell.notify_one();
            wait.notified().await;
            Response::new(full("finished"))
        }
    })
    .await;
    stage.route(1, Phase::Ready, Some(upstream));
    let address = stage.gateway.local_addr();
    let mut stream = stage.connect().await;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(1)).as_bytes()).await.unwrap();
    within(arrived.notified()).await;
    let stopping = tokio::spawn(stage.gateway.shutdown());
    within(async {
        while TcpStream::connect(address).await.is_ok() {
            crate::wait::look_again().await;
        }
    })
    .await;
    go_on.notify_one();
    read_until(&mut stream, "finished").await;
    within(stopping).await.unwrap();
}
