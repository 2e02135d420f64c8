//! Logs and metrics: how they are set up, and the one list of metrics.
//!
//! Guarantees: no identity in a metric's labels, no secret in a log.
