//! Who we are: the App's JWT, tokens of installations, tokens for git.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kagero::clock::{Clock as _, SystemClock};
use kagero::domain::id::{InstallationId, PrNumber};
use kagero::forge::github::{Github, GithubConfig};
use kagero::forge::{Forge as _, ForgeErrorKind};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::server::{APP, KEY, Reply, Seen, Server, pull, reply, shop};

#[tokio::test]
async fn the_jwt_is_signed_with_the_key_and_lives_for_less_than_ten_minutes() {
    let server = Server::start(|seen| (seen.method == "POST").then(|| reply(202, &json!({})))).await;
    server.github.redeliver(99).await.unwrap();

    let asked = server.asked().remove(0);
    assert_eq!(asked.line(), "POST /app/hook/deliveries/99/attempts");
    let token = asked.header("authorization").strip_prefix("Bearer ").unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, KEY.public_key().as_ref());
    public.verify(message.as_bytes(), &signature).unwrap();

    let part = |index: usize| -> Value {
        let text = message.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    };
    assert_eq!(part(0)["alg"], "RS256");
    let claims = part(1);
    assert_eq!(claims["iss"], APP);
    let now = SystemClock.now().0 / 1000;
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!((50..180).contains(&(now - iat)), "issued {} s ago", now - iat);
    assert!(exp > now && exp - iat <= 600, "lives for {} s", exp - iat);
}

#[tokio::test]
async fn every_request_carries_our_name_and_the_version_of_the_api() {
    let server = Server::start(any_pull).await;
    server.github.pull(&shop(), PrNumber(12)).await.unwrap();
    for asked in server.asked().iter().chain(&server.asked_tokens()) {
        assert_eq!(asked.headers.get_all("user-agent").iter().count(), 1);
        assert!(asked.header("user-agent").starts_with("kagero/"));
        assert_eq!(asked.headers.get_all("authorization").iter().count(), 1);
    }
    let asked = server.asked().remove(0);
    assert_eq!(asked.header("x-github-api-version"), "2022-11-28");
    assert_eq!(asked.header("accept"), "application/vnd.github+json");
}

fn any_pull(seen: &Seen) -> Option<Reply> {
    let number = seen.path.rsplit_once("/pulls/")?.1.parse().unwrap();
    Some(reply(200, &pull(number)))
}

fn tokens_used(server: &Server) -> Vec<String> {
    server.asked().iter().map(|asked| asked.header("authorization").to_owned()).collect()
}

#[tokio::test]
async fn each_installation_has_its_own_token_until_ten_minutes_before_its_end() {
    let server = Server::start(any_pull).await;
    let mut other = shop();
    other.installation = InstallationId(8);
    for repo in [&shop(), &other, &shop()] {
        server.github.pull(repo, PrNumber(1)).await.unwrap();
    }
    server.clock.forward(Duration::from_mins(49));
    server.github.pull(&shop(), PrNumber(1)).await.unwrap();
    server.clock.forward(Duration::from_mins(2));
    server.github.pull(&shop(), PrNumber(1)).await.unwrap();
    let expected = ["Bearer ghs_3_1", "Bearer ghs_8_2", "Bearer ghs_3_1", "Bearer ghs_3_1", "Bearer ghs_3_3"];
    assert_eq!(tokens_used(&server), expected);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_request_sent_again_whole() {
    let server = Server::start(|seen| {
        let old = seen.header("authorization") == "Bearer ghs_3_1";
        (seen.line() == "POST /repos/acme/shop/issues/12/comments").then(|| {
            if old { reply(401, &json!({"message": "Bad credentials"})) } else { reply(201, &json!({"id": 5})) }
        })
    })
    .await;
    assert_eq!(server.github.create_comment(&shop(), PrNumber(12), "hello").await, Ok(5));
    assert_eq!(tokens_used(&server), ["Bearer ghs_3_1", "Bearer ghs_3_2"]);
    for asked in server.asked() {
        assert_eq!(asked.json(), json!({"body": "hello"}));
    }
}

#[tokio::test]
async fn a_second_refusal_is_final_and_names_no_token() {
    let server = Server::start(|seen| {
        seen.path.starts_with("/repos").then(|| reply(401, &json!({"message": "Bad credentials"})))
    })
    .await;
    let error = server.github.pull(&shop(), PrNumber(12)).await.unwrap_err();
    assert_eq!(error.kind, ForgeErrorKind::Denied);
    assert_eq!(
        error.to_string(),
        "reading pull request acme/shop#12: GitHub answered 401 Unauthorized: Bad credentials"
    );
    assert_eq!(server.asked().len(), 2);
    assert!(!format!("{error:?}").contains("ghs_"));
}

#[tokio::test]
async fn many_passes_at_once_ask_for_one_token() {
    let server = Server::start(any_pull).await;
    let repo = shop();
    let reads = (1..=60).map(|number| server.github.pull(&repo, PrNumber(number)));
    for outcome in futures::future::join_all(reads).await {
        outcome.unwrap();
    }
    assert_eq!(server.asked_tokens().len(), 1);
    assert_eq!(server.asked().len(), 60);
}

#[tokio::test]
async fn a_missing_installation_is_lost_access_and_not_a_missing_comment() {
    let server = Server::start(|seen| {
        seen.path.ends_with("/access_tokens").then(|| reply(404, &json!({"message": "Not Found"})))
    })
    .await;
    let error = server.github.edit_comment(&shop(), 1, "text").await.unwrap_err();
    assert_eq!(error.kind, ForgeErrorKind::Denied);
    assert!(error.to_string().contains("installation 3"), "{error}");
    assert_eq!(server.github.delete_comment(&shop(), 1).await.unwrap_err().kind, ForgeErrorKind::Denied);
}

#[tokio::test]
async fn a_garbled_token_is_not_quoted() {
    for body in
        [json!("ghs_secret"), json!({"token": {"ghs_secret": 1}}), json!({"token": "x", "expires_at": "ghs_secret"})]
    {
        let server = Server::start(move |seen| seen.path.ends_with("/access_tokens").then(|| reply(201, &body))).await;
        let error = server.github.pull(&shop(), PrNumber(12)).await.unwrap_err();
        assert_eq!(error.kind, ForgeErrorKind::Garbled);
        assert!(!format!("{error:?}").contains("ghs_secret"), "{error:?}");
    }
}

#[tokio::test]
async fn a_token_for_git_reads_one_repository_and_local_stand_ins_need_none() {
    let server = Server::start(|_| None).await;
    let first = server.github.git_token(&shop()).await.unwrap().unwrap();
    let again = server.github.git_token(&shop()).await.unwrap().unwrap();
    assert_eq!(first.expose_secret(), "ghs_3_1");
    assert_eq!(again.expose_secret(), "ghs_3_1");
    let asked = server.asked_tokens();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].json(), json!({"repository_ids": [7], "permissions": {"contents": "read"}}));
    assert_eq!(server.github.clone_url(&shop()), "https://github.example/acme/shop.git");
    assert_eq!(server.github.pull_url(&shop().name, PrNumber(12)), "https://github.example/acme/shop/pull/12");

    let local = |config: &mut GithubConfig| config.clone_base = Some("file:///srv/repos/".to_owned());
    let server = Server::start_at("", |_| None, local).await;
    assert!(server.github.git_token(&shop()).await.unwrap().is_none());
    assert_eq!(server.github.clone_url(&shop()), "file:///srv/repos/acme/shop.git");
}

#[tokio::test]
async fn an_enterprise_server_is_asked_below_its_path() {
    let calls = AtomicUsize::new(0);
    let server = Server::start_at(
        "/api/v3",
        move |seen| {
            calls.fetch_add(1, Ordering::SeqCst);
            any_pull(seen)
        },
        |_| {},
    )
    .await;
    server.github.pull(&shop(), PrNumber(12)).await.unwrap();
    let paths: BTreeSet<String> = server.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(paths, BTreeSet::from(["/repos/acme/shop/pulls/12".to_owned()]));
}

#[tokio::test]
async fn a_key_or_an_address_that_cannot_work_is_refused_at_once() {
    let make = |url: &str, key: &str| {
        let web = "https://github.com".parse().unwrap();
        let config = GithubConfig::new(url.parse().unwrap(), web, APP, key.to_owned().into());
        Github::new(config, std::sync::Arc::new(SystemClock)).map(|_| ()).unwrap_err().to_string()
    };
    let broken = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for key in ["", "hunter2", broken] {
        let error = make("https://api.github.com", key);
        assert!(error.contains("github.private_key") && !error.contains("hunter2"), "{error}");
    }
    assert!(make("ftp://api.github.com", "").contains("github.api_url"));
}
