//! The whole program: `kagero serve` as a process, with real git, databases, sandboxes and agents; only GitHub is
//! a stand-in.
//!
//! Guarantees: every story ends with the proof that nothing of it is left, and leaves no process behind even
//! where it fails.

mod crashes;
mod rig;
