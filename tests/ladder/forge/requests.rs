//! What each question asks and what is made of the answer.

use kagero::domain::id::{CommitSha, PrNumber, RepoId};
use kagero::domain::ledger::DeploymentState;
use kagero::domain::pull::PullState;
use kagero::forge::{DeploymentStatus, Forge as _, ForgeErrorKind};
use serde_json::{Value, json};

use super::server::{Reply, Seen, Server, pull, raw, reply, reply_with, shop};

async fn pull_answered(answer: Value) -> (Server, Result<kagero::domain::pull::PullFacts, kagero::forge::ForgeError>) {
    let server = Server::start(move |seen| seen.path.ends_with("/pulls/12").then(|| reply(200, &answer))).await;
    let outcome = server.github.pull(&shop(), PrNumber(12)).await;
    (server, outcome)
}

#[tokio::test]
async fn a_pull_request_is_read_with_all_that_decides() {
    let (server, facts) = pull_answered(pull(12)).await;
    let facts = facts.unwrap();
    assert_eq!((facts.state, facts.author.as_str(), facts.author_is_bot), (PullState::Open, "ann", false));
    assert_eq!((facts.head_ref.as_str(), facts.base_ref.as_str(), facts.head_repo), ("topic", "main", Some(RepoId(7))));
    assert_eq!(facts.head_sha.as_str(), format!("{:040x}", 12));
    assert!(facts.labels.contains("preview") && !facts.draft && !facts.is_fork());
    assert_eq!(facts.repo.to_string(), "acme/shop");
    drop(server);
}

#[tokio::test]
async fn deleted_accounts_and_forks_bots_and_merges_are_read() {
    let mut answer = pull(12);
    answer["user"] = Value::Null;
    answer["head"]["repo"] = Value::Null;
    answer["state"] = json!("closed");
    let facts = pull_answered(answer.clone()).await.1.unwrap();
    assert_eq!((facts.author.as_str(), facts.head_repo, facts.state), ("ghost", None, PullState::Closed));
    assert!(facts.is_fork());

    answer["user"] = json!({"login": "renovate[bot]", "type": "Bot"});
    answer["merged_at"] = json!("2026-01-01T00:00:00Z");
    answer["labels"] = json!([]);
    let facts = pull_answered(answer).await.1.unwrap();
    assert_eq!((facts.author_is_bot, facts.state), (true, PullState::Merged));
}

#[tokio::test]
async fn an_answer_about_another_repository_or_number_is_an_error() {
    let mut other = pull(12);
    other["base"]["repo"]["id"] = json!(8);
    for answer in [other, pull(13)] {
        assert_eq!(pull_answered(answer).await.1.unwrap_err().kind, ForgeErrorKind::Garbled);
    }
    let mut listed = pull(2);
    listed["base"]["repo"]["id"] = json!(8);
    let server =
        Server::start(move |seen| seen.path.ends_with("/pulls").then(|| reply(200, &json!([pull(1), listed])))).await;
    assert_eq!(server.github.open_pulls(&shop()).await.unwrap_err().kind, ForgeErrorKind::Garbled);
}

#[tokio::test]
async fn a_renamed_repository_is_followed_on_the_same_host_with_method_and_body() {
    let server = Server::start(|seen| {
        let moved = seen.path.replace("/repos/acme/shop/", "/repositories/7/");
        let here = format!("http://{}{moved}", seen.header("host"));
        let note = json!({"message": "Moved Permanently"});
        match seen.line().as_str() {
            "GET /repositories/7/pulls/12" => Some(reply(200, &pull(12))),
            "POST /repositories/7/issues/12/comments" => Some(reply(201, &json!({"id": 5}))),
            "GET /repos/acme/shop/pulls/12" => Some(reply_with(301, &[("location", &here)], &note)),
            "POST /repos/acme/shop/issues/12/comments" => Some(reply_with(307, &[("location", &here)], &note)),
            _ => None,
        }
    })
    .await;
    assert!(server.github.pull(&shop(), PrNumber(12)).await.is_ok());
    assert_eq!(server.github.create_comment(&shop(), PrNumber(12), "hi").await, Ok(5));
    let last = server.asked().pop().unwrap();
    assert_eq!((last.json(), last.header("authorization")), (json!({"body": "hi"}), "Bearer ghs_3_1"));
}

#[tokio::test]
async fn redirects_elsewhere_or_in_circles_are_refused() {
    let stranger = Server::start(|_| None).await;
    let away = format!("{}/repos/acme/shop/pulls/1", stranger.url);
    let server = Server::start(move |seen| {
        let circle = format!("http://{}{}", seen.header("host"), seen.path);
        match seen.path.as_str() {
            "/repos/acme/shop/pulls/1" => Some(reply_with(302, &[("location", &away)], &json!({}))),
            "/repos/acme/shop/pulls/2" => Some(reply_with(302, &[("location", &circle)], &json!({}))),
            "/repos/acme/shop/pulls/3" => Some(reply(302, &json!({}))),
            _ => None,
        }
    })
    .await;
    for (number, why) in [(1, "leads away from"), (2, "in circles"), (3, "302 Found")] {
        let error = server.github.pull(&shop(), PrNumber(number)).await.unwrap_err();
        assert_eq!(error.kind, ForgeErrorKind::Garbled, "{error}");
        assert!(error.why.contains(why), "{error}");
    }
    assert!(stranger.asked().is_empty());
}

fn file(content: &str) -> Value {
    json!({"type": "file", "size": 20, "name": ".kagero.yml", "encoding": "base64", "content": content})
}

async fn file_answered(
    reply: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
) -> Result<Option<String>, ForgeErrorKind> {
    let server = Server::start(reply).await;
    server.github.file(&shop(), ".kagero.yml", "feature/a b").await.map_err(|error| error.kind)
}

#[tokio::test]
async fn a_file_is_read_at_its_branch() {
    let found = file_answered(|seen| {
        assert_eq!(seen.query("ref").as_deref().unwrap_or("feature/a b"), "feature/a b");
        seen.path.ends_with("/contents/.kagero.yml").then(|| reply(200, &file("dmVyc2lv\nbjogMQo=\n")))
    })
    .await;
    assert_eq!(found, Ok(Some("version: 1\n".to_owned())));
}

#[tokio::test]
async fn a_file_is_only_missing_where_its_commit_can_be_read() {
    let commit = "/repos/acme/shop/commits/feature/a%20b";
    let sha = "0123456789012345678901234567890123456789";
    let missing = file_answered(move |seen| {
        (seen.path == commit).then(|| {
            assert_eq!(seen.header("accept"), "application/vnd.github.sha");
            raw(200, &[("content-type", "application/vnd.github.sha")], sha)
        })
    });
    assert_eq!(missing.await, Ok(None));
    // Nothing can be read: access may be lost. The branch is gone. The repository is empty.
    assert_eq!(file_answered(|_| None).await, Err(ForgeErrorKind::NotFound));
    for status in [409, 422] {
        let answer = file_answered(move |seen| (seen.path == commit).then(|| reply(status, &json!({}))));
        assert_eq!(answer.await, Err(ForgeErrorKind::NotFound));
    }
    let odd = file_answered(move |seen| (seen.path == commit).then(|| reply(200, &json!({"sha": "…"}))));
    assert_eq!(odd.await, Err(ForgeErrorKind::Garbled));
    let down = file_answered(move |seen| (seen.path == commit).then(|| reply(503, &json!({}))));
    assert_eq!(down.await, Err(ForgeErrorKind::Retry));
}

#[tokio::test]
async fn what_is_not_a_text_file_of_moderate_size_is_rejected() {
    let cases = [
        (json!([{"name": "x", "type": "file"}]), ForgeErrorKind::Rejected),
        (json!({"type": "submodule", "size": 0}), ForgeErrorKind::Rejected),
        (json!({"type": "file", "size": 2_000_000, "encoding": "none", "content": ""}), ForgeErrorKind::Rejected),
        (file("/w=="), ForgeErrorKind::Rejected),
        (file("%%%"), ForgeErrorKind::Garbled),
        (json!({"type": "file", "size": 20}), ForgeErrorKind::Garbled),
        (json!("text"), ForgeErrorKind::Garbled),
    ];
    for (answer, kind) in cases {
        let shown = answer.to_string();
        let outcome = file_answered(move |seen| seen.path.contains("/contents/").then(|| reply(200, &answer))).await;
        assert_eq!(outcome, Err(kind), "{shown}");
    }
    let server = Server::start(|_| None).await;
    for (path, reference) in [("../../user", "main"), ("a//b", "main"), ("", "main")] {
        let error = server.github.file(&shop(), path, reference).await.unwrap_err();
        assert_eq!(error.kind, ForgeErrorKind::Rejected, "{path}");
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn comments_are_written_changed_and_deleted() {
    let server = Server::start(|seen| match seen.line().as_str() {
        "POST /repos/acme/shop/issues/12/comments" => Some(reply(201, &json!({"id": 31, "body": "…"}))),
        "PATCH /repos/acme/shop/issues/comments/31" => Some(reply(200, &json!({"id": 31}))),
        "DELETE /repos/acme/shop/issues/comments/31" => Some(raw(204, &[], "")),
        _ => None,
    })
    .await;
    let github = &server.github;
    let hostile = "<!-- m -->\n`$(rm -rf /)` ünï \u{1F600}";
    assert_eq!(github.create_comment(&shop(), PrNumber(12), hostile).await, Ok(31));
    assert_eq!(github.edit_comment(&shop(), 31, "newer").await, Ok(()));
    assert_eq!(github.delete_comment(&shop(), 31).await, Ok(()));
    assert_eq!(github.delete_comment(&shop(), 32).await, Ok(()), "already gone");
    assert_eq!(github.edit_comment(&shop(), 32, "x").await.unwrap_err().kind, ForgeErrorKind::NotFound);
    let bodies: Vec<Value> = server.asked()[..2].iter().map(Seen::json).collect();
    assert_eq!(bodies, [json!({"body": hostile}), json!({"body": "newer"})]);

    let sent = server.asked().len();
    let longest = "ü".repeat(65_536);
    assert_eq!(github.create_comment(&shop(), PrNumber(12), &longest).await, Ok(31));
    let error = github.create_comment(&shop(), PrNumber(12), &format!("{longest}!")).await.unwrap_err();
    assert_eq!(error.kind, ForgeErrorKind::Rejected);
    assert_eq!(server.asked().len(), sent + 1);
}

#[tokio::test]
async fn deployments_are_transient_and_touch_no_other() {
    let server = Server::start(|seen| match seen.line().as_str() {
        "POST /repos/acme/shop/deployments" => Some(reply(201, &json!({"id": 40}))),
        "POST /repos/acme/shop/deployments/40/statuses" => Some(reply(201, &json!({"id": 1}))),
        "GET /repos/acme/shop/deployments" => Some(reply(
            200,
            &json!([
                {"id": 40, "payload": {"kagero": "uid-1"}, "performed_via_github_app": {"id": 4711}},
                {"id": 44, "payload": "{\"kagero\":\"uid-1\"}"},
                {"id": 43, "payload": {"kagero": "uid-1"}, "performed_via_github_app": {"id": 1}},
                {"id": 42, "payload": {"kagero": "uid-2"}},
                {"id": 41, "payload": ""},
            ]),
        )),
        _ => None,
    })
    .await;
    let (github, sha) = (&server.github, CommitSha::parse("a".repeat(40)).unwrap());
    assert_eq!(github.create_deployment(&shop(), &sha, "uid-1").await, Ok(40));
    let mut status = DeploymentStatus {
        state: DeploymentState::Success,
        description: "é".repeat(200),
        environment_url: Some("https://pr-12-shop.example".to_owned()),
        log_url: Some("https://kagero.example/log".to_owned()),
    };
    assert_eq!(github.set_deployment(&shop(), 40, &status).await, Ok(()));
    assert_eq!(github.deployments(&shop(), &sha, "uid-1").await, Ok(vec![44, 40]));

    let asked = server.asked();
    assert_eq!(
        asked[0].json(),
        json!({
            "ref": sha.as_str(), "task": "deploy", "auto_merge": false, "required_contexts": [],
            "payload": {"kagero": "uid-1"}, "environment": "preview",
            "transient_environment": true, "production_environment": false,
        })
    );
    let sent = asked[1].json();
    assert_eq!((&sent["state"], &sent["auto_inactive"]), (&json!("success"), &json!(false)));
    assert_eq!(sent["description"].as_str().unwrap().chars().count(), 140);
    assert_eq!(sent["environment_url"], "https://pr-12-shop.example");
    assert_eq!(asked[2].query("sha").as_deref(), Some(sha.as_str()));

    (status.environment_url, status.log_url) = (None, None);
    for state in
        [DeploymentState::Queued, DeploymentState::InProgress, DeploymentState::Failure, DeploymentState::Inactive]
    {
        status.state = state;
        github.set_deployment(&shop(), 40, &status).await.unwrap();
    }
    assert!(server.asked().last().unwrap().json().get("environment_url").is_none());
}
