//! The route table: host label → environment. Replaced as a whole, read without a lock.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::domain::id::EnvUid;
use crate::report::view::EnvView;

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

/// A shared, replaceable table of routes.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    routes: Arc<ArcSwap<HashMap<Box<str>, Arc<Route>>>>,
}

impl RouteTable {
    /// The route of a host label (the part of the host before the preview domain).
    pub fn get(&self, label: &str) -> Option<Arc<Route>> {
        self.routes.load().get(label).cloned()
    }

    /// Replaces the whole table.
    pub fn replace(&self, routes: HashMap<Box<str>, Arc<Route>>) {
        self.routes.store(Arc::new(routes));
    }

    /// Changes some labels at once: `Some` sets, `None` removes.
    pub fn apply(&self, changes: &[(Box<str>, Option<Arc<Route>>)]) {
        self.routes.rcu(|old| {
            let mut new = HashMap::clone(old);
            for (label, route) in changes {
                match route {
                    Some(route) => new.insert(label.clone(), Arc::clone(route)),
                    None => new.remove(label),
                };
            }
            new
        });
    }

    /// The number of routes.
    pub fn len(&self) -> usize {
        self.routes.load().len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
