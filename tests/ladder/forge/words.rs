//! What this App has said in a whole repository: all pages, nobody else's, each thing again by itself.

use kagero::domain::id::PrNumber;
use kagero::domain::time::Timestamp;
use kagero::domain::words::BEGINNING;
use kagero::forge::{Forge as _, ForgeErrorKind};
use serde_json::{Value, json};

use super::pages::page;
use super::server::{APP, Server, reply, shop};

/// 2027-01-15T08:00:00Z, and an hour before it.
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const SINCE: Timestamp = Timestamp(1_800_000_000_000 - 3_600_000);

/// A comment as GitHub lists it.
fn comment(id: u64, body: &str, author: &Value) -> Value {
    let mut comment = json!({
        "id": id, "body": body, "updated_at": "2027-01-15T07:30:00Z",
        "issue_url": format!("https://api.github.com/repos/acme/shop/issues/{}", id % 100),
    });
    comment.as_object_mut().unwrap().extend(author.as_object().unwrap().clone());
    comment
}

fn us() -> Value {
    json!({"user": {"login": "kagero[bot]", "type": "Bot"}, "performed_via_github_app": {"id": APP}})
}

/// Whoever is not us.
fn strangers() -> [Value; 4] {
    [
        json!({"user": {"login": "ann", "type": "User"}}),
        json!({"user": {"login": "kagero[bot]", "type": "User"}}),
        json!({"user": {"login": "other[bot]", "type": "Bot"}}),
        json!({"user": {"login": "kagero[bot]", "type": "Bot"}, "performed_via_github_app": {"id": 1}}),
    ]
}

const MARKED: &str = "<!-- kagero:aaaaaaaaaaaaaaaaaaaa -->\n### Preview ready";

fn comment_of_a_crowd(id: u64) -> Value {
    match id {
        205 => comment(id, MARKED, &us()),
        // An Enterprise Server that does not name the App.
        206 => comment(id, MARKED, &json!({"user": {"login": "kagero[bot]", "type": "Bot"}})),
        207 => comment(id, &format!("> {MARKED}"), &us()),
        _ => comment(id, MARKED, &strangers()[usize::try_from(id % 4).unwrap()]),
    }
}

#[tokio::test]
async fn our_comments_of_a_repository_are_found_among_those_who_copy_them() {
    let server = Server::start(|seen| match seen.line().as_str() {
        "GET /repos/acme/shop/issues/comments" => {
            assert_eq!(seen.query("since").as_deref(), Some("2027-01-15T07:00:00Z"));
            Some(page(seen, 250, comment_of_a_crowd))
        }
        "GET /app" => Some(reply(200, &json!({"id": APP, "slug": "kagero"}))),
        _ => None,
    })
    .await;
    let found = server.github.our_comments(&shop(), BEGINNING, SINCE).await.unwrap();
    let told: Vec<_> = found.iter().map(|comment| (comment.id, comment.pr, comment.text.as_str())).collect();
    assert_eq!(told, [(205, PrNumber(5), MARKED), (206, PrNumber(6), MARKED)]);
    assert_eq!(found[0].updated_at, Timestamp(NOW.0 - 1_800_000));
    let pages = server.asked().iter().filter(|it| it.path.ends_with("/comments")).count();
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn one_comment_is_read_again_unless_it_is_gone_or_anothers() {
    let server = Server::start(|seen| {
        let id = seen.path.strip_prefix("/repos/acme/shop/issues/comments/")?.parse().ok()?;
        match id {
            205 | 207 => Some(reply(200, &comment_of_a_crowd(id))),
            300 => Some(reply(200, &comment(id, MARKED, &strangers()[0]))),
            500 => Some(reply(502, &json!({}))),
            _ => None,
        }
    })
    .await;
    let read = async |id| server.github.our_comment(&shop(), id, BEGINNING).await;
    assert_eq!(read(205).await.unwrap().unwrap().pr, PrNumber(5));
    for gone in [207, 300, 404] {
        assert_eq!(read(gone).await, Ok(None), "{gone}");
    }
    assert_eq!(read(500).await.unwrap_err().kind, ForgeErrorKind::Retry);
}

#[tokio::test]
async fn a_comment_that_does_not_say_where_it_stands_fails_the_listing() {
    let server = Server::start(|seen| {
        let mut odd = comment(1, MARKED, &us());
        odd["issue_url"] = json!(null);
        seen.path.ends_with("/issues/comments").then(|| reply(200, &json!([odd])))
    })
    .await;
    let error = server.github.our_comments(&shop(), BEGINNING, SINCE).await.unwrap_err();
    assert_eq!(error.kind, ForgeErrorKind::Garbled, "{error}");
}

/// Deployment 1 is the newest one; each is a quarter of a minute older than the one before it.
fn deployment(number: u64) -> Value {
    let made = jiff::Timestamp::from_millisecond(NOW.0 - i64::try_from(number).unwrap() * 15_000).unwrap();
    let mut deployment = json!({
        "id": number, "sha": "a".repeat(40), "created_at": made.to_string(), "environment": "preview",
        "payload": {"kagero": format!("uid-{number}")},
        "creator": {"login": "kagero[bot]", "type": "Bot"}, "performed_via_github_app": null,
    });
    match number % 10 {
        1 => deployment["performed_via_github_app"] = json!({"id": APP}),
        2 => deployment["performed_via_github_app"] = json!({"id": 1}),
        3 => deployment["creator"] = json!({"login": "ann", "type": "User"}),
        4 => deployment["payload"] = json!("{\"version\": 2}"),
        5 => deployment["environment"] = json!("production"),
        _ => {}
    }
    deployment
}

#[tokio::test]
async fn our_deployments_are_listed_back_to_a_time_and_no_further() {
    let server = Server::start(|seen| match seen.line().as_str() {
        "GET /repos/acme/shop/deployments" => {
            assert_eq!(seen.query("environment").as_deref(), Some("preview"));
            Some(page(seen, 5_000, deployment))
        }
        "GET /app" => Some(reply(200, &json!({"id": APP, "slug": "kagero"}))),
        _ => None,
    })
    .await;
    let found = server.github.our_deployments(&shop(), SINCE).await.unwrap();
    // 240 within the hour, the last of them exactly an hour ago.
    let ours: Vec<u64> = (1..=240).filter(|number| !(2..=5).contains(&(number % 10))).collect();
    assert_eq!(found.iter().map(|deployment| deployment.id).collect::<Vec<_>>(), ours);
    assert_eq!((found[0].payload.as_str(), found[0].sha.as_str()), ("uid-1", "a".repeat(40).as_str()));
    let pages = server.asked().iter().filter(|it| it.path.ends_with("/deployments")).count();
    assert_eq!(pages, 3, "it reads on behind what is too old");
}

#[tokio::test]
async fn one_deployment_and_its_newest_state_are_read_again() {
    let server = Server::start(|seen| match seen.line().as_str() {
        "GET /repos/acme/shop/deployments/1" => Some(reply(200, &deployment(1))),
        "GET /repos/acme/shop/deployments/2" => Some(reply(200, &deployment(2))),
        "GET /repos/acme/shop/deployments/1/statuses" => {
            assert_eq!(seen.query("per_page").as_deref(), Some("1"));
            Some(reply(200, &json!([{"id": 9, "state": "some_new_state"}])))
        }
        "GET /repos/acme/shop/deployments/2/statuses" => Some(reply(200, &json!([]))),
        _ => None,
    })
    .await;
    let github = &server.github;
    assert_eq!(github.our_deployment(&shop(), 1).await.unwrap().unwrap().payload, "uid-1");
    assert_eq!(github.our_deployment(&shop(), 2).await, Ok(None), "another App's");
    assert_eq!(github.our_deployment(&shop(), 3).await, Ok(None), "gone");
    assert_eq!(github.deployment_state(&shop(), 1).await, Ok(Some("some_new_state".to_owned())));
    assert_eq!(github.deployment_state(&shop(), 2).await, Ok(None));
    assert_eq!(github.deployment_state(&shop(), 3).await.unwrap_err().kind, ForgeErrorKind::NotFound);
}
