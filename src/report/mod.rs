//! Pure words: what people are told, computed from facts.
//!
//! Guarantees: no I/O, no clock; pull-request text is escaped wherever it is shown.
//! Must not know: adapters, the store, HTTP.

pub mod comment;
pub mod derive;
pub mod estimate;
pub mod explain;
pub mod page;
pub mod say;
pub mod view;

#[cfg(test)]
mod tests;
