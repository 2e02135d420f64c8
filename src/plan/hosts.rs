//! Which host names an environment gets.

use std::collections::BTreeSet;

use crate::domain::id::{EnvKey, HostLabel};
use crate::domain::ledger::Host;
use crate::domain::policy::Service;

/// The host names for the public services. Names that the environment has already are kept; a name that
/// another environment has is replaced by one with a digest.
pub fn choose(
    repo_name: &str,
    key: EnvKey,
    services: &[Service],
    ours: &[Host],
    taken: &BTreeSet<HostLabel>,
) -> Vec<Host> {
    let wanted = std::iter::once(None).chain(services.iter().filter(|s| s.public).map(|s| Some(&s.name)));
    wanted
        .map(|service| {
            if let Some(host) = ours.iter().find(|host| host.service.as_ref() == service) {
                return host.clone();
            }
            let plain = HostLabel::derive(repo_name, key, service);
            let label = if taken.contains(&plain) { HostLabel::derive_unique(repo_name, key, service) } else { plain };
            Host { label, service: service.cloned() }
        })
        .collect()
}
