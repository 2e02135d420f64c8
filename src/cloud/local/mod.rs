//! The local provider: agents as child processes, databases on a local server.
//!
//! Guarantees: whatever it makes carries an owner record that outlives this process.
//! Must not know: plans, the store, GitHub.

pub mod databases;
pub mod machines;
