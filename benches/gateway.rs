//! Measures gateway.
