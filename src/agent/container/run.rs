//! A container that runs: a service, or one command that has to come to an end.
//!
//! Guarantees: no capability, no new privileges, no device, no mount but those to the database; ports are published at
//! 127.0.0.1; variables are in the request's body only; after [`Running::stop`] or [`Running::kill`] the container is gone,
//! and its last words are in the log.
//! Must not know: why it runs.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error as DockerError;
use bollard::models::{
    ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, NetworkingConfig, PortBinding,
    ResourcesUlimits,
};
use bollard::query_parameters::{CreateContainerOptions, LogsOptions, StopContainerOptions, WaitContainerOptions};
use futures::StreamExt as _;
use tokio::task::JoinHandle;
use tokio_util::io::StreamReader;
use tokio_util::task::AbortOnDropHandle;

use super::engine::{Engine, is_gone, words};
use super::leftovers::remove_container;
use crate::agent::logs::Log;
use crate::agent::protocol::MACHINE_VARIABLE;
use crate::agent::sandbox::Limits;
use crate::domain::assignment::TaskDigest;
use crate::domain::id::ServiceName;

/// How long a stream may stay open after the container has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Beyond the grace that a container has to end by itself.
const AFTER_GRACE: Duration = Duration::from_secs(20);
/// What the engine itself keeps of a container's output: it is in our own log.
const ENGINE_LOG: &str = "10m";
/// What may lie in `/tmp` of a container whose files cannot be changed.
const TMPFS: &str = "rw,nosuid,nodev,size=268435456,mode=1777";
/// Threads and processes of one user inside, beside the limit of the container as a whole.
const USER_PROCESSES: u64 = 8_192;

/// All that a container is made from.
#[derive(Debug, Clone)]
pub struct ContainerPlan {
    pub(super) engine: Engine,
    pub(super) release: TaskDigest,
    pub(super) service: ServiceName,
    /// What the engine calls the image.
    pub(super) image: String,
    pub(super) network: String,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) command: Option<Vec<String>>,
    pub(super) user: Option<String>,
    pub(super) read_only: bool,
    /// Variables of its own, below the environment's.
    pub(super) env: BTreeMap<String, String>,
    /// The port inside, if it listens.
    pub(super) port: Option<u16>,
    /// Directories through which the database is reached.
    pub(super) reachable: Vec<PathBuf>,
}

impl ContainerPlan {
    /// The same image for one shell command.
    #[must_use]
    pub fn once(&self, run: &str) -> Self {
        Self {
            entrypoint: Some(vec!["/bin/sh".to_owned(), "-c".to_owned()]),
            command: Some(vec![run.to_owned()]),
            port: None,
            ..self.clone()
        }
    }

    /// Starts it. `address`: where its port is published.
    pub async fn start(&self, env: &BTreeMap<String, String>, address: Option<SocketAddr>) -> io::Result<Running> {
        let engine = &self.engine;
        let suffix = hex::encode(rand::random::<[u8; 4]>());
        let release = self.release.0.get(..12).unwrap_or(&self.release.0);
        let name = format!("kagero-{}-{release}-{}-{suffix}", engine.owner.uid, self.service);
        let options = CreateContainerOptions { name: Some(name.clone()), ..Default::default() };
        let creation = engine.docker.create_container(Some(options), self.body(env, address));
        let created = engine.ask("make a container", creation).await.map_err(io::Error::other)?;
        let running = Running { engine: engine.clone(), id: created.id, ending: None, listening: None, is_gone: false };
        let started = engine.docker.start_container(&running.id, None);
        match engine.ask("start the container", started).await {
            Ok(()) => Ok(running),
            Err(error) => {
                let mut running = running;
                running.kill().await;
                Err(io::Error::other(error))
            }
        }
    }

    fn body(&self, env: &BTreeMap<String, String>, address: Option<SocketAddr>) -> ContainerCreateBody {
        let published = self.port.zip(address);
        let inside = |port: u16| format!("{port}/tcp");
        let mut all = self.env.clone();
        all.extend(super::database::inside(env.clone(), &self.reachable));
        if let Some(port) = self.port {
            all.insert("PORT".to_owned(), port.to_string());
            all.insert("HOST".to_owned(), "0.0.0.0".to_owned());
        }
        // For whoever has to clear up after an agent that was killed.
        all.insert(MACHINE_VARIABLE.to_owned(), self.engine.owner.machine.to_string_lossy().into_owned());
        let endpoint = EndpointSettings { aliases: Some(vec![self.service.to_string()]), ..Default::default() };
        ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: self.entrypoint.clone(),
            cmd: self.command.clone(),
            user: self.user.clone(),
            env: Some(all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
            labels: Some(self.engine.labels(&self.release)),
            exposed_ports: self.port.map(|port| vec![inside(port)]),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(self.network.clone(), endpoint)])),
            }),
            host_config: Some(HostConfig {
                mounts: Some(super::database::ways(env, &self.reachable, &self.engine.sandbox.read_only_paths)),
                port_bindings: published.map(|(port, address)| {
                    let at = PortBinding {
                        host_ip: Some(address.ip().to_string()),
                        host_port: Some(address.port().to_string()),
                    };
                    HashMap::from([(inside(port), Some(vec![at]))])
                }),
                ..self.host_config()
            }),
            ..Default::default()
        }
    }

    fn host_config(&self) -> HostConfig {
        let limits = Limits::new(&self.engine.sandbox);
        let limit = |name: &str, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
        };
        HostConfig {
            network_mode: Some(self.network.clone()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            privileged: Some(false),
            pids_limit: i64::try_from(limits.processes).ok(),
            memory: limits.address_space.and_then(|bytes| i64::try_from(bytes).ok()),
            ulimits: Some(vec![
                limit("nofile", limits.open_files),
                limit("nproc", limits.processes.min(USER_PROCESSES)),
                limit("fsize", limits.file_bytes),
                limit("core", 0),
            ]),
            readonly_rootfs: Some(self.read_only),
            tmpfs: self.read_only.then(|| HashMap::from([("/tmp".to_owned(), TMPFS.to_owned())])),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([("max-size".to_owned(), ENGINE_LOG.to_owned())])),
            }),
            ..Default::default()
        }
    }
}

/// A container that runs.
pub struct Running {
    engine: Engine,
    id: String,
    ending: Option<AbortOnDropHandle<Result<i64, String>>>,
    listening: Option<JoinHandle<()>>,
    is_gone: bool,
}

impl Running {
    /// Puts what it says into the log.
    pub fn listen(&mut self, log: &Log) {
        let stream = |stdout: bool| {
            let options =
                LogsOptions { follow: true, stdout, stderr: !stdout, tail: "all".to_owned(), ..Default::default() };
            let said = self.engine.docker.logs(&self.id, Some(options));
            let pieces = said.map(|piece| piece.map(LogOutput::into_bytes).map_err(io::Error::other));
            StreamReader::new(Box::pin(pieces))
        };
        let (out, err, to_out, to_err) = (stream(true), stream(false), log.clone(), log.clone());
        self.listening = Some(tokio::spawn(async move {
            tokio::join!(to_out.drain(Some(out)), to_err.drain(Some(err)));
        }));
    }

    /// Waits until it ends. A code is an exit status, as a shell reports signals.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let ending = self.ending.get_or_insert_with(|| {
            let (docker, id) = (self.engine.docker.clone(), self.id.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                let options = WaitContainerOptions { condition: "not-running".to_owned() };
                let mut ended = std::pin::pin!(docker.wait_container(&id, Some(options)));
                match ended.next().await {
                    Some(Ok(ended)) => Ok(ended.status_code),
                    Some(Err(DockerError::DockerContainerWaitError { code, .. })) => Ok(code),
                    Some(Err(error)) => Err(words(&error)),
                    None => Err("the engine said no more; is it running?".to_owned()),
                }
            }))
        });
        let ended = ending.await;
        self.ending = None;
        match ended {
            Ok(Ok(code)) => Ok(ExitStatus::from_raw((i32::try_from(code).unwrap_or(255) & 0xff) << 8)),
            Ok(Err(why)) => Err(io::Error::other(why)),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Whether the engine publishes its port there.
    pub async fn publishes(&self, port: u16) -> bool {
        let looked = self.engine.ask("look at a container", self.engine.docker.inspect_container(&self.id, None)).await;
        let Ok(found) = looked else { return false };
        let runs = found.state.and_then(|state| state.running).unwrap_or(false);
        let ports = found.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
        let wanted = port.to_string();
        runs && ports.values().flatten().flatten().any(|at| at.host_port.as_deref() == Some(&wanted))
    }

    /// Whether it was killed for the memory that it took.
    pub async fn ran_out_of_memory(&self) -> bool {
        let looked = self.engine.ask("look at a container", self.engine.docker.inspect_container(&self.id, None)).await;
        looked.ok().and_then(|found| found.state?.oom_killed).unwrap_or(false)
    }

    /// Asks it to end, then kills what has not, and removes it.
    pub async fn stop(&mut self, grace: Duration) {
        let seconds = i32::try_from(grace.as_secs().max(1)).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(seconds), ..Default::default() };
        let stopping = self.engine.docker.stop_container(&self.id, Some(options));
        match tokio::time::timeout(grace + AFTER_GRACE, stopping).await {
            Ok(Err(error)) if !is_gone(&error) => {
                tracing::warn!(
                    container.id = self.id,
                    error = words(&error),
                    "a container does not stop; it is killed"
                );
            }
            _ => {}
        }
        self.remove(true).await;
    }

    /// Kills and removes it. What it has said before it ended is kept.
    pub async fn kill(&mut self) {
        self.remove(false).await;
    }

    async fn remove(&mut self, has_ended: bool) {
        if self.is_gone {
            return;
        }
        self.is_gone = true;
        self.ending = None;
        let killed = if has_ended { Ok(()) } else { self.engine.docker.kill_container(&self.id, None).await };
        if let Some(mut listening) = self.listening.take() {
            let ended = tokio::time::timeout(LAST_WORDS, &mut listening).await;
            if ended.is_err() {
                listening.abort();
            }
        }
        // That it has ended by itself is no error, and whatever else is wrong shows here.
        drop(killed);
        if let Err(error) = remove_container(&self.engine, &self.id).await {
            tracing::warn!(%error, "a container cannot be removed; it is tried again when its release goes");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
        if self.is_gone {
            return;
        }
        let (engine, id) = (self.engine.clone(), std::mem::take(&mut self.id));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = remove_container(&engine, &id).await {
                    tracing::warn!(%error, "a container cannot be removed; it is tried again when its release goes");
                }
            });
        }
    }
}
