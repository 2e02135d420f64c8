//! Pure nouns: the data that everything else speaks in.
//!
//! Guarantees: no I/O, no clock, no `async`, no `dyn`. Values of these types are valid by construction.
//! Must not know: any adapter, any store, any other module of the crate.

pub mod assignment;
pub mod brake;
pub mod container;
pub mod desired;
pub mod guard;
pub mod id;
pub mod ledger;
pub mod mark;
pub mod network;
pub mod observed;
pub mod owned;
pub mod policy;
pub mod pull;
pub mod seen;
pub mod server_address;
pub mod step;
pub mod time;
pub mod words;
