//! Inside a database: roles, golden templates, verification.
