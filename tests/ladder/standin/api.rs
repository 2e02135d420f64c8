//! The API: tokens and rights, pages of lists, conditional reads, faults, and git.

use std::process::Command;

use kagero::sim::github::{AnswerFault, FileChange, RoutePattern, StandinConfig};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Client;

#[tokio::test]
async fn a_token_does_what_it_was_granted_and_no_more() {
    let client = Client::start().await;
    let number = client.open("a").await;
    let comments = format!("/repos/kumo/shop/issues/{number}/comments");

    let nobody = client.with_token("made-up", Method::GET, "/repos/kumo/shop").send().await.unwrap();
    assert_eq!(nobody.status(), 401);
    assert_eq!(nobody.json::<Value>().await.unwrap()["message"], "Bad credentials");
    let jwt = client.jwt();
    assert_eq!(client.with_token(&jwt, Method::GET, "/repos/kumo/shop").send().await.unwrap().status(), 401);
    let token = client.token(json!({})).await;
    assert_eq!(client.with_token(&token, Method::GET, "/app").send().await.unwrap().status(), 401);

    let app: Value = client.as_app(Method::GET, "/app").send().await.unwrap().json().await.unwrap();
    assert_eq!(app["slug"], "kagero-demo");
    let posted =
        client.with_token(&token, Method::POST, &comments).json(&json!({"body": "hello"})).send().await.unwrap();
    assert_eq!(posted.status(), 201);
    let posted: Value = posted.json().await.unwrap();
    assert_eq!(posted["performed_via_github_app"]["id"], app["id"]);
    assert_eq!(posted["user"]["type"], "Bot");

    let narrow = client.token(json!({"permissions": {"contents": "read"}})).await;
    let refused = client.with_token(&narrow, Method::POST, &comments).json(&json!({"body": "x"})).send().await.unwrap();
    assert_eq!(refused.status(), 403);
    client.get(&narrow, "/repos/kumo/shop/contents/README.md").await;

    client.standin.repo().suspend(true).await.unwrap();
    assert_eq!(client.with_token(&token, Method::GET, &comments).send().await.unwrap().status(), 403);
    client.standin.repo().suspend(false).await.unwrap();
    client.get(&token, &comments).await;
    client.standin.repo().uninstall().await.unwrap();
    assert_eq!(client.with_token(&token, Method::GET, &comments).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn following_links_reads_every_pull_request_once() {
    let client = Client::start().await;
    for i in 0..7 {
        client.open(&format!("change {i}")).await;
    }
    client.standin.repo().close(3, "mika").await.unwrap();
    let token = client.token(json!({})).await;
    let mut seen = Vec::new();
    let mut path = "/repos/kumo/shop/pulls?state=open&sort=created&direction=asc&per_page=2".to_owned();
    loop {
        let answer = client.with_token(&token, Method::GET, &path).send().await.unwrap();
        let link = answer.headers().get("link").map(|link| link.to_str().unwrap().to_owned()).unwrap_or_default();
        let list: Value = answer.json().await.unwrap();
        seen.extend(list.as_array().unwrap().iter().map(|pull| pull["number"].as_u64().unwrap()));
        let next = link.split(", ").find(|part| part.ends_with("rel=\"next\""));
        let Some(next) = next else { break };
        let address = next.split(['<', '>']).nth(1).unwrap();
        path = address.strip_prefix(client.standin.api_url().as_str()).unwrap().to_owned();
    }
    assert_eq!(seen, [1, 2, 4, 5, 6, 7]);
}

#[tokio::test]
async fn a_conditional_read_is_free_until_something_changes() {
    let client = Client::start().await;
    let number = client.open("a").await;
    let token = client.token(json!({})).await;
    let path = format!("/repos/kumo/shop/pulls/{number}");
    let first = client.with_token(&token, Method::GET, &path).send().await.unwrap();
    let tag = first.headers()["etag"].clone();
    let left = first.headers()["x-ratelimit-remaining"].clone();
    let again = client.with_token(&token, Method::GET, &path).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert_eq!(again.headers()["x-ratelimit-remaining"], left);
    client.standin.repo().label(number, "mika", "preview").await.unwrap();
    let changed = client.with_token(&token, Method::GET, &path).header("if-none-match", &tag).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    assert_eq!(changed.json::<Value>().await.unwrap()["labels"][0]["name"], "preview");
}

#[tokio::test]
async fn the_hourly_limit_is_a_limit() {
    let client = Client::with(StandinConfig { rate_limit: 3, ..StandinConfig::default() }).await;
    let token = client.token(json!({})).await;
    for _ in 0..3 {
        client.get(&token, "/repos/kumo/shop").await;
    }
    let refused = client.with_token(&token, Method::GET, "/repos/kumo/shop").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.headers()["x-ratelimit-remaining"], "0");
    assert!(refused.headers().contains_key("x-ratelimit-reset"));
}

#[tokio::test]
async fn faults_break_what_they_are_ordered_to_break() {
    let client = Client::start().await;
    let number = client.open("a").await;
    let token = client.token(json!({})).await;
    let path = format!("/repos/kumo/shop/issues/{number}/comments");
    let faults = client.standin.faults();
    let on = |method| RoutePattern::new(Some(method), "/repos/*/*/issues/*/comments");

    faults.answer(on(Method::POST), AnswerFault::LostReply, 1);
    let lost = client.with_token(&token, Method::POST, &path).json(&json!({"body": "kept"})).send().await;
    assert!(match lost {
        Err(_) => true,
        Ok(answer) => answer.bytes().await.is_err(),
    });
    faults.answer(on(Method::POST), AnswerFault::status(502), 1);
    let failed =
        client.with_token(&token, Method::POST, &path).json(&json!({"body": "not kept"})).send().await.unwrap();
    assert_eq!(failed.status(), 502);
    let said = client.standin.repo().comments(number).await.unwrap();
    assert_eq!(said.iter().map(|comment| comment.body.as_str()).collect::<Vec<_>>(), ["kept"]);

    faults.answer(on(Method::GET), AnswerFault::EmptyList, 1);
    faults.answer(on(Method::GET), AnswerFault::Truncated, 1);
    assert_eq!(client.get(&token, &path).await, json!([]));
    let cut = client.with_token(&token, Method::GET, &path).send().await.unwrap();
    assert!(cut.bytes().await.is_err());
    assert_eq!(client.get(&token, &path).await.as_array().unwrap().len(), 1);
    let counts: Vec<_> = faults.fired().into_values().collect();
    assert_eq!(counts, [1, 1, 1, 1]);
}

#[tokio::test]
async fn git_fetches_the_head_that_the_api_tells() {
    let client = Client::start().await;
    let repo = client.standin.repo();
    let number = client.open("a").await;
    let fork = repo.open_from_fork("guest", "from afar", vec![FileChange::write("fork.txt", "x\n")]).await.unwrap();
    let first = repo.pull(number).await.unwrap().head_sha;
    let second = repo.push(number, "more", vec![FileChange::write("notes.txt", "b\n")]).await.unwrap();
    let third = repo.force_push(number, "anew", vec![FileChange::write("notes.txt", "c\n")]).await.unwrap();
    let token = client.token(json!({})).await;
    let told = client.get(&token, &format!("/repos/kumo/shop/pulls/{number}")).await;
    assert_eq!(told["head"]["sha"], third.as_str());
    let told = client.get(&token, &format!("/repos/kumo/shop/pulls/{fork}")).await;
    assert_ne!(told["head"]["repo"]["id"], told["base"]["repo"]["id"]);

    let folder = tempfile::tempdir().unwrap();
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let url = format!("{}/kumo/shop.git", client.standin.clone_base());
    git(&["init", "--quiet", "."]);
    git(&["fetch", "--quiet", &url, &format!("refs/pull/{number}/head")]);
    assert_eq!(git(&["rev-parse", "FETCH_HEAD"]), third);
    // Commits that no reference leads to any more can still be asked for, as on GitHub.
    for sha in [&first, &second] {
        git(&["fetch", "--quiet", "--depth=1", &url, sha]);
        assert_eq!(&git(&["rev-parse", "FETCH_HEAD"]), sha);
    }
    git(&["fetch", "--quiet", &url, &format!("refs/pull/{fork}/head")]);
    assert_eq!(git(&["show", "FETCH_HEAD:fork.txt"]), "x");
}

#[tokio::test]
async fn files_are_read_at_a_branch_or_commit() {
    let client = Client::start().await;
    let number = client.open("a").await;
    let sha = client.standin.repo().pull(number).await.unwrap().head_sha;
    let token = client.token(json!({})).await;
    let path = "/repos/kumo/shop/contents/notes.txt";
    let at_head = client.get(&token, &format!("{path}?ref={sha}")).await;
    assert_eq!((at_head["type"].as_str(), at_head["encoding"].as_str()), (Some("file"), Some("base64")));
    assert_eq!(at_head["size"], 2);
    let on_main = client.with_token(&token, Method::GET, &format!("{path}?ref=main")).send().await.unwrap();
    assert_eq!(on_main.status(), 404);
    let raw = client.with_token(&token, Method::GET, &format!("{path}?ref={sha}"));
    let raw = raw.header("accept", "application/vnd.github.raw+json").send().await.unwrap().text().await.unwrap();
    assert_eq!(raw, "a\n");
    let commit = client.with_token(&token, Method::GET, "/repos/kumo/shop/commits/change-1");
    let commit = commit.header("accept", "application/vnd.github.sha").send().await.unwrap().text().await.unwrap();
    assert_eq!(commit, sha);
    let folder = client.get(&token, "/repos/kumo/shop/contents/app").await;
    assert!(folder.as_array().unwrap().iter().any(|entry| entry["name"] == "theme.toml"), "{folder}");
}

#[tokio::test]
async fn a_renamed_repository_redirects_and_keeps_its_id() {
    let client = Client::start().await;
    let number = client.open("a").await;
    let token = client.token(json!({})).await;
    let id = client.standin.repo().repo_id().await.unwrap();
    let renamed = client.standin.repo().rename("store").await.unwrap();
    assert_eq!(renamed.repo_id().await.unwrap(), id);
    let old =
        client.with_token(&token, Method::GET, &format!("/repos/kumo/shop/pulls/{number}?x=1")).send().await.unwrap();
    assert_eq!(old.status(), 301);
    let to = old.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(to, format!("{}/repos/kumo/store/pulls/{number}?x=1", client.standin.api_url()));
    assert_eq!(client.get(&token, &format!("/repos/kumo/store/pulls/{number}")).await["base"]["repo"]["id"], id);
}

#[tokio::test]
async fn a_new_success_leaves_transient_deployments_alone() {
    let client = Client::start().await;
    let number = client.open("a").await;
    let sha = client.standin.repo().pull(number).await.unwrap().head_sha;
    let token = client.token(json!({})).await;
    let post = |path: String, body: Value| client.with_token(&token, Method::POST, &path).json(&body).send();
    let mut ids = Vec::new();
    for transient in [true, false, false] {
        let body = json!({"ref": sha, "environment": "preview", "transient_environment": transient,
                          "auto_merge": false, "required_contexts": [], "payload": {"kagero": "x"}});
        let made = post("/repos/kumo/shop/deployments".to_owned(), body).await.unwrap();
        assert_eq!(made.status(), 201);
        ids.push(made.json::<Value>().await.unwrap()["id"].as_u64().unwrap());
        let status = json!({"state": "success", "environment_url": "http://preview.example", "description": "ready"});
        let set = post(format!("/repos/kumo/shop/deployments/{}/statuses", ids[ids.len() - 1]), status).await.unwrap();
        assert_eq!(set.status(), 201);
    }
    let states: Vec<_> = client.standin.repo().deployments(number).await.unwrap();
    let states: Vec<_> = states.iter().map(|one| one.statuses.last().unwrap().state.as_str()).collect();
    assert_eq!(states, ["success", "inactive", "success"]);
    let list = client.get(&token, &format!("/repos/kumo/shop/deployments?sha={sha}&environment=preview")).await;
    assert_eq!(list[0]["id"].as_u64(), ids.last().copied(), "newest first");
    let long = json!({"state": "success", "description": "x".repeat(141)});
    assert_eq!(post(format!("/repos/kumo/shop/deployments/{}/statuses", ids[0]), long).await.unwrap().status(), 422);
}
