//! One request: which host, which route, the application or a page.
//!
//! Guarantees: the path of every request is decided here and nowhere else; every request gets an answer.
//! Must not know: how connections are accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::ACCEPT;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{self, Cause, Form};
use super::body::AnswerBody;
use super::config::{Front, Scheme, Timeouts};
use super::events::{self, Watched};
use super::forward::{self, NoAnswer, Target};
use super::headers::{self, Origin};
use super::host::{self, PreviewDomain};
use super::meter::Meter;
use super::pool::{NoConnection, Pool};
use super::route::{Destination, Route, RouteTable};
use crate::report::page::{Page, PageKind};

/// On any host that is no preview's: whether the gateway itself is well.
const HEALTH: &str = "/.kagero/health";
/// On every preview's host: the environment's public facts as JSON.
const STATUS: &str = "/.kagero/status";
/// On the host of a preview that shows a page: what keeps it current.
const EVENTS: &str = "/.kagero/events";

/// What the requests of one thread share.
pub(super) struct Worker {
    pub domain: PreviewDomain,
    pub routes: RouteTable,
    pub pool: Arc<Pool>,
    pub meter: Arc<Meter>,
    pub timeouts: Timeouts,
    pub front: Front,
    pub scheme: Scheme,
    pub forge_url: Arc<str>,
    pub seats: Arc<Semaphore>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

/// What is known of a client's connection.
pub(super) struct Peer {
    pub direct: Origin,
}

impl Worker {
    pub(super) fn peer(&self, address: SocketAddr) -> Peer {
        let client = HeaderValue::from_str(&address.ip().to_canonical().to_string());
        Peer {
            direct: Origin {
                client: client.unwrap_or(HeaderValue::from_static("unknown")),
                scheme: HeaderValue::from_static(self.scheme.as_str()),
                port: HeaderValue::from(self.scheme.port()),
            },
        }
    }

    /// For measuring only: nothing is decided by it.
    #[allow(clippy::unused_self, reason = "the one place of this module that reads a clock")]
    pub(super) fn now(&self) -> Instant {
        Instant::now()
    }

    pub(super) fn take_seat(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.seats).try_acquire_owned().ok()
    }

    /// Answers one request.
    pub(super) async fn serve(&self, peer: &Peer, request: Request<Incoming>) -> Response<AnswerBody> {
        let authority = match host::authority(request.uri(), request.headers()) {
            Ok(authority) => authority,
            Err(why) => {
                self.meter.refused.increment(1);
                return answer::bad_host(why);
            }
        };
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            self.meter.refused.increment(1);
            return answer::bad_method();
        }
        let Some(label) = self.domain.label(authority.name) else {
            if request.uri().path() == HEALTH {
                return answer::healthy();
            }
            return self.unknown(&request, authority.name);
        };
        let Some(route) = self.routes.get(&label) else {
            return self.unknown(&request, authority.name);
        };
        match route.destination() {
            Destination::Upstream(_) if request.uri().path() == STATUS => answer::status_of_live(&route.view),
            Destination::Upstream(upstream) => {
                let origin = self.origin(peer, &request, authority.port);
                self.proxy(&route, upstream, origin.as_ref().unwrap_or(&peer.direct), request).await
            }
            Destination::Page(kind) => {
                let page = Page { kind, host: authority.name, view: Some(&route.view), forge_url: &self.forge_url };
                match request.uri().path() {
                    STATUS => answer::status_of(&page),
                    EVENTS => {
                        let watched = Watched {
                            routes: self.routes.clone(),
                            label: label.into_owned(),
                            host: authority.name.to_owned(),
                            forge_url: Arc::clone(&self.forge_url),
                            stop: self.stop.clone(),
                        };
                        answer::events(&route.uid, AnswerBody::Events(Box::pin(events::stream(watched))))
                    }
                    _ => self.page(&page, Form::wanted(request.method(), request.headers().get(ACCEPT)), Cause::Route),
                }
            }
        }
    }

    async fn proxy(
        &self,
        route: &Route,
        address: SocketAddr,
        origin: &Origin,
        request: Request<Incoming>,
    ) -> Response<AnswerBody> {
        let (method, accept) = (request.method().clone(), request.headers().get(ACCEPT).cloned());
        let target = Target { uid: &route.uid, address };
        let why = match forward::forward(self, target, origin, request).await {
            Ok(response) => {
                self.meter.proxied.increment(1);
                return response;
            }
            Err(NoAnswer::Coding) => {
                self.meter.refused.increment(1);
                return answer::bad_coding(&NoAnswer::Coding);
            }
            Err(why) => why,
        };
        self.meter.failed.increment(1);
        tracing::info!(
            env.uid = %route.uid,
            upstream.address = %address,
            error = %why,
            cause = std::error::Error::source(&why).map(tracing::field::display),
            "an application gave no answer; the visitor sees a page that says so"
        );
        let cause = match why {
            NoAnswer::TimedOut(..) | NoAnswer::NoConnection(NoConnection::TimedOut(_)) => Cause::Late,
            NoAnswer::NoSeat | NoAnswer::NoConnection(NoConnection::AllBusy(..)) => Cause::Busy,
            _ => Cause::NoAnswer,
        };
        let page = Page { kind: PageKind::Unreachable, host: "", view: Some(&route.view), forge_url: &self.forge_url };
        self.page(&page, Form::wanted(&method, accept.as_ref()), cause)
    }

    /// What differs from the connection's own origin: the port that was asked for, and behind a load
    /// balancer the client's address.
    fn origin(&self, peer: &Peer, request: &Request<Incoming>, port: Option<u16>) -> Option<Origin> {
        let client = match self.front {
            Front::Direct => None,
            Front::LoadBalancer => headers::last_forwarded_for(request.headers()),
        };
        if client.is_none() && port.is_none() {
            return None;
        }
        let mut origin = peer.direct.clone();
        if let Some(Ok(client)) = client.map(|address| HeaderValue::from_str(&address.to_string())) {
            origin.client = client;
        }
        if let Some(port) = port {
            origin.port = HeaderValue::from(port);
        }
        Some(origin)
    }

    fn unknown(&self, request: &Request<Incoming>, host: &str) -> Response<AnswerBody> {
        let kind = if self.routes.is_complete() { PageKind::Unknown } else { PageKind::Starting };
        let page = Page { kind, host, view: None, forge_url: &self.forge_url };
        self.page(&page, Form::wanted(request.method(), request.headers().get(ACCEPT)), Cause::Route)
    }

    fn page(&self, page: &Page<'_>, form: Form, cause: Cause) -> Response<AnswerBody> {
        (self.meter.pages)(page.kind.as_str()).increment(1);
        answer::page(page, form, cause)
    }
}
