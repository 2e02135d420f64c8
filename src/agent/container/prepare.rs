//! Before anything starts: what each service is, its image, its network.
//!
//! Guarantees: a task without containers needs no engine; equal builds are built once; the error names the service, the
//! cause and the next step.
//! Must not know: what happens with the result.

use std::path::Path;

use super::compose::{Resolved, resolve};
use super::engine::{Engine, EngineError, Engines};
use super::image::{self, Present};
use super::network;
use super::run::ContainerPlan;
use crate::agent::logs::Log;
use crate::domain::assignment::Assignment;
use crate::domain::container::{Container, Image};
use crate::domain::id::ServiceName;
use crate::domain::policy::{Runs, Service};

/// What a task's services are made from.
pub struct Prepared {
    /// Every service with its container.
    pub services: Vec<Material>,
}

/// One service.
pub struct Material {
    /// The service.
    pub service: Service,
    /// What it depends on, in the same task.
    pub depends_on: Vec<ServiceName>,
    /// Its container; `None`: it is a process.
    pub container: Option<ContainerPlan>,
}

impl Prepared {
    /// What `build` and `migrate` run in: the first public service's image, unless that is a process.
    pub fn workplace(&self) -> Option<&ContainerPlan> {
        self.services.iter().find(|material| material.service.public)?.container.as_ref()
    }
}

/// Why nothing can start: one sentence with the thing, the cause and the next step.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

/// Whether a task has anything but processes.
pub fn has_containers(assignment: &Assignment) -> bool {
    assignment.task.services.iter().any(|service| !matches!(service.runs, Runs::Process(_)))
}

/// Pulls and builds what the task's services need. Dropped before its end, it leaves what `engine.end` removes.
pub async fn prepare(
    engines: &Engines,
    assignment: &Assignment,
    checkout: &Path,
    log: &Log,
) -> Result<Prepared, Refusal> {
    let resolved = resolve(&assignment.task, checkout, log).map_err(Refusal)?;
    if resolved.iter().all(|one| one.container.is_none()) {
        let services =
            resolved.into_iter().map(|one| Material { service: one.service, depends_on: Vec::new(), container: None });
        return Ok(Prepared { services: services.collect() });
    }
    let engine = engines.engine().await.map_err(|error| Refusal(error.to_string()))?;
    let release = assignment.task.digest();
    let network = network::make(&engine, &release).await.map_err(|error| Refusal(error.to_string()))?;
    let mut known: Vec<(Image, Present)> = Vec::new();
    let mut services = Vec::new();
    for Resolved { service, container } in resolved {
        let Some(container) = container else {
            services.push(Material { service, depends_on: Vec::new(), container: None });
            continue;
        };
        let present = if let Some((_, present)) = known.iter().find(|(image, _)| *image == container.image) {
            present.clone()
        } else {
            let present = bring(&engine, assignment, checkout, &container.image, (&network, known.len()), log).await;
            let present = present.map_err(|error| refusal(&service, &container, &error))?;
            known.push((container.image.clone(), present.clone()));
            present
        };
        let listens = service.public || service.health.is_some();
        let port = if listens { Some(port(&service, &container, &present)?) } else { container.port };
        services.push(Material {
            depends_on: container.depends_on.clone(),
            container: Some(ContainerPlan {
                engine: engine.clone(),
                release: release.clone(),
                service: service.name.clone(),
                image: present.id,
                network: network.clone(),
                entrypoint: container.entrypoint,
                command: container.command,
                user: container.user,
                read_only: container.read_only,
                env: container.env,
                port,
                reachable: assignment.reachable.clone(),
            }),
            service,
        });
    }
    Ok(Prepared { services })
}

async fn bring(
    engine: &Engine,
    assignment: &Assignment,
    checkout: &Path,
    image: &Image,
    (network, number): (&str, usize),
    log: &Log,
) -> Result<Present, EngineError> {
    match image {
        Image::Pulled(reference) => image::pull(engine, &reference.of(&assignment.task.commit), log).await,
        Image::Built(build) => {
            let release = assignment.task.digest();
            image::build(engine, (&release, number), checkout, build, network, log).await
        }
    }
}

fn refusal(service: &Service, container: &Container, error: &EngineError) -> Refusal {
    let next = match (error, &container.image) {
        (EngineError::Refused { .. }, Image::Pulled(_)) => {
            "; push that image for this commit, or correct its name; it has to be readable without a login"
        }
        (EngineError::Refused { .. }, Image::Built(_)) => {
            "; fix the Dockerfile or its paths, or see the log of the build"
        }
        _ => "",
    };
    Refusal(format!("service `{}`: {error}{next}", service.name))
}

fn port(service: &Service, container: &Container, image: &Present) -> Result<u16, Refusal> {
    let why = match (container.port, &image.exposes[..]) {
        (Some(port), _) | (None, &[port]) => return Ok(port),
        (None, []) => "its image exposes no port".to_owned(),
        (None, many) => {
            let many: Vec<String> = many.iter().map(u16::to_string).collect();
            format!("its image exposes several ports ({})", many.join(", "))
        }
    };
    Err(Refusal(format!("service `{0}`: {why}; set `services.{0}.port` in .kagero.yml", service.name)))
}
