//! The whole program: `kagero serve` as a process, with real git, databases, sandboxes and agents; only GitHub is
//! a stand-in.
//!
//! Guarantees: every story ends with the proof that nothing of it is left, and leaves no process behind even
//! where it fails.

mod capacity;
mod crashes;
mod deliveries;
mod failures;
mod holder;
mod isolation;
mod pushes;
mod records;
mod rig;
mod rules;
mod server;
mod words;
