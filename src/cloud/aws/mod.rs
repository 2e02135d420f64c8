//! Machines on EC2 and databases on RDS, in a staging network that `infra/` makes.
//!
//! Guarantees: see [`crate::cloud`]; nothing is asked for before the ground was proven to be staging's ([`rules::ground`]);
//! everything is born tagged, encrypted, without a public address and without the right to change anything in the account.
//! The SDKs are named in this folder only.
//! Must not know: plans, the store, GitHub.

mod connection;
mod databases;
pub mod error;
mod instance;
mod launch;
mod machines;
mod pace;
mod pairs;
mod quotas;
pub mod rules;
mod survey;

pub use connection::{Connection, Roles};
pub use databases::{RdsDatabases, RdsSettings};
pub use launch::{AgentSource, MachineSettings};
pub use machines::{AGENT_PORT, Ec2Machines};
pub use quotas::survey_quotas;
pub use rules::golden::{Golden, Source};
pub use rules::network::{Lack, Network};
pub use survey::{Wanted, survey_clock, survey_golden, survey_ground, survey_network};
