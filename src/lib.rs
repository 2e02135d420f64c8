//! Kagero gives every GitHub pull request its own running, seeded copy of the product, and takes it away
//! again. `ARCHITECTURE.md` has the map; `tests/tidy.rs` enforces it.

pub mod agent;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod controller;
pub mod domain;
pub mod forge;
pub mod gateway;
pub mod http;
pub mod plan;
pub mod report;
pub mod seed;
pub mod sim;
pub mod store;
pub mod telemetry;
