//! One task's checkout and services on disk and in memory.
//!
//! Guarantees: a release's directory goes when the release goes; stopping it leaves no process.
//! Must not know: which release serves.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use futures::future::join_all;

use super::logs::{AttemptLogs, Source};
use super::options::SupervisionPace;
use super::ports::PortBook;
use super::removal::remove_tree;
use super::sandbox::{Rooms, Sandbox};
use super::supervisor::{Service, ServicePlan};
use crate::domain::assignment::{Assignment, ServiceReport, TaskDigest};

/// Where a machine's releases lie.
pub const RELEASES_DIR: &str = "releases";

/// One task's checkout and services.
pub struct Release {
    /// The task.
    pub task: TaskDigest,
    /// Its directories.
    pub rooms: Rooms,
    /// Its services, in the order of the task.
    pub services: Vec<Service>,
    dir: PathBuf,
}

impl Release {
    /// A release with empty directories and nothing started.
    pub fn make(
        machine: &Path,
        assignment: &Assignment,
        sandbox: &Sandbox,
        ports: &PortBook,
        pace: SupervisionPace,
        logs: &AttemptLogs,
    ) -> io::Result<Self> {
        let task = assignment.task.digest();
        let dir = machine.join(RELEASES_DIR).join(&task.0);
        remove_tree(&dir)?;
        fs::create_dir_all(&dir)?;
        let rooms = Rooms {
            source: dir.join("src"),
            tmp: dir.join("tmp"),
            home: machine.join("home"),
            shared: machine.join("shared"),
            reachable: assignment.reachable.clone(),
        };
        sandbox.make_rooms(&rooms)?;
        let env = variables(assignment);
        let services = assignment.task.services.iter().map(|service| {
            Service::new(ServicePlan {
                service: service.clone(),
                env: env.clone(),
                rooms: rooms.clone(),
                sandbox: sandbox.clone(),
                ports: ports.clone(),
                pace,
                log: logs.log(Source::Service(&service.name)),
            })
        });
        Ok(Self { task, services: services.collect(), rooms, dir })
    }

    /// Tells where its services stand, and remembers where visitors are sent by that.
    pub fn tell(&self) -> Vec<ServiceReport> {
        self.services.iter().map(Service::tell).collect()
    }

    /// Stops every service and removes the directories.
    pub async fn end(&self) {
        join_all(self.services.iter().map(Service::stop)).await;
        if let Err(error) = remove_tree(&self.dir) {
            tracing::warn!(release.dir = %self.dir.display(), %error, "cannot remove a release; it is tried again when the agent starts");
        }
    }
}

/// The variables of build and services.
pub fn variables(assignment: &Assignment) -> BTreeMap<String, String> {
    let mut env = assignment.task.env.clone();
    env.extend(assignment.secret_env.clone());
    env
}
