//! The route table: host label → environment. Changed one by one, read without a lock, watched for changes.
//!
//! Guarantees: what [`Route::destination`] gives is decided by the table alone; an environment that is
//! being taken away has no upstream, whatever its route says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::domain::id::EnvUid;
use crate::report::page::PageKind;
use crate::report::view::{EnvView, Phase};

/// What stands behind one host label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The environment.
    pub uid: EnvUid,
    /// The service's address as the agent reported it; `None`: show the page for `view.phase`.
    pub upstream: Option<SocketAddr>,
    /// What the page shows.
    pub view: Arc<EnvView>,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To the application.
    Upstream(SocketAddr),
    /// To a page of ours.
    Page(PageKind),
}

impl Route {
    /// Where requests for this route go.
    pub fn destination(&self) -> Destination {
        match (&self.view.phase, self.upstream) {
            (Phase::Destroying(_) | Phase::DestroyFailing(_) | Phase::Destroyed(_) | Phase::NotWanted(_), Some(_))
            | (_, None) => Destination::Page(PageKind::of(&self.view.phase)),
            (_, Some(upstream)) => Destination::Upstream(upstream),
        }
    }
}

/// A shared table of routes.
#[derive(Debug, Clone)]
pub struct RouteTable {
    routes: Arc<papaya::HashMap<Box<str>, Arc<Route>>>,
    version: watch::Sender<u64>,
    complete: Arc<AtomicBool>,
}

impl Default for RouteTable {
    fn default() -> Self {
        Self { routes: Arc::default(), version: watch::Sender::new(0), complete: Arc::default() }
    }
}

impl RouteTable {
    /// The route of a host label (the part of the host before the preview domain).
    pub fn get(&self, label: &str) -> Option<Arc<Route>> {
        self.routes.pin().get(label).cloned()
    }

    /// Sends a label there. Costs the same however many routes there are.
    pub fn set(&self, label: &str, route: Route) {
        self.routes.pin().insert(label.into(), Arc::new(route));
        self.tell();
    }

    /// A label that this environment has given up. What another one has there by now stays.
    pub fn remove(&self, label: &str, uid: &EnvUid) {
        if let Ok(Some(_)) = self.routes.pin().remove_if(label, |_, route| route.uid == *uid) {
            self.tell();
        }
    }

    fn tell(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Whatever is known has been put in: from now on, a label that is missing belongs to nobody.
    pub fn complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Whether everything that is known has been put in. Before that, a label that is missing says nothing.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Resolves each time the table has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}
