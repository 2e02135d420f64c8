//! The two configurations, as written and as valid.
