//! The end of containers, networks and images: those of one release, or all of a machine.
//!
//! Guarantees: only what carries every label of the machine is touched; containers go before the networks and images that
//! they use; what is gone already is no error.
//! Must not know: why they have to go.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use bollard::errors::Error as DockerError;
use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, ListNetworksOptions, RemoveContainerOptions, RemoveImageOptions,
};

use super::engine::{Engine, EngineError, Note, is_gone, refused, words};
use crate::agent::options::{ContainerOptions, SandboxOptions};
use crate::agent::protocol::CONTAINERS_FILE;
use crate::domain::assignment::TaskDigest;

/// Removes every container, network and built image of a machine, given its directory. Nothing to do for a machine that
/// never had any. Errors name the engine and the cause; the call can be repeated.
pub async fn remove_containers(machine: &Path) -> io::Result<()> {
    let path = machine.join(CONTAINERS_FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let note: Note = serde_json::from_slice(&text)
        .map_err(|error| io::Error::other(format!("{} cannot be read ({error}); look at it", path.display())))?;
    let (limits, sandbox) = (ContainerOptions::default(), SandboxOptions::default());
    let engine = Engine::connect(&note, limits, sandbox).await.map_err(io::Error::other)?;
    clear(&engine, None).await.map_err(io::Error::other)?;
    fs::remove_file(&path)
}

/// Removes what is the machine's, or only what is the release's.
pub(super) async fn clear(engine: &Engine, release: Option<&TaskDigest>) -> Result<(), EngineError> {
    let filters = Some(engine.owner.filter());
    let options = ListContainersOptions { all: true, filters: filters.clone(), ..Default::default() };
    for container in engine.ask("list containers", engine.docker.list_containers(Some(options))).await? {
        if let (Some(id), true) = (container.id, ours(engine, container.labels.as_ref(), release)) {
            remove_container(engine, &id).await?;
        }
    }
    let options = ListNetworksOptions { filters: filters.clone() };
    for network in engine.ask("list networks", engine.docker.list_networks(Some(options))).await? {
        if let (Some(name), true) = (network.name, ours(engine, network.labels.as_ref(), release)) {
            let removed = engine.docker.remove_network(&name).await;
            accept_gone(&format!("remove network {name}"), removed)?;
        }
    }
    let options = ListImagesOptions { filters, ..Default::default() };
    for image in engine.ask("list images", engine.docker.list_images(Some(options))).await? {
        if ours(engine, Some(&image.labels), release) {
            // Not by force: that would take a stranger's container with it.
            let removed = engine.docker.remove_image(&image.id, None::<RemoveImageOptions>, None).await.map(|_| ());
            match removed {
                Err(DockerError::DockerResponseServerError { status_code: 409, message }) => {
                    tracing::warn!(
                        image.id,
                        message,
                        "an image of ours is in use by something that is not ours; it stays"
                    );
                }
                removed => accept_gone(&format!("remove image {}", image.id), removed)?,
            }
        }
    }
    Ok(())
}

/// Kills and removes one container, with what it has written.
pub(super) async fn remove_container(engine: &Engine, id: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
    let what = format!("remove container {}", id.get(..12).unwrap_or(id));
    let removal = async {
        match engine.docker.remove_container(id, Some(options)).await {
            // Somebody else is at it.
            Err(DockerError::DockerResponseServerError { status_code: 409, .. }) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            done => done,
        }
    };
    engine.ask(&what, removal).await
}

fn accept_gone(what: &str, done: Result<(), DockerError>) -> Result<(), EngineError> {
    match done {
        Err(error) if !is_gone(&error) => Err(refused(what, &words(&error))),
        _ => Ok(()),
    }
}

fn ours(engine: &Engine, labels: Option<&HashMap<String, String>>, release: Option<&TaskDigest>) -> bool {
    labels.is_some_and(|labels| engine.owner.owns(labels, release))
}
