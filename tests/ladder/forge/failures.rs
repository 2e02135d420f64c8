//! Every way in which GitHub fails, and what the caller is told to do about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kagero::clock::SystemClock;
use kagero::domain::id::PrNumber;
use kagero::forge::github::{Github, GithubConfig};
use kagero::forge::{Forge as _, ForgeError, ForgeErrorKind};
use serde_json::json;

use super::server::{APP, Reply, Server, pem, pull, raw, reply, reply_with, shop};

async fn reading(answer: impl Fn() -> Reply + Send + Sync + 'static) -> ForgeError {
    let server = Server::start(move |seen| seen.path.contains("/pulls").then(&answer)).await;
    let error = server.github.pull(&shop(), PrNumber(12)).await.unwrap_err();
    assert!(error.to_string().starts_with("reading pull request acme/shop#12: "), "{error}");
    let tries = server.asked().len();
    assert_eq!(tries, if error.why.contains("401") { 2 } else { 1 }, "nothing is retried behind the caller's back");
    error
}

#[tokio::test]
async fn every_answer_leads_to_one_thing_to_do() {
    use ForgeErrorKind::{Denied, Garbled, NotFound, Rejected, Retry, SlowDown};
    let secs = Duration::from_secs;
    let forbidden = json!({"message": "Resource not accessible by integration"});
    let primary = json!({"message": "API rate limit exceeded for installation ID 3."});
    let secondary = json!({"message": "You have exceeded a secondary rate limit."});
    let reset = (1_800_000_000 + 90).to_string();

    let kind = async |status: u16, headers: Vec<(&'static str, String)>, body: String| {
        let answer = move || {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            raw(status, &headers, body.clone())
        };
        reading(answer).await.kind
    };
    assert_eq!(kind(401, vec![], "{}".into()).await, Denied);
    assert_eq!(kind(403, vec![], forbidden.to_string()).await, Denied);
    let used_up = vec![("x-ratelimit-remaining", "0".into()), ("x-ratelimit-reset", reset)];
    assert_eq!(kind(403, used_up.clone(), primary.to_string()).await, SlowDown(secs(91)));
    assert_eq!(kind(429, used_up, primary.to_string()).await, SlowDown(secs(91)));
    assert_eq!(kind(403, vec![("retry-after", "17".into())], secondary.to_string()).await, SlowDown(secs(17)));
    assert_eq!(kind(403, vec![], secondary.to_string()).await, SlowDown(secs(60)));
    assert_eq!(kind(429, vec![], String::new()).await, SlowDown(secs(60)));
    assert_eq!(kind(404, vec![], "{}".into()).await, NotFound);
    assert_eq!(kind(422, vec![], "{}".into()).await, Rejected);
    assert_eq!(kind(500, vec![], String::new()).await, Retry);
    assert_eq!(kind(502, vec![], "<html>Bad Gateway</html>".into()).await, Retry);
    // 200 with something else than the answer.
    assert_eq!(kind(200, vec![], r#"{"number": 12, "sta"#.into()).await, Garbled);
    assert_eq!(kind(200, vec![], "<html>Unicorn!</html>".into()).await, Garbled);
    assert_eq!(kind(200, vec![], "[]".into()).await, Garbled);
    assert_eq!(kind(200, vec![], String::new()).await, Garbled);
    assert_eq!(kind(204, vec![], String::new()).await, Garbled);
}

#[tokio::test]
async fn a_line_that_is_cut_is_worth_another_try() {
    let error = reading(|| Reply::Truncated(r#"{"number": 12,"#)).await;
    assert_eq!(error.kind, ForgeErrorKind::Retry);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_worth_another_try() {
    let short = |config: &mut GithubConfig| config.timeout = Duration::from_millis(300);
    let server = Server::start_at("", |_| Some(Reply::Silence), short).await;
    let error = server.github.redeliver(1).await.unwrap_err();
    assert_eq!((error.kind, error.why.as_str()), (ForgeErrorKind::Retry, "no complete answer within 300ms"));
}

#[tokio::test]
async fn a_connection_that_is_refused_or_reset_is_worth_another_try() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let config = GithubConfig::new(url.parse().unwrap(), "https://github.com".parse().unwrap(), APP, pem());
    let github = Github::new(config, Arc::new(SystemClock)).unwrap();

    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let resetting = tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            connection.readable().await.unwrap();
            // Unread data makes the kernel answer with a reset.
            drop(connection);
        }
    });
    assert_eq!(github.redeliver(1).await.unwrap_err().kind, ForgeErrorKind::Retry);
    assert_eq!(tries.load(Ordering::SeqCst), 1, "a request is never replayed");
    resetting.abort();
    assert!(resetting.await.unwrap_err().is_cancelled());

    let error = github.redeliver(1).await.unwrap_err();
    assert_eq!(error.kind, ForgeErrorKind::Retry);
    assert!(error.why.contains("refused"), "the cause is named: {error}");
}

#[tokio::test]
async fn a_limit_on_writing_silences_writes_until_it_is_over_and_reads_go_on() {
    let server = Server::start(|seen| match seen.method.as_str() {
        "GET" => seen.path.starts_with("/repos").then(|| reply(200, &pull(12))),
        "PATCH" => {
            let limited = json!({"message": "You have exceeded a secondary rate limit."});
            Some(reply_with(403, &[("retry-after", "30")], &limited))
        }
        _ => None,
    })
    .await;
    let github = &server.github;
    let first = github.edit_comment(&shop(), 1, "x").await.unwrap_err();
    assert_eq!(first.kind, ForgeErrorKind::SlowDown(Duration::from_secs(30)));
    server.clock.forward(Duration::from_secs(10));
    let second = github.edit_comment(&shop(), 1, "x").await.unwrap_err();
    assert_eq!(second.kind, ForgeErrorKind::SlowDown(Duration::from_secs(20)));
    assert_eq!(server.asked().len(), 1, "asking during the silence would lengthen it");
    assert!(github.pull(&shop(), PrNumber(12)).await.is_ok());
    server.clock.forward(Duration::from_secs(20));
    github.edit_comment(&shop(), 1, "x").await.unwrap_err();
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn no_more_than_forty_requests_are_under_way_at_once() {
    let server =
        Server::start(|seen| Some(if seen.path.contains("/1000/") { reply(202, &json!({})) } else { Reply::Silence }))
            .await;
    let config = GithubConfig::new(server.url.parse().unwrap(), "https://github.com".parse().unwrap(), APP, pem());
    let busy = Arc::new(Github::new(config, Arc::new(SystemClock)).unwrap());
    let calls: Vec<_> = (0..60)
        .map(|delivery| {
            let busy = Arc::clone(&busy);
            tokio::spawn(async move { busy.redeliver(delivery).await })
        })
        .collect();
    let waiting = || server.asked().iter().filter(|asked| !asked.path.contains("/1000/")).count();
    let all_seats_taken = async {
        while waiting() < 40 {
            crate::wait::look_again().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), all_seats_taken).await.unwrap();
    // Time for more to arrive, measured in other requests.
    for _ in 0..50 {
        server.github.redeliver(1000).await.unwrap();
    }
    assert_eq!(waiting(), 40);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn the_rate_limits_are_there_for_the_metrics() {
    let server = Server::start(|seen| {
        let headers = [
            ("x-ratelimit-limit", "5000"),
            ("x-ratelimit-remaining", "4990"),
            ("x-ratelimit-reset", "1800000600"),
            ("x-ratelimit-resource", "core"),
        ];
        seen.path.starts_with("/repos").then(|| reply_with(200, &headers, &pull(12)))
    })
    .await;
    assert!(server.github.rate_limits().is_empty());
    server.github.pull(&shop(), PrNumber(12)).await.unwrap();
    let limits = server.github.rate_limits();
    assert_eq!(limits.len(), 1);
    assert_eq!((limits[0].installation, limits[0].limit, limits[0].remaining), (Some(shop().installation), 5000, 4990));
    assert_eq!((limits[0].resource.as_str(), limits[0].reset_at.0), ("core", 1_800_000_600_000));
}
