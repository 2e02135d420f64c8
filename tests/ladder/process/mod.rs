//! The whole program: `kagero serve` as a process, with real git, databases, sandboxes and agents; only GitHub is
//! a stand-in.
//!
//! Guarantees: every story ends with the proof that nothing of it is left, and leaves no process behind even
//! where it fails.

mod adopt;
mod audit;
mod capacity;
mod crashes;
mod deliveries;
mod demo;
mod disk;
mod doctor;
mod failures;
mod forge;
mod holder;
mod isolation;
mod kills;
mod memory;
mod outer;
mod pushes;
mod records;
pub mod rig;
mod rules;
mod secrets;
mod seeds;
mod server;
mod services;
mod stacks;
mod sweep;
mod units;
mod words;
