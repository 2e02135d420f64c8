//! Measures start.
