//! Which request reaches which application, and what the application is told.

use kagero::domain::desired::GoneReason;
use kagero::gateway::{Front, Gateway, GatewayConfig, GatewayError, Route, RouteTable, Scheme};
use kagero::report::view::Phase;
use tokio::io::AsyncWriteExt as _;

use super::stage::{DOMAIN, Stage, host, mirror, read_until, uid, view};

async fn two_apps() -> Stage {
    let stage = Stage::new();
    stage.route(1, Phase::Ready, Some(mirror("one").await));
    stage.route(2, Phase::Ready, Some(mirror("two").await));
    stage
}

#[tokio::test]
async fn each_host_reaches_its_own_application_only() {
    let stage = two_apps().await;
    for (pr, name) in [(1, "app one\n"), (2, "app two\n")] {
        let answer = stage.get(pr, "/a?b=c", "").await;
        assert_eq!(answer.status, 200);
        assert!(answer.body.starts_with(name), "{answer:?}");
        assert!(answer.body.contains("GET /a?b=c\n"), "{answer:?}");
        assert_eq!(answer.header("x-kagero-environment"), Some(uid(pr).as_str()));
        assert_eq!(answer.header("x-robots-tag"), Some("noindex"));
        assert_eq!(answer.header("x-kagero-page"), None);
    }
}

#[tokio::test]
async fn a_host_is_read_in_any_case_with_port_and_trailing_dot() {
    let stage = two_apps().await;
    for written in ["PR-1-SHOP.Preview.Test", "pr-1-shop.preview.test:8081", "pr-1-shop.preview.test.:8081"] {
        let answer = stage.raw(&format!("GET / HTTP/1.1\r\nHost: {written}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.body.starts_with("app one\n"), "{written}: {answer:?}");
        assert!(answer.body.contains(&format!("host: {written}\n")), "{answer:?}");
        assert!(answer.body.contains(&format!("x-forwarded-host: {written}\n")), "{answer:?}");
    }
}

#[tokio::test]
async fn no_header_and_no_target_leads_to_another_environment() {
    let stage = two_apps().await;
    let one = host(1);
    let two = host(2);
    let lies = format!(
        "X-Forwarded-Host: {two}\r\nX-Host: {two}\r\nForwarded: host={two}\r\nX-Original-Host: {two}\r\nX-Kagero-Environment: {}\r\n",
        uid(2)
    );
    let answer = stage.get(1, "/", &lies).await;
    assert!(answer.body.starts_with("app one\n"), "{answer:?}");
    assert!(answer.body.contains(&format!("x-forwarded-host: {one}\n")), "{answer:?}");

    let agreeing = format!("GET http://{one}/deep?q=1 HTTP/1.1\r\nHost: {one}\r\nConnection: close\r\n\r\n");
    let answer = stage.raw(&agreeing).await;
    assert!(answer.body.starts_with("app one\nGET /deep?q=1\n"), "{answer:?}");

    for (what, request) in [
        ("target against header", format!("GET http://{two}/ HTTP/1.1\r\nHost: {one}\r\n\r\n")),
        ("two hosts", format!("GET / HTTP/1.1\r\nHost: {one}\r\nHost: {two}\r\n\r\n")),
        ("the same host twice", format!("GET / HTTP/1.1\r\nHost: {one}\r\nHost: {one}\r\n\r\n")),
        ("no host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("no host, absolute", format!("GET http://{one}/ HTTP/1.1\r\n\r\n")),
        ("no host, HTTP/1.0", "GET / HTTP/1.0\r\n\r\n".to_owned()),
        ("a list", format!("GET / HTTP/1.1\r\nHost: {one}, {two}\r\n\r\n")),
        ("a user", format!("GET / HTTP/1.1\r\nHost: x@{one}\r\n\r\n")),
    ] {
        // Closing the connection is the client's part here: half-closed, the answer still comes.
        let mut stream = stage.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let read = read_until(&mut stream, "\r\n\r\n").await;
        assert!(read.starts_with("HTTP/1.1 400") || read.starts_with("HTTP/1.0 400"), "{what}: {read}");
        assert!(read.contains("x-robots-tag: noindex"), "{what}: {read}");
        assert!(!read.contains("app "), "{what}: {read}");
    }
}

#[tokio::test]
async fn hosts_outside_the_domain_are_unknown() {
    let stage = two_apps().await;
    for other in [DOMAIN, "a.pr-1-shop.preview.test", "pr-1-shop.preview.test.evil.example", "pr-1-shop", "127.0.0.1"] {
        let answer = stage.raw(&format!("GET / HTTP/1.1\r\nHost: {other}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!((answer.status, answer.header("x-kagero-page")), (404, Some("unknown")), "{other}");
        assert_eq!(answer.header("x-robots-tag"), Some("noindex"));
        assert_eq!(answer.header("x-kagero-environment"), None);
    }
    let health = stage.raw("GET /.kagero/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").await;
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
}

#[tokio::test]
async fn connect_and_trace_are_refused() {
    let stage = two_apps().await;
    let one = host(1);
    for request in [
        format!("TRACE / HTTP/1.1\r\nHost: {one}\r\nConnection: close\r\n\r\n"),
        format!("CONNECT {one}:443 HTTP/1.1\r\nHost: {one}:443\r\nConnection: close\r\n\r\n"),
    ] {
        assert_eq!(stage.raw(&request).await.status, 405, "{request}");
    }
}

#[tokio::test]
async fn a_kept_connection_follows_the_route() {
    let stage = two_apps().await;
    let mut stream = stage.connect().await;
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", host(1));
    let mut next = async |expected: &str| {
        stream.write_all(ask.as_bytes()).await.unwrap();
        let read = read_until(&mut stream, expected).await;
        assert!(read.starts_with("HTTP/1.1 "), "{read}");
    };
    next("app one\n").await;
    stage.route(1, Phase::Ready, Some(mirror("one, newer").await));
    next("app one, newer\n").await;
    let upstream = Some(mirror("stale").await);
    stage.route(1, Phase::Destroying(GoneReason::Closed), upstream);
    next("410 Gone").await;
}

#[tokio::test]
async fn what_is_taken_away_is_never_forwarded_to() {
    let stage = Stage::new();
    let upstream = Some(mirror("stale").await);
    for phase in [
        Phase::Destroying(GoneReason::Closed),
        Phase::DestroyFailing(GoneReason::Merged),
        Phase::Destroyed(GoneReason::Closed),
        Phase::Destroyed(GoneReason::Superseded),
        Phase::NotWanted(GoneReason::Draft),
    ] {
        stage.route(1, phase.clone(), upstream);
        let answer = stage.get(1, "/", "").await;
        assert!(matches!(answer.status, 410 | 404 | 503), "{phase:?}: {answer:?}");
        assert!(!answer.body.contains("app stale"), "{phase:?}: {answer:?}");
    }
    stage.remove(1);
    assert_eq!(stage.get(1, "/", "").await.status, 404);
}

#[tokio::test]
async fn an_address_that_changes_hands_gets_no_old_connection() {
    // Each connection of this upstream goes on answering in the name of the environment it began with, as
    // a process does that still drains its connections after another one has taken its port.
    let stage = Stage::one_thread();
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&connections);
    let upstream = super::stage::scripted(move |number, mut stream| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            loop {
                let mut one = [0; 1];
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match tokio::io::AsyncReadExt::read(&mut stream, &mut one).await {
                        Ok(1) => head.push(one[0]),
                        _ => return,
                    }
                }
                let body = format!("connection {number}\n");
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    stage.route(1, Phase::Ready, Some(upstream));
    assert_eq!(stage.get(1, "/", "").await.body, "connection 1\n");
    assert_eq!(stage.get(1, "/", "").await.body, "connection 1\n", "connections are kept");
    stage.route(1, Phase::Destroyed(GoneReason::Closed), None);
    stage.route(2, Phase::Ready, Some(upstream));
    assert_eq!(stage.get(2, "/", "").await.body, "connection 2\n");
    assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn the_application_is_told_where_a_request_comes_from() {
    let stage = Stage::with(|config| config.scheme = Scheme::Https);
    stage.route(1, Phase::Ready, Some(mirror("one").await));
    let lies = "X-Forwarded-For: 203.0.113.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: 1\r\nForwarded: for=a\r\nX-Real-IP: 203.0.113.1\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nTE: trailers\r\n";
    let answer = stage.get(1, "/", lies).await;
    for line in ["x-forwarded-for: 127.0.0.1\n", "x-forwarded-proto: https\n", "x-forwarded-port: 443\n"] {
        assert!(answer.body.contains(line), "{line}{answer:?}");
    }
    for gone in ["203.0.113.1", "x-hop", "keep-alive", "proxy-connection", "forwarded: for", "x-real-ip", "te: "] {
        assert!(!answer.body.contains(gone), "{gone}: {answer:?}");
    }
}

#[tokio::test]
async fn behind_a_load_balancer_its_word_on_the_client_counts() {
    let stage = Stage::with(|config| config.front = Front::LoadBalancer);
    stage.route(1, Phase::Ready, Some(mirror("one").await));
    let answer = stage.get(1, "/", "X-Forwarded-For: 203.0.113.1, 192.0.2.44\r\n").await;
    assert!(answer.body.contains("x-forwarded-for: 192.0.2.44\n"), "{answer:?}");
}

#[tokio::test]
async fn an_application_cannot_change_what_the_gateway_says() {
    let stage = Stage::new();
    let upstream = super::stage::app(|_| async {
        http::Response::builder()
            .header("x-kagero-environment", "spoofed")
            .header("x-kagero-page", "boot")
            .header("x-robots-tag", "all")
            .header("set-cookie", "sid=1; Domain=preview.test; Path=/")
            .header("keep-alive", "timeout=9")
            .body(super::stage::full("hello"))
            .unwrap()
    })
    .await;
    stage.route(1, Phase::Ready, Some(upstream));
    let answer = stage.get(1, "/", "").await;
    assert_eq!(answer.header("x-kagero-environment"), Some(uid(1).as_str()));
    assert_eq!(answer.header("x-kagero-page"), None);
    assert_eq!(answer.header("x-robots-tag"), Some("noindex"));
    assert_eq!(answer.header("set-cookie"), Some("sid=1; Path=/"));
    assert_eq!(answer.header("keep-alive"), None);
    assert_eq!(answer.head.matches("x-kagero-environment").count(), 1);
}

#[tokio::test]
async fn an_address_in_use_and_a_wrong_domain_are_errors() {
    let stage = Stage::new();
    let taken = GatewayConfig::new(stage.gateway.local_addr(), DOMAIN);
    assert!(matches!(Gateway::start(taken, RouteTable::default()), Err(GatewayError::Listen(..))));
    let wrong = GatewayConfig::new("127.0.0.1:0".parse().unwrap(), "https://preview.test");
    let error = Gateway::start(wrong, RouteTable::default()).unwrap_err();
    assert!(matches!(error, GatewayError::Domain(_)), "{error}");
}

#[test]
fn a_label_that_another_environment_has_taken_over_stays_its() {
    let table = RouteTable::default();
    let label = "pr-5-shop-api";
    for pr in [5, 6] {
        table.set(label, Route { uid: uid(pr), upstream: None, view: view(pr, Phase::Ready).into() });
    }
    let changes = table.changes();
    table.remove(label, &uid(5));
    assert_eq!(table.get(label).unwrap().uid, uid(6));
    assert!(!changes.has_changed().unwrap(), "nothing has changed");
    table.remove(label, &uid(6));
    assert!(table.get(label).is_none() && changes.has_changed().unwrap());
}
