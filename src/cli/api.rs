//! The client side of the controller's API.

use std::path::Path;

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::Exit;
use crate::config::{RenderStyle, Server, load_server};
use crate::http::api::Problem;
use crate::http::auth::TOKEN_FILE;
use crate::telemetry::chain;

/// Speaks to the running controller of a configuration.
pub struct Api {
    base: String,
    token: String,
    client: reqwest::Client,
}

/// Reads `kagero.toml`, with all its errors if it has any.
pub fn server(config: &Path) -> anyhow::Result<Server> {
    load_server(config).map_err(|errors| Exit::Config.because(errors.render(RenderStyle::Terminal)))
}

impl Api {
    /// Finds the controller by its configuration.
    pub fn of(config: &Path) -> anyhow::Result<Self> {
        let server = server(config)?;
        let path = server.state_dir.join(TOKEN_FILE);
        let token = std::fs::read_to_string(&path).map_err(|error| {
            let exit = match error.kind() {
                std::io::ErrorKind::PermissionDenied => Exit::Unauthorised,
                _ => Exit::Unreachable,
            };
            exit.because(format!(
                "the API token {} could not be read ({error}); start `kagero serve` once, and use its account",
                path.display()
            ))
        })?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { base: format!("http://{}", server.listen.http), token: token.trim().to_owned(), client })
    }

    /// Reads a resource.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        Ok(self.send(Method::GET, path).await?.json().await?)
    }

    /// Sends a request and gives back a successful answer.
    pub async fn send(&self, method: Method, path: &str) -> anyhow::Result<reqwest::Response> {
        let request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        let response = request.send().await.map_err(|error| {
            Exit::Unreachable.because(format!(
                "the controller at {} does not answer; is `kagero serve` running? ({})",
                self.base,
                chain(&error)
            ))
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status == StatusCode::UNAUTHORIZED {
            let text =
                format!("the controller at {} refused the token; it belongs to another state directory", self.base);
            return Err(Exit::Unauthorised.because(text));
        }
        let text = response.text().await.unwrap_or_default();
        let text = match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => problem.error,
            Err(_) => format!("the controller answered {status}: {}", text.trim()),
        };
        let exit = if status == StatusCode::NOT_FOUND { Exit::NotFound } else { Exit::Error };
        Err(exit.because(text))
    }
}
