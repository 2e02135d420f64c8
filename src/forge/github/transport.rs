//! Carries octocrab's requests over one HTTP client.
//!
//! Guarantees: one attempt per request, no redirect followed, an answer of bounded size within a bounded
//! time, nothing logged. octocrab's own client would replay requests, follow redirects to other hosts and
//! log errors that the caller logs as well.
//! Must not know: GitHub's paths and answers.

use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use octocrab::OctoBody;
use tower::util::BoxCloneService;
use url::{Host, Url};

/// A page of 100 pull requests is about 2.5 MB.
const LARGEST_ANSWER: usize = 32 << 20;

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum TransportError {
    #[error("no complete answer within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Broken(String),
    #[error("the answer is larger than {} MiB", LARGEST_ANSWER >> 20)]
    TooLarge,
}

pub(super) type Carrier = BoxCloneService<http::Request<OctoBody>, http::Response<Full<Bytes>>, TransportError>;

/// A service that sends requests, given by path, to the base URL.
pub(super) fn carrier(base: &Url, timeout: Duration) -> Result<Carrier, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("kagero/", env!("CARGO_PKG_VERSION")))
        .timeout(timeout)
        .connect_timeout(timeout.min(Duration::from_secs(10)))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never());
    if is_loopback(base) {
        builder = builder.no_proxy();
    }
    let client = builder.build()?;
    let base = base.as_str().trim_end_matches('/').to_owned();
    Ok(BoxCloneService::new(tower::service_fn(move |request: http::Request<OctoBody>| {
        let (client, base) = (client.clone(), base.clone());
        async move { carry(&client, &base, request).await.map_err(|error| error.after(timeout)) }
    })))
}

fn is_loopback(base: &Url) -> bool {
    match base.host() {
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

enum Failure {
    Http(reqwest::Error),
    Request(String),
    TooLarge,
}

impl Failure {
    fn after(self, timeout: Duration) -> TransportError {
        match self {
            Self::Http(error) if error.is_timeout() => TransportError::TimedOut(timeout),
            Self::Http(error) => TransportError::Broken(chain(&error.without_url())),
            Self::Request(why) => TransportError::Broken(why),
            Self::TooLarge => TransportError::TooLarge,
        }
    }
}

/// reqwest's own message stops before the cause ("error sending request").
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn carry(
    client: &reqwest::Client,
    base: &str,
    request: http::Request<OctoBody>,
) -> Result<http::Response<Full<Bytes>>, Failure> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|error| Failure::Request(error.to_string()))?.to_bytes();
    let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let sending = client.request(parts.method, format!("{base}{path}")).headers(parts.headers).body(body).send();
    let mut response = sending.await.map_err(Failure::Http)?;

    let mut received = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(Failure::Http)? {
        if received.len() + chunk.len() > LARGEST_ANSWER {
            return Err(Failure::TooLarge);
        }
        received.extend_from_slice(&chunk);
    }
    let mut answer = http::Response::new(Full::new(received.freeze()));
    *answer.status_mut() = response.status();
    *answer.headers_mut() = std::mem::take(response.headers_mut());
    Ok(answer)
}
