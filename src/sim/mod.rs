//! Stand-ins for the world: used by tests, benches and the demo.

pub mod github;
