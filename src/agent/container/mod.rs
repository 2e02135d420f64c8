//! Services as containers, by the Docker Engine API of Docker or Podman.
//!
//! What isolates: every release has a bridge network of its own, from which no other release's is reached (Podman is told
//! to isolate it; Docker does by itself); ports are published at 127.0.0.1 alone; containers have no capability and gain no
//! privileges, no devices and no mounts but those by which a local database is reached; variables travel in the body of
//! requests. What a Dockerfile runs is in the same network, with the capabilities that the engine gives to builds.
//!
//! Guarantees: everything that is made carries the labels of its machine, environment and release ([`labels`]), and nothing
//! without exactly those is ever stopped or removed; what a killed agent has left goes before anything new is made.
//! Must not know: which release serves, how commits are fetched.

mod compose;
mod context;
mod database;
mod dockerfile;
mod engine;
mod image;
mod labels;
mod leftovers;
mod network;
mod prepare;
mod run;
mod socket;
mod wire;

pub use engine::{Engine, EngineError, Engines};
pub use leftovers::remove_containers;
pub use prepare::{Material, Prepared, Refusal, has_containers, prepare};
pub use run::{ContainerPlan, Running};
