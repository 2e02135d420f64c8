//! The stream that keeps a page current: the page's changing part at each change, and the moment at which
//! the application takes over.
//!
//! Guarantees: a change between the page and the stream is not lost, for the stream begins with the present
//! state; a stream ends when the page has to be loaded anew, and when the gateway stops.
//! Must not know: sockets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio_util::sync::CancellationToken;

use super::route::{Destination, Route, RouteTable};
use crate::report::page::{self, Page};

/// A sign of life on a stream without changes: also how a client that has gone is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Changes closer together than this are shown as one.
const CALM: Duration = Duration::from_millis(100);

/// Whose page is kept current.
pub(super) struct Watched {
    pub routes: RouteTable,
    pub label: String,
    pub host: String,
    pub forge_url: Arc<str>,
    pub stop: CancellationToken,
}

/// `view`: the page's kind and its changing part. `ready`: the application is there. `reload`: the
/// environment has another page, or none.
pub(super) fn stream(watched: Watched) -> impl Stream<Item = Bytes> + Send {
    async_stream::stream! {
        let mut changes = watched.routes.changes();
        let mut shown: Option<Arc<Route>> = None;
        yield Bytes::from_static(b"retry: 1000\n\n");
        loop {
            changes.mark_unchanged();
            let Some(route) = watched.routes.get(&watched.label) else {
                yield event("reload", "{}");
                return;
            };
            let kind = match route.destination() {
                Destination::Upstream(_) => {
                    yield event("ready", "{}");
                    return;
                }
                Destination::Page(kind) => kind,
            };
            if shown.as_ref() != Some(&route) {
                let page = Page { kind, host: &watched.host, view: Some(&route.view), forge_url: &watched.forge_url };
                match page::main_html(&page) {
                    Ok(html) => {
                        let data = serde_json::json!({ "page": kind.as_str(), "html": html });
                        yield event("view", &data.to_string());
                    }
                    Err(error) => {
                        tracing::error!(env.uid = %route.uid, error = %error, "a page cannot be kept current");
                        return;
                    }
                }
                shown = Some(route);
            }
            tokio::select! {
                biased;
                () = watched.stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(HEARTBEAT) => {
                    yield Bytes::from_static(b":\n\n");
                    continue;
                }
            }
            tokio::time::sleep(CALM).await;
        }
    }
}

/// One event. The data is JSON, hence one line.
fn event(name: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}
