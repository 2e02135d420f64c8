//! The test ladder above unit tests: one binary, one module per subject, real counterparts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot set up must fail")]

mod agent;
#[cfg(feature = "aws")]
mod aws;
mod browser;
mod cli;
mod config;
mod controller;
mod convergence;
mod database;
mod endpoint;
mod forge;
mod gateway;
mod listen;
mod openapi;
mod podman;
mod postgres;
mod process;
mod replicas;
mod standin;
mod store;
mod wait;
mod webhook;
