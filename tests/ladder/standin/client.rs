//! A plain client of the stand-in: no octocrab, so that what is checked is the wire.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kagero::sim::github::{FileChange, OpenPull, Standin, StandinConfig};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

pub(super) struct Client {
    pub standin: Standin,
    http: reqwest::Client,
}

impl Client {
    pub(super) async fn start() -> Self {
        Self::with(StandinConfig::default()).await
    }

    pub(super) async fn with(config: StandinConfig) -> Self {
        let http = reqwest::Client::builder().user_agent("test").no_proxy().redirect(reqwest::redirect::Policy::none());
        Self { standin: Standin::start(config).await.unwrap(), http: http.build().unwrap() }
    }

    pub(super) fn jwt(&self) -> String {
        let body: String = self.standin.private_key_pem().lines().filter(|line| !line.starts_with('-')).collect();
        let pair = RsaKeyPair::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap();
        let now = jiff::Timestamp::now().as_second();
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({"iss": self.standin.app_id(), "iat": now - 60, "exp": now + 500});
        let signed = format!("{}.{}", text(&json!({"alg": "RS256", "typ": "JWT"})), text(&claims));
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A request below the API's root, as the App.
    pub(super) fn as_app(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.standin.api_url())).bearer_auth(self.jwt())
    }

    /// A request to a page.
    pub(super) fn web(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.standin.web_url()))
    }

    pub(super) async fn token(&self, wish: Value) -> String {
        let list: Value = self.as_app(Method::GET, "/app/installations").send().await.unwrap().json().await.unwrap();
        let path = format!("/app/installations/{}/access_tokens", list[0]["id"]);
        let answer = self.as_app(Method::POST, &path).json(&wish).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        answer.json::<Value>().await.unwrap()["token"].as_str().unwrap().to_owned()
    }

    /// A request below the API's root, as an installation.
    pub(super) fn with_token(&self, token: &str, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.standin.api_url())).bearer_auth(token)
    }

    pub(super) async fn get(&self, token: &str, path: &str) -> Value {
        let answer = self.with_token(token, Method::GET, path).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    /// A pull request that changes one file.
    pub(super) async fn open(&self, title: &str) -> u64 {
        let change = FileChange::write("notes.txt", format!("{title}\n"));
        self.standin.repo().open_pull(OpenPull::new(title, vec![change])).await.unwrap()
    }
}
