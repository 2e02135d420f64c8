//! What a visitor and a machine see while there is no application to show.

use kagero::domain::desired::GoneReason;
use kagero::gateway::{Gateway, GatewayConfig, RouteTable};
use kagero::report::page::{self, Page, PageKind};
use kagero::report::view::{EnvView, Phase, StageState};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::stage::{Answer, DOMAIN, Stage, host, mirror, queued, read_until, uid, view, within};

const BROWSER: &str = "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n";

fn failed(pr: u64) -> EnvView {
    let mut view = view(pr, Phase::Failed);
    view.stages[2].state = StageState::Failed;
    view.detail = Some("The build ended with status 1.".to_owned());
    view.log_tail = vec![
        "\u{1b}[31m$ make\u{1b}[0m".to_owned(),
        "<script>alert('log')</script>".to_owned(),
        "</pre><img src=x onerror=alert(1)> \"&\u{202e}".to_owned(),
    ];
    view
}

#[tokio::test]
async fn each_phase_has_its_page_and_status() {
    let stage = Stage::new();
    for (phase, status, kind, retry_after) in [
        (Phase::Building, 503, "boot", Some("5")),
        (Phase::Ready, 503, "boot", Some("5")),
        (Phase::Destroying(GoneReason::Superseded), 503, "boot", Some("5")),
        (queued(), 503, "queued", Some("30")),
        (Phase::Failed, 503, "failed", None),
        (Phase::Asleep, 503, "asleep", Some("30")),
        (Phase::Stuck, 503, "stuck", Some("30")),
        (Phase::Destroying(GoneReason::Closed), 410, "closed", None),
        (Phase::Destroyed(GoneReason::Merged), 410, "closed", None),
        (Phase::NotWanted(GoneReason::Draft), 404, "unwanted", None),
    ] {
        stage.route(1, phase.clone(), None);
        for (lines, content_type) in [
            (BROWSER, "text/html; charset=utf-8"),
            ("Accept: application/json\r\n", "application/json"),
            ("Accept: */*\r\n", "text/plain; charset=utf-8"),
            ("", "text/plain; charset=utf-8"),
        ] {
            let answer = stage.get(1, "/any/path?x=y", lines).await;
            assert_eq!(answer.status, status, "{phase:?}");
            assert_eq!(answer.header("x-kagero-page"), Some(kind), "{phase:?}");
            assert_eq!(answer.header("x-kagero-environment"), Some(uid(1).as_str()));
            assert_eq!(answer.header("retry-after"), retry_after, "{phase:?}");
            assert_eq!(answer.header("content-type"), Some(content_type));
            assert_eq!(answer.header("x-robots-tag"), Some("noindex"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
        }
    }
    let post =
        format!("POST / HTTP/1.1\r\nHost: {}\r\n{BROWSER}Content-Length: 0\r\nConnection: close\r\n\r\n", host(1));
    assert_eq!(stage.raw(&post).await.header("content-type"), Some("text/plain; charset=utf-8"));
    let head = stage.raw(&post.replace("POST", "HEAD")).await;
    assert_eq!((head.header("content-type"), head.body.as_str()), (Some("text/html; charset=utf-8"), ""));
}

#[tokio::test]
async fn before_the_table_is_read_nothing_is_unknown() {
    let config = GatewayConfig::new("127.0.0.1:0".parse().unwrap(), DOMAIN);
    let gateway = Gateway::start(config, RouteTable::default()).unwrap();
    let mut stream = tokio::net::TcpStream::connect(gateway.local_addr()).await.unwrap();
    let ask = format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host(1));
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    let answer = Answer::parse(&bytes);
    assert_eq!((answer.status, answer.header("x-kagero-page")), (503, Some("starting")));
}

#[tokio::test]
async fn a_page_follows_the_environment_and_becomes_the_application() {
    let stage = Stage::new();
    stage.route(1, Phase::Building, None);
    let page = stage.get(1, "/cart?item=7", BROWSER).await;
    assert!(page.body.contains("Preparing the preview"), "{page:?}");

    let mut events = stage.connect().await;
    let ask = format!("GET /.kagero/events HTTP/1.1\r\nHost: {}\r\n\r\n", host(1));
    events.write_all(ask.as_bytes()).await.unwrap();
    let first = read_until(&mut events, "\"page\":\"boot\"").await;
    assert!(first.contains("content-type: text/event-stream"), "{first}");
    assert!(first.contains("event: view\n"), "{first}");

    let mut later = view(1, Phase::Building);
    later.stages[2].state = StageState::Done;
    later.detail = Some("Nearly there.".to_owned());
    stage.set(1, later, None);
    read_until(&mut events, "Nearly there.").await;

    // Another environment's change is not ours.
    stage.set(2, failed(2), None);
    stage.set(1, failed(1), None);
    let turned = read_until(&mut events, "\"page\":\"failed\"").await;
    assert!(turned.contains("alert") && !turned.contains("<script"), "{turned}");

    stage.route(1, Phase::Building, Some(mirror("one").await));
    read_until(&mut events, "event: ready\n").await;
    let app = stage.get(1, "/cart?item=7", BROWSER).await;
    assert!(app.body.starts_with("app one\nGET /cart?item=7\n"), "{app:?}");
}

#[tokio::test]
async fn a_stream_ends_with_its_route() {
    let stage = Stage::new();
    stage.route(1, Phase::Building, None);
    let mut events = stage.connect().await;
    let ask = format!("GET /.kagero/events HTTP/1.1\r\nHost: {}\r\n\r\n", host(1));
    events.write_all(ask.as_bytes()).await.unwrap();
    read_until(&mut events, "event: view\n").await;
    stage.remove(1);
    read_until(&mut events, "event: reload\n").await;
}

#[tokio::test]
async fn the_status_is_public_facts_before_and_after() {
    let stage = Stage::new();
    stage.set(1, failed(1), None);
    let before = stage.get(1, "/.kagero/status", "").await;
    let facts: serde_json::Value = serde_json::from_str(&before.body).unwrap();
    assert_eq!((before.status, &facts["live"], &facts["page"]), (200, &false.into(), &"failed".into()));
    assert_eq!(facts["phase"], "failed");
    assert!(!before.body.contains("onerror"), "the log is for the page alone: {before:?}");

    stage.route(1, Phase::Ready, Some(mirror("one").await));
    let after = stage.get(1, "/.kagero/status", "").await;
    let facts: serde_json::Value = serde_json::from_str(&after.body).unwrap();
    assert_eq!((&facts["live"], &facts["phase"]), (&true.into(), &"ready".into()));
    assert_eq!(after.header("x-kagero-environment"), Some(uid(1).as_str()));
    // Everything else belongs to the application now.
    assert!(stage.get(1, "/.kagero/events", "").await.body.starts_with("app one\n"));
}

#[tokio::test]
async fn hostile_text_stays_text() {
    let stage = Stage::new();
    let mut hostile = failed(1);
    hostile.detail = Some("<b onmouseover=alert(1)>boo</b>".to_owned());
    hostile.seed = Some("'\"><script src=//evil.example></script>".to_owned());
    hostile.stages[0].name = "<i>machine</i>".to_owned();
    hostile.repo.name = "shop\"><script>".to_owned();
    stage.set(1, hostile, None);
    let page = stage.get(1, "/", BROWSER).await;
    let lower = page.body.to_lowercase();
    // The one script is ours.
    assert_eq!(lower.matches("<script").count(), 1, "{page:?}");
    for tag in ["<img", "<b o", "<i>", "</pre><i", "[31m", "\u{1b}", "\u{202e}"] {
        assert!(!lower.contains(tag), "{tag:?}: {page:?}");
    }
    assert!(page.body.contains("&lt;script&gt;alert("), "{page:?}");
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    // Nothing is loaded from anywhere.
    for outside in ["<img", "<iframe", "rel=\"stylesheet", "<script src", "@import", "url("] {
        assert!(!page.body.contains(outside), "{outside}");
    }
}

#[test]
fn pages_read_as_they_should() {
    let cases = [
        ("boot", PageKind::Boot, Some(view(12, Phase::Building))),
        ("queued", PageKind::Queued, Some(view(12, queued()))),
        ("failed", PageKind::Failed, Some(failed(12))),
        ("asleep", PageKind::Asleep, Some(view(12, Phase::Asleep))),
        ("closed", PageKind::Closed, Some(view(12, Phase::Destroyed(GoneReason::Merged)))),
        ("unwanted", PageKind::Unwanted, Some(view(12, Phase::NotWanted(GoneReason::LabelMissing("preview".into()))))),
        ("unreachable", PageKind::Unreachable, Some(view(12, Phase::Ready))),
        ("unknown", PageKind::Unknown, None),
    ];
    for (name, kind, view) in &cases {
        let page =
            Page { kind: *kind, host: "pr-12-shop.preview.test", view: view.as_ref(), forge_url: "https://github.com" };
        let shown = format!("{}\n{}", page::main_html(&page).unwrap(), page::text(&page));
        insta::assert_snapshot!(*name, shown);
    }
}
