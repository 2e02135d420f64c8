//! Listings: all pages or none, known answers, links that lead astray.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kagero::domain::id::{InstallationId, PrNumber, RepoId};
use kagero::domain::time::Timestamp;
use kagero::forge::{Forge as _, ForgeErrorKind};
use serde_json::{Value, json};

use super::server::{Reply, Seen, Server, pull, reply, reply_with, shop};

/// One page of numbered items, as GitHub pages them. The link names the host that was asked.
pub fn page(seen: &Seen, total: u64, item: impl Fn(u64) -> Value) -> Reply {
    let number = |name: &str| seen.query(name).map_or(1, |text| text.parse::<u64>().unwrap());
    let (page, size) = (number("page"), number("per_page"));
    let items: Vec<Value> = ((page - 1) * size + 1..=(page * size).min(total)).map(item).collect();
    if page * size >= total {
        return reply(200, &json!(items));
    }
    let pairs = url::form_urlencoded::parse(seen.query.as_deref().unwrap_or_default().as_bytes());
    let query: String = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs.filter(|(key, _)| key != "page"))
        .append_pair("page", &(page + 1).to_string())
        .finish();
    let next = format!("<http://{}{}?{query}>; rel=\"next\"", seen.header("host"), seen.path);
    reply_with(200, &[("link", &next)], &json!(items))
}

#[tokio::test]
async fn two_hundred_and_fifty_pull_requests_are_three_pages() {
    let server = Server::start(|seen| seen.path.ends_with("/pulls").then(|| page(seen, 250, pull))).await;
    let listing = server.github.open_pulls(&shop()).await.unwrap();
    assert!(listing.complete);
    let numbers: Vec<u64> = listing.items.iter().map(|facts| facts.key.pr.0).collect();
    assert_eq!(numbers, (1..=250).collect::<Vec<_>>());
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn no_pull_requests_are_a_complete_listing() {
    let server = Server::start(|seen| seen.path.ends_with("/pulls").then(|| reply(200, &json!([])))).await;
    let listing = server.github.open_pulls(&shop()).await.unwrap();
    assert!(listing.complete && listing.items.is_empty());
}

#[tokio::test]
async fn a_page_that_fails_fails_the_listing() {
    let server = Server::start(|seen| {
        (seen.path.ends_with("/pulls")).then(|| match seen.query("page").as_deref() {
            Some("3") => reply(502, &json!({})),
            _ => page(seen, 250, pull),
        })
    })
    .await;
    let error = server.github.open_pulls(&shop()).await.unwrap_err();
    assert_eq!(error.kind, ForgeErrorKind::Retry);
    assert!(error.what.contains("acme/shop"), "{error}");
}

#[tokio::test]
async fn a_link_to_another_host_is_refused() {
    let stranger = Server::start(|_| None).await;
    let link = format!("<{}/repos/acme/shop/pulls?page=2>; rel=\"next\"", stranger.url);
    let server = Server::start(move |seen| {
        seen.path.ends_with("/pulls").then(|| reply_with(200, &[("link", &link)], &json!([pull(1)])))
    })
    .await;
    let error = server.github.open_pulls(&shop()).await.unwrap_err();
    assert_eq!(error.kind, ForgeErrorKind::Garbled);
    assert!(error.why.contains("leads away from"), "{error}");
    assert_eq!((server.asked().len(), stranger.asked().len()), (1, 0));
}

#[tokio::test]
async fn links_in_a_circle_end_the_listing() {
    let server = Server::start(|seen| {
        let other = if seen.query("page").as_deref() == Some("2") { 1 } else { 2 };
        let next = format!("<http://{}{}?page={other}>; rel=\"next\"", seen.header("host"), seen.path);
        seen.path.ends_with("/pulls").then(|| reply_with(200, &[("link", &next)], &json!([pull(1)])))
    })
    .await;
    assert_eq!(server.github.open_pulls(&shop()).await.unwrap_err().kind, ForgeErrorKind::Garbled);
    assert!(server.asked().len() < 5);
}

#[tokio::test]
async fn a_listing_without_end_says_that_it_is_incomplete() {
    let server = Server::start(|seen| seen.path.ends_with("/pulls").then(|| page(seen, 1_000_000, pull_small))).await;
    let listing = server.github.open_pulls(&shop()).await.unwrap();
    assert!(!listing.complete);
    assert_eq!(server.asked().len(), 200);
}

/// Small pages, for the test that reads very many of them.
fn pull_small(number: u64) -> Value {
    if number % 100 == 1 { pull(number) } else { pull(1) }
}

/// Answers with an `ETag` of its content, or 304 if the client has it already.
fn tagged(seen: &Seen, tag: u64, reply: Reply) -> Reply {
    let tag = format!("\"{tag}\"");
    if seen.header("if-none-match") == tag {
        return super::server::raw(304, &[], "");
    }
    let Reply::Whole(mut response) = reply else { return reply };
    response.headers_mut().insert("etag", tag.parse().unwrap());
    Reply::Whole(response)
}

#[tokio::test]
async fn what_has_not_changed_is_read_from_memory_page_by_page() {
    let server = Server::start(|seen| {
        seen.path.ends_with("/pulls").then(|| {
            let page_number = seen.query("page").map_or(1, |text| text.parse().unwrap());
            tagged(seen, page_number, page(seen, 150, pull))
        })
    })
    .await;
    let first = server.github.open_pulls(&shop()).await.unwrap();
    let second = server.github.open_pulls(&shop()).await.unwrap();
    assert_eq!(first.items, second.items);
    assert_eq!(second.items.len(), 150);
    let conditions: Vec<String> = server.asked().iter().map(|it| it.header("if-none-match").to_owned()).collect();
    assert_eq!(conditions, ["", "", "\"1\"", "\"2\""]);
}

#[tokio::test]
async fn a_full_last_page_does_not_hide_the_page_that_comes_after_it() {
    let total = Arc::new(AtomicU64::new(100));
    let held = Arc::clone(&total);
    // The first page's items, and with them its tag, stay the same when a 101st is opened.
    let server = Server::start(move |seen| {
        seen.path.ends_with("/pulls").then(|| tagged(seen, 1, page(seen, held.load(Ordering::SeqCst), pull)))
    })
    .await;
    assert_eq!(server.github.open_pulls(&shop()).await.unwrap().items.len(), 100);
    total.store(101, Ordering::SeqCst);
    assert_eq!(server.github.open_pulls(&shop()).await.unwrap().items.len(), 101);
}

#[tokio::test]
async fn one_installation_never_reads_what_another_one_has_read() {
    let server =
        Server::start(|seen| seen.path.ends_with("/pulls/1").then(|| tagged(seen, 1, reply(200, &pull(1))))).await;
    let mut other = shop();
    other.installation = InstallationId(8);
    server.github.pull(&shop(), PrNumber(1)).await.unwrap();
    server.github.pull(&other, PrNumber(1)).await.unwrap();
    server.github.pull(&shop(), PrNumber(1)).await.unwrap();
    let conditions: Vec<String> = server.asked().iter().map(|it| it.header("if-none-match").to_owned()).collect();
    assert_eq!(conditions, ["", "", "\"1\""]);
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_garbled() {
    let server = Server::start(|seen| seen.path.ends_with("/pulls/1").then(|| super::server::raw(304, &[], ""))).await;
    assert_eq!(server.github.pull(&shop(), PrNumber(1)).await.unwrap_err().kind, ForgeErrorKind::Garbled);
}

#[tokio::test]
async fn our_comment_is_found_behind_two_hundred_others_and_only_ours() {
    let marker = "<!-- kagero:1:12 -->";
    let server = Server::start(move |seen| match seen.line().as_str() {
        "GET /app" => Some(reply(200, &json!({"id": 4711, "slug": "kagero-acme"}))),
        "GET /repos/acme/shop/issues/12/comments" => Some(page(seen, 230, |id| {
            let marked = format!("{marker}\nPreview");
            let bot = |login: &str| json!({"login": login, "type": "Bot"});
            match id {
                // By our App; by our App, as an older Enterprise Server shows it.
                211 => json!({"id": id, "body": marked, "user": bot("kagero-acme[bot]"), "performed_via_github_app": {"id": 4711}}),
                222 => json!({"id": id, "body": marked, "user": bot("kagero-acme[bot]"), "performed_via_github_app": null}),
                // By a person, by another App, by a bot that is none, and one that only quotes the marker.
                5 => json!({"id": id, "body": marked, "user": {"login": "mallory", "type": "User"}}),
                6 => json!({"id": id, "body": marked, "user": bot("other[bot]"), "performed_via_github_app": {"id": 1}}),
                7 => json!({"id": id, "body": marked, "user": {"login": "kagero-acme[bot]", "type": "User"}}),
                8 => json!({"id": id, "body": format!("> {marked}"), "user": bot("kagero-acme[bot]"), "performed_via_github_app": {"id": 4711}}),
                9 => json!({"id": id, "body": null, "user": null}),
                _ => json!({"id": id, "body": "LGTM", "user": {"login": "ann", "type": "User"}}),
            }
        })),
        _ => None,
    })
    .await;
    assert_eq!(server.github.sticky_comments(&shop(), PrNumber(12), marker).await, Ok(vec![211, 222]));
    let pages = server.asked().iter().filter(|it| it.path.ends_with("/comments")).count();
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn repositories_of_all_installations_are_listed_without_the_suspended() {
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = Arc::clone(&broken);
    let server = Server::start(move |seen| {
        let broken = breaks.load(Ordering::SeqCst);
        let two = seen.header("authorization").starts_with("Bearer ghs_2_");
        match seen.line().as_str() {
            "GET /app/installations" => Some(reply(
                200,
                &json!([
                    {"id": 1, "suspended_at": null, "account": {"login": "acme"}},
                    {"id": 2, "suspended_at": null},
                    {"id": 9, "suspended_at": "2026-01-01T00:00:00Z"},
                ]),
            )),
            "GET /installation/repositories" if two && broken => Some(reply(500, &json!({}))),
            "GET /installation/repositories" => {
                let id = if two { 20 } else { 10 };
                let repository = json!({"id": id, "full_name": format!("acme/shop-{id}"), "private": true});
                Some(reply(200, &json!({"total_count": 1, "repositories": [repository]})))
            }
            _ => None,
        }
    })
    .await;
    let listing = server.github.repositories().await.unwrap();
    assert!(listing.complete);
    let found: Vec<_> = listing.items.iter().map(|repo| (repo.id, repo.installation)).collect();
    assert_eq!(found, [(RepoId(10), InstallationId(1)), (RepoId(20), InstallationId(2))]);

    broken.store(true, Ordering::SeqCst);
    let listing = server.github.repositories().await.unwrap();
    assert!(!listing.complete, "an installation that cannot be read is not one without repositories");
    assert_eq!(listing.items.len(), 1);
}

#[tokio::test]
async fn fewer_repositories_than_announced_are_an_incomplete_listing() {
    let server = Server::start(|seen| match seen.line().as_str() {
        "GET /app/installations" => Some(reply(200, &json!([{"id": 1, "suspended_at": null}]))),
        "GET /installation/repositories" => Some(reply(200, &json!({"total_count": 3, "repositories": []}))),
        _ => None,
    })
    .await;
    assert!(!server.github.repositories().await.unwrap().complete);
}

#[tokio::test]
async fn deliveries_are_read_back_to_the_given_time_and_no_further() {
    // One a minute, newest first; every tenth one failed.
    let start = 1_700_000_000_i64;
    let server = Server::start(move |seen| {
        let cursor = seen.query("cursor").map_or(0, |text| text.parse::<i64>().unwrap());
        let items: Vec<Value> = (cursor..cursor + 100)
            .map(|n| {
                let at = jiff::Timestamp::from_second(start - n * 60).unwrap().to_string();
                let code = if n % 10 == 0 { 502 } else { 200 };
                json!({"id": 9_000_000_000_000_i64 - n, "guid": format!("guid-{n}"), "delivered_at": at, "status": "…",
                       "status_code": code, "event": "pull_request", "action": null, "redelivery": false})
            })
            .collect();
        let next =
            format!("<http://{}{}?per_page=100&cursor={}>; rel=\"next\"", seen.header("host"), seen.path, cursor + 100);
        (seen.path == "/app/hook/deliveries").then(|| reply_with(200, &[("link", &next)], &json!(items)))
    })
    .await;
    let since = Timestamp((start - 150 * 60) * 1000);
    let listing = server.github.failed_deliveries(since).await.unwrap();
    assert!(listing.complete);
    assert_eq!(listing.items.len(), 16);
    assert_eq!(listing.items[1].guid, "guid-10");
    assert_eq!(listing.items[1].id, 8_999_999_999_990);
    assert!(listing.items.iter().all(|failed| failed.delivered_at >= since));
    assert_eq!(server.asked().len(), 2);
}
