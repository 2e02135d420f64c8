//! One task's checkout and services on disk and in memory.
//!
//! Guarantees: a release's directory goes when the release goes; stopping it leaves no process and no container.
//! Must not know: which release serves.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use futures::future::join_all;

use super::container::Engines;
use super::removal::remove_tree;
use super::sandbox::{Rooms, Sandbox};
use super::supervisor::Service;
use crate::domain::assignment::{Assignment, ServiceReport, TaskDigest};

/// Where a machine's releases lie.
pub const RELEASES_DIR: &str = "releases";

/// One task's checkout and services.
pub struct Release {
    /// The task.
    pub task: TaskDigest,
    /// Its directories.
    pub rooms: Rooms,
    /// Known once it is known what each of them is.
    services: OnceLock<Vec<Service>>,
    engines: Engines,
    dir: PathBuf,
}

impl Release {
    /// A release with empty directories and nothing started.
    pub fn make(machine: &Path, assignment: &Assignment, sandbox: &Sandbox, engines: &Engines) -> io::Result<Self> {
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
        Ok(Self { task, services: OnceLock::new(), rooms, engines: engines.clone(), dir })
    }

    /// Gives it its services, once.
    pub fn furnish(&self, services: Vec<Service>) {
        self.services.get_or_init(|| services);
    }

    /// Its services; none before it is known what each of them is.
    pub fn services(&self) -> &[Service] {
        self.services.get().map_or(&[], Vec::as_slice)
    }

    /// Tells where its services stand, and remembers where visitors are sent by that. Nothing before there are any.
    pub fn tell(&self) -> Option<Vec<ServiceReport>> {
        self.services.get().map(|services| services.iter().map(Service::tell).collect())
    }

    /// Stops every service and removes the directories, containers, network and images.
    pub async fn end(&self) {
        join_all(self.services().iter().map(Service::stop)).await;
        if let Some(engine) = self.engines.connected()
            && let Err(error) = engine.end(&self.task).await
        {
            tracing::warn!(release.task = %self.task, %error, "cannot remove a release's containers; it is tried again when the agent starts");
        }
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
