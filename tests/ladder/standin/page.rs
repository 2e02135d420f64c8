//! The page: what a person does on it, and what hostile text does not do to it.

use kagero::sim::github::OpenPull;
use reqwest::Method;
use serde_json::json;

use super::client::Client;

async fn text(client: &Client, path: &str) -> String {
    let answer = client.web(Method::GET, path).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'self'"), "{policy}");
    answer.text().await.unwrap()
}

async fn press(client: &Client, path: &str, fields: &[(&str, &str)]) -> String {
    let answer = client.web(Method::POST, path).form(fields).send().await.unwrap();
    assert_eq!(answer.status(), 303, "{path}: {}", answer.text().await.unwrap());
    answer.headers()["location"].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_person_can_take_a_pull_request_through_its_life() {
    let client = Client::start().await;
    let list = text(&client, "/kumo/shop/pulls").await;
    assert!(list.contains("No pull request is open"), "{list}");
    let pull = press(&client, "/kumo/shop/pulls", &[("change", "look")]).await;
    assert_eq!(pull, "/kumo/shop/pull/1");
    assert!(text(&client, &pull).await.contains("#b45309"), "the diff shows the new colour");
    press(&client, &format!("{pull}/push"), &[]).await;
    press(&client, &format!("{pull}/comment"), &[("text", "**bold** words")]).await;
    let page = text(&client, &pull).await;
    assert!(page.contains("<strong>bold</strong>"), "{page}");
    assert_eq!(client.standin.repo().pull(1).await.unwrap().commits.len(), 2);
    press(&client, &format!("{pull}/draft"), &[]).await;
    assert!(client.standin.repo().pull(1).await.unwrap().draft);
    press(&client, &format!("{pull}/ready"), &[]).await;
    press(&client, &format!("{pull}/label"), &[("label", "preview")]).await;
    assert!(client.standin.repo().pull(1).await.unwrap().labels.contains("preview"));
    for (button, state) in [("close", "closed"), ("reopen", "open"), ("merge", "merged")] {
        press(&client, &format!("{pull}/{button}"), &[]).await;
        assert_eq!(client.standin.repo().pull(1).await.unwrap().state, state);
    }
    let twice = client.web(Method::POST, &format!("{pull}/merge")).form(&[("x", "y")]).send().await.unwrap();
    assert_eq!(twice.status(), 409);
    assert!(text(&client, "/kumo/shop/pulls?state=closed").await.contains("autumn look"));
}

#[tokio::test]
async fn the_page_shows_the_deployment_and_its_link() {
    let client = Client::start().await;
    let number = client.open("a").await;
    let sha = client.standin.repo().pull(number).await.unwrap().head_sha;
    let token = client.token(json!({})).await;
    let made = client.with_token(&token, Method::POST, "/repos/kumo/shop/deployments");
    let made = made.json(&json!({"ref": sha, "environment": "preview"})).send().await.unwrap();
    let id = made.json::<serde_json::Value>().await.unwrap()["id"].as_u64().unwrap();
    let set = |state: &'static str| {
        let path = format!("/repos/kumo/shop/deployments/{id}/statuses");
        let body = json!({"state": state, "environment_url": "http://pr-1-shop.localhost:1", "log_url": "javascript:alert(1)"});
        client.with_token(&token, Method::POST, &path).json(&body).send()
    };
    let path = format!("/kumo/shop/pull/{number}");
    for (state, word, linked) in
        [("in_progress", "In progress", false), ("success", "Active", true), ("inactive", "Inactive", false)]
    {
        assert_eq!(set(state).await.unwrap().status(), 201);
        let page = text(&client, &path).await;
        assert!(page.contains(word), "{page}");
        assert_eq!(
            page.contains("href=\"http:&#x2f;&#x2f;pr-1-shop.localhost:1\"")
                || page.contains("href=\"http://pr-1-shop.localhost:1\""),
            linked,
            "{state}: {page}"
        );
        assert!(!page.contains("javascript:"), "{page}");
    }
}

#[tokio::test]
async fn hostile_titles_and_branches_stay_text() {
    let client = Client::start().await;
    let hostile = "<script>alert(1)</script>\"'&";
    let open = OpenPull {
        body: hostile.to_owned(),
        labels: vec![hostile.to_owned()],
        branch: "a;b$(c)".to_owned(),
        ..OpenPull::new(hostile, Vec::new())
    };
    let number = client.standin.repo().open_pull(open).await.unwrap();
    client.standin.repo().comment(number, "mika", hostile).await.unwrap();
    for path in ["/kumo/shop/pulls".to_owned(), format!("/kumo/shop/pull/{number}")] {
        assert!(!text(&client, &path).await.contains("<script>alert"), "{path}");
    }
}

#[tokio::test]
async fn a_form_of_another_site_is_refused() {
    let client = Client::start().await;
    let post = |origin: String| {
        client.web(Method::POST, "/kumo/shop/pulls").header("origin", origin).form(&[("change", "look")]).send()
    };
    assert_eq!(post("http://evil.example".to_owned()).await.unwrap().status(), 403);
    assert_eq!(post(client.standin.web_url()).await.unwrap().status(), 303);
}

#[tokio::test]
async fn a_change_between_the_page_and_its_stream_is_not_lost() {
    let client = Client::start().await;
    let number = client.open("a").await;
    let shown = |page: &str| {
        let (_, rest) = page.split_once("id=\"live\" data-version=\"").unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let path = format!("/kumo/shop/pull/{number}");
    let before = shown(&text(&client, &path).await);
    client.standin.repo().comment(number, "mika", "in between").await.unwrap();
    let mut stream = client.web(Method::GET, "/kumo/shop/live").send().await.unwrap();
    let first = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    let after = shown(&text(&client, &path).await);
    assert_ne!(after, before);
    assert!(first.contains(&format!("event: changed\ndata: {after}\n")), "{first}");
}
