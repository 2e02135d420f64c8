//! From what a task says of its services to what each of them is: the compose file of the checkout is read here.
//!
//! Guarantees: a compose file is read only within the checkout, and only as far as it may be large.
//! Must not know: engines.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use super::context;
use crate::agent::logs::Log;
use crate::config::compose::parse_compose;
use crate::config::{RenderStyle, decode};
use crate::domain::assignment::Task;
use crate::domain::container::{CheckoutPath, Container};
use crate::domain::id::ServiceName;
use crate::domain::policy::{Runs, Service};

/// How long a service may take to become healthy where `.kagero.yml` does not name it.
const START_TIMEOUT: Duration = Duration::from_mins(2);
/// Larger files are refused.
const MOST_BYTES: u64 = 64 << 10;

/// A service, and the container that it is, unless it is a process.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) service: Service,
    pub(super) container: Option<Container>,
}

/// What each service is. The error is one sentence; the log has all that is wrong with a compose file.
pub(super) fn resolve(task: &Task, checkout: &Path, log: &Log) -> Result<Vec<Resolved>, String> {
    let file = task.services.iter().find_map(|service| match &service.runs {
        Runs::Compose(compose) => Some(&compose.file),
        Runs::Process(_) | Runs::Container(_) => None,
    });
    let of_file = match file {
        Some(file) => read(file, task, checkout, log)?,
        None => Vec::new(),
    };
    let mut resolved = Vec::new();
    for service in &task.services {
        let container = match &service.runs {
            Runs::Process(_) => None,
            Runs::Container(container) => Some(Container::clone(container)),
            Runs::Compose(compose) => {
                let found = of_file.iter().find(|(name, _)| *name == service.name);
                let Some((_, container)) = found else {
                    let known: Vec<&str> = of_file.iter().map(|(name, _)| name.as_str()).collect();
                    return Err(format!(
                        "`services.{}` of .kagero.yml is not in {}, which has {}; name one of those",
                        service.name,
                        compose.file,
                        known.join(", ")
                    ));
                };
                Some(Container { port: compose.port.or(container.port), ..container.clone() })
            }
        };
        resolved.push(Resolved { service: service.clone(), container });
    }
    for (name, container) in of_file {
        if !task.services.iter().any(|service| service.name == name) {
            resolved.push(Resolved { service: companion(name, &container), container: Some(container) });
        }
    }
    Ok(resolved)
}

/// A service that only the compose file names.
fn companion(name: ServiceName, container: &Container) -> Service {
    Service {
        name,
        runs: Runs::Container(Box::new(container.clone())),
        health: None,
        start_timeout: START_TIMEOUT,
        public: false,
        // Every release has a network of its own: old and new do not meet.
        overlap: true,
    }
}

fn read(file: &CheckoutPath, task: &Task, checkout: &Path, log: &Log) -> Result<Vec<(ServiceName, Container)>, String> {
    let path = context::within(checkout, file)?;
    let mut bytes = Vec::new();
    let opened = File::open(&path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    opened.map_err(|error| format!("`{file}` cannot be read ({error})"))?;
    let parsed = decode(file.as_str(), bytes).and_then(|text| parse_compose(file.as_str(), &text, &task.commit));
    parsed.map_err(|errors| {
        for line in errors.render(RenderStyle::Plain).lines() {
            log.note(line);
        }
        let Some(first) = errors.problems().first() else { return format!("`{file}` cannot be used") };
        let (line, column) = errors.position(first);
        let help = first.help.as_deref().unwrap_or("correct it");
        let rest = match errors.count() {
            1 => String::new(),
            count => format!(" (the first of {count} errors; see the log)"),
        };
        format!("{file}:{line}:{column}: {}; {help}{rest}", first.message)
    })
}
