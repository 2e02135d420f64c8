//! Measures database.
