//! Inside a database server: names, roles, owner markers, golden templates and how a seed is loaded.
//!
//! Guarantees: every statement is built here, by pure functions, with one way to quote an identifier and
//! one to quote a literal; the roles of an environment can neither create, drop nor enter any database but
//! their own; passwords are computed, never stored, and only their SCRAM verifiers reach a server.
//! Must not know: which provider a server belongs to, how it is reached, and when something is made.

pub mod claim;
pub mod database;
pub mod golden;
pub mod load;
pub mod marker;
pub mod name;
pub mod restored;
pub mod role;
pub mod scram;
pub mod script;
pub mod sql;
pub mod tools;
