//! What is decided here without asking anybody: whose ground this is, what the network lacks, which snapshot may be used, what
//! a state means.
//!
//! Guarantees: pure functions of data; no SDK, no clock. `make mutants` changes each of them.
//! Must not know: how anything is asked for.

pub mod golden;
pub mod ground;
pub mod network;
pub mod pages;
pub mod quota;
pub mod status;
pub mod tags;
