//! The connection to a container engine.
//!
//! Guarantees: the engine is found and asked only when something is to run in a container; before the first answer is used,
//! what an agent that was killed has left is gone; every question has a limit of time.
//! Must not know: releases, services.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as DockerError;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::labels::Owner;
use super::{leftovers, socket};
use crate::agent::options::{AgentOptions, ContainerOptions, SandboxOptions};
use crate::agent::protocol::{CONTAINERS_FILE, write_atomically};
use crate::domain::assignment::TaskDigest;

/// Limits of bollard's own, which would end a wait for a container: ours are shorter where there are to be any.
const NO_LIMIT: u64 = 365 * 24 * 60 * 60;
/// How long the engine may take for a small thing.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);
/// How long it may take to say that it is there.
const GREETING: Duration = Duration::from_secs(10);

/// Why something could not be done with containers. No secrets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// There is no engine.
    #[error(
        "no container engine is on this machine (looked for {tried}); install and start Docker or Podman \
         (systemctl enable --now podman.socket), or name its socket in compute.container_engine"
    )]
    None {
        /// Where it was looked for.
        tried: String,
    },
    /// What was named is no socket of this machine.
    #[error("{source_of} is {address}, but only sockets of this machine can be used; write it as unix:///path")]
    NoSocket {
        /// Who has named it.
        source_of: &'static str,
        /// What it is.
        address: String,
    },
    /// It does not answer.
    #[error(
        "the container engine at {socket} does not answer ({why}); start it, and let the agent's account use the socket"
    )]
    Silent {
        /// Where.
        socket: String,
        /// The cause.
        why: String,
    },
    /// It has refused.
    #[error("{what}: {why}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its words.
        why: String,
    },
}

/// Which engine it is, where that makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Docker, and whatever else speaks its API.
    Docker,
    /// Podman: a network is isolated only on request, and builds are in the host's network unless told otherwise.
    Podman,
}

/// A container engine, for one machine. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) docker: Docker,
    pub(super) socket: PathBuf,
    pub(super) kind: Kind,
    pub(super) owner: Arc<Owner>,
    pub(super) limits: ContainerOptions,
    pub(super) sandbox: Arc<SandboxOptions>,
}

/// The engine of this machine, found when it is needed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engines {
    options: Arc<AgentOptions>,
    found: Arc<OnceCell<Engine>>,
}

/// What a machine's directory says of its containers, for whoever has to clear up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) socket: PathBuf,
    pub(super) owner: Owner,
}

impl Engines {
    /// Of an agent with these options.
    pub fn new(options: &AgentOptions) -> Self {
        Self { options: Arc::new(options.clone()), found: Arc::default() }
    }

    /// The engine; connected, and cleared of what another agent of this machine has left, at the first call.
    pub async fn engine(&self) -> Result<Engine, EngineError> {
        self.found.get_or_try_init(|| self.connect()).await.cloned()
    }

    /// The engine, if anything has needed it so far.
    pub fn connected(&self) -> Option<Engine> {
        self.found.get().cloned()
    }

    /// Removes what another agent of this machine has left, if it had containers.
    pub async fn clear(&self) -> Result<(), EngineError> {
        if self.options.dir.join(CONTAINERS_FILE).exists() { self.engine().await.map(|_| ()) } else { Ok(()) }
    }

    async fn connect(&self) -> Result<Engine, EngineError> {
        let options = &self.options;
        let owner = Owner {
            install: options.install.clone(),
            uid: options.uid.clone(),
            generation: options.generation,
            machine: options.dir.clone(),
        };
        let note = Note { socket: socket::find(options.containers.engine.as_deref())?, owner };
        let engine = Engine::connect(&note, options.containers.clone(), options.sandbox.clone()).await?;
        // Before anything is made: whoever clears up after this agent must know where to look.
        let text = serde_json::to_vec(&note).map_err(io::Error::other);
        let written = text.and_then(|text| write_atomically(&options.dir.join(CONTAINERS_FILE), &text));
        written.map_err(|error| refused("note where containers are", &error))?;
        leftovers::clear(&engine, None).await?;
        Ok(engine)
    }
}

impl Engine {
    pub(super) async fn connect(
        note: &Note,
        limits: ContainerOptions,
        sandbox: SandboxOptions,
    ) -> Result<Self, EngineError> {
        let silent = |why: String| EngineError::Silent { socket: note.socket.display().to_string(), why };
        let address = note.socket.to_string_lossy();
        let greeting = async {
            let docker = Docker::connect_with_unix(&address, NO_LIMIT, bollard::API_DEFAULT_VERSION)?;
            let docker = docker.negotiate_version().await?;
            let version = docker.version().await?;
            Ok((docker, version))
        };
        let (docker, version) = match tokio::time::timeout(GREETING, greeting).await {
            Ok(Ok(greeted)) => greeted,
            Ok(Err(error)) => return Err(silent(words(&error))),
            Err(_) => return Err(silent(format!("no answer within {GREETING:?}"))),
        };
        let parts = version.components.unwrap_or_default();
        let kind = if parts.iter().any(|part| part.name.contains("Podman")) { Kind::Podman } else { Kind::Docker };
        Ok(Self {
            docker,
            socket: note.socket.clone(),
            kind,
            owner: Arc::new(note.owner.clone()),
            limits,
            sandbox: Arc::new(sandbox),
        })
    }

    /// The labels of a release's things.
    pub(super) fn labels(&self, release: &TaskDigest) -> HashMap<String, String> {
        self.owner.labels(release)
    }

    /// Removes everything of one release.
    pub async fn end(&self, release: &TaskDigest) -> Result<(), EngineError> {
        leftovers::clear(self, Some(release)).await
    }

    /// A small thing, with a limit of time.
    pub(super) async fn ask<T>(
        &self,
        what: &str,
        question: impl Future<Output = Result<T, DockerError>>,
    ) -> Result<T, EngineError> {
        match tokio::time::timeout(PATIENCE, question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(refused(what, &words(&error))),
            Err(_) => Err(refused(what, &format!("the engine gave no answer within {PATIENCE:?}"))),
        }
    }
}

/// Something could not be done, for this reason.
pub(super) fn refused(what: &str, why: &(impl ToString + ?Sized)) -> EngineError {
    EngineError::Refused { what: format!("cannot {what}"), why: one_line(&why.to_string()) }
}

/// What an engine says, without its client's words around.
pub(super) fn words(error: &DockerError) -> String {
    match error {
        DockerError::DockerResponseServerError { message, .. } => one_line(message),
        DockerError::DockerStreamError { error } => one_line(error),
        DockerError::SocketNotFoundError(path) => format!("{path} is not there"),
        other => one_line(&other.to_string()),
    }
}

/// Whether a thing is not there, or is just going.
pub(super) fn is_gone(error: &DockerError) -> bool {
    matches!(error, DockerError::DockerResponseServerError { status_code: 404 | 304, .. })
}

/// Short enough for a status, on one line.
pub(super) fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().filter(|c| !c.is_control()).take(500).collect();
    if short.len() < line.len() { format!("{short}…") } else { short }
}
