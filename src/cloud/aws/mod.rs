//! Machines on EC2 and databases on RDS, in a staging network that `infra/` makes.
//!
//! Guarantees: see [`crate::cloud`]; nothing is asked for before the ground was proven to be staging's ([`ground`]);
//! everything is born tagged, encrypted, without a public address and without the right to change anything in the account.
//! The SDKs are named in this folder only.
//! Must not know: plans, the store, GitHub.

mod connection;
mod databases;
pub mod error;
pub mod ground;
mod instance;
mod launch;
mod machines;
mod network;
mod pace;
mod pages;
mod survey;
mod tags;

pub use connection::Connection;
pub use databases::{Golden, RdsDatabases, RdsSettings};
pub use launch::{AgentSource, MachineSettings};
pub use machines::{AGENT_PORT, Ec2Machines};
pub use network::{Lack, Network};
pub use survey::{Wanted, survey_ground, survey_network};
