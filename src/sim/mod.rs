//! Stand-ins for the world: used by tests, benches and the demo.
//!
//! [`github`] is a GitHub with a real HTTP API, for a person or a whole program to work with. The rest is the strict
//! simulator: a cloud, a GitHub and a clock in memory that are given a seed and run thousands of times faster than the
//! real ones. It hands out the same faults for the same seed, keeps a journal of every call, and says what is
//! left over.

pub mod chance;
pub mod clock;
pub mod cloud;
pub mod fate;
pub mod github;
pub mod hub;
pub mod mischief;
pub mod visitor;
