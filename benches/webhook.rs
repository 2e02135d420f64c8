//! Measures webhook.
