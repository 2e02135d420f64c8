//! The agent as a process of its own, with real git, real bubblewrap and real services.

mod containers;
mod encrypted;
mod failures;
mod isolation;
mod machines;
mod networks;
mod residue;
mod rollouts;
mod site;
