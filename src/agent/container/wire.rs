//! Requests that the client library cannot make: Podman's own, and a build with Podman's options.
//!
//! Guarantees: one connection for one request; an answer that is no success is an error with the engine's words.
//! Must not know: what is asked for.

use std::path::Path;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

/// An answer of that many bytes at most is read for the words of an error.
const WORDS: usize = 16 << 10;

/// An answer that goes on for as long as it is held.
pub(super) struct Answer {
    body: Incoming,
    _connection: AbortOnDropHandle<()>,
}

impl Answer {
    /// The next piece; `None` at the end.
    pub(super) async fn piece(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(error.to_string())),
            }
        }
    }

    async fn words(mut self) -> String {
        let mut text = Vec::new();
        while let Some(Ok(piece)) = self.piece().await {
            text.extend_from_slice(&piece);
            if text.len() > WORDS {
                break;
            }
        }
        let said: Option<serde_json::Value> = serde_json::from_slice(&text).ok();
        let field = |name: &str| said.as_ref()?.get(name)?.as_str().map(str::to_owned);
        field("message").or_else(|| field("cause")).unwrap_or_else(|| String::from_utf8_lossy(&text).into_owned())
    }
}

/// Posts a body, and gives the answer once it begins well. The error is the engine's words, or the connection's.
pub(super) async fn post(
    socket: &Path,
    target: &str,
    content_type: &str,
    body: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Result<Answer, String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // Its end shows in the answer.
        let _ = connection.await;
    }));
    let body = StreamBody::new(body.map(|piece| piece.map(Frame::data)).boxed());
    let request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(HOST, "engine")
        .header(CONTENT_TYPE, content_type)
        .body(body)
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let (status, answer) = (response.status(), Answer { body: response.into_body(), _connection: connection });
    if status.is_success() { Ok(answer) } else { Err(answer.words().await) }
}
